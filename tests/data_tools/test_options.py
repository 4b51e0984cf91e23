"""Distractors: where they lie, how they print, and that they give nothing away."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mllm4d_verl.data_tools.questions.options import direction_options, numeric_options, place_truth
from mllm4d_verl.data_tools.questions.solvers import DIRECTIONS


@settings(max_examples=300, deadline=None)
@given(
    value=st.floats(0.01, 500),
    num_below=st.integers(0, 3),
    min_gap=st.floats(0.01, 0.2),
    seed=st.integers(0, 10**6),
)
def test_numbers_lie_in_range_and_stay_apart_as_printed(value, num_below, min_gap, seed):
    options = numeric_options(value, num_below, min_gap, np.random.default_rng(seed))
    decimals = len(options[0].split(".")[1])
    assert len(options) == 4
    assert options[0] == f"{value:.{decimals}f}"
    numbers = [float(option) for option in options]
    assert all(0.25 * value <= number <= 1.75 * value for number in numbers[1:])
    gaps = np.diff(sorted(numbers))
    unit = 10.0**-decimals
    assert gaps.min() >= 2 * unit - 1e-9
    assert gaps.min() >= min_gap * value - unit - 1e-9  # to printed precision
    assert sum(number < numbers[0] for number in numbers) == num_below


@pytest.mark.parametrize("truth", DIRECTIONS)
def test_directions_offer_both_senses_of_two_axes(truth):
    opposite = {"left": "right", "up": "down", "forward": "backward"}
    opposite |= {v: k for k, v in opposite.items()}
    seen = set()
    for seed in range(20):
        options = direction_options(truth, np.random.default_rng(seed))
        assert options[0] == truth
        assert len(set(options)) == 4
        assert {opposite[option] for option in options} == set(options)
        seen.add(frozenset(options))
    assert len(seen) == 2


def test_truth_goes_to_its_letter_and_the_rest_is_shuffled():
    rng = np.random.default_rng(0)
    orders = Counter(tuple(place_truth(["t", "a", "b", "c"], "C", rng)) for _ in range(600))
    assert all(order[2] == "t" for order in orders)
    assert len(orders) == 6
    assert min(orders.values()) > 60

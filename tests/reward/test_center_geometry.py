"""Closeness of centres: scale, laziness, missing pieces."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reward_samples import CAMERA, OBJECT, response, truth

from mllm4d_verl.reward import (
    Missing,
    Null,
    Vector,
    camera_center_reward,
    object_center_reward,
    parse_response,
    read_truth,
    score_centers,
)

SPAN = (0, 1)
ZERO = (0.0, 0.0, 0.0)
NEAR = ((-0.5, 0.2, 4.0), (0.5, 0.2, 3.0))


def vectors(*points):
    return tuple(Vector(tuple(point), SPAN) if point is not None else Null(SPAN) for point in points)


def scaled(points, factor):
    return tuple(tuple(factor * number for number in point) for point in points)


def value(stated, true, **options):
    return score_centers(vectors(*stated), true, **options).value


def reference(stated, true, floor_m=0.1, relative_scale=0.5):
    """The docstring's formula, written for clarity."""
    terms = [(u, v) for u, v in zip(stated, true, strict=True)]
    terms.append(tuple([b - a for a, b in zip(*ends, strict=True)] for ends in (stated, true)))
    closeness, weight = [], []
    for u, v in terms:
        length = math.sqrt(sum(number**2 for number in v))
        error = math.sqrt(sum((a - b) ** 2 for a, b in zip(u, v, strict=True)))
        closeness.append(1 / (1 + error / (floor_m + relative_scale * length)) ** 2)
        weight.append((length + 0.1 * floor_m) / (length + floor_m))
    return sum(w * c for w, c in zip(weight, closeness, strict=True)) / sum(weight)


points = st.tuples(*[st.floats(-50, 50)] * 3)


class TestFormula:
    @given(points, points, points, points)
    @settings(deadline=None)
    def test_agrees_with_the_plain_reference(self, a, b, c, d):
        assert value((a, b), (c, d)) == pytest.approx(reference((a, b), (c, d)))

    def test_truth_itself_earns_one(self):
        assert value(NEAR, NEAR) == 1.0

    def test_a_closer_estimate_earns_more(self):
        offsets = [0.0, 0.01, 0.1, 0.5, 1.0, 5.0, 50.0, 1e5]
        earned = [value([(x + off, y, z) for x, y, z in NEAR], NEAR) for off in offsets]
        assert earned == sorted(earned, reverse=True)
        assert len(set(earned)) == len(offsets)

    def test_relative_error_counts_the_same_at_any_distance(self):
        near, far = ((0.0, 0.0, 3.0), (1.0, 0.0, 3.0)), ((0.0, 0.0, 30.0), (10.0, 0.0, 30.0))
        ten_percent = [value(scaled(true, 1.1), true) for true in (near, far)]
        assert ten_percent[0] == pytest.approx(ten_percent[1], abs=0.03)
        assert ten_percent[1] > 0.6


class TestLazyAnswers:
    @pytest.mark.parametrize("factor", [0.3, 1.0, 10.0])
    @pytest.mark.parametrize("error", [0.05, 0.2, 0.5])
    def test_zeros_lose_to_an_honest_estimate(self, factor, error):
        for true in (scaled(NEAR, factor), scaled([tuple(point) for point in CAMERA], factor)):
            assert value((ZERO, ZERO), true) < value(scaled(true, 1 + error), true)

    def test_zeros_earn_little(self):
        assert value((ZERO, ZERO), NEAR) < 0.15

    def test_a_constant_loses_what_the_displacement_is_worth(self):
        middle = (0.0, 0.2, 3.5)
        honest = [(-0.4, 0.3, 4.2), (0.6, 0.3, 3.3)]
        assert value((middle, middle), NEAR) < value(honest, NEAR)

    def test_what_a_still_camera_says_hardly_weighs(self):
        still = score_centers(vectors(ZERO, ZERO), ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)))
        moving = score_centers(vectors(ZERO, ZERO), NEAR)
        assert still.informativeness == pytest.approx(0.1)
        assert moving.informativeness > 0.9


class TestNeededSlots:
    def test_nothing_needed_is_neutral(self):
        assert tuple(score_centers(vectors(ZERO, None), (None, None))) == (1.0, 0, 0.0, -1.0)

    def test_an_unneeded_slot_changes_nothing(self):
        true = (NEAR[0], None)
        assert value((NEAR[0], ZERO), true) == value((NEAR[0], None), true) == 1.0

    def test_a_needed_slot_that_is_null_or_missing_earns_nothing(self):
        for absent in (Null(SPAN), Missing()):
            score = score_centers((Vector(NEAR[0], SPAN), absent), NEAR)
            assert 0.3 < score.value < 0.4
            assert score.error_m == 0.0
        assert value((None, None), NEAR) == 0.0

    def test_the_shifted_null_of_the_released_reward_earns_nothing(self):
        assert value((None, NEAR[1]), (NEAR[1], None)) == 0.0

    def test_error_is_the_mean_over_what_can_be_measured(self):
        assert score_centers(vectors((0, 0, 1), (0, 0, 4)), ((0, 0, 1), (0, 0, 3))).error_m == 0.5
        assert score_centers((Missing(), Missing()), NEAR).error_m == -1.0

    def test_absurd_coordinates_stay_finite(self):
        score = score_centers(vectors((1e308, -1e308, 1e308), (-1e308, 1e308, -1e308)), NEAR)
        assert score.error_m == 1e6
        assert 0.0 < score.value < 1e-6


def test_the_two_components_read_their_own_centres():
    parsed, read = parse_response(response(object_=None)), read_truth(truth())
    assert camera_center_reward(parsed, read) == 1.0
    assert object_center_reward(parsed, read) == 0.0
    assert object_center_reward(parse_response(response(object_=OBJECT)), read) == 1.0

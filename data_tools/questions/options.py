"""Options of a question: distractors, order and the letter of the truth."""

from __future__ import annotations

import numpy as np

from ..schema import LETTERS
from .solvers import DIRECTIONS

LOWEST_RATIO, HIGHEST_RATIO = 0.25, 1.75  # distractors over the truth; DESIGN section 4
NUM_OPTIONS = 4  # of distance and direction questions
_AXES = (("left", "right"), ("up", "down"), ("forward", "backward"))


def print_decimals(value: float) -> int:
    """Decimals that print a distance with at least two significant digits: 2.5, 0.25, 0.025."""
    return 1 if value >= 1.0 else 2 if value >= 0.1 else 3


def numeric_options(value: float, num_below: int, min_gap: float, rng: np.random.Generator) -> list[str]:
    """The truth and three distractors as printed numbers, truth first.

    Distractors lie within 25 to 175 percent of the truth. They differ from it and from each other by `min_gap` of
    the truth to printed precision, and by at least two units of the last printed digit.

    Args:
        value: true distance, metres, at least 0.01.
        num_below: distractors smaller than the truth, 0..3. Callers balance it, so that the truth is no more often
            in the middle than at the ends.
        min_gap: share of the truth, at most 0.2.
        rng: source of chance.
    """
    decimals = print_decimals(value)
    step = 10.0**-decimals
    low, high = np.ceil(value * LOWEST_RATIO / step), np.floor(value * HIGHEST_RATIO / step)
    truth = round(value / step)
    gap = max(2, int(min_gap * value / step))
    below = _spread(low, truth - gap, num_below, gap, rng)
    above = _spread(truth + gap, high, NUM_OPTIONS - 1 - num_below, gap, rng)
    return [f"{ticks * step:.{decimals}f}" for ticks in (truth, *below, *above)]


def _spread(low: float, high: float, count: int, gap: int, rng: np.random.Generator) -> list[int]:
    """`count` integers in low..high, neighbours at least `gap` apart, all such sets about equally likely."""
    if count == 0:
        return []
    slack = int(high - low) - gap * (count - 1)
    offsets = np.sort(rng.integers(0, slack + 1, size=count))
    return [int(low + offset + gap * position) for position, offset in enumerate(offsets)]


def direction_options(truth: str, rng: np.random.Generator) -> list[str]:
    """Four of the six directions, truth first: both senses of its axis and of one other axis.

    Whole axes are offered, so neither the presence nor the absence of an opposite tells anything about the truth.
    """
    own = next(axis for axis in _AXES if truth in axis)
    others = [axis for axis in _AXES if axis is not own]
    opposite = own[1 - own.index(truth)]
    return [truth, opposite, *others[int(rng.integers(len(others)))]]


def place_truth(options: list[str], letter: str, rng: np.random.Generator) -> list[str]:
    """Shuffle `options` (truth first) so that the truth stands at `letter`."""
    others = [options[1:][k] for k in rng.permutation(len(options) - 1)]
    position = LETTERS.index(letter)
    return [*others[:position], options[0], *others[position:]]


assert {name for axis in _AXES for name in axis} == set(DIRECTIONS)

"""Options of a question: distractors, order and the letter of the truth."""

from __future__ import annotations

import numpy as np

from ..schema import LETTERS
from .solvers import DIRECTIONS

LOWEST_RATIO, HIGHEST_RATIO = 0.25, 1.75  # distractors over the truth; DESIGN section 4
NUM_OPTIONS = 4  # of distance and direction questions
SPREADS = ("even", "wide")
_TICKS = 22  # the smallest option is at least this many units of the last printed digit
_DRAWS = 3  # option sets drawn for each rank of the truth, of which one is taken
_AXES = (("left", "right"), ("up", "down"), ("forward", "backward"))


class NumericOptions:
    """Distractors for the distance questions of one task, such that the options alone do not give the truth away.

    Three things would: the rank of the truth among the options, how typical it is of the task (distances of one data
    set are alike, so the most ordinary option is often the true one), and the shape of the set. For the first two,
    each question takes, of many sets drawn, one whose rank and typicality were least used so far. The shape depends
    on `spread`:

    * "even": all options lie within a factor of 1.75, about a fifth apart. Then each could be the truth, since the
      others lie within 25 to 175 percent of it.
    * "wide": distractors fill 25 to 175 percent of the truth. Easier to tell apart, but the set's shape hints at the
      truth: it cannot be an option that another one exceeds by more than 75 percent.

    Args:
        typical: a usual distance of the task, metres, such as the median.
        spread: "even" or "wide".
        rng: source of chance.
    """

    def __init__(self, typical: float, spread: str, rng: np.random.Generator) -> None:
        self.typical = typical
        self.spread = spread
        self.rng = rng
        self._rank_uses = np.zeros(NUM_OPTIONS)
        self._typicality_uses = np.zeros(NUM_OPTIONS)

    def draw(self, value: float) -> list[str]:
        """Printed numbers for a true distance `value` > 0 in metres, truth first."""
        sets = [draw_numbers(value, rank, self.spread, self.rng) for rank in range(NUM_OPTIONS) for _ in range(_DRAWS)]
        ranks = [sum(float(other) < float(options[0]) for other in options) for options in sets]
        typicality = [self._more_typical(options) for options in sets]
        cost = self._rank_uses[ranks] + self._typicality_uses[typicality] + 0.5 * self.rng.random(len(sets))
        best = int(np.argmin(cost))
        self._rank_uses[ranks[best]] += 1
        self._typicality_uses[typicality[best]] += 1
        return sets[best]

    def _more_typical(self, options: list[str]) -> int:
        distance = [abs(np.log(float(option) / self.typical)) for option in options]
        return sum(other < distance[0] for other in distance)


def draw_numbers(value: float, rank: int, spread: str, rng: np.random.Generator) -> list[str]:
    """Four printed numbers, the truth first, `rank` of them below it.

    Distractors lie within 25 to 175 percent of the truth. Numbers differ by at least two units of the last printed
    digit. Decimals follow from the smallest number, not from the truth, which they would otherwise hint at.
    """
    while True:
        numbers = _even_numbers(value, rank, rng) if spread == "even" else _wide_numbers(value, rank, rng)
        decimals = max(1, int(np.ceil(np.log10(_TICKS / min(numbers)))))
        options = [f"{number:.{decimals}f}" for number in numbers]
        printed = np.array([float(option) for option in options])
        in_range = (LOWEST_RATIO * value <= printed[1:]) & (printed[1:] <= HIGHEST_RATIO * value)
        if in_range.all() and np.diff(np.sort(printed)).min() > 1.5 * 10.0**-decimals:
            return options


def _even_numbers(value: float, rank: int, rng: np.random.Generator) -> list[float]:
    """A geometric ladder with jittered steps through the truth, its ends at most a factor of 1.75 apart."""
    steps = rng.uniform(0.8, 1.2, NUM_OPTIONS - 1)
    steps *= np.log(HIGHEST_RATIO) * rng.uniform(0.85, 0.99) / steps.sum()
    ladder = np.concatenate([[0.0], np.cumsum(steps)])
    ratios = np.exp(ladder - ladder[rank])
    return [value, *(value * np.delete(ratios, rank))]


def _wide_numbers(value: float, rank: int, rng: np.random.Generator) -> list[float]:
    """`rank` ratios in 0.25..0.85 and the others in 1.15..1.75, neighbours at least 0.15 apart."""
    gap = 0.15

    def spread(low: float, high: float, count: int) -> np.ndarray:
        slack = high - low - gap * (count - 1)
        return low + np.sort(rng.uniform(0, slack, count)) + gap * np.arange(count)

    below = spread(LOWEST_RATIO, 1 - gap, rank) if rank else np.zeros(0)
    above = spread(1 + gap, HIGHEST_RATIO, NUM_OPTIONS - 1 - rank) if rank < NUM_OPTIONS - 1 else np.zeros(0)
    return [value, *(value * below), *(value * above)]


def direction_options(truth: str, rng: np.random.Generator) -> list[str]:
    """Four of the six directions, truth first: both senses of its axis and of one other axis.

    Whole axes are offered, so neither the presence nor the absence of an opposite tells anything about the truth.
    """
    return list(direction_texts(DIRECTIONS.index(truth), int(rng.integers(2))))


def direction_texts(label: int, chance: int) -> tuple[str, ...]:
    """The same by place in DIRECTIONS; `chance` 0 or 1 picks the other axis."""
    own = next(axis for axis in _AXES if DIRECTIONS[label] in axis)
    others = [axis for axis in _AXES if axis is not own]
    truth = DIRECTIONS[label]
    return (truth, own[1 - own.index(truth)], *others[chance])


def place_truth(options: list[str], letter: str, rng: np.random.Generator) -> list[str]:
    """Shuffle `options` (truth first) so that the truth stands at `letter`."""
    others = [options[1:][k] for k in rng.permutation(len(options) - 1)]
    position = LETTERS.index(letter)
    return [*others[:position], options[0], *others[position:]]


assert {name for axis in _AXES for name in axis} == set(DIRECTIONS)

"""Options of a question: distractors, order and the letter of the truth."""

from __future__ import annotations

import numpy as np

from ..schema import LETTERS
from .geometry import Floats, Ints
from .solvers import DIRECTIONS

LOWEST_RATIO, HIGHEST_RATIO = 0.25, 1.75  # distractors over the truth; DESIGN section 4
NUM_OPTIONS = 4  # of distance and direction questions
SPREADS = ("even", "wide")
_TICKS = 22  # the smallest option is at least this many units of the last printed digit
_DRAWS = 2  # option sets drawn for each rank of the truth, of which one is taken
_BLOCK = 20_000  # questions whose sets are drawn at once, to bound memory
_AXES = (("left", "right"), ("up", "down"), ("forward", "backward"))


def numeric_options(values: Floats, spread: str, rng: np.random.Generator) -> tuple[Floats, Ints]:
    """Options of the numeric questions of one kind, such that the options alone do not give the truth away.

    Three things would: the rank of the truth among the options, how typical it is of the task (distances of one data
    set are alike, so the most ordinary option is often the true one), and the shape of the set. For the first two,
    each question takes, of several sets drawn, one whose rank and typicality were least used so far. The shape depends
    on `spread`:

    * "even": all options lie within a factor of 1.75, about a fifth apart. Then each could be the truth, since the
      others lie within 25 to 175 percent of it.
    * "wide": distractors fill 25 to 175 percent of the truth. Easier to tell apart, but the set's shape hints at the
      truth: it cannot be an option that another one exceeds by more than 75 percent.

    Args:
        values: (N,) true numbers > 0.
        spread: "even" or "wide".
        rng: source of chance.

    Returns:
        (N, 4) numbers, the truth first, and (N,) decimals to print them with.
    """
    typical = float(np.median(values)) if len(values) else 1.0
    chosen, decimals = np.empty((len(values), NUM_OPTIONS)), np.empty(len(values), np.int64)
    uses = ([0.0] * NUM_OPTIONS, [0.0] * NUM_OPTIONS)
    ranks = np.repeat(np.arange(NUM_OPTIONS), _DRAWS)
    for first in range(0, len(values), _BLOCK):
        part = values[first : first + _BLOCK]
        shape = (len(part), len(ranks))
        sets, digits = draw_sets(np.repeat(part, len(ranks)), np.tile(ranks, len(part)), spread, rng)
        distance = np.abs(np.log(sets / typical))
        typicality = (distance[:, 1:] < distance[:, :1]).sum(axis=1).reshape(shape)
        picked = _least_used(ranks.tolist(), typicality.tolist(), (0.5 * rng.random(shape)).tolist(), uses)
        places = np.arange(len(part)) * len(ranks) + picked
        chosen[first : first + _BLOCK], decimals[first : first + _BLOCK] = sets[places], digits[places]
    return chosen, decimals


def _least_used(
    ranks: list[int], typicality: list[list[int]], noise: list[list[float]], uses: tuple[list[float], list[float]]
) -> list[int]:
    """One set per question by the uses so far, which are counted on: each choice depends on those before."""
    of_rank, of_typicality = uses
    picked = []
    for own, chance in zip(typicality, noise, strict=True):
        costs = [of_rank[r] + of_typicality[t] + c for r, t, c in zip(ranks, own, chance, strict=True)]
        best = costs.index(min(costs))
        of_rank[ranks[best]] += 1
        of_typicality[own[best]] += 1
        picked.append(best)
    return picked


def draw_sets(values: Floats, ranks: Ints, spread: str, rng: np.random.Generator) -> tuple[Floats, Ints]:
    """(N, 4) numbers, the truth first and `ranks` (N,) of them below it, and (N,) decimals to print them with.

    Distractors lie within 25 to 175 percent of the truth. Numbers differ by at least two units of the last printed
    digit. Decimals follow from the smallest number, not from the truth, which they would otherwise hint at.
    """
    sets, decimals = np.empty((len(values), NUM_OPTIONS)), np.empty(len(values), np.int64)
    left = np.arange(len(values))
    while len(left):
        ratios = _even_ratios(ranks[left], rng) if spread == "even" else _wide_ratios(ranks[left], rng)
        numbers = values[left, None] * ratios
        digits = np.maximum(1, np.ceil(np.log10(_TICKS / numbers.min(axis=1)))).astype(np.int64)
        unit = 10.0**-digits
        printed = np.round(numbers / unit[:, None]) * unit[:, None]
        low, high = LOWEST_RATIO * values[left, None], HIGHEST_RATIO * values[left, None]
        good = ((low <= printed[:, 1:]) & (printed[:, 1:] <= high)).all(axis=1)
        good &= np.diff(np.sort(printed, axis=1), axis=1).min(axis=1) > 1.5 * unit
        sets[left[good]], decimals[left[good]] = numbers[good], digits[good]
        left = left[~good]
    return sets, decimals


def draw_numbers(value: float, rank: int, spread: str, rng: np.random.Generator) -> list[str]:
    """Four printed numbers for one question, the truth first, `rank` of them below it."""
    (numbers,), (decimals,) = draw_sets(np.array([value]), np.array([rank]), spread, rng)
    return [f"{number:.{decimals}f}" for number in numbers]


def _even_ratios(ranks: Ints, rng: np.random.Generator) -> Floats:
    """(N, 4): a geometric ladder with jittered steps through the truth, its ends at most a factor of 1.75 apart."""
    steps = rng.uniform(0.8, 1.2, (len(ranks), NUM_OPTIONS - 1))
    steps *= np.log(HIGHEST_RATIO) * rng.uniform(0.85, 0.99, (len(ranks), 1)) / steps.sum(axis=1, keepdims=True)
    ladder = np.concatenate([np.zeros((len(ranks), 1)), np.cumsum(steps, axis=1)], axis=1)
    ladder -= np.take_along_axis(ladder, ranks[:, None], axis=1)
    return _truth_first(np.exp(ladder), ranks)


def _wide_ratios(ranks: Ints, rng: np.random.Generator) -> Floats:
    """(N, 4): as many ratios as the rank in 0.25..0.85 and the others in 1.15..1.75, neighbours at least 0.15 apart."""
    gap = 0.15
    ladder = np.ones((len(ranks), NUM_OPTIONS))
    for rank in range(NUM_OPTIONS):
        rows = np.flatnonzero(ranks == rank)
        for low, high, count, at in (
            (LOWEST_RATIO, 1 - gap, rank, 0),
            (1 + gap, HIGHEST_RATIO, NUM_OPTIONS - 1 - rank, rank + 1),
        ):
            if count:
                slack = high - low - gap * (count - 1)
                drawn = np.sort(rng.uniform(0, slack, (len(rows), count)), axis=1)
                ladder[rows, at : at + count] = low + drawn + gap * np.arange(count)
    return _truth_first(ladder, ranks)


def _truth_first(ladder: Floats, ranks: Ints) -> Floats:
    order = np.array([[rank, *(k for k in range(NUM_OPTIONS) if k != rank)] for rank in range(NUM_OPTIONS)])
    return np.asarray(np.take_along_axis(ladder, order[ranks], axis=1))


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

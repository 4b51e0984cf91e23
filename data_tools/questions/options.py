"""Options of a question: distractors, order and the letter of the truth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..schema import LETTERS
from .geometry import Bools, Floats, Ints
from .solvers import DIRECTIONS

LOWEST_RATIO, HIGHEST_RATIO = 0.25, 1.75  # distractors over the truth; DESIGN section 4
NUM_OPTIONS = 4  # of distance and direction questions
SPREADS = ("even", "wide")
_TICKS = 22  # the smallest option is at least this many units of the last printed digit
_GOLDEN = (5**0.5 - 1) / 2
_RANKS = np.repeat(np.arange(NUM_OPTIONS), 2)  # of the truth in the sets drawn for a value, of which one is taken
_PLACES = 48  # at which option sets are compared: finer than the steps between options
_VALUES_PER_PLACE = 20  # at least, or places are made fewer
_FIT_VALUES, _FIT_ROUNDS = 20_000, 60  # of the weights of places
_BLOCK = 20_000  # questions whose sets are drawn at once, to bound memory
_AXES = (("left", "right"), ("up", "down"), ("forward", "backward"))


class SetWeights(NamedTuple):
    """Which option sets are taken, by their place: see `fit_sets`.

    Attributes:
        edges: (P - 1,) of places.
        weights: (P,) of sets there.
        stays: (P, 4) how many of those taken stay, by the truth's rank.
    """

    edges: Floats
    weights: Floats
    stays: Floats


def numeric_options(
    values: Floats, spread: str, rng: np.random.Generator, fit: SetWeights
) -> tuple[Floats, Ints, Bools]:
    """Options of the numeric questions of one kind, such that the options alone do not give the truth away.

    Two things would: where the set lies (values of one data set are alike, so of a set of large numbers the smallest is
    likely true, and nothing below a threshold is ever asked), and the shape of the set.

    The first: sets are drawn for each rank of the truth, and each question takes one by weights of the set's place,
    fitted until at every place each rank is true equally often. Where values crowd too much for that, as just above a
    threshold, some questions go.

    The shape depends on `spread`:

    * "even": all options lie within a factor of 1.75, about a fifth apart. Then each could be the truth, since the
      others lie within 25 to 175 percent of it.
    * "wide": distractors fill 25 to 175 percent of the truth. Easier to tell apart, but the set's shape hints at the
      truth: it cannot be an option that another one exceeds by more than 75 percent.

    Args:
        values: (N,) true numbers > 0.
        spread: "even" or "wide".
        rng: source of chance.
        fit: of these values or of others of the same kind.

    Returns:
        (N, 4) numbers, the truth first, (N,) decimals to print them with, and (N,) which questions to keep.
    """
    count = len(values)
    chosen, decimals, cells = np.empty((count, NUM_OPTIONS)), np.empty(count, np.int64), np.empty(count, np.int64)
    # Along the values, steps of the golden ratio: any stretch of values gets each rank as often as its weight says.
    turn = np.empty(count)
    turn[np.argsort(values, kind="stable")] = (rng.random() + np.arange(count) * _GOLDEN) % 1.0
    for first in range(0, count, _BLOCK):
        part = slice(first, first + _BLOCK)
        sets, digits, places = _sets_of_ranks(values[part], spread, rng)
        where = np.searchsorted(fit.edges, places)  # (n, sets)
        own = where * NUM_OPTIONS + _RANKS
        odds = np.cumsum(fit.weights[where], axis=1)
        picked = (odds <= turn[part, None] * odds[:, -1:]).sum(axis=1)
        rows = np.arange(len(picked))
        chosen[part], decimals[part], cells[part] = sets[rows, picked], digits[rows, picked], own[rows, picked]
    return chosen, decimals, rng.random(count) < fit.stays.ravel()[cells]


def fit_sets(values: Floats, spread: str, rng: np.random.Generator, share: float = np.inf) -> SetWeights:
    """By what weights values take option sets, and which go, so that no rank of the truth is commoner than another.

    A set shows its place m; where its truth has rank r, the value was m + d(r). If a value takes a set by a weight g(m)
    alone, such sets are f(m + d(r)) / G(m + d(r)) * g(m) many, f being how common values are and G the sum of g over
    the sets of a value. So with G = f no rank is commoner than another, at any place and for any shape of the set. That
    is a deconvolution: g is found by the iteration of Richardson (1972) and Lucy (1974), which keeps it positive. Where
    no g has G = f, as where values begin at once, some of those taken go.

    Args:
        values: (N,) true numbers > 0.
        spread: "even" or "wide".
        rng: source of chance.
        share: how often a rank may be true at a place, of what stays.
    """
    if not len(values):
        return SetWeights(np.empty(0), np.ones(1), np.ones((1, NUM_OPTIONS)))
    values = rng.permutation(values)[:_FIT_VALUES]
    num_places = int(np.clip(len(values) // _VALUES_PER_PLACE, 1, _PLACES))
    _, _, places = _sets_of_ranks(values, spread, rng)
    edges = np.quantile(places, np.arange(1, num_places) / num_places)
    widths = np.maximum(np.diff(np.concatenate([[places.min()], edges, [places.max()]])), 1e-6)
    cells = np.searchsorted(edges, places)
    weights = np.ones(num_places)
    for _ in range(_FIT_ROUNDS):
        weights = np.bincount(cells.ravel(), _shares(weights[cells]).ravel(), minlength=num_places) / widths
        weights = np.maximum(weights, 1e-9 * weights.max())
    own = cells * NUM_OPTIONS + _RANKS
    stays = np.ones((num_places, NUM_OPTIONS))
    if share < 1:
        true = np.bincount(own.ravel(), _shares(weights[cells]).ravel(), minlength=stays.size).reshape(stays.shape)
        caps = np.array([fair_cap(row, share) for row in true])
        stays = np.minimum(1, (caps[:, None] + 0.1) / (true + 0.1))
    return SetWeights(np.asarray(edges), weights, stays)


def _shares(weights: Floats) -> Floats:
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def fair_cap(counts: Floats | Ints, share: float) -> float:
    """How many of each kind may stay so that none is more than `share` of all that stay; (N,) counts, share > 1 / N.

    With k kinds cut to c and a rest R, c = share * (k c + R).
    """
    ordered = np.sort(counts)[::-1].astype(np.float64)
    for cut in range(1, len(ordered)):
        if share * cut >= 1:
            break
        cap = share * ordered[cut:].sum() / (1 - share * cut)
        if cap >= ordered[cut]:
            return float(min(cap, ordered[0]))
    return float(ordered.max(initial=0))


def _sets_of_ranks(values: Floats, spread: str, rng: np.random.Generator) -> tuple[Floats, Ints, Floats]:
    """Sets (N, R, 4) with truths of _RANKS, their decimals (N, R), and their places (N, R): the mean logarithm."""
    shape = (len(values), len(_RANKS))
    sets, digits = draw_sets(np.repeat(values, len(_RANKS)), np.tile(_RANKS, len(values)), spread, rng)
    return sets.reshape(*shape, NUM_OPTIONS), digits.reshape(shape), np.log(sets).mean(axis=1).reshape(shape)


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

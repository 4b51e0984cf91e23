"""Which of the possible questions are asked: splits by clip, caps per clip, balance of answers and letters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np

from .candidates import Candidates, first_of_each, places_within, ranks_within
from .chance import gumbel, mix
from .config import QuestionConfig
from .geometry import Bools, Floats, Ints
from .options import NUM_OPTIONS, SetWeights, fair_cap, fit_sets, numeric_options
from .tasks import task_of

_ROUNDS = 12  # of fitting weights; the balance hardly changes after
_FIT_CLIPS = 4000  # weights are fitted on so many clips
_BLOCK_CLIPS = 512  # drawn from at once
_LABELS = 64  # room for the labels of a task
_SPAN_EDGES = (0.35, 0.5, 0.7)  # of the frames asked about, as shares of all: inner pairs that compare
NUM_SPANS = len(_SPAN_EDGES) + 2


def split_clips(clip_ids: Iterable[str], val_fraction: float, test_fraction: float, seed: int) -> dict[str, str]:
    """Split of every clip. Shares are exact to the rounding; a positive share of three or more clips gets at least one.

    The order of `clip_ids` does not matter.
    """
    ids = sorted(clip_ids)
    sizes = {}
    for name, fraction in (("val", val_fraction), ("test", test_fraction)):
        size = int(np.floor(len(ids) * fraction + 0.5))
        sizes[name] = max(1, size) if fraction > 0 and len(ids) >= 3 else size
    order = np.random.default_rng([seed, 0]).permutation(len(ids))
    names = ["val"] * sizes["val"] + ["test"] * sizes["test"]
    names = names[: max(0, len(ids) - 1)]  # training keeps at least one clip
    names += ["train"] * (len(ids) - len(names))
    return {ids[position]: name for position, name in zip(order, names, strict=True)}


def select(found: Candidates, config: QuestionConfig) -> Candidates:
    """Choose within the caps so that no answer of a task is much commoner than the others, in the order given.

    Each clip draws among its candidates with weights per answer within a span (`spans_of`: over a short time little
    changes, and questions name their frames), kind of frame pair and, if asked for, difficulty. The weights are fitted
    until answers are as equal as the clips allow; what then still exceeds `config.fair_share` of a span, or
    `config.balance_ratio` over all spans, is dropped. A task with a single possible answer is kept as it is; the
    report shows it. An infinite `config.balance_ratio` draws without any weights.
    """
    if not len(found):
        return found
    weights = _Weights(config)
    if np.isfinite(config.balance_ratio):
        clips = np.unique(found["clip"])
        sample = found
        if len(clips) > _FIT_CLIPS:
            some = clips[np.argsort(mix(np.uint64(config.seed), clips), kind="stable")[:_FIT_CLIPS]]
            sample = found[np.isin(found["clip"], some)]
        weights.fit(_Draws(sample, config))
    chosen = found[np.concatenate([start + _Draws(part, config).draw(weights) for start, part in _blocks(found)])]
    if not np.isfinite(config.balance_ratio):
        return chosen
    kind, label = chosen["kind"].astype(np.int64), chosen["label"].astype(np.int64)
    # Options that are objects: which of the two categories it is, in whatever order they are named.
    chosen = chosen[_fair(chosen, np.abs(kind), np.where(kind < 0, 1 - label, label), config)]
    chosen = chosen[_fair(chosen, 1 + spans_of(chosen, config.num_frames), chosen["label"].astype(np.int64), config)]
    return chosen[_within_balance(chosen, config.balance_ratio)]


def _blocks(found: Candidates) -> Iterator[tuple[int, Candidates]]:
    """Candidates of some hundred clips at a time, with the place of the first: quicker to sort, and little memory."""
    clip = found["clip"]
    edges = np.append(np.flatnonzero(first_of_each(clip))[::_BLOCK_CLIPS], len(found))
    for start, end in pairwise(edges.tolist()):
        yield start, found[start:end]


def spans_of(found: Candidates, num_frames: int) -> Ints:
    """(N,) kind of time span, 0..NUM_SPANS - 1: the whole clip, or inner pairs by their length."""
    length = (found["end"].astype(np.int64) - found["start"]) / max(1, num_frames - 1)
    return np.where(found["whole"], 0, 1 + np.digitize(length, _SPAN_EDGES))


def fit_numbers(picked: Candidates, config: QuestionConfig) -> dict[tuple[int, int], SetWeights]:
    """(place of the task, span) -> how option sets are taken there, for the numeric questions of all splits together.

    What a blind guess about a number could go by, beside the options: the task, and the span that is asked about.
    """
    share = config.fair_rank_share if config.option_spread == "even" else np.inf
    fits = {}
    for kind, rows in _numeric_kinds(picked, config):
        rng = np.random.default_rng([config.seed, 4, *kind])
        fits[kind] = fit_sets(picked["measure"][rows], config.option_spread, rng, share)
    return fits


def numbered(
    picked: Candidates, fits: dict[tuple[int, int], SetWeights], config: QuestionConfig, split: int
) -> tuple[Ints, Floats, Ints]:
    """Options of the numeric questions among those picked for a split.

    Returns:
        (K,) places of what is kept, ascending; (K, 4) numbers, the truth first, and (K,) decimals; zeros for words.
    """
    numbers, decimals = np.zeros((len(picked), NUM_OPTIONS)), np.zeros(len(picked), np.int64)
    keep = np.ones(len(picked), bool)
    for kind, rows in _numeric_kinds(picked, config):
        rng = np.random.default_rng([config.seed, 2, split, *kind])
        numbers[rows], decimals[rows], keep[rows] = numeric_options(
            picked["measure"][rows], config.option_spread, rng, fits[kind]
        )
    kept = np.flatnonzero(keep)
    return kept, numbers[kept], decimals[kept]


def _numeric_kinds(picked: Candidates, config: QuestionConfig) -> Iterator[tuple[tuple[int, int], Ints]]:
    """A numeric task with a span, and the places of its candidates in an order that follows from their keys."""
    spans = spans_of(picked, config.num_frames)
    for place, name in enumerate(config.tasks):
        if not task_of(name).is_numeric:
            continue
        for span in range(NUM_SPANS):
            rows = np.flatnonzero((picked["task"] == place) & (spans == span))
            yield (place, span), rows[np.argsort(mix(picked["key"][rows], 6), kind="stable")]


def _answers(found: Candidates) -> Ints:
    return found["task"].astype(np.int64) * _LABELS + found["label"]


class _Draws:
    """Candidates of whole clips, in their order, with all that does not change from one draw among them to the next.

    Attributes:
        task, band, whole: (N,) columns.
        cell: (N,) task, span and label as one number.
    """

    def __init__(self, found: Candidates, config: QuestionConfig) -> None:
        self._config = config
        self.task, self.band = (found[name].astype(np.int64) for name in ("task", "band"))
        self.whole = found["whole"].copy()
        self.cell = (self.task * NUM_SPANS + spans_of(found, config.num_frames)) * _LABELS + found["label"]
        self._clip = found["clip"].astype(np.int64)
        self._noise = gumbel(found["key"])
        self._turn = 0.5 * (mix(found["key"], 1) / 2.0**64)
        group = self._clip * len(config.tasks) + self.task
        order = np.argsort(group, kind="stable")  # they are in order already where tasks were asked one by one
        self._order = order
        self._first = first_of_each(group[order])
        # A score spans less than this, so that groups do not mix where both are in one number.
        self._base = np.cumsum(self._first) * 256.0

    def draw(self, weights: _Weights) -> Ints:
        """Places of what each clip draws within its caps, ascending."""
        score = self._base - (weights.of(self) + self._noise)[self._order]
        order = self._order[np.argsort(score, kind="stable")]
        rank = places_within(self._first)
        kept = order[rank < self._config.max_per_clip_task]
        rank = rank[rank < self._config.max_per_clip_task]
        back = np.argsort(kept)
        kept, rank = kept[back], rank[back]
        # tasks take turns within a clip's cap
        turns = np.lexsort((rank + self._turn[kept], self._clip[kept]))
        place = places_within(first_of_each(self._clip[kept][turns]))
        return np.sort(kept[turns[place < self._config.max_per_clip]])


class _Weights:
    """Log-weights of answers within a span, kinds of frame pair and difficulty bands, each within its task.

    All are zero until they are fitted.
    """

    def __init__(self, config: QuestionConfig) -> None:
        tasks = len(config.tasks)
        self._config = config
        self._shape = (tasks, NUM_SPANS, _LABELS)
        self._answer = np.zeros(self._shape)
        self._whole = np.zeros(tasks)
        self._band = np.zeros((tasks, 3))

    def of(self, draws: _Draws) -> Floats:
        """(N,) log-weights."""
        weights: Floats = self._answer.ravel()[draws.cell] + self._whole[draws.task] * draws.whole
        return weights + self._band[draws.task, draws.band] if self._config.balance_difficulty else weights

    def fit(self, draws: _Draws) -> None:
        """Make answers as equal as the clips allow, and frame pairs and bands as the config wants them."""
        has = self._counts(draws.cell) > 0
        for _ in range(_ROUNDS):
            self._improve(draws, draws.draw(self), has)

    def _counts(self, cells: Ints) -> Ints:
        return np.bincount(cells, minlength=int(np.prod(self._shape))).reshape(self._shape)

    def _improve(self, draws: _Draws, picked: Ints, has: Bools) -> None:
        tasks, task = len(self._whole), draws.task[picked]
        counts = self._counts(draws.cell[picked])
        mean = counts.sum(axis=2, keepdims=True) / np.maximum(has.sum(axis=2, keepdims=True), 1)
        self._answer += np.where(has, 0.7 * np.log((mean + 1) / (counts + 1)), 0)
        np.clip(self._answer, -6, 6, out=self._answer)
        share = self._config.whole_clip_share
        if 0 < share < 1:
            whole = np.bincount(task, draws.whole[picked], minlength=tasks) + 1
            inner = np.bincount(task, ~draws.whole[picked], minlength=tasks) + 1
            self._whole = np.clip(self._whole + 0.7 * np.log(share / (1 - share) * inner / whole), -6, 6)
        bands = np.bincount(task * 3 + draws.band[picked], minlength=tasks * 3).reshape(tasks, 3)
        self._band += 0.7 * np.log((bands.mean(axis=1, keepdims=True) + 1) / (bands + 1))
        np.clip(self._band, -6, 6, out=self._band)


def _fair(chosen: Candidates, group: Ints, label: Ints, config: QuestionConfig) -> Ints:
    """Places of what stays when in no group of a task an answer is commoner than its fair share allows.

    Args:
        chosen: (N,) questions.
        group: (N,) what could be told without the video; questions of group 0 all stay.
        label: (N,) the answers that are balanced.
        config: of the shares.
    """
    keep = np.ones(len(chosen), bool)
    chance = mix(chosen["key"], 7)
    for task in np.unique(chosen["task"]):
        own = np.flatnonzero(chosen["task"] == task)
        labels = np.unique(label[own])
        share = config.fair_share(len(labels))
        if len(labels) < 2 or share >= 1:
            continue
        own = own[np.argsort(group[own], kind="stable")]
        for rows in np.split(own, np.flatnonzero(first_of_each(group[own]))[1:]):
            if group[rows[0]] == 0:
                continue
            counts = np.bincount(np.searchsorted(labels, label[rows]), minlength=len(labels))
            cap = np.ceil(fair_cap(counts, share) + 0.5 * np.sqrt(counts.mean()))  # few are uneven by chance alone
            keep[rows] = ranks_within(label[rows], chance[rows]) < cap
    return np.flatnonzero(keep)


def _within_balance(chosen: Candidates, balance_ratio: float) -> Ints:
    """Places without those of answers beyond `balance_ratio` times the second commonest or the mean answer."""
    answers = _answers(chosen)
    allowed = np.full(int(answers.max()) + _LABELS, np.inf) if len(chosen) else np.zeros(0)
    counts = np.bincount(answers, minlength=len(allowed))
    for task in np.unique(chosen["task"]):
        block = slice(task * _LABELS, (task + 1) * _LABELS)
        sizes = np.sort(counts[block][counts[block] > 0])
        if len(sizes) > 1:
            allowed[block] = max(1.0, balance_ratio * min(sizes[-2], sizes.mean()))
    return np.flatnonzero(ranks_within(answers, mix(chosen["key"], 2)) + 1 <= allowed[answers])


def balanced_letters(chosen: Candidates, option_counts: Ints, seed: int) -> Ints:
    """(N,) place of the truth among the options: equally frequent, to one, within a task and each of its answers.

    Args:
        chosen: questions of one split.
        option_counts: of each task of the config.
        seed: of the first letter.
    """
    group = chosen["task"].astype(np.int64)
    order = np.lexsort((mix(chosen["key"], 3), chosen["label"], group))
    place = np.empty(len(chosen), np.int64)
    ranks = ranks_within(group[order], np.arange(len(order)))
    count = option_counts[group[order]]
    first = (mix(np.uint64(seed), group[order]) >> np.uint64(40)).astype(np.int64)
    place[order] = (ranks + first) % count
    return place

"""Rows dropped until blind guesses are right no more often than chance."""

from __future__ import annotations

import numpy as np

from ..questions.candidates import ranks_within
from .accuracy import correct_guesses
from .rows import BlindRows

_TARGET = 0.01  # above chance: below the limit of three points, so that other clips agree
_ROUNDS = 8


def rebalance(rows: BlindRows, seed: int = 0, max_drop: float = 0.4) -> np.ndarray:
    """(N,) which rows to keep, task by task.

    As AFLite (arXiv 2002.04108), rows that are guessed right on held-out clips by the best baseline go first, the
    surest of them first; in rounds, since what is left is learnt anew. A round drops half of what would bring the
    baseline to chance, because the surest rows are also what the others were guessed from. Every row is guessed from
    other clips alone, so no split is judged by what its own clips taught.

    Args:
        rows: of any tasks.
        seed: parts the clips, differently in every round.
        max_drop: share of a task's rows that may go, of each split.
    """
    keep = np.ones(len(rows), bool)
    for task in sorted(set(rows.tasks)):
        places = np.flatnonzero(rows.tasks == task)
        _, split = np.unique(rows.splits[places].astype(str), return_inverse=True)
        left = np.floor(np.bincount(split) * max_drop).astype(np.int64)  # rows of each split that may still go
        for number in range(_ROUNDS):
            own = rows.take(places)
            right, margin = correct_guesses(own, seed + 17 * (number + 1))
            best = max(right, key=lambda name: float(right[name].mean()))
            chance = float(np.mean([1 / len(options) for options in own.options]))
            excess = (right[best].sum() - (chance + _TARGET) * len(own)) / (1 - chance)
            order = np.argsort(np.where(right[best], -margin[best], np.inf), kind="stable")[: int(right[best].sum())]
            order = order[ranks_within(split[order], np.arange(len(order))) < left[split[order]]]
            order = order[: max(0, int(np.ceil(excess / 2)))]
            if not len(order):
                break
            left -= np.bincount(split[order], minlength=len(left))
            keep[places[order]] = False
            places, split = np.delete(places, order), np.delete(split, order)
    return keep

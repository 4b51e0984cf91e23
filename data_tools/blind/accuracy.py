"""Accuracy of blind guesses per task, on clips they have not learnt from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .baselines import baselines_for
from .features import Features, features_of
from .rows import BlindRows, chance_of

LIMIT = 0.03  # above chance, as a share: up to here a task counts as not guessable
FOLDS = 5
_MIN_CLIPS = 10  # fewer cannot be parted into learning and testing


@dataclass(frozen=True)
class TaskAccuracy:
    """Blind accuracy of one task.

    Attributes:
        rows, clips: counts.
        chance: mean of one over the number of options.
        baselines: name -> accuracy on held-out clips.
        best: the baseline that is best on all rows.
        accuracy: of the best baseline, chosen on half of the clips and measured on the other, both ways: the maximum
            of many baselines measured on the rows that chose it would be too high.
        interval: half of the 95% interval of `accuracy`; rows of a clip count as one draw.
    """

    rows: int
    clips: int
    chance: float
    baselines: dict[str, float]
    best: str
    accuracy: float
    interval: float

    @property
    def verdict(self) -> str:
        """ "guessable", "at chance", or "unclear" where the rows are too few to tell three points."""
        over = self.accuracy - self.chance
        if over > LIMIT and over > self.interval:
            return "guessable"
        return "at chance" if over <= LIMIT and self.interval <= LIMIT else "unclear"


def correct_guesses(
    rows: BlindRows, seed: int = 0, features: Features | None = None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """name -> (N,) whether a baseline guessed right, and by how much; each fold of clips is guessed from the others.

    Args:
        rows: of one task.
        seed: parts the clips.
        features: of these rows, where they are made already.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    features = features or features_of(rows)
    guesses = baselines_for(features)
    fold = (chance_of(seed, rows.clips) * FOLDS).astype(int)
    right = {name: np.zeros(len(rows), bool) for name in guesses}
    margin = {name: np.zeros(len(rows)) for name in guesses}
    rng = np.random.default_rng(seed)
    with threadpool_limits(1):  # OpenMP threads that wait for each other stand still on a busy machine
        for part in range(FOLDS):
            places, others = np.flatnonzero(fold == part), np.flatnonzero(fold != part)
            if not len(places) or not len(others):
                continue
            own, answers = np.arange(len(places)), features.answers[places]
            for name, guess in guesses.items():
                scores = guess(features, others, places) + rng.uniform(0, 1e-9, features.is_option[places].shape)
                scores = np.where(features.is_option[places], scores, -np.inf)
                right[name][places] = scores.argmax(axis=1) == answers
                truth = scores[own, answers]
                scores[own, answers] = -np.inf
                margin[name][places] = truth - np.maximum(scores.max(axis=1), -1e9)
    return right, margin


def task_accuracy(rows: BlindRows, seed: int = 0) -> TaskAccuracy:
    """Blind accuracy on the rows of one task."""
    right, _ = correct_guesses(rows, seed)
    means = {name: float(flags.mean()) for name, flags in right.items()}
    half = chance_of(seed + 1000, rows.clips) < 0.5
    hits = np.zeros(len(rows))
    for chooser in (half, ~half):
        chosen = max(right, key=lambda name: right[name][chooser].mean() if chooser.any() else means[name])
        hits[~chooser] = right[chosen][~chooser]
    _, clip = np.unique(rows.clips.astype(str), return_inverse=True)
    residual = np.bincount(clip, hits - hits.mean())
    deviation = float(np.sqrt((residual**2).sum())) / len(rows)
    count = int(clip.max()) + 1
    return TaskAccuracy(
        len(rows),
        count,
        float(np.mean([1 / len(options) for options in rows.options])),
        means,
        max(means, key=means.__getitem__),
        float(hits.mean()),
        1.96 * deviation * float(np.sqrt(count / max(1, count - 1))),
    )


def blind_accuracy(rows: BlindRows, seed: int = 0, max_rows: int = 20_000) -> dict[str, TaskAccuracy]:
    """Task -> accuracy; tasks about fewer than ten clips are left out.

    Args:
        rows: of any tasks.
        seed: parts the clips.
        max_rows: per task; more change nothing at a precision of three points and take their time.
    """
    found = {}
    for task in sorted(set(rows.tasks)):
        places = np.flatnonzero(rows.tasks == task)
        if len(places) > max_rows:
            places = np.sort(places[np.argsort(chance_of(seed, rows.ids[places]), kind="stable")[:max_rows]])
        own = rows.take(places)
        if len(set(own.clips)) >= _MIN_CLIPS:
            found[task] = task_accuracy(own, seed)
    return found

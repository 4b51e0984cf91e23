"""Which paths are kept: a threshold of its own for every task, and tasks take turns where the number is limited.

The rule of MLLM-4D (arXiv 2603.00515, its data for cold start): the threshold of a scenario is the mean over its
samples of the best score among a sample's paths; a path is kept at or above it and above zero. Hard scenarios so keep
paths that an easy one would drop.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from mllm4d_verl.cold_start.scoring import CotPath, Sample
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import QARow

_ROUNDING = 1e-9  # the mean of equal numbers may come out above them


@dataclass(frozen=True)
class SelectionConfig:
    """How paths are chosen.

    Attributes:
        tolerance: a score so far below the threshold is at it. Coordinates are printed with four decimals, which moves
            a perfect score by up to 1e-3; without it a set of perfect texts would be cut in half by rounding.
        max_per_sample: paths of one question, the best first; 0 keeps all. One is what the paper's numbers point to:
            7000 texts from 14000 questions of which about half are kept.
        target: texts in all, tasks taking turns; 0 keeps all.
        seed: orders the questions of a task where `target` does not take all.
    """

    tolerance: float = 1e-3
    max_per_sample: int = 1
    target: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("tolerance", "max_per_sample", "target"):
            if getattr(self, name) < 0:
                raise InputError(f"must be at least 0, got {getattr(self, name)}", field=name)


@dataclass(frozen=True)
class TaskFigures:
    """What became of a task's paths; shares are None where there is nothing to share.

    Attributes:
        samples, samples_without_path: questions, and those for which nothing usable was written.
        paths: that were written and parse.
        right_share: of them, with the right answer.
        mean_score, threshold: mean over paths; mean over samples of the best.
        passing_paths, passing_share: at or above the threshold and above zero.
        passing_samples: questions with such a path.
        kept: texts in the file, after the limits.
    """

    samples: int
    samples_without_path: int
    paths: int
    right_share: float | None
    mean_score: float | None
    threshold: float | None
    passing_paths: int
    passing_share: float | None
    passing_samples: int
    kept: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def thresholds(samples: Iterable[Sample]) -> dict[str, float]:
    """task -> mean over its samples of the best score. A sample without paths has none and does not count."""
    best: dict[str, list[float]] = defaultdict(list)
    for sample in samples:
        if sample.best is not None:
            best[sample.row.task].append(sample.best)
    return {task: fmean(scores) for task, scores in best.items()}


def passing(sample: Sample, threshold: float, tolerance: float = 0.0) -> list[CotPath]:
    """Paths of a sample at or above the threshold of its task and above zero, the best first."""
    least = threshold - tolerance - _ROUNDING
    passed = [path for path in sample.paths if path.score > 0 and path.score >= least]
    return sorted(passed, key=lambda path: (-path.score, path.number))


def select_paths(samples: Sequence[Sample], config: SelectionConfig) -> list[tuple[Sample, CotPath]]:
    """What is kept, in the order of the samples, the better path of a sample first.

    With a target, tasks take turns, one text each, until it is reached or nothing is left; within a task every sample
    gives its best path before any gives its second.
    """
    limits = thresholds(samples)
    kept: list[tuple[int, int, CotPath]] = []  # position, rank, path
    for position, sample in enumerate(samples):
        if not sample.paths:
            continue
        ranked = passing(sample, limits[sample.row.task], config.tolerance)
        kept += [(position, rank, path) for rank, path in enumerate(ranked[: config.max_per_sample or None])]
    if config.target and config.target < len(kept):
        kept = _in_turns(kept, samples, config)
    return [(samples[position], path) for position, _, path in sorted(kept, key=lambda item: item[:2])]


def _in_turns(
    kept: list[tuple[int, int, CotPath]], samples: Sequence[Sample], config: SelectionConfig
) -> list[tuple[int, int, CotPath]]:
    queues: dict[str, list[tuple[int, int, CotPath]]] = defaultdict(list)
    for item in sorted(kept, key=lambda item: (item[1], _shuffled(samples[item[0]].row.id, config.seed))):
        queues[samples[item[0]].row.task].append(item)
    turns = ((turn, task) for task, queue in queues.items() for turn in range(len(queue)))
    return [queues[task][turn] for turn, task in sorted(turns)[: config.target]]


def _shuffled(key: str, seed: int) -> bytes:
    """An order that follows ids and seed alone, not the other rows."""
    return hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=8).digest()


def first_of_tasks(rows: Sequence[QARow], per_task: int, seed: int) -> list[QARow]:
    """At most `per_task` rows of each task, in their order; which ones follows ids and seed. 0 takes all."""
    if not per_task:
        return list(rows)
    by_task: dict[str, list[QARow]] = defaultdict(list)
    for row in rows:
        by_task[row.task].append(row)
    taken: set[str] = set()
    for members in by_task.values():
        taken.update(row.id for row in sorted(members, key=lambda row: _shuffled(row.id, seed))[:per_task])
    return [row for row in rows if row.id in taken]


def task_figures(
    samples: Sequence[Sample], kept: Sequence[tuple[Sample, CotPath]], tolerance: float = 0.0
) -> dict[str, TaskFigures]:
    """task -> figures, in alphabetic order."""
    limits = thresholds(samples)
    of_task: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        of_task[sample.row.task].append(sample)
    taken: dict[str, int] = defaultdict(int)
    for sample, _ in kept:
        taken[sample.row.task] += 1
    found = {}
    for task, members in sorted(of_task.items()):
        limit = limits.get(task)
        paths = [path for sample in members for path in sample.paths]
        passed = [] if limit is None else [passing(sample, limit, tolerance) for sample in members]
        count = sum(map(len, passed))
        found[task] = TaskFigures(
            samples=len(members),
            samples_without_path=sum(not sample.paths for sample in members),
            paths=len(paths),
            right_share=fmean(path.is_right for path in paths) if paths else None,
            mean_score=fmean(path.score for path in paths) if paths else None,
            threshold=limit,
            passing_paths=count,
            passing_share=count / len(paths) if paths else None,
            passing_samples=sum(map(bool, passed)),
            kept=taken[task],
        )
    return found


def kept_row(sample: Sample, path: CotPath, writer: str) -> QARow:
    """The question with the path as its response; its id tells the paths of a question apart."""
    told = {"writer": writer, "question_id": sample.row.id, "path": path.number, "score": round(path.score, 6)}
    return replace(
        sample.row,
        id=f"{sample.row.id}-p{path.number}",
        response=path.text,
        meta={**sample.row.meta, "cot": told},
    )

"""Plots of runs side by side: accuracy by task, by true distance and by duration, and which directions are confused.

What is drawn is computed first (`accuracy_by_task`, `by_distance`, `by_duration`, `confusion`), then drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mllm4d_verl.data_tools.atomic import atomic_path
from mllm4d_verl.data_tools.questions.solvers import DIRECTIONS, STILL
from mllm4d_verl.data_tools.schema import LETTERS

from .benchmarks.base import Benchmark, fold
from .named_runs import NamedRun
from .responses import ResponseRecord
from .statistics import Interval, proportion_interval
from .summary import summarise

_BINS = 5
OTHER, INVALID = "other option", "invalid"
_ACCURACY_LABEL = "accuracy, % (95% interval; hollow: not reliable)"
# Matrices side by side; with more their numbers cannot be read.
_MATRICES_PER_LINE = 2


@dataclass(frozen=True)
class Bin:
    """Responses to questions whose true value lies in low..high, ends included.

    Attributes:
        accuracy: share of right ones, with its interval.
        error: median relative error |answer - truth| / truth of those that state a number; None without any.
    """

    low: float
    high: float
    n: int
    accuracy: Interval
    error: float | None


@dataclass(frozen=True)
class Confusion:
    """Counts (R, C) of right directions (rows, `truths`) against answers (columns, `answers`).

    The last column is INVALID. Benchmarks word their wrong options freely, so those that are no direction share the
    column OTHER before it, where there are any.
    """

    truths: tuple[str, ...]
    answers: tuple[str, ...]
    counts: np.ndarray


def accuracy_by_task(runs: Sequence[NamedRun]) -> dict[str, dict[str, Interval]]:
    """Run -> task -> accuracy, with "all" as the last task."""
    summaries = {run.name: summarise(run.records) for run in runs}
    return {name: {task.task: task.accuracy for task in [*s.tasks, s.overall]} for name, s in summaries.items()}


def chance_by_task(runs: Sequence[NamedRun]) -> dict[str, float]:
    """Task -> accuracy of guessing, with "all" for all questions; no entry where a question lists no options."""
    found: dict[str, float] = {}
    for run in runs:
        summary = summarise(run.records)
        for task in [*summary.tasks, summary.overall]:
            if task.chance is not None:
                found.setdefault(task.task, task.chance)
    return found


def true_distance_m(record: ResponseRecord) -> float | None:
    """The distance that the question asks for, metres; None for other questions."""
    value, unit = record.truth.get("value"), record.truth.get("unit")
    is_distance = "distance" in record.task and unit in ("meters", "metres", "m")
    return float(value) if is_distance and value is not None and value > 0 else None


def relative_error(record: ResponseRecord) -> float | None:
    """|answer - truth| / truth of a scored response to a distance question; None where it states no number."""
    truth, scores = true_distance_m(record), record.scores or {}
    if truth is None:
        return None
    number, options = scores.get("number"), record.truth.get("options") or []
    if number is None and scores.get("choice") and LETTERS.index(scores["choice"]) < len(options):
        try:
            number = float(str(options[LETTERS.index(scores["choice"])]).split()[0])
        except (ValueError, IndexError):
            return None
    return None if number is None else abs(number - truth) / truth


def duration_frames(record: ResponseRecord) -> float | None:
    """Frames between start and end of what the question asks about; None where the truth does not say."""
    start, end = record.truth.get("start_frame"), record.truth.get("end_frame")
    return None if start is None or end is None else float(end - start)


def durations_of(benchmark: Benchmark) -> Callable[[ResponseRecord], float | None]:
    """As `duration_frames`, for truths that do not hold the frames: taken from the questions by id."""
    items = benchmark.items
    frames = {i.id: i.end_frame - i.start_frame for i in items if None not in (i.start_frame, i.end_frame)}
    return lambda record: frames.get(record.id, duration_frames(record))


def by_distance(runs: Sequence[NamedRun]) -> dict[str, list[Bin]]:
    """Run -> bins of true distance, metres; the bins of all runs are the same and hold about equally many responses."""
    return _binned(runs, true_distance_m)


def by_duration(
    runs: Sequence[NamedRun], duration: Callable[[ResponseRecord], float | None] = duration_frames
) -> dict[str, list[Bin]]:
    """Run -> bins of `duration`, over all questions that have one."""
    return _binned(runs, duration)


def confusion(records: Sequence[ResponseRecord]) -> Confusion:
    """Right directions against answers, over questions whose right option is a direction or "not moving"."""
    known = (*DIRECTIONS, STILL)
    pairs = []
    for record in records:
        options = [fold(str(option)) for option in record.truth.get("options") or []]
        right, choice = (_option(options, letter) for letter in (record.truth["answer"], record.scores["choice"]))  # type: ignore[index]
        if right in known:
            pairs.append((right, choice or INVALID))
    answered = {answer for _, answer in pairs} - {INVALID}
    truths = tuple(name for name in known if name in {right for right, _ in pairs})
    used = tuple(name for name in known if name in answered or name in truths)
    answers = (*used, *([OTHER] if answered - set(known) else []), INVALID)
    counts = np.zeros((len(truths), len(answers)), dtype=int)
    for right, answer in pairs:
        column = answer if answer in answers else OTHER
        counts[truths.index(right), answers.index(column)] += 1
    return Confusion(truths, answers, counts)


def plot_runs(
    runs: Sequence[NamedRun], out: str | Path, duration: Callable[[ResponseRecord], float | None] = duration_frames
) -> list[Path]:
    """Write accuracy_by_task.png and, where the questions allow, distance.png, duration.png and directions.png.

    Distances and durations need two bins with responses, so that there is something to compare.
    """
    out = Path(out)
    written = [_save(_draw_tasks(accuracy_by_task(runs), chance_by_task(runs)), out / "accuracy_by_task.png")]
    for name, label, bins in (
        ("distance", "true distance, metres", by_distance(runs)),
        ("duration", "frames between start and end", by_duration(runs, duration)),
    ):
        if len({b.low for run_bins in bins.values() for b in run_bins}) > 1:  # one bin compares nothing
            written.append(_save(_draw_bins(bins, label), out / f"{name}.png"))
    matrices = {run.name: confusion(run.records) for run in runs}
    matrices = {name: matrix for name, matrix in matrices.items() if matrix.truths}
    if matrices:
        written.append(_save(_draw_confusions(matrices), out / "directions.png"))
    return written


def _option(options: Sequence[str], letter: str | None) -> str | None:
    index = LETTERS.find(letter) if letter else -1
    return options[index] if 0 <= index < len(options) else None


def _binned(runs: Sequence[NamedRun], value: Callable[[ResponseRecord], float | None]) -> dict[str, list[Bin]]:
    found = {run.name: [(v, r) for r in run.records if (v := value(r)) is not None] for run in runs}
    every = np.array([v for pairs in found.values() for v, _ in pairs])
    distinct = np.unique(every)
    groups = [distinct] if len(distinct) == 0 else _groups(every, distinct)
    return {name: [b for g in groups if (b := _bin(pairs, g)) is not None] for name, pairs in found.items()}


def _groups(every: np.ndarray, distinct: np.ndarray) -> list[np.ndarray]:
    """The distinct values in bins: each its own where they are few, else by quantiles of all values."""
    if len(distinct) <= _BINS:
        return [distinct[i : i + 1] for i in range(len(distinct))]
    edges = np.quantile(every, np.linspace(0, 1, _BINS + 1)[1:-1])
    index = np.searchsorted(edges, distinct, side="left")
    return [distinct[index == i] for i in range(_BINS) if (index == i).any()]


def _bin(pairs: Sequence[tuple[float, ResponseRecord]], group: np.ndarray) -> Bin | None:
    if len(group) == 0:
        return None
    low, high = float(group[0]), float(group[-1])
    inside = [record for value, record in pairs if low <= value <= high]
    if not inside:
        return None
    errors = [error for record in inside if (error := relative_error(record)) is not None]
    correct = [record.scores["correct"] for record in inside]  # type: ignore[index]
    accuracy = proportion_interval(correct, [record.clip_id for record in inside])
    return Bin(low, high, len(inside), accuracy, float(np.median(errors)) if errors else None)


def _errorbar(axis: Any, places: Any, intervals: Sequence[Interval], label: str) -> None:
    middle = np.array([100 * (i.estimate or 0.0) for i in intervals])
    low = np.array([middle[k] if i.low is None else 100 * i.low for k, i in enumerate(intervals)])
    high = np.array([middle[k] if i.high is None else 100 * i.high for k, i in enumerate(intervals)])
    ends = [np.clip(middle - low, 0, None), np.clip(high - middle, 0, None)]
    drawn = axis.errorbar(places, middle, yerr=ends, fmt="o", capsize=3, label=label)
    hollow = [k for k, interval in enumerate(intervals) if interval.unreliable is not None]
    if hollow:
        where = np.asarray(places, dtype=float)[hollow]
        axis.plot(where, middle[hollow], "o", color=drawn[0].get_color(), mfc="white", zorder=3)


def _draw_tasks(accuracy: Mapping[str, Mapping[str, Interval]], chance: Mapping[str, float]) -> Any:
    from matplotlib.figure import Figure

    tasks = [*dict.fromkeys(t for tasks in accuracy.values() for t in tasks if t != "all"), "all"]
    figure = Figure(figsize=(1.5 + 1.3 * len(tasks), 5), layout="constrained")
    axis = figure.subplots()
    for number, (name, found) in enumerate(accuracy.items()):
        shift = 0.12 * (number - (len(accuracy) - 1) / 2)
        places = [tasks.index(task) + shift for task in found]
        _errorbar(axis, places, list(found.values()), name)
    known = [(place, 100 * chance[task]) for place, task in enumerate(tasks) if task in chance]
    if known:
        places, levels = zip(*known, strict=True)
        axis.hlines(levels, np.array(places) - 0.4, np.array(places) + 0.4, colors="gray", ls="--", label="chance")
    axis.set_xticks(range(len(tasks)), [task.replace("_", "\n") for task in tasks], fontsize=8)
    axis.set(ylabel=_ACCURACY_LABEL, ylim=(0, 100))
    axis.legend()
    return figure


def _draw_bins(binned: Mapping[str, Sequence[Bin]], label: str) -> Any:
    from matplotlib.figure import Figure

    with_errors = any(b.error is not None for bins in binned.values() for b in bins)
    figure = Figure(figsize=(11 if with_errors else 5.5, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2) if with_errors else (figure.subplots(), None)
    for name, bins in binned.items():
        places = [(b.low + b.high) / 2 for b in bins]
        _errorbar(left, places, [b.accuracy for b in bins], name)
        if right is None:
            continue
        stated = [(place, 100 * b.error) for place, b in zip(places, bins, strict=True) if b.error is not None]
        right.plot([place for place, _ in stated], [error for _, error in stated], "o-", label=name)
    left.set(xlabel=label, ylabel=_ACCURACY_LABEL, ylim=(0, 100))
    if right is not None:
        right.set(xlabel=label, ylabel="median error of distance, % of the true one")
    left.legend()
    return figure


def _draw_confusions(matrices: Mapping[str, Confusion]) -> Any:
    """A matrix per run, as large as its cells need, in lines of a few."""
    from matplotlib.figure import Figure

    columns = min(len(matrices), _MATRICES_PER_LINE)
    lines = -(-len(matrices) // columns)
    width = max(4.0, 1.6 + 0.55 * max(len(matrix.answers) for matrix in matrices.values()))
    height = max(3.0, 2.0 + 0.45 * max(len(matrix.truths) for matrix in matrices.values()))
    figure = Figure(figsize=(width * columns, height * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, (name, matrix) in zip(axes, matrices.items(), strict=False):
        _draw_confusion(axis, matrix, name)
    for axis in axes[len(matrices) :]:
        axis.set_axis_off()
    return figure


def _draw_confusion(axis: Any, matrix: Confusion, title: str) -> None:
    shares = matrix.counts / matrix.counts.sum(axis=1, keepdims=True)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.set_xticks(range(len(matrix.answers)), matrix.answers, rotation=45, ha="right")
    axis.set_yticks(range(len(matrix.truths)), matrix.truths)
    axis.set(title=title, xlabel="answer", ylabel="right direction")
    for (row, column), count in np.ndenumerate(matrix.counts):
        axis.text(
            column, row, str(count), ha="center", va="center", color="white" if shares[row, column] > 0.5 else "k"
        )


def _save(figure: Any, path: Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)
    return path

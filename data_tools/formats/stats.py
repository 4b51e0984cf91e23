"""Figures of a question set: rows per task, split, source, answer and letter, difficulty and distances."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..schema import QARow

_QUANTILES = (0, 10, 50, 90, 100)


@dataclass
class SetStats:
    """Counts of rows; `values` are the numbers behind answers per (task, unit)."""

    rows: int = 0
    responses: int = 0
    clips: set[int] = field(default_factory=set)
    tasks: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)
    difficulty: Counter[str] = field(default_factory=Counter)
    answers: dict[str, Counter[str]] = field(default_factory=dict)
    frame_distance: Counter[int] = field(default_factory=Counter)
    values: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def shares(self) -> dict[str, Counter[str]]:
        """What is shown as shares, by heading."""
        return {
            "task": self.tasks,
            "split": self.splits,
            "source": self.sources,
            "letter": self.letters,
            "difficulty": self.difficulty,
        }

    def distances(self) -> dict[str, dict[str, float]]:
        """Per task and unit: least, 10 %, median, 90 % and greatest value."""
        names = ("min", "p10", "median", "p90", "max")
        return {
            f"{task} ({unit})": dict(zip(names, np.percentile(values, _QUANTILES).tolist(), strict=True))
            for (task, unit), values in sorted(self.values.items())
        }

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rows": self.rows,
            "clips": len(self.clips),
            "responses": self.responses,
            **{f"{name}s" if name != "difficulty" else name: dict(counts) for name, counts in self.shares().items()},
            "tasks": {task: dict(sorted(counts.items())) for task, counts in sorted(self.answers.items())},
            "frame_distance": {str(key): count for key, count in sorted(self.frame_distance.items())},
            "distances": self.distances(),
        }


def set_stats(rows: Iterable[QARow]) -> SetStats:
    """Count rows, one at a time."""
    stats = SetStats()
    for row in rows:
        stats.rows += 1
        stats.responses += row.response is not None
        stats.clips.add(hash(row.clip_id))
        stats.tasks[row.task] += 1
        stats.splits[row.split] += 1
        stats.sources[str(row.meta.get("source", "not recorded"))] += 1
        stats.letters[row.answer if row.options else "free text"] += 1
        stats.difficulty[_text(row.meta.get("difficulty", "not recorded"))] += 1
        stats.frame_distance[row.end_frame - row.start_frame] += 1
        # a number among the options is an answer of its own in every row
        numeric = row.value is not None and any(character.isdigit() for character in row.answer_text)
        answers = stats.answers.setdefault(row.task, Counter())
        answers["number" if numeric else row.answer_text if row.options else "free text"] += 1
        if row.value is not None:
            stats.values.setdefault((row.task, row.unit or "no unit"), []).append(row.value)
    return stats


def plot_set(stats: SetStats, path: Path) -> None:
    """Bars of shares, frame distances, and histograms of values per task, as PNG."""
    from matplotlib.figure import Figure

    from ..atomic import atomic_path

    panels = list(stats.shares().items())
    values = sorted(stats.values.items())
    count = len(panels) + 1 + len(values)
    lines = -(-count // 3)
    figure = Figure(figsize=(15, 3.2 * lines), layout="constrained")
    axes = figure.subplots(lines, 3, squeeze=False).flat
    for axis, (name, counts) in zip(axes, panels, strict=False):
        entries = counts.most_common(12)[::-1]
        axis.barh([str(key) for key, _ in entries], [100 * number / stats.rows for _, number in entries])
        axis.set(title=name, xlabel="% of rows")
    axis = axes[len(panels)]
    keys = sorted(stats.frame_distance)
    axis.bar(keys, [100 * stats.frame_distance[key] / stats.rows for key in keys])
    axis.set(title="end frame - start frame", xlabel="sampled frames", ylabel="% of rows")
    for position, ((task, unit), numbers) in enumerate(values, len(panels) + 1):
        axes[position].hist(numbers, bins=40)
        axes[position].set(title=task, xlabel=unit, ylabel="rows")
    for position in range(count, 3 * lines):
        axes[position].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)

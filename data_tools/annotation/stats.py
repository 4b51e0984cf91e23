"""Quality figures of a folder of clips: a summary of each, what was kept out and why, and a picture of them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..schema import find_clip_index, read_clip_index
from .config import AnnotateConfig
from .quality import QualityLimits, figure_limits
from .store import AnnotationFolder


@dataclass
class ClipStats:
    """Figures of kept and rejected clips.

    Attributes:
        kept: Clip4D records in the index.
        frames: frames in them.
        objects, moving_objects: objects in them.
        num_rejected: stretches kept out.
        rejected: name of the fault -> stretches; one may have several.
        quarantined: kind of failure -> clips.
        figures: name of a figure -> its values over kept clips.
        rejected_figures: the same over rejected ones.
        limits: figure -> the limit it was held to.
    """

    kept: int = 0
    frames: int = 0
    objects: int = 0
    moving_objects: int = 0
    num_rejected: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    figures: dict[str, list[float]] = field(default_factory=dict)
    rejected_figures: dict[str, list[float]] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)

    def summary(self) -> dict[str, dict[str, float]]:
        """Figure -> min, median, max over kept clips, and how many have it."""
        return {
            name: {
                "min": float(np.min(values)),
                "median": float(np.median(values)),
                "max": float(np.max(values)),
                "clips": len(values),
            }
            for name, values in self.figures.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """For `--json`: counts and summaries, no single values."""
        return {
            "kept": self.kept,
            "frames": self.frames,
            "objects": self.objects,
            "moving_objects": self.moving_objects,
            "num_rejected": self.num_rejected,
            "rejected": self.rejected,
            "quarantined": self.quarantined,
            "figures": self.summary(),
            "limits": self.limits,
        }


def holds_clips(folder: str | os.PathLike[str]) -> bool:
    """Whether `folder` has a clip index or was annotated, rather than being a folder of questions."""
    root = Path(folder)
    if not root.is_dir():
        return False
    try:
        find_clip_index(root)
    except InputError:
        return (root / "status").is_dir()
    return True


def clip_stats(folder: str | os.PathLike[str]) -> ClipStats:
    """Figures of the clips of any data root; what was kept out is known for folders that `annotate` wrote.

    Raises:
        InputError: the folder holds no clips.
    """
    root = Path(folder)
    stats = ClipStats()
    rejected: Counter[str] = Counter()
    quarantined: Counter[str] = Counter()
    rejected_figures = []
    for status in AnnotationFolder(root).all_status():
        if status.failure:
            quarantined[status.failure["kind"]] += 1
        for outcome in status.outcomes:
            if not outcome.is_kept:
                rejected.update(reason.name for reason in outcome.reasons)
                rejected_figures.append(outcome.figures)
    try:
        rows = read_clip_index(root)
    except InputError:
        if not (root / "status").is_dir():
            raise
        rows = []
    stats.kept = len(rows)
    stats.frames = sum(row["num_frames"] for row in rows)
    stats.objects = sum(row["num_objects"] for row in rows)
    stats.moving_objects = sum(row["num_moving_objects"] for row in rows)
    stats.num_rejected = len(rejected_figures)
    stats.rejected = dict(rejected.most_common())
    stats.quarantined = dict(quarantined.most_common())
    stats.figures = _columns(json.loads(row["quality"]) for row in rows)
    stats.rejected_figures = _columns(rejected_figures)
    stats.limits = figure_limits(_limits(root))
    return stats


def plot_stats(stats: ClipStats, path: str | os.PathLike[str]) -> None:
    """Histograms of all figures, kept beside rejected, with the limit as a line; the format follows the suffix.

    Raises:
        InputError: there is nothing to plot, or the suffix is no format of pictures.
    """
    names = list(dict.fromkeys([*stats.figures, *stats.rejected_figures]))
    if not names:
        raise InputError("no clip has quality figures; there is nothing to plot", file=path)
    from matplotlib.figure import Figure

    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.4 * rows))
    figure.subplots_adjust(left=0.05, right=0.98, bottom=0.06, top=0.95, wspace=0.3, hspace=0.5)
    for number, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, number + 1)
        parts = [stats.figures.get(name, []), stats.rejected_figures.get(name, [])]
        bins = np.histogram_bin_edges(np.concatenate([np.asarray(part, float) for part in parts]), bins=20)
        axes.hist(parts, bins=list(bins), stacked=True, label=["kept", "kept out"], color=["#2a7ab9", "#d9822b"])
        if name in stats.limits:
            axes.axvline(stats.limits[name], color="black", linewidth=1, linestyle="--")
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        if number == 0:
            axes.legend(fontsize=7)
    try:
        figure.savefig(path, dpi=110)
    except ValueError as error:
        raise InputError(str(error), file=path, field="--plot", remedy="Let the name end in .png") from None


def _columns(records: Iterable[dict[str, Any]]) -> dict[str, list[float]]:
    columns: dict[str, list[float]] = {}
    for record in records:
        for name, value in record.items():
            # notes, answers of yes and no, and what was not measured are no figures
            if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
                columns.setdefault(name, []).append(float(value))
    return columns


def _limits(root: Path) -> QualityLimits:
    """Those that the folder was annotated with."""
    note = AnnotationFolder(root).read_note()
    if note is None:
        return AnnotateConfig().quality
    known = note.get("config", {}).get("quality", {})
    try:
        return QualityLimits(**known)
    except TypeError:  # another version
        return AnnotateConfig().quality

"""Everything that a comparison found, as plain values and as pictures."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from .check_metrics import Figures


@dataclass
class CheckReport:
    """Everything that was found; `to_dict` is what `--json` prints.

    Attributes:
        clips: counts: truth, estimated, compared; kept_share = source clips of which some stretch is there over truth.
        depth, objects: over the pixels, frames and objects of all clips together.
        poses: figure -> median, p90, max over clips; `center_within_limit`, the share of clips in which the camera
            centre ends within 2% of the path or 2 cm; `rotation_within_limit`, that of clips within 0.2 degrees.
        answers: over all questions, see `answer_figures`.
        disagreements: the questions whose answer is not the truth's, see `disagreement`.
        per_clip: clip id -> part -> figures.
        notes: what was left out, and why.
    """

    clips: Figures = field(default_factory=dict)
    depth: Figures = field(default_factory=dict)
    poses: dict[str, Any] = field(default_factory=dict)
    objects: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    disagreements: list[dict[str, Any]] = field(default_factory=list)
    per_clip: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(vars(self))


def plot_report(report: CheckReport, path: str | os.PathLike[str]) -> None:
    """Histograms over clips, and agreement by task; the format follows the suffix.

    Raises:
        InputError: the suffix is no format of pictures.
    """
    from matplotlib.figure import Figure

    panels = [
        ("depth", "relative_error_median", "median relative depth error"),
        ("depth", "valid_share", "share of pixels with depth"),
        ("poses", "end_center_m", "camera centre at the last frame, m"),
        ("poses", "max_rotation_deg", "largest rotation error, degrees"),
        ("objects", "displacement_m_median", "object displacement error, m"),
        ("answers", "agreement", "agreement of answers"),
    ]
    figure = Figure(figsize=(12, 9), layout="constrained")
    for number, (part, name, title) in enumerate(panels, start=1):
        axes = figure.add_subplot(3, 3, number)
        values = [record.get(part, {}).get(name) for record in report.per_clip.values()]
        axes.hist([value for value in values if value is not None], bins=20, color="#2a7ab9")
        axes.set_title(title, fontsize=10)
        axes.set_ylabel("clips", fontsize=8)
    axes = figure.add_subplot(3, 1, 3)
    tasks = report.answers["tasks"]
    axes.barh(list(tasks), [tasks[task]["agreement"] for task in tasks], color="#2a7ab9")
    axes.set_xlim(0, 1)
    axes.set_title("agreement of answers by task", fontsize=10)
    try:
        figure.savefig(path, dpi=110)
    except ValueError as error:
        raise InputError(str(error), file=path, field="--figures", remedy="Let the name end in .png") from None

"""The demo's estimated clips against the truth of its world, which nothing else in the demo looks at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mllm4d_verl.data_tools.annotation.check import (
    AnswerCheck,
    CheckConfig,
    CheckReport,
    answer_figures,
    check_answer,
    match_identities,
)
from mllm4d_verl.data_tools.questions.applicability import DISTANCE_TASKS
from mllm4d_verl.data_tools.schema import Clip4D, QARow, find_clip_index, read_clip, read_clip_index

Progress = Callable[[int, int], None]


def check_rows(rows: Iterable[QARow], clips: Path, truth: Path, progress: Progress | None = None) -> dict[str, Any]:
    """What true clips say to questions that were made of estimated ones: `answer_figures`, all and directions alone.

    Args:
        rows: as they are asked, options and all.
        clips, truth: data roots of the estimated and of the true clips, whole and of the same ids.

    Returns:
        `all` and `directions`, the questions that are answered with a word.

    Raises:
        InputError: a folder without clips.
    """
    by_clip: dict[str, list[QARow]] = defaultdict(list)
    for row in rows:
        by_clip[row.clip_id].append(row)
    estimated, true = _reader(clips), _reader(truth)
    checks: list[AnswerCheck] = []
    for done, (clip_id, own) in enumerate(sorted(by_clip.items()), start=1):
        exact = true(clip_id)
        identities = match_identities(estimated(clip_id), exact, CheckConfig())
        checks += [check_answer(row, exact, identities) for row in own]
        if progress:
            progress(done, len(by_clip))
    words = [check for check in checks if check.task not in DISTANCE_TASKS]
    return {"all": answer_figures(checks), "directions": answer_figures(words)}


def _reader(folder: Path) -> Callable[[str], Clip4D]:
    root = find_clip_index(folder).parent
    files = {row["clip_id"]: root / row["file"] for row in read_clip_index(folder)}
    return lambda clip_id: read_clip(files[clip_id])


def check_summary(report: CheckReport, answers: dict[str, Any]) -> dict[str, Any]:
    """The figures that the demo prints and keeps.

    Args:
        report: of `check_clips`, over clips with exact depth and masks.
        answers: of `check_rows`.
    """
    return {
        "clips": report.clips["compared"],
        "depth_error": report.depth["relative_error_median"],
        "camera_error_m": report.poses["end_center_m"]["median"],
        "object_recall": report.objects["recall"],
        "object_precision": report.objects["precision"],
        "object_error_m": report.objects["displacement_m_median"],
        "questions": answers["all"]["questions"],
        "agreement": answers["all"]["agreement"],
        "direction_questions": answers["directions"]["questions"],
        "direction_agreement": answers["directions"]["agreement"],
        "tasks": {task: figures["agreement"] for task, figures in answers["all"]["tasks"].items()},
    }


def demo_check(figures: dict[str, Any]) -> str:
    """What the check found, in words and figures."""
    return (
        f"estimated against true, {figures['clips']} clips: depth off by {_percent(figures['depth_error'], 1)}, the "
        f"camera by {_centimetres(figures['camera_error_m'])} at the end (medians), "
        f"{_percent(figures['object_recall'])} of moving objects found; {figures['questions']} held-out questions: "
        f"{_percent(figures['agreement'])} of the answers are the truth's, {_percent(figures['direction_agreement'])} "
        "of those in words"
    )


def _percent(share: float | None, decimals: int = 0) -> str:
    return "-" if share is None else f"{100 * share:.{decimals}f}%"


def _centimetres(length_m: float | None) -> str:
    return "-" if length_m is None else f"{100 * length_m:.1f} cm"

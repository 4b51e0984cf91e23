"""Estimated clips against true ones: depth, camera poses, moving objects and answers, as figures with formulas."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import InputError
from ..schema import Clip4D, QARow, read_clip, read_clip_index
from .check_answers import CLOSE_SHARE, DEAD_ZONE, AnswerCheck, answer_figures, check_answer, disagreement, questions_of
from .check_config import CheckConfig
from .check_files import CheckFolders, ClipPair, cut_clip, source_frames, true_id
from .check_metrics import (
    CENTER_M,
    CENTER_SHARE,
    ROTATION_DEG,
    Figures,
    FloatArray,
    depth_errors,
    over_clips,
    path_length_m,
    point_depth_errors,
    pose_figures,
    rotation_angle_deg,
    share,
    spread,
)
from .check_objects import (
    FOUND_SHARE,
    LEAST_FRAMES,
    LEAST_IOU,
    LEAST_PIXELS,
    LEAST_POINTS,
    MaskOverlap,
    ObjectTally,
    count_switches,
    match_frames,
    match_identities,
    tally_objects,
    visible_frames,
)
from .check_report import CheckReport, plot_report

__all__ = [
    "CENTER_M",
    "CENTER_SHARE",
    "CLOSE_SHARE",
    "DEAD_ZONE",
    "FOUND_SHARE",
    "LEAST_FRAMES",
    "LEAST_IOU",
    "LEAST_PIXELS",
    "LEAST_POINTS",
    "ROTATION_DEG",
    "AnswerCheck",
    "CheckConfig",
    "CheckReport",
    "MaskOverlap",
    "ObjectTally",
    "Progress",
    "answer_figures",
    "check_answer",
    "check_clips",
    "count_switches",
    "cut_clip",
    "depth_errors",
    "disagreement",
    "match_frames",
    "match_identities",
    "path_length_m",
    "plot_report",
    "point_depth_errors",
    "pose_figures",
    "questions_of",
    "rotation_angle_deg",
    "source_frames",
    "tally_objects",
    "visible_frames",
]

Progress = Callable[[int, int], None]

#: Depth errors of a clip that go into the figures over all clips, evenly spread over its pixels.
_POOLED_PIXELS = 20_000


def check_clips(
    clips: str | os.PathLike[str],
    truth: str | os.PathLike[str],
    config: CheckConfig = CheckConfig(),
    progress: Progress | None = None,
) -> CheckReport:
    """Compare the estimated clips of the data root `clips` with the true ones of `truth`, matched by clip id.

    A stretch of a split or thinned clip is compared with the frames of the true clip that its
    `quality["source_frames"]` names. Depth is compared where `masks/<id>.npz` and `dense/<id>.npz` exist, see
    docs/check.md.

    Raises:
        InputError: a folder without clips, files that do not fit together, or no clip that is in both.
    """
    folders = CheckFolders.of(clips, truth)
    report = CheckReport()
    rows = read_clip_index(clips)
    truths = {row["clip_id"]: row for row in read_clip_index(truth)}
    pairs: list[ClipPair] = []
    for row in rows:
        base = true_id(row["clip_id"], truths)
        if base is None:
            report.notes.append(f"{row['clip_id']}: no true clip of that name")
            continue
        pairs.append(ClipPair(row["clip_id"], row["file"], base, truths[base]["file"]))

    pooled = _Pooled()
    matched: dict[str, dict[int, int]] = {}
    compared: list[ClipPair] = []
    for done, pair in enumerate(pairs, start=1):
        estimated, true, frames = folders.read(pair)
        if true is None:
            report.notes.append(
                f"{pair.clip_id}: {estimated.num_frames} frames, its true clip has another number, and "
                "quality.source_frames does not say which they are"
            )
        else:
            compared.append(pair)
            figures, matched[pair.clip_id] = _compare(folders, pair, estimated, true, frames, config, pooled)
            report.per_clip[pair.clip_id] = figures
        if progress:
            progress(done, len(pairs))
    if not compared:
        raise InputError(
            "no estimated clip has a true one to be compared with",
            file=clips,
            remedy=f"Clip ids must be those of {truth}: {', '.join(list(truths)[:3])}, ...",
        )
    report.clips = {
        "truth": len(truths),
        "estimated": len(rows),
        "compared": len(compared),
        "kept_share": len({pair.true_id for pair in pairs}) / len(truths),
    }
    report.depth = pooled.depth(config)
    report.poses = over_clips([record["poses"] for record in report.per_clip.values()])
    report.objects = pooled.tally.figures()
    report.answers = _check_answers(folders, compared, matched, config, report)
    return report


@dataclass
class _Pooled:
    """What the figures over all clips are made from."""

    tally: ObjectTally = field(default_factory=ObjectTally)
    depth_errors: list[FloatArray] = field(default_factory=list)
    point_errors: list[FloatArray] = field(default_factory=list)
    in_range: int = 0
    valid: int = 0

    def depth(self, config: CheckConfig) -> Figures:
        """Over all pixels in the range."""
        return {
            "range_low_m": config.depth_range_m[0],
            "range_high_m": config.depth_range_m[1],
            "pixels_in_range": self.in_range,
            "valid_share": share(self.valid, self.in_range),
            **spread("relative_error", np.concatenate([np.zeros(0), *self.depth_errors])),
            **spread("points_relative_error", np.concatenate([np.zeros(0), *self.point_errors])),
        }


def _compare(
    folders: CheckFolders,
    pair: ClipPair,
    estimated: Clip4D,
    true: Clip4D,
    frames: range,
    config: CheckConfig,
    pooled: _Pooled,
) -> tuple[dict[str, Any], dict[int, int]]:
    mine, other = folders.dense_pair(pair, frames)
    depth: Figures = {}
    if other is not None:
        errors = point_depth_errors(estimated, other.depth, config.depth_range_m)
        pooled.point_errors.append(_thinned(errors))
        depth |= spread("points_relative_error", errors)
        if mine is not None:
            errors, in_range = depth_errors(mine.depth, other.depth, config.depth_range_m)
            pooled.depth_errors.append(_thinned(errors))
            pooled.in_range += in_range
            pooled.valid += len(errors)
            depth |= {"valid_share": share(len(errors), in_range), **spread("relative_error", errors)}
    overlap = None
    # Sources that give objects without masks leave them empty.
    has_masks = mine is not None and (mine.mask.any() or not estimated.objects)
    ids = [track.id for track in (*estimated.objects, *true.objects)]
    if has_masks and mine is not None and other is not None and max(ids, default=0) <= np.iinfo(np.uint8).max:
        overlap = MaskOverlap.of(mine.mask, other.mask)
    tally = tally_objects(estimated, true, config, overlap)
    pooled.tally.add(tally)
    poses = pose_figures(estimated.cam_to_world, true.cam_to_world)
    identities = match_identities(estimated, true, config, overlap)
    return {"depth": depth, "poses": poses, "objects": tally.figures()}, identities


def _check_answers(
    folders: CheckFolders,
    pairs: list[ClipPair],
    matched: dict[str, dict[int, int]],
    config: CheckConfig,
    report: CheckReport,
) -> dict[str, Any]:
    by_id = {pair.clip_id: pair for pair in pairs}
    by_length: dict[int, list[ClipPair]] = defaultdict(list)
    for row in read_clip_index(folders.clips):
        if row["clip_id"] in by_id:
            length = min(config.num_frames, row["num_frames"])
            by_length[length - length % 2].append(by_id[row["clip_id"]])
    checks: list[AnswerCheck] = []
    for length, members in sorted(by_length.items()):
        if length < 2:
            report.notes += [f"{pair.clip_id}: too short for questions" for pair in members]
            continue
        rows = questions_of(_stream(folders, members), length, config.seed)
        for clip_id, own in _by_clip(rows).items():
            true = folders.read(by_id[clip_id])[1]
            assert true is not None, "only compared clips are asked about"
            found = [check_answer(row, true, matched[clip_id]) for row in own]
            report.per_clip[clip_id]["answers"] = {
                "questions": len(found),
                "agreement": share(sum(check.agrees for check in found), len(found)),
                "faults": dict(Counter(check.fault for check in found if not check.agrees).most_common()),
            }
            checks += found
            report.disagreements += [
                disagreement(row, check, matched[clip_id])
                for row, check in sorted(zip(own, found, strict=True), key=lambda item: item[0].id)
                if not check.agrees
            ]
    return answer_figures(checks)


def _stream(folders: CheckFolders, pairs: list[ClipPair]) -> Iterator[Clip4D]:
    for pair in pairs:
        yield read_clip(folders.clips / pair.file)


def _by_clip(rows: list[QARow]) -> dict[str, list[QARow]]:
    groups: dict[str, list[QARow]] = defaultdict(list)
    for row in rows:
        groups[row.clip_id].append(row)
    return dict(sorted(groups.items()))


def _thinned(errors: FloatArray) -> FloatArray:
    if len(errors) <= _POOLED_PIXELS:
        return errors
    return errors[np.linspace(0, len(errors) - 1, _POOLED_PIXELS).round().astype(np.int64)]

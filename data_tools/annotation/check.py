"""Estimated clips against true ones: depth, camera poses, moving objects and answers, as figures with formulas."""

from __future__ import annotations

import os
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import invert_pose, project_points, transform_points, world_to_camera_points
from ..questions import QuestionConfig, Thresholds
from ..questions.applicability import DISTANCE_TASKS, solve
from ..questions.engine import build_with_report
from ..questions.solvers import object_center
from ..schema import LETTERS, Clip4D, ObjectTrack, QARow, find_clip_index, read_clip, read_clip_index

FloatArray = NDArray[np.float64]
Figures = dict[str, float | None]
Progress = Callable[[int, int], None]

#: A camera whose centre ends within this share of its path, or within this length, is as good as asked for.
CENTER_SHARE, CENTER_M = 0.02, 0.02
#: So is one whose rotation never errs by more, degrees.
ROTATION_DEG = 0.2
#: An object is found where it is matched in this share of the frames in which it is visible.
FOUND_SHARE = 0.5
#: A true object is visible with this many pixels of its mask, or this many points where there are no masks.
LEAST_PIXELS, LEAST_POINTS = 30, 20
#: An object that is visible in fewer frames is not asked for.
LEAST_FRAMES = 3
#: Masks with more than this intersection over union may be of the same object.
LEAST_IOU = 0.3
#: A distance is close where it differs from the true one by less than this share: about half the way to an option.
CLOSE_SHARE = 0.125
#: Depth errors of a clip that go into the figures over all clips, evenly spread over its pixels.
_POOLED_PIXELS = 20_000
_NO_MATCH = 1e6

#: Takes any question that has an answer at all, however small or close to a threshold.
_ANYTHING = Thresholds(
    min_points=1, min_motion_m=0.0, noise_factor=0.0, axis_margin=0.0, dead_zone=0.0, min_distance_m=0.0
)


@dataclass(frozen=True)
class CheckConfig:
    """How clips are compared.

    Attributes:
        depth_range_m: pixels count whose true depth lies within; the farther ones err with the square of it.
        gate_m, gate_share: an estimated centre belongs to a true one within this length, or this share of the true
            one's distance from the camera; the larger of both counts.
        num_frames: frames sampled for questions; clips with fewer take the even number that they have.
        seed: of frame pairs and options.
    """

    depth_range_m: tuple[float, float] = (2.0, 8.0)
    gate_m: float = 0.3
    gate_share: float = 0.1
    num_frames: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = self.depth_range_m
        if not 0 < low < high:
            raise InputError(f"{low} to {high} m is no range of depths", field="--depth-range", remedy="Try 2 8")
        if self.gate_m <= 0 or self.gate_share < 0:
            raise InputError("gates must be positive", field="gate_m")


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
    folders = _Folders.of(clips, truth)
    report = CheckReport()
    rows = read_clip_index(clips)
    truths = {row["clip_id"]: row for row in read_clip_index(truth)}
    pairs: list[_Pair] = []
    for row in rows:
        base = _true_id(row["clip_id"], truths)
        if base is None:
            report.notes.append(f"{row['clip_id']}: no true clip of that name")
            continue
        pairs.append(_Pair(row["clip_id"], row["file"], base, truths[base]["file"]))

    pooled = _Pooled()
    matched: dict[str, dict[int, int]] = {}
    compared: list[_Pair] = []
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
    report.poses = _over_clips([record["poses"] for record in report.per_clip.values()])
    report.objects = pooled.tally.figures()
    report.answers = _check_answers(folders, compared, matched, config, report)
    return report


# ------------------------------------------------------------------------------------------------------------ depth


def depth_errors(
    estimated_m: NDArray[Any], true_m: NDArray[Any], range_m: tuple[float, float]
) -> tuple[FloatArray, int]:
    """|Z - Z*| / Z* where the true depth Z* is in the range and the estimate valid; how many pixels are in the range.

    Args:
        estimated_m, true_m: depths of one shape, metres; an estimate is valid where it is finite and positive.
    """
    in_range = (true_m >= range_m[0]) & (true_m <= range_m[1])
    true, estimated = true_m[in_range].astype(np.float64), estimated_m[in_range].astype(np.float64)
    valid = np.isfinite(estimated) & (estimated > 0)
    return np.abs(estimated[valid] - true[valid]) / true[valid], int(in_range.sum())


def point_depth_errors(clip: Clip4D, true_depth_m: NDArray[Any], range_m: tuple[float, float]) -> FloatArray:
    """|Z - Z*| / Z* of all object points of `clip`, Z* being the true depth (T, H, W) at the pixel they project to.

    Points are taken into the estimated camera, which they were lifted from: errors of poses do not count here.
    """
    errors = [np.zeros(0)]
    for frame in range(clip.num_frames):
        clouds = [track.points[frame] for track in clip.objects if track.seen(frame)]
        if not clouds:
            continue
        local = world_to_camera_points(clip.cam_to_world[frame], np.concatenate(clouds).astype(np.float64))
        local = local[local[:, 2] > 0]
        pixels = np.rint(project_points(clip.intrinsics, local)).astype(np.int64)
        inside = ((pixels >= 0) & (pixels < [clip.width, clip.height])).all(axis=1)
        u, v = pixels[inside].T
        errors.append(depth_errors(local[inside, 2], true_depth_m[frame, v, u], range_m)[0])
    return np.concatenate(errors)


# ------------------------------------------------------------------------------------------------------------ poses


def pose_figures(estimated: FloatArray, true: FloatArray) -> Figures:
    """Errors of camera-to-world poses (T, 4, 4); both start at the identity, and nothing is aligned.

    * end_center_m: |c_T - c*_T| at the last frame; end_center_percent: the same in percent of the true path
      sum |c*_t+1 - c*_t|, None for a camera that stays.
    * ate_m: sqrt(mean |c_t - c*_t|^2).
    * end_rotation_deg, max_rotation_deg: angle of R_t^T R*_t at the last frame, and its largest.
    * center_within_limit: end_center_m <= max(2 cm, 2% of the path); rotation_within_limit: max_rotation_deg <= 0.2.
    * step_m, step_deg (median over frames) and step_m_p90, step_deg_p90: translation and angle of
      (T*_t^-1 T*_t+1)^-1 (T_t^-1 T_t+1).
    """
    error_m = np.linalg.norm(estimated[:, :3, 3] - true[:, :3, 3], axis=1)
    angle = rotation_angle_deg(np.swapaxes(estimated[:, :3, :3], 1, 2) @ true[:, :3, :3])
    path_m = path_length_m(true)
    figures: Figures = {
        "path_m": path_m,
        "end_center_m": float(error_m[-1]),
        "end_center_percent": 100 * float(error_m[-1]) / path_m if path_m > 1e-6 else None,
        "ate_m": float(np.sqrt(np.mean(error_m**2))),
        "end_rotation_deg": float(angle[-1]),
        "max_rotation_deg": float(angle.max()),
        "center_within_limit": float(error_m[-1]) <= max(CENTER_M, CENTER_SHARE * path_m),
        "rotation_within_limit": float(angle.max()) <= ROTATION_DEG,
        "step_m": None,
        "step_m_p90": None,
        "step_deg": None,
        "step_deg_p90": None,
    }
    if len(true) > 1:
        step = invert_pose(estimated[:-1]) @ estimated[1:]
        difference = invert_pose(invert_pose(true[:-1]) @ true[1:]) @ step
        shift = np.linalg.norm(difference[:, :3, 3], axis=1)
        turn = rotation_angle_deg(difference[:, :3, :3])
        figures |= {
            "step_m": float(np.median(shift)),
            "step_m_p90": float(np.percentile(shift, 90)),
            "step_deg": float(np.median(turn)),
            "step_deg_p90": float(np.percentile(turn, 90)),
        }
    return figures


def rotation_angle_deg(rotation: FloatArray) -> FloatArray:
    """Angle of rotations (N, 3, 3), degrees; by atan2, which keeps small angles that an arc cosine loses."""
    skew = rotation - np.swapaxes(rotation, -1, -2)
    sine = np.sqrt(skew[..., 2, 1] ** 2 + skew[..., 0, 2] ** 2 + skew[..., 1, 0] ** 2)
    cosine = np.trace(rotation, axis1=-2, axis2=-1) - 1
    return np.asarray(np.degrees(np.arctan2(sine, cosine)))


def path_length_m(cam_to_world: FloatArray) -> float:
    """Sum of the steps of the camera centre, metres."""
    return float(np.linalg.norm(np.diff(cam_to_world[:, :3, 3], axis=0), axis=1).sum())


# ---------------------------------------------------------------------------------------------------------- objects


@dataclass
class ObjectTally:
    """Counts and errors of moving objects; those of several clips add up.

    Attributes:
        true_moving: true objects that are labelled as moving and visible in three frames or more.
        found: those matched in at least half of the frames in which they are visible.
        estimated_moving, false_moving: estimated moving objects, and those that match no moving true one in at least
            half of their frames.
        visible, matched, misses, false_alarms, switches: counts over frames, as CLEAR-MOT has them.
        moving: "true moving, estimated still" and so on -> pairs of a true object and an estimate of it.
        center_m: distance of the centres of each matched pair and frame.
        displacement_m: |(e_j - e_i) - (e*_j - e*_i)| of each estimate of a moving object, i and j being the first and
            last frame that show it in both.
        mask_iou: intersection over union of the masks of each matched pair and frame, where there are masks.
    """

    true_moving: int = 0
    found: int = 0
    estimated_moving: int = 0
    false_moving: int = 0
    visible: int = 0
    matched: int = 0
    misses: int = 0
    false_alarms: int = 0
    switches: int = 0
    moving: Counter[str] = field(default_factory=Counter)
    center_m: list[float] = field(default_factory=list)
    displacement_m: list[float] = field(default_factory=list)
    mask_iou: list[float] = field(default_factory=list)

    def add(self, other: ObjectTally) -> None:
        """Take in the counts of another clip."""
        for name, value in vars(other).items():
            mine = getattr(self, name)
            if isinstance(mine, Counter):
                mine.update(value)
            else:
                setattr(self, name, mine + value)

    def figures(self) -> dict[str, Any]:
        """Counts with shares: recall = found / true_moving; frame_recall = matched / visible; precision = 1 -
        false_moving / estimated_moving; switch_share = switches / matched; mota = 1 - (misses + false_alarms +
        switches) / visible."""
        faults = self.misses + self.false_alarms + self.switches
        return {
            "true_moving": self.true_moving,
            "found": self.found,
            "recall": _share(self.found, self.true_moving),
            "estimated_moving": self.estimated_moving,
            "false_moving": self.false_moving,
            "precision": _share(self.estimated_moving - self.false_moving, self.estimated_moving),
            "visible_frames": self.visible,
            "matched_frames": self.matched,
            "frame_recall": _share(self.matched, self.visible),
            "misses": self.misses,
            "false_alarms": self.false_alarms,
            "switches": self.switches,
            "switch_share": _share(self.switches, self.matched),
            "mota": _share(self.visible - faults, self.visible),
            "moving": dict(sorted(self.moving.items())),
            **_spread("center_m", self.center_m),
            **_spread("displacement_m", self.displacement_m),
            **_spread("mask_iou", self.mask_iou, worst=10),
        }


def match_frames(distances: Sequence[FloatArray], gates: Sequence[FloatArray]) -> list[dict[int, int]]:
    """True -> estimated index per frame, as CLEAR-MOT matches (Bernardin and Stiefelhagen 2008).

    A pair of the last match stays as long as it is within the gate; the others are paired so that as many as possible
    are within theirs, at the least total distance (Hungarian method).

    Args:
        distances: per frame (number of true, number of estimated), infinite where either is unseen.
        gates: per frame (number of true,), in the same unit.
    """
    from scipy.optimize import linear_sum_assignment

    last: dict[int, int] = {}
    matches = []
    for distance, gate in zip(distances, gates, strict=True):
        allowed = distance <= gate[:, None]
        kept: dict[int, int] = {}
        for true, estimated in last.items():
            if allowed[true, estimated] and estimated not in kept.values():
                kept[true] = estimated
        cost = np.where(allowed, distance, _NO_MATCH)
        rows = [true for true in range(cost.shape[0]) if true not in kept]
        columns = [estimated for estimated in range(cost.shape[1]) if estimated not in kept.values()]
        for row, column in zip(*linear_sum_assignment(cost[np.ix_(rows, columns)]), strict=True):
            if allowed[rows[row], columns[column]]:
                kept[rows[row]] = columns[column]
        last |= kept
        matches.append(kept)
    return matches


def count_switches(matches: Iterable[dict[int, int]]) -> int:
    """How often a true object is matched to another estimate than the last time."""
    last: dict[int, int] = {}
    switches = 0
    for match in matches:
        switches += sum(last.get(true, estimated) != estimated for true, estimated in match.items())
        last |= match
    return switches


@dataclass(frozen=True, eq=False)
class MaskOverlap:
    """How the instance masks of two clips overlap.

    Attributes:
        iou: (T, 256, 256) intersection over union by frame, estimated id and true id.
        true_pixels: (T, 256) pixels of each true id.
    """

    iou: NDArray[np.float32]
    true_pixels: NDArray[np.int64]

    @classmethod
    def of(cls, estimated: NDArray[np.uint8], true: NDArray[np.uint8]) -> MaskOverlap:
        """From masks (T, H, W) whose values are object ids."""
        iou = np.zeros((len(true), 256, 256), np.float32)
        pixels = np.zeros((len(true), 256), np.int64)
        for frame, (mine, other) in enumerate(zip(estimated, true, strict=True)):
            joint = np.bincount(mine.ravel().astype(np.int64) * 256 + other.ravel(), minlength=65536).reshape(256, 256)
            pixels[frame] = joint.sum(axis=0)
            union = joint.sum(axis=1, keepdims=True) + pixels[frame] - joint
            iou[frame] = joint / np.maximum(union, 1)
        return cls(iou, pixels)


def match_identities(
    estimated: Clip4D, true: Clip4D, config: CheckConfig, overlap: MaskOverlap | None = None
) -> dict[int, int]:
    """Estimated object id -> id of the true object, moving or not, that it is matched to in most frames.

    An estimate that is matched to it in less than half of its own frames is of no true object.
    """
    matches = _match(estimated.objects, true, true.objects, _seen_frames(true), config, overlap)
    votes: dict[int, Counter[int]] = defaultdict(Counter)
    for match in matches:
        for number, other in match.items():
            votes[estimated.objects[other].id][true.objects[number].id] += 1
    identities = {}
    for number, count in sorted(votes.items()):
        best = min(count, key=lambda key: (-count[key], key))
        track = next(item for item in estimated.objects if item.id == number)
        if count[best] >= FOUND_SHARE * sum(track.seen(frame) for frame in range(true.num_frames)):
            identities[number] = best
    return identities


def tally_objects(
    estimated: Clip4D,
    true: Clip4D,
    config: CheckConfig = CheckConfig(),
    overlap: MaskOverlap | None = None,
) -> ObjectTally:
    """Count what became of the moving objects of one clip.

    True objects are asked for in the frames in which they are visible; where they show less, they are neither asked
    for nor held against an estimate that follows them.

    Args:
        estimated, true: clips of equal length.
        overlap: of the masks of both, which objects are matched by; without it, by the centres of their points.
    """
    visible = visible_frames(true, overlap)
    moving = np.array([track.is_moving for track in true.objects], bool)
    asked = moving & (visible.sum(axis=1) >= LEAST_FRAMES)
    movers = [track for track in estimated.objects if track.is_moving]
    targets = [track for track, wanted in zip(true.objects, asked, strict=True) if wanted]
    target_visible = visible[asked]
    matches = _match(movers, true, targets, target_visible, config, overlap)

    tally = ObjectTally(true_moving=len(targets), estimated_moving=len(movers), switches=count_switches(matches))
    hits, good = np.zeros(len(targets), int), np.zeros(len(movers), int)
    # What the asked ones leave over may follow any other thing that moves; only the rest are false alarms.
    rest_seen = _seen_frames(true) & moving[:, None] & ~(asked[:, None] & visible)
    rest = _match(movers, true, true.objects, rest_seen, config, overlap, taken=matches)
    for frame, match in enumerate(matches):
        for target, mover in match.items():
            hits[target] += 1
            good[mover] += 1
            tally.center_m.append(_center_error_m(movers[mover], targets[target], frame))
            if overlap is not None:
                tally.mask_iou.append(float(overlap.iou[frame, movers[mover].id, targets[target].id]))
        for mover in rest[frame].values():
            good[mover] += 1
        seen = sum(track.seen(frame) for track in movers)
        tally.visible += int(target_visible[:, frame].sum())
        tally.matched += len(match)
        tally.false_alarms += seen - len(match) - len(rest[frame])
    tally.misses = tally.visible - tally.matched
    tally.found = int((hits >= FOUND_SHARE * target_visible.sum(axis=1)).sum()) if targets else 0
    lengths = np.array([sum(map(track.seen, range(true.num_frames))) for track in movers], int)
    tally.false_moving = int(((good < FOUND_SHARE * lengths) | (lengths == 0)).sum())
    _tally_identities(tally, estimated, true, visible, asked, match_identities(estimated, true, config, overlap))
    return tally


def visible_frames(true: Clip4D, overlap: MaskOverlap | None = None) -> NDArray[np.bool_]:
    """(objects, T): where a true object shows 30 pixels of its mask, or 20 points where there are no masks."""
    if overlap is None:
        return _point_counts(true) >= LEAST_POINTS
    pixels = overlap.true_pixels[:, [track.id for track in true.objects]].T
    return _seen_frames(true) & (pixels >= LEAST_PIXELS)


def _seen_frames(clip: Clip4D) -> NDArray[np.bool_]:
    return _point_counts(clip) > 0


def _point_counts(clip: Clip4D) -> NDArray[np.int64]:
    counts = [[len(points) for points in track.points] for track in clip.objects]
    return np.asarray(counts, np.int64).reshape(len(clip.objects), clip.num_frames)


def _tally_identities(
    tally: ObjectTally,
    estimated: Clip4D,
    true: Clip4D,
    visible: NDArray[np.bool_],
    asked: NDArray[np.bool_],
    identities: dict[int, int],
) -> None:
    """Whether things move, and how far, by the true object that an estimate is of."""
    place = {track.id: number for number, track in enumerate(true.objects)}
    words = {True: "moving", False: "still"}
    for number, true_id in identities.items():
        track = next(item for item in estimated.objects if item.id == number)
        target = true.objects[place[true_id]]
        tally.moving[f"true {words[target.is_moving]}, estimated {words[track.is_moving]}"] += 1
        if not asked[place[true_id]]:
            continue
        enough = Thresholds().min_points
        common = [t for t in np.flatnonzero(visible[place[true_id]]) if len(track.points[t]) >= enough]
        if len(common) > 1:
            i, j = int(common[0]), int(common[-1])
            moved = object_center(track, j) - object_center(track, i)
            truly = object_center(target, j) - object_center(target, i)
            tally.displacement_m.append(float(np.linalg.norm(moved - truly)))


def _match(
    tracks: list[ObjectTrack],
    true: Clip4D,
    targets: list[ObjectTrack],
    counted: NDArray[np.bool_],
    config: CheckConfig,
    overlap: MaskOverlap | None,
    taken: Sequence[dict[int, int]] | None = None,
) -> list[dict[int, int]]:
    """`match_frames` on masks or centres; true ones take part where `counted` (targets, T), estimates not if taken."""
    distances, gates = [], []
    for frame in range(true.num_frames):
        distance = np.full((len(targets), len(tracks)), np.inf)
        gate = np.ones(len(targets))
        free = [
            column
            for column, track in enumerate(tracks)
            if track.seen(frame) and (taken is None or column not in taken[frame].values())
        ]
        for row, target in enumerate(targets):
            if not counted[row, frame]:
                continue
            if overlap is not None:
                iou = overlap.iou[frame, [tracks[column].id for column in free], target.id]
                distance[row, free] = np.where(iou > LEAST_IOU, 1 - iou, np.inf)
                continue
            center = object_center(target, frame)
            away = float(np.linalg.norm(center - true.camera_centers[frame]))
            gate[row] = max(config.gate_m, config.gate_share * away)
            distance[row, free] = [np.linalg.norm(object_center(tracks[column], frame) - center) for column in free]
        distances.append(distance)
        gates.append(gate)
    return match_frames(distances, gates)


def _center_error_m(estimated: ObjectTrack, true: ObjectTrack, frame: int) -> float:
    return float(np.linalg.norm(object_center(estimated, frame) - object_center(true, frame)))


# ---------------------------------------------------------------------------------------------------------- answers


#: What the filter says of a change that is too close to the threshold to call.
DEAD_ZONE = "change too close to the threshold"


@dataclass(frozen=True)
class AnswerCheck:
    """One question of an estimated clip, held against the truth.

    Attributes:
        task: of the question.
        outcome: "same" or "other" option; "no such object" where the asked object is none of the true ones, "no answer"
            where the truth cannot tell (the object does not move or does not show at one of the frames).
        not_asked: why the question would not be asked of the true clip, None where it would.
        truth: the truth's option or word, None where it has none.
        true_value: metres; signed change where the answer is a word.
        error: |answer - truth| / truth of a distance, None elsewhere.
    """

    task: str
    outcome: str
    not_asked: str | None
    truth: str | None = None
    true_value: float | None = None
    error: float | None = None

    @property
    def agrees(self) -> bool:
        """Whether the answer is the truth's option."""
        return self.outcome == "same"

    @property
    def fault(self) -> str:
        """What kind of wrong answer this is: the outcome, or that the truth is too close to the threshold."""
        return "dead zone" if self.outcome == "other" and self.not_asked == DEAD_ZONE else self.outcome


def questions_of(clips: Iterable[Clip4D], num_frames: int, seed: int) -> list[QARow]:
    """Every question that the filter lets through, options and all: no caps, no balance; none where nothing is left."""
    plenty = 10**9
    config = QuestionConfig(
        seed=seed,
        num_frames=num_frames,
        max_per_clip=plenty,
        max_per_clip_task=plenty,
        val_fraction=0.0,
        test_fraction=0.0,
        balance_ratio=float("inf"),
    )
    try:
        return build_with_report(clips, config)[0]
    except InputError as error:
        if error.problem.startswith("no question can be asked"):
            return []
        raise


def check_answer(row: QARow, true: Clip4D, identities: dict[int, int]) -> AnswerCheck:
    """What the true clip says to a question that was made of the estimated one.

    The true value comes from the same solvers without any of their limits. Its option is the one with its word, or the
    number nearest to it.

    Args:
        row: as `questions_of` makes it, `meta` with object_id, clip_frames and tau_m.
        true: clip with the frames of the estimated one.
        identities: estimated -> true object id, as `match_identities` finds them.
    """
    i, j = row.meta["clip_frames"]
    track = None
    if "object_id" in row.meta:
        number = identities.get(row.meta["object_id"])
        track = next((item for item in true.objects if item.id == number), None)
        if track is None:
            return AnswerCheck(row.task, "no such object", "no such object")
        # Alone, its words are unique: the truth is asked about this object, whatever the others are called.
        true = replace(true, objects=[track])
    # The threshold is the question's own: which changes are "not moving" is part of what was asked.
    own = {"tau_m": row.meta["tau_m"], "tau_relative": 0.0} if "tau_m" in row.meta else {}
    strict = solve(row.task, true, i, j, track, replace(Thresholds(), **own))
    not_asked = strict if isinstance(strict, str) else None
    solution = solve(row.task, true, i, j, track, replace(_ANYTHING, **own))
    if isinstance(solution, str):
        return AnswerCheck(row.task, "no answer", not_asked or solution)
    if row.task not in DISTANCE_TASKS:
        outcome = "same" if solution.label == row.answer_text else "other"
        return AnswerCheck(row.task, outcome, not_asked, solution.label, solution.measure)
    numbers = np.array([float(option.split()[0]) for option in row.options])
    nearest = int(np.argmin(np.abs(numbers - solution.measure)))
    outcome = "same" if LETTERS[nearest] == row.answer else "other"
    assert row.value is not None
    error = abs(row.value - solution.measure) / solution.measure if solution.measure > 0 else float("inf")
    return AnswerCheck(row.task, outcome, not_asked, row.options[nearest], solution.measure, error)


def answer_figures(checks: Sequence[AnswerCheck]) -> dict[str, Any]:
    """Shares over questions, and the same by task.

    * agreement: the answer is the truth's option. Questions about objects that do not exist, and those the truth has no
      answer to, count as wrong.
    * agreement_asked: the same over the questions that would also be asked of the true clip.
    * not_asked: why the others would not -> how many.
    * dead_zone: questions whose truth lies in the dead zone around the threshold.
    * faults: kind of wrong answer -> how many; "dead zone" are those of them that lie there.
    * distances_within: share of the distances that are within 12.5% of the truth. Where the answer is the largest or
      smallest option, a truth far beyond it picks the same; this is the figure that sees it.
    """

    def summary(members: Sequence[AnswerCheck]) -> dict[str, Any]:
        asked = [check for check in members if check.not_asked is None]
        errors = [check.error for check in members if check.error is not None]
        return {
            "questions": len(members),
            "agreement": _share(sum(check.agrees for check in members), len(members)),
            "questions_asked": len(asked),
            "agreement_asked": _share(sum(check.agrees for check in asked), len(asked)),
            "no_such_object": sum(check.outcome == "no such object" for check in members),
            "dead_zone": sum(check.not_asked == DEAD_ZONE for check in members),
            "faults": dict(Counter(check.fault for check in members if not check.agrees).most_common()),
            "not_asked": dict(Counter(check.not_asked for check in members if check.not_asked).most_common()),
            "distances_within": _share(sum(error < CLOSE_SHARE for error in errors), len(errors)),
            **_spread("distance_error", errors),
        }

    tasks = sorted({check.task for check in checks})
    return summary(checks) | {"tasks": {task: summary([c for c in checks if c.task == task]) for task in tasks}}


def disagreement(row: QARow, check: AnswerCheck, identities: dict[int, int]) -> dict[str, Any]:
    """A wrong answer as a record: the question, both objects, both answers, both values in metres, and the fault."""
    number = row.meta.get("object_id")
    return {
        "id": row.id,
        "clip_id": row.clip_id,
        "task": row.task,
        "clip_frames": row.meta["clip_frames"],
        "object_id": number,
        "object": row.object_description,
        "true_object_id": None if number is None else identities.get(number),
        "answer": row.answer_text,
        "truth": check.truth,
        "value": row.meta["measure"],
        "true_value": check.true_value,
        "tau_m": row.meta.get("tau_m"),
        "fault": check.fault,
    }


# ------------------------------------------------------------------------------------------------- folders and files


@dataclass(frozen=True)
class _Pair:
    """An estimated clip and the true one that it is compared with."""

    clip_id: str
    file: str
    true_id: str
    true_file: str


@dataclass(frozen=True)
class _Folders:
    """Where the files of both sides are."""

    clips: Path
    masks: Path
    truth: Path
    dense: Path

    @classmethod
    def of(cls, clips: str | os.PathLike[str], truth: str | os.PathLike[str]) -> _Folders:
        records, truths = find_clip_index(clips).parent, find_clip_index(truth).parent
        beside = records / "masks"
        return cls(records, beside if beside.is_dir() else records.parent / "masks", truths, truths / "dense")

    def read(self, pair: _Pair) -> tuple[Clip4D, Clip4D | None, range]:
        """Both clips, the true one cut to the frames of the estimate; None where those are not known."""
        estimated, true = read_clip(self.clips / pair.file), read_clip(self.truth / pair.true_file)
        frames = source_frames(estimated, true)
        if frames is None:
            return estimated, None, range(0)
        return estimated, cut_clip(true, frames), frames

    def dense_pair(self, pair: _Pair, frames: range) -> tuple[_Dense | None, _Dense | None]:
        """Masks and depth of both sides; None where a side has none."""
        mine, other = self.masks / f"{pair.clip_id}.npz", self.dense / f"{pair.true_id}.npz"
        estimated = _read_dense(mine, "masks") if mine.is_file() else None
        true = _read_dense(other, "mask") if other.is_file() else None
        if true is not None:
            kept = slice(frames.start, frames.stop, frames.step)
            true = _Dense(true.depth[kept], true.mask[kept])
        if estimated is not None and true is not None and estimated.depth.shape != true.depth.shape:
            raise InputError(
                f"depth is {estimated.depth.shape}, the true one of these frames {true.depth.shape}", file=mine
            )
        return estimated, true


@dataclass(frozen=True, eq=False)
class _Dense:
    """Depth (T, H, W) in metres and instance masks (T, H, W) uint8."""

    depth: NDArray[Any]
    mask: NDArray[np.uint8]


def _read_dense(path: Path, mask_name: str) -> _Dense:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return _Dense(archive["depth"], archive[mask_name])
    except KeyError as error:
        raise InputError("the field is missing", file=path, field=str(error.args[0])) from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"not a readable npz ({error})", file=path) from error


def source_frames(estimated: Clip4D, true: Clip4D) -> range | None:
    """Frames of the true clip that an estimated one holds, None where that is not known."""
    span = estimated.quality.get("source_frames")
    if isinstance(span, list) and len(span) == 3:
        frames = range(*(int(number) for number in span))
        if len(frames) == estimated.num_frames and frames[0] >= 0 and frames[-1] < true.num_frames:
            return frames
        return None
    return range(true.num_frames) if estimated.num_frames == true.num_frames else None


def cut_clip(clip: Clip4D, frames: range) -> Clip4D:
    """Some frames of a clip, its world moved to the camera of the first of them."""
    if frames == range(clip.num_frames):
        return clip
    to_new = invert_pose(clip.cam_to_world[frames[0]])
    objects = [
        replace(track, points=[transform_points(to_new, track.points[t].astype(np.float64)) for t in frames])
        for track in clip.objects
    ]
    return replace(clip, num_frames=len(frames), cam_to_world=to_new @ clip.cam_to_world[list(frames)], objects=objects)


def _true_id(clip_id: str, truths: dict[str, Any]) -> str | None:
    if clip_id in truths:
        return clip_id
    base = re.sub(r"_s\d+$", "", clip_id)
    return base if base in truths else None


# -------------------------------------------------------------------------------------------------------- gathering


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
            "valid_share": _share(self.valid, self.in_range),
            **_spread("relative_error", np.concatenate([np.zeros(0), *self.depth_errors])),
            **_spread("points_relative_error", np.concatenate([np.zeros(0), *self.point_errors])),
        }


def _compare(
    folders: _Folders,
    pair: _Pair,
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
        depth |= _spread("points_relative_error", errors)
        if mine is not None:
            errors, in_range = depth_errors(mine.depth, other.depth, config.depth_range_m)
            pooled.depth_errors.append(_thinned(errors))
            pooled.in_range += in_range
            pooled.valid += len(errors)
            depth |= {"valid_share": _share(len(errors), in_range), **_spread("relative_error", errors)}
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
    folders: _Folders,
    pairs: list[_Pair],
    matched: dict[str, dict[int, int]],
    config: CheckConfig,
    report: CheckReport,
) -> dict[str, Any]:
    by_id = {pair.clip_id: pair for pair in pairs}
    by_length: dict[int, list[_Pair]] = defaultdict(list)
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
                "agreement": _share(sum(check.agrees for check in found), len(found)),
                "faults": dict(Counter(check.fault for check in found if not check.agrees).most_common()),
            }
            checks += found
            report.disagreements += [
                disagreement(row, check, matched[clip_id])
                for row, check in sorted(zip(own, found, strict=True), key=lambda item: item[0].id)
                if not check.agrees
            ]
    return answer_figures(checks)


def _stream(folders: _Folders, pairs: list[_Pair]) -> Iterator[Clip4D]:
    for pair in pairs:
        yield read_clip(folders.clips / pair.file)


def _by_clip(rows: list[QARow]) -> dict[str, list[QARow]]:
    groups: dict[str, list[QARow]] = defaultdict(list)
    for row in rows:
        groups[row.clip_id].append(row)
    return dict(sorted(groups.items()))


def _over_clips(records: list[Figures]) -> dict[str, Any]:
    """Median, p90 and maximum of each figure over the clips that have it; shares of clips within the limits."""
    table: dict[str, Any] = {}
    for name in records[0]:
        values = [value for record in records if (value := record[name]) is not None]
        if name.endswith("_within_limit"):
            table[name] = float(np.mean(values))
        elif values:
            table[name] = {
                "median": float(np.median(values)),
                "p90": float(np.percentile(values, 90)),
                "max": float(np.max(values)),
                "clips": len(values),
            }
    return table


def _thinned(errors: FloatArray) -> FloatArray:
    if len(errors) <= _POOLED_PIXELS:
        return errors
    return errors[np.linspace(0, len(errors) - 1, _POOLED_PIXELS).round().astype(np.int64)]


def _spread(name: str, values: Sequence[float] | FloatArray, worst: float = 90) -> dict[str, float | None]:
    """Median and the percentile towards the worse end: `name_median`, `name_p90`."""
    if len(values) == 0:
        return {f"{name}_median": None, f"{name}_p{worst:g}": None}
    finite = np.minimum(np.asarray(values, np.float64), np.finfo(np.float64).max)
    return {f"{name}_median": float(np.median(finite)), f"{name}_p{worst:g}": float(np.percentile(finite, worst))}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


# --------------------------------------------------------------------------------------------------------- pictures


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

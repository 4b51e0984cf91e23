"""Estimated objects matched with true ones, by their masks or centres, and what that says of both."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..questions import Thresholds
from ..questions.solvers import object_center
from ..schema import Clip4D, ObjectTrack
from .check_config import CheckConfig
from .check_metrics import FloatArray, share, spread

#: An object is found where it is matched in this share of the frames in which it is visible.
FOUND_SHARE = 0.5
#: A true object is visible with this many pixels of its mask, or this many points where there are no masks.
LEAST_PIXELS, LEAST_POINTS = 30, 20
#: An object that is visible in fewer frames is not asked for.
LEAST_FRAMES = 3
#: Masks with more than this intersection over union may be of the same object.
LEAST_IOU = 0.3
_NO_MATCH = 1e6


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
            "recall": share(self.found, self.true_moving),
            "estimated_moving": self.estimated_moving,
            "false_moving": self.false_moving,
            "precision": share(self.estimated_moving - self.false_moving, self.estimated_moving),
            "visible_frames": self.visible,
            "matched_frames": self.matched,
            "frame_recall": share(self.matched, self.visible),
            "misses": self.misses,
            "false_alarms": self.false_alarms,
            "switches": self.switches,
            "switch_share": share(self.switches, self.matched),
            "mota": share(self.visible - faults, self.visible),
            "moving": dict(sorted(self.moving.items())),
            **spread("center_m", self.center_m),
            **spread("displacement_m", self.displacement_m),
            **spread("mask_iou", self.mask_iou, worst=10),
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

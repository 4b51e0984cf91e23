"""Stretches of a stereo clip: shots between cuts, each held in memory once and seen as a clip of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import invert_pose, transform_points
from ..stereo.clip import Image, SourceObject, StereoClip, StereoPair
from .config import FrameConfig
from .quality import FrameMeter, Seen


@dataclass(eq=False)
class Shot:
    """Frames of one stretch as they were decoded.

    Attributes:
        number: of the stretch in its clip.
        frames: of the source.
        left: (T, H, W, 3) uint8 RGB.
        right: T images; each may be dropped when it has served.
        seen: what the meter says of each.
        is_only: whether the clip has no other stretch.
        is_whole: whether it is exactly the frames of the source.
    """

    number: int
    frames: range
    left: NDArray[np.uint8]
    right: list[Image | None]
    seen: list[Seen]
    is_only: bool = False
    is_whole: bool = False

    def pairs(self, count: int) -> list[StereoPair]:
        """At most `count` pairs, evenly spread; frames are numbered within the shot."""
        total = len(self.frames)
        chosen = sorted({round(position) for position in np.linspace(0, total - 1, min(count, total))})
        pairs = []
        for frame in chosen:
            right = self.right[frame]
            assert right is not None, "asked for before the right images are dropped"
            pairs.append(StereoPair(frame, self.left[frame], right))
        return pairs


@dataclass
class _Open:
    """A shot that is being filled."""

    start: int
    left: NDArray[np.uint8]
    right: list[Image | None] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    number: int = 0


def find_shots(clip: StereoClip, config: FrameConfig) -> Iterator[Shot]:
    """Go through the frames once and yield each stretch when it is complete; the one before is free to go.

    A stretch ends at a cut, or where it has `max_frames`; long shots are cut into pieces of about equal length. Black
    frames at its ends are left out, unless there is nothing else.

    Raises:
        InputError: of the reader; or the clip yields no frame.
    """
    taken = range(0, clip.num_frames, config.stride)
    longest = _piece_length(len(taken), config.max_frames)
    meter = FrameMeter()
    current: _Open | None = None
    number = 0
    for pair in clip.pairs():
        if pair.frame % config.stride:
            continue
        seen = meter.see(pair)
        is_full = current is not None and len(current.seen) >= longest
        if current is not None and (is_full or (seen.is_cut and config.split_cuts)):
            yield _close(current, clip, config)
            number += 1
            current = None
        if current is None:
            current = _Open(pair.frame, np.empty((longest, *pair.left.shape), np.uint8), number=number)
        current.left[len(current.seen)] = pair.left
        current.right.append(pair.right)
        current.seen.append(seen)
    if current is None:
        raise InputError("the clip has no frames", file=clip.path, row=clip.clip_id)
    yield _close(current, clip, config, is_last=True)


def _piece_length(num_frames: int, max_frames: int) -> int:
    pieces = max(1, math.ceil(num_frames / max_frames))
    return max(1, math.ceil(num_frames / pieces))


def _close(shot: _Open, clip: StereoClip, config: FrameConfig, is_last: bool = False) -> Shot:
    lit = [position for position, seen in enumerate(shot.seen) if not seen.is_black]
    first, last = (lit[0], lit[-1]) if lit else (0, len(shot.seen) - 1)
    inside = slice(first, last + 1)
    start = shot.start + first * config.stride
    frames = range(start, shot.start + last * config.stride + 1, config.stride)
    return Shot(
        number=shot.number,
        frames=frames,
        left=shot.left[inside],
        right=shot.right[inside],
        seen=shot.seen[inside],
        is_only=is_last and shot.number == 0,
        is_whole=frames == range(clip.num_frames),
    )


class Stretch(StereoClip):
    """Frames `range` of a clip, as a clip: numbered from 0, in the world of their own first camera.

    Args:
        clip: the whole.
        frames: of it.
        clip_id: of the stretch.
        with_poses: take the source's poses, where it has them.

    Raises:
        InputError: of `checked_poses`.
    """

    def __init__(self, clip: StereoClip, frames: range, clip_id: str, with_poses: bool = True) -> None:
        self._clip = clip
        self._frames = frames
        self.clip_id = clip_id
        self.source, self.license, self.path = clip.source, clip.license, clip.path
        self.camera = clip.camera
        self.fps = clip.fps / frames.step
        self.num_frames = len(frames)
        self.has_frames = clip.has_frames
        self.video = clip.video if frames == range(clip.num_frames) else None
        self.notes = dict(getattr(clip, "notes", {}))
        if clip.timestamps_s is not None:
            times = np.asarray(clip.timestamps_s)[list(frames)]
            self.timestamps_s = times - times[0]
        from_clip = np.eye(4)
        if clip.cam_to_world is not None and with_poses:
            poses = checked_poses(clip)[list(frames)]
            from_clip = invert_pose(poses[0])
            self.cam_to_world = from_clip @ poses
        self.objects = None
        # Without the source's poses there is no way from the first camera of the clip to that of the stretch.
        if clip.objects is not None and (self.cam_to_world is not None or frames.start == 0):
            self.objects = [_cut_object(item, frames, from_clip) for item in clip.objects]

    def pairs(self, start: int = 0, stop: int | None = None) -> Iterator[StereoPair]:
        wanted = self._frames[start:stop]
        if not len(wanted):
            return
        for pair in self._clip.pairs(wanted[0], wanted[-1] + 1):
            if pair.frame in wanted:
                yield pair._replace(frame=wanted.index(pair.frame) + start)

    def disparity(self, frame: int) -> NDArray[np.float32] | None:
        return self._clip.disparity(self._frames[frame])

    def depth(self, frame: int) -> NDArray[np.float32] | None:
        return self._clip.depth(self._frames[frame])

    def instance_mask(self, frame: int) -> NDArray[np.int32] | None:
        return self._clip.instance_mask(self._frames[frame])


def checked_poses(clip: StereoClip) -> NDArray[np.float64]:
    """The source's poses (T, 4, 4), refused where they are not rigid motions.

    Raises:
        InputError: naming the frame.
    """
    poses: NDArray[np.float64] = np.asarray(clip.cam_to_world, np.float64)

    def fail(problem: str, frame: int | None) -> None:
        raise InputError(
            problem,
            file=clip.path,
            row=clip.clip_id if frame is None else f"frame {frame}",
            field="cam_to_world",
            remedy="Mend the poses, or estimate them: origin.poses=estimate",
        )

    if poses.shape != (clip.num_frames, 4, 4):
        fail(f"poses of shape {poses.shape} for {clip.num_frames} frames", None)
    finite = np.isfinite(poses).all(axis=(1, 2))
    if not finite.all():
        fail("the source's pose holds NaN or infinite numbers", int(np.flatnonzero(~finite)[0]))
    rotation = poses[:, :3, :3]
    rigid = np.isclose(rotation @ rotation.transpose(0, 2, 1), np.eye(3), atol=1e-3).all(axis=(1, 2))
    rigid &= np.linalg.det(rotation) > 0
    if not rigid.all():
        fail("the source's pose is no rotation and translation", int(np.flatnonzero(~rigid)[0]))
    return poses


def _cut_object(item: SourceObject, frames: range, from_clip: NDArray[np.float64]) -> SourceObject:
    chosen = list(frames)
    parts: dict[str, Any] = {"centers": transform_points(from_clip, np.asarray(item.centers)[chosen])}
    if item.points is not None:
        parts["points"] = [
            transform_points(from_clip, np.asarray(item.points[t], np.float64)).astype(np.float32) for t in chosen
        ]
    if item.boxes is not None:
        parts["boxes"] = np.asarray(item.boxes)[chosen]
    return SourceObject(id=item.id, category=item.category, is_moving=item.is_moving, **parts)

"""The files of estimated and true clips, and which frames of the one are those of the other."""

from __future__ import annotations

import os
import re
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import invert_pose, transform_points
from ..schema import Clip4D, find_clip_index, read_clip


@dataclass(frozen=True)
class ClipPair:
    """An estimated clip and the true one that it is compared with."""

    clip_id: str
    file: str
    true_id: str
    true_file: str


@dataclass(frozen=True)
class CheckFolders:
    """Where the files of both sides are."""

    clips: Path
    masks: Path
    truth: Path
    dense: Path

    @classmethod
    def of(cls, clips: str | os.PathLike[str], truth: str | os.PathLike[str]) -> CheckFolders:
        records, truths = find_clip_index(clips).parent, find_clip_index(truth).parent
        beside = records / "masks"
        return cls(records, beside if beside.is_dir() else records.parent / "masks", truths, truths / "dense")

    def read(self, pair: ClipPair) -> tuple[Clip4D, Clip4D | None, range]:
        """Both clips, the true one cut to the frames of the estimate; None where those are not known."""
        estimated, true = read_clip(self.clips / pair.file), read_clip(self.truth / pair.true_file)
        frames = source_frames(estimated, true)
        if frames is None:
            return estimated, None, range(0)
        return estimated, cut_clip(true, frames), frames

    def dense_pair(self, pair: ClipPair, frames: range) -> tuple[Dense | None, Dense | None]:
        """Masks and depth of both sides; None where a side has none."""
        mine, other = self.masks / f"{pair.clip_id}.npz", self.dense / f"{pair.true_id}.npz"
        estimated = read_dense(mine, "masks") if mine.is_file() else None
        true = read_dense(other, "mask") if other.is_file() else None
        if true is not None:
            kept = slice(frames.start, frames.stop, frames.step)
            true = Dense(true.depth[kept], true.mask[kept])
        if estimated is not None and true is not None and estimated.depth.shape != true.depth.shape:
            raise InputError(
                f"depth is {estimated.depth.shape}, the true one of these frames {true.depth.shape}", file=mine
            )
        return estimated, true


@dataclass(frozen=True, eq=False)
class Dense:
    """Depth (T, H, W) in metres and instance masks (T, H, W) uint8."""

    depth: NDArray[Any]
    mask: NDArray[np.uint8]


def read_dense(path: Path, mask_name: str) -> Dense:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return Dense(archive["depth"], archive[mask_name])
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


def true_id(clip_id: str, truths: dict[str, Any]) -> str | None:
    if clip_id in truths:
        return clip_id
    base = re.sub(r"_s\d+$", "", clip_id)
    return base if base in truths else None

"""Stereo4D: poses and 3D tracks of VR180 video as npz, with the video where the user has it.

Facts, from the released code: the fields of the npz; `camera2world` belongs to the rectified left view; a track's
points are the next `track_lengths` rows of `track_indices` (frame) and `track_coordinates` (world metres);
`timestamps` are microseconds of the raw video `<video_id>.mp4`; its own rectification writes
`<name>-left_rectified.mp4` and `-right_rectified.mp4`. Inferred: crops of 512x512 with 60 degrees, since the npz does
not say; the frame of a time is the nearest one.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import invert_pose, transform_points
from ..stereo.camera import StereoCamera
from ..stereo.clip import ClipRef, Reader, SourceObject, StereoClip, StereoPair
from ..video import VideoFrames, open_frames
from .checks import check_options, check_rigid, number_option, start_at_first
from .media import PairedClip
from .track_objects import moving_objects
from .vr180 import (
    DEFAULT_BASELINE_M,
    VIEW_OPTIONS,
    Vr180Clip,
    Vr180View,
    check_view_calibration,
    view_from_options,
)

FloatArray = NDArray[np.float64]

LICENSE = "CC BY 4.0 (annotations); the video has its owner's"
_RAW_SUFFIXES = (".mp4", ".webm", ".mkv")
_FIELDS = ("timestamps", "camera2world", "rectified2rig", "fov_bounds")
_TRACK_FIELDS = ("track_lengths", "track_indices", "track_coordinates")
_NAME = re.compile(r".+_\d+")


@dataclass(frozen=True, eq=False)
class Stereo4dAnnotation:
    """What one npz says about its clip, tracks excepted, which are read when asked for.

    Attributes:
        path: the npz.
        name: of the clip, `<video_id>_<time>`.
        video_id: of the raw video.
        timestamps_us: (T,) int64 microseconds in the raw video.
        rectified_to_world: (T, 4, 4) poses of the rectified left view in the world of the npz, metres.
        rectified2rig: (2, 3, 3) rotations.
        fov_bounds: degrees, as in `Vr180View`.
    """

    path: Path
    name: str
    video_id: str
    timestamps_us: NDArray[np.int64]
    rectified_to_world: FloatArray
    rectified2rig: FloatArray
    fov_bounds: tuple[float, ...]

    @classmethod
    def read(cls, path: Path) -> Stereo4dAnnotation:
        """Raises InputError naming the field that is missing, misshapen or not finite."""
        fields = _read_fields(path, _FIELDS, optional=("name", "video_id"))
        poses = np.asarray(fields["camera2world"], np.float64)
        if poses.ndim != 3 or poses.shape[1:] != (3, 4) or not len(poses):
            raise InputError(f"shape {poses.shape}, expected (T, 3, 4)", file=path, field="camera2world")
        timestamps = np.asarray(fields["timestamps"])
        if timestamps.shape != (len(poses),):
            raise InputError(
                f"shape {timestamps.shape}, camera2world has {len(poses)} frames", file=path, field="timestamps"
            )
        late = np.flatnonzero(~(np.diff(timestamps.astype(np.float64)) > 0))
        if len(late):
            raise InputError("the times do not rise", file=path, row=int(late[0]) + 1, field="timestamps")
        rotations, bounds = check_view_calibration(fields["rectified2rig"], fields["fov_bounds"], path)
        bottom = np.tile([[[0.0, 0.0, 0.0, 1.0]]], (len(poses), 1, 1))
        return cls(
            path=path,
            name=str(fields.get("name", path.stem)),
            video_id=str(fields.get("video_id", path.stem.rpartition("_")[0])),
            timestamps_us=timestamps.astype(np.int64),
            rectified_to_world=check_rigid(np.concatenate([poses, bottom], axis=1), path, "camera2world"),
            rectified2rig=rotations,
            fov_bounds=bounds,
        )

    def tracks(self) -> NDArray[np.float32]:
        """(N, T, 3) points in the world of the npz, NaN where a track is not seen.

        Raises:
            InputError: lengths, indices and coordinates do not belong together.
        """
        fields = _read_fields(self.path, _TRACK_FIELDS)
        lengths, indices = (np.asarray(fields[name], np.int64) for name in _TRACK_FIELDS[:2])
        coordinates = np.asarray(fields["track_coordinates"], np.float32)
        if lengths.ndim != 1 or (lengths < 0).any():
            raise InputError("must be a list of counts", file=self.path, field="track_lengths")
        total = int(lengths.sum())
        if indices.shape != (total,):
            raise InputError(
                f"shape {indices.shape}, the lengths sum to {total}", file=self.path, field=_TRACK_FIELDS[1]
            )
        if coordinates.shape != (total, 3):
            raise InputError(
                f"shape {coordinates.shape}, the lengths sum to {total}", file=self.path, field=_TRACK_FIELDS[2]
            )
        num_frames = len(self.timestamps_us)
        wrong = np.flatnonzero((indices < 0) | (indices >= num_frames))
        if len(wrong):
            row = int(wrong[0])
            raise InputError(
                f"frame {indices[row]} of a clip of {num_frames}", file=self.path, row=row, field="track_indices"
            )
        tracks = np.full((len(lengths), num_frames, 3), np.nan, np.float32)
        tracks[np.repeat(np.arange(len(lengths)), lengths), indices] = coordinates
        return tracks


class Stereo4dClip(StereoClip):
    """A Stereo4D clip. Poses and tracks are there without the video.

    With the video objects are found in the images; without it they are made of the tracks that move.

    Attributes:
        tracks: (N, T, 3) float32 world metres (left camera of clip frame 0), NaN where a track is not seen; of no
            particular object. Read from the npz when first asked for.
    """

    def __init__(
        self,
        clip_id: str,
        annotation: Stereo4dAnnotation,
        view: Vr180View,
        camera: StereoCamera,
        footage: StereoClip | None,
    ) -> None:
        crop = np.eye(4)
        crop[:3, :3] = view.crop_to_rectified
        poses = annotation.rectified_to_world @ crop
        self._npz_to_world = invert_pose(poses[0])
        self.clip_id, self.source, self.license = clip_id, "stereo4d", LICENSE
        self.path, self.annotation, self.camera = annotation.path, annotation, camera
        self.num_frames = len(poses)
        self.timestamps_s = seconds_from_first(annotation.timestamps_us)
        self.fps = rate_of(self.timestamps_s)
        self.cam_to_world = start_at_first(poses)
        self.has_frames, self.video = footage is not None, footage.video if footage else None
        self.notes = {"hfov": view.hfov, "pitch": view.pitch, "footage": str(footage.path) if footage else None}
        self._footage = footage

    @cached_property
    def _objects_of_tracks(self) -> list[SourceObject]:
        assert self.cam_to_world is not None, "set with the annotation"
        return moving_objects(self.tracks, self.cam_to_world)

    @property
    def objects(self) -> list[SourceObject] | None:  # type: ignore[override]  # made of tracks when first asked for
        return None if self.has_frames else self._objects_of_tracks

    @cached_property
    def tracks(self) -> NDArray[np.float32]:
        return transform_points(self._npz_to_world, self.annotation.tracks()).astype(np.float32)

    def pairs(self, start: int = 0, stop: int | None = None) -> Iterator[StereoPair]:
        if self._footage is None:
            raise InputError(
                "the clip has poses and tracks, but no video",
                file=self.path,
                remedy=f"Put {self.annotation.video_id}.mp4 beside it, or name its folder with -o videos=FOLDER",
            )
        return self._footage.pairs(start, stop)


def seconds_from_first(timestamps_us: NDArray[np.int64]) -> FloatArray:
    """(T,) seconds from the first frame."""
    return (timestamps_us - timestamps_us[0]) / 1e6


def rate_of(timestamps_s: FloatArray, single: float = 30.0) -> float:
    """Frames per second by the median step; `single` where there is one frame only."""
    return 1.0 / float(np.median(np.diff(timestamps_s))) if len(timestamps_s) > 1 else single


class Footage:
    """Where the video of a clip may lie, and how to open it.

    Args:
        name: of the clip.
        video_id: of the raw video.
        folders: where to look, each also in its folder of the clip's name.
    """

    def __init__(self, name: str, video_id: str, folders: Sequence[Path]) -> None:
        places = [place for folder in folders for place in (folder, folder / name)]
        self.name, self.rectified, self.raw = name, None, None
        for place in places:
            eyes = [place / f"{name}-{eye}_rectified.mp4" for eye in ("left", "right")]
            if self.rectified is None and all(eye.is_file() for eye in eyes):
                self.rectified = eyes
            for suffix in _RAW_SUFFIXES:
                if self.raw is None and (place / f"{video_id}{suffix}").is_file():
                    self.raw = place / f"{video_id}{suffix}"

    def default_size(self, size: str) -> str:
        """That of the rectified pair where there is one."""
        if self.rectified is None:
            return size
        left = VideoFrames(self.rectified[0])
        return f"{left.width}x{left.height}"

    def open(
        self, view: Vr180View, baseline: float, timestamps_us: NDArray[np.int64], frames: Sequence[int] | None
    ) -> StereoClip | None:
        """Frames at `timestamps_us`; `frames` are their numbers in a rectified pair, None for all that it has."""
        if self.rectified is not None:
            return self._open_rectified(self.rectified, view, baseline, len(timestamps_us), frames)
        if self.raw is None:
            return None
        raw = open_frames(self.raw)
        if not raw.fps:
            raise InputError("the frame rate is not known", file=self.raw, field="fps")
        return Vr180Clip(
            clip_id=self.name,
            source="stereo4d",
            path=self.raw,
            frames=raw,
            view=view,
            baseline=baseline,
            frame_numbers=np.rint(timestamps_us * raw.fps / 1e6).astype(int).tolist(),
        )

    def _open_rectified(
        self, eyes: list[Path], view: Vr180View, baseline: float, num_frames: int, frames: Sequence[int] | None
    ) -> StereoClip:
        left, right = (VideoFrames(eye) for eye in eyes)
        whole = PairedClip(
            clip_id=self.name,
            source="stereo4d",
            path=eyes[0].parent,
            left=left,
            right=right,
            camera=view.camera(baseline),
            video=eyes[0],
        )
        if frames is not None:
            return _SomeFrames(whole, frames)
        if whole.num_frames != num_frames:
            raise InputError(f"{whole.num_frames} frames, the npz has {num_frames}", file=eyes[0])
        return whole


class _SomeFrames(StereoClip):
    """Some frames of a clip, in rising order."""

    def __init__(self, whole: StereoClip, frames: Sequence[int]) -> None:
        if frames[-1] >= whole.num_frames:
            raise InputError(f"frame {frames[-1]} is needed, there are {whole.num_frames}", file=whole.path)
        self.__dict__.update(whole.__dict__)
        self._whole, self._frames, self.num_frames, self.video = whole, list(frames), len(frames), None

    def pairs(self, start: int = 0, stop: int | None = None) -> Iterator[StereoPair]:
        start, stop, _ = slice(start, stop).indices(self.num_frames)
        wanted = {number: frame for frame, number in enumerate(self._frames[start:stop], start)}
        if wanted:
            for pair in self._whole.pairs(min(wanted), max(wanted) + 1):
                if pair.frame in wanted:
                    yield StereoPair(wanted[pair.frame], pair.left, pair.right)


def _read_fields(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in names if name not in archive.files]
            if missing:
                raise InputError(
                    f"the field is missing; the file has {', '.join(archive.files)}", file=path, field=missing[0]
                )
            return {name: archive[name] for name in (*names, *optional) if name in archive.files}
    except InputError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"not a readable Stereo4D npz ({error})", file=path, remedy="Fetch it again") from None


def find_annotations(path: Path) -> list[Path]:
    """Stereo4D npz files: `path` itself, those in it, or those in its folder `npz`."""
    if path.is_file():
        return [path] if path.suffix == ".npz" else []
    for folder in (path, path / "npz"):
        found = sorted(file for file in folder.glob("*.npz") if _NAME.fullmatch(file.stem))
        if found:
            return found
    return []


class Stereo4dReader(Reader):
    """A folder of Stereo4D's npz files, or one of them."""

    name = "stereo4d"
    summary = "Stereo4D npz (poses, 3D tracks), with its VR180 video where it is there"
    options: ClassVar[dict[str, str]] = {
        **VIEW_OPTIONS,
        "videos": "folder with <video_id>.mp4 or <name>-left_rectified.mp4; else beside, raw or processed",
    }

    def recognises(self, path: Path) -> str | None:
        found = find_annotations(path)
        if not found:
            return None
        try:
            with zipfile.ZipFile(found[0]) as archive:
                members = set(archive.namelist())
        except (OSError, zipfile.BadZipFile):
            return None
        needed = {f"{name}.npy" for name in _FIELDS}
        return f"{found[0].name} with camera2world and rectified2rig" if needed <= members else None

    def find(self, path: Path, **options: Any) -> list[ClipRef]:
        check_options(self, options)
        found = find_annotations(path)
        if not found:
            raise InputError("no npz files named <video_id>_<time>.npz", file=path)
        return [ClipRef(npz.stem, npz, self.name, {}, options) for npz in found]

    def open(self, ref: ClipRef) -> StereoClip:
        annotation = Stereo4dAnnotation.read(ref.path)
        footage = Footage(annotation.name, annotation.video_id, video_folders(ref.path.parent, ref.options))
        baseline = number_option(ref.options, "baseline", DEFAULT_BASELINE_M, 1e-4, 10.0)
        view = view_from_options(
            ref.options,
            footage.default_size("512x512"),
            rectified2rig=annotation.rectified2rig,
            fov_bounds=annotation.fov_bounds,
            bounds_at_centers=True,
        )
        opened = footage.open(view, baseline, annotation.timestamps_us, None)
        return Stereo4dClip(ref.clip_id, annotation, view, view.camera(baseline), opened)


def video_folders(folder: Path, options: dict[str, Any]) -> list[Path]:
    """Where to look for video: the folder named by `videos`, else beside, in `raw` and in `processed`.

    Raises:
        InputError: `videos` is no folder.
    """
    if "videos" in options:
        chosen = Path(str(options["videos"]))
        if not chosen.is_dir():
            raise InputError("there is no such folder", file=chosen, field="videos")
        return [chosen]
    return [place / name for place in (folder, folder.parent) for name in (".", "raw", "processed")]

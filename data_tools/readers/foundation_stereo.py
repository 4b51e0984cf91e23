"""FoundationStereo's disparities for Stereo4D clips: PNG files in zip archives, read in place, and their metadata.csv.

Facts, from the data set's page: the columns of metadata.csv; 784x784 PNG files of three channels with
disparity = (R * 255 * 255 + G * 255 + B) / 1000 pixels (255, not 256); `vid_id` names the Stereo4D npz and
`frame_idx` the frame of its rectified pair. Inferred: a crop of 60 degrees as in Stereo4D, so f = 678.97 at 784
pixels; 0 means unknown.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import InputError
from ..stereo.clip import ClipRef, Reader, StereoClip, StereoPair
from .checks import check_options, decode_png, number_option, start_at_first
from .stereo4d import Footage, Stereo4dAnnotation, rate_of, seconds_from_first, video_folders
from .vr180 import DEFAULT_BASELINE_M, VIEW_OPTIONS, view_from_options

METADATA = "metadata.csv"
ARCHIVE_SIZE = 784
_COLUMNS = ("file_name", "zip_file", "vid_id", "frame_idx", "youtube_video_id", "timestamp_us")


def decode_disparity(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W) pixels of an (H, W, 3) image, NaN where it says 0."""
    red, green, blue = (rgb[..., channel].astype(np.float32) for channel in range(3))
    disparity = (red * (255 * 255) + green * 255 + blue) / 1000
    return np.where(disparity > 0, disparity, np.float32(np.nan)).astype(np.float32)


def scale_disparity(disparity: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """A disparity map for the same view at another size: nearest samples, which mix no edges, times the ratio."""
    rows = ((np.arange(height) + 0.5) * disparity.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * disparity.shape[1] / width).astype(int)
    return disparity[np.ix_(rows, columns)] * np.float32(width / disparity.shape[1])


class FoundationStereoClip(StereoClip):
    """The frames of one Stereo4D clip that have a disparity; has images where its video is there."""

    def __init__(self, ref: ClipRef) -> None:
        self.clip_id, self.path, self.source = ref.clip_id, ref.path, "foundation_stereo"
        self.license = "CC BY-NC 4.0 (disparities); the video has its owner's"
        _check_rising(ref)
        self._files: list[tuple[str, str]] = [(row[0], row[1]) for row in ref.key["frames"]]
        frames = [int(row[2]) for row in ref.key["frames"]]
        timestamps_us = np.array([row[3] for row in ref.key["frames"]], np.int64)
        folders = video_folders(ref.path, ref.options)
        annotation = self._annotation(ref, frames)
        footage = Footage(ref.key["vid_id"], ref.key["youtube_video_id"], folders)
        if annotation is None:
            footage.raw = None  # without its rotations a raw frame gives no rectified pair
        known = {}
        if annotation is not None:
            known = {"rectified2rig": annotation.rectified2rig, "fov_bounds": annotation.fov_bounds}
        default_size = footage.default_size(f"{ARCHIVE_SIZE}x{ARCHIVE_SIZE}")
        view = view_from_options(ref.options, default_size, bounds_at_centers=True, **known)
        if view.width != view.height:
            raise InputError(f"{view.width}x{view.height}: the archive's views are square", field="size")
        baseline = number_option(ref.options, "baseline", DEFAULT_BASELINE_M, 1e-4, 10.0)
        self.camera = view.camera(baseline)
        self._footage = footage.open(view, baseline, timestamps_us, frames)
        self.num_frames, self.has_frames = len(frames), self._footage is not None
        self.timestamps_s = seconds_from_first(timestamps_us)
        self.fps = rate_of(self.timestamps_s)
        if annotation is not None:
            self.cam_to_world = start_at_first(annotation.rectified_to_world[frames])
        self.notes = {"hfov": view.hfov, "footage": str(self._footage.path) if self._footage else None}

    def pairs(self, start: int = 0, stop: int | None = None) -> Iterator[StereoPair]:
        if self._footage is None:
            raise InputError(
                f"{self.clip_id} has disparities, but no images",
                file=self.path,
                remedy="Give its rectified pair, or its raw video and npz, with -o videos=FOLDER -o annotations=FOLDER",
            )
        return self._footage.pairs(start, stop)

    def disparity(self, frame: int) -> NDArray[np.float32]:
        file, archive = self._files[frame]
        path, data = _read_member(self.path, file, archive)
        decoded = decode_disparity(decode_png(data, path, np.uint8, 3))
        if decoded.shape[0] != decoded.shape[1]:
            raise InputError(f"{decoded.shape[1]}x{decoded.shape[0]} pixels, the views are square", file=path)
        return scale_disparity(decoded, self.camera.width, self.camera.height)

    def depth(self, frame: int) -> NDArray[np.float32]:
        return self.camera.depth(self.disparity(frame))

    @staticmethod
    def _annotation(ref: ClipRef, frames: list[int]) -> Stereo4dAnnotation | None:
        named = ref.options.get("annotations")
        folders = [Path(str(named))] if named else [ref.path, ref.path / "npz", ref.path.parent / "npz"]
        for folder in folders:
            npz = folder / f"{ref.key['vid_id']}.npz"
            if npz.is_file():
                annotation = Stereo4dAnnotation.read(npz)
                if frames[-1] >= len(annotation.timestamps_us):
                    raise InputError(
                        f"frame {frames[-1]} has a disparity, the npz has {len(annotation.timestamps_us)} frames",
                        file=npz,
                    )
                return annotation
        return None


def _check_rising(ref: ClipRef) -> None:
    """Raise InputError naming the line of metadata.csv whose frame occurs twice, or whose time does not rise."""
    for before, after in pairwise(ref.key["frames"]):
        for column, name in ((2, "frame_idx"), (3, "timestamp_us")):
            if after[column] <= before[column]:
                raise InputError(
                    f"{after[column]} comes after {before[column]} in clip {ref.key['vid_id']}",
                    file=ref.path / METADATA,
                    row=after[4],
                    field=name,
                )


def _read_member(folder: Path, file: str, archive: str) -> tuple[Path, bytes]:
    """A PNG's path, for messages, and its bytes: from a folder where it is unpacked, else from its archive."""
    for place in (folder / file, folder / Path(archive).stem / file):
        if place.is_file():
            return place, place.read_bytes()
    path = folder / archive
    members, packed = _open_archive(path, os.getpid())
    name = members.get(PurePosixPath(file).name)
    if name is None:
        raise InputError(f"the archive has no {file}", file=path)
    try:
        return path / name, packed.read(name)
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{file} cannot be read ({error})", file=path, remedy="Fetch the archive again") from None


@lru_cache(maxsize=2)
def _open_archive(path: Path, process: int) -> tuple[dict[str, str], zipfile.ZipFile]:
    # The list of an archive is long: 50,000 names. `process` keeps a file position from being shared after a fork.
    try:
        packed = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"not a readable zip ({error})", file=path, remedy="Fetch it again") from None
    return {PurePosixPath(name).name: name for name in packed.namelist()}, packed


class FoundationStereoReader(Reader):
    """A folder with metadata.csv and the archives it names."""

    name = "foundation_stereo"
    summary = "FoundationStereo disparities of Stereo4D clips (zip archives and metadata.csv)"
    options: ClassVar[dict[str, str]] = {
        **{name: text for name, text in VIEW_OPTIONS.items() if name in ("hfov", "baseline")},
        "size": f"pixels of the crop, square; that of a rectified pair, or {ARCHIVE_SIZE}",
        "videos": "folder with <vid_id>-left_rectified.mp4 or <youtube_video_id>.mp4; here, raw or processed without",
        "annotations": "folder with Stereo4D's <vid_id>.npz (poses, rectification of raw video); here or npz without",
    }

    def recognises(self, path: Path) -> str | None:
        metadata = path / METADATA
        if not metadata.is_file():
            return None
        with metadata.open(encoding="utf-8", errors="replace") as lines:
            header = lines.readline(4096).strip().split(",")
        return "metadata.csv with file_name, zip_file and vid_id" if set(_COLUMNS) <= set(header) else None

    def find(self, path: Path, **options: Any) -> list[ClipRef]:
        check_options(self, options)
        table = _read_metadata(path / METADATA)
        refs = []
        for clip, rows in table.groupby("vid_id", sort=True):
            rows = rows.sort_values("frame_idx", kind="stable")
            rows["line"] = rows.index + 1
            columns = ["file_name", "zip_file", "frame_idx", "timestamp_us", "line"]
            frames = rows[columns].to_numpy(object).tolist()
            key = {"vid_id": str(clip), "youtube_video_id": str(rows["youtube_video_id"].iloc[0]), "frames": frames}
            refs.append(ClipRef(str(clip), path, self.name, key, options))
        return refs

    def open(self, ref: ClipRef) -> StereoClip:
        return FoundationStereoClip(ref)


def _read_metadata(path: Path) -> pd.DataFrame:
    """metadata.csv with numbers as such; its index + 1 is the 0-based line."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise InputError("the file does not exist", file=path) from None
    except (OSError, ValueError) as error:
        raise InputError(f"not a readable CSV file ({error})", file=path) from None
    for name in _COLUMNS:
        if name not in table.columns:
            raise InputError(f"the column is missing; the file has {', '.join(table.columns)}", file=path, field=name)
    if table.empty:
        raise InputError("the file has no rows", file=path)
    odd = np.flatnonzero(~table["vid_id"].str.fullmatch(r"[\w.-]+"))
    if len(odd):
        row = int(odd[0])
        raise InputError(f"{table['vid_id'][row]!r} is not a clip's name", file=path, row=row + 1, field="vid_id")
    for name in ("frame_idx", "timestamp_us"):
        numbers = pd.to_numeric(table[name], errors="coerce")
        wrong = np.flatnonzero(~(numbers >= 0))
        if len(wrong):
            row = int(wrong[0])
            raise InputError(f"{table[name][row]!r} is not a number", file=path, row=row + 1, field=name)
        table[name] = numbers.round().astype(np.int64)
    return table

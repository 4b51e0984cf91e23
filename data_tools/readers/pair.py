"""A left and a right video, or two folders of images, with a calibration beside them: what most users have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..stereo.clip import ClipRef, Reader, StereoClip, check_same_frames
from ..video import FrameSource, ImageFrames, is_video, list_images, open_frames
from .calibration_file import ImageSize, find_calibration, read_calibration
from .checks import (
    check_options,
    check_rigid,
    file_name,
    number_option,
    pose_matrices,
    read_number_rows,
    start_at_first,
)
from .media import FASTEST_FPS, SLOWEST_FPS, PairedClip

#: Names of the two eyes, without a suffix, that are looked for in this order.
EYES = (
    ("left", "right"),
    ("image_left", "image_right"),
    ("image_l", "image_r"),
    ("image_0", "image_1"),
    ("image_00", "image_01"),
    ("image_2", "image_3"),
    ("image_02", "image_03"),
    ("cam0", "cam1"),
    ("cam_left", "cam_right"),
    ("L", "R"),
    ("l", "r"),
)
POSE_NAMES = ("poses.txt",)
TIME_NAMES = ("times.txt", "timestamps.txt")
#: Times above these are no seconds since 1970 (now 1.7e9) but parts of one, so many to the second: nano, micro, milli.
_CLOCKS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
#: Folders below the given one that are searched for clips.
MAX_DEPTH = 3


class _Eyes(NamedTuple):
    """Where the two eyes are; `pattern`s choose images of a folder."""

    left: Path
    right: Path
    left_pattern: str | None = None
    right_pattern: str | None = None


class PairReader(Reader):
    """Reader of clip folders with an eye in a file or folder each."""

    name: ClassVar[str] = "pair"
    summary: ClassVar[str] = "left and right videos or image folders with a calibration (JSON, OpenCV, ROS, KITTI)"
    options: ClassVar[dict[str, str]] = {
        "left": "name of the left video or folder, or a pattern of images in the clip's folder: 'left*.png'",
        "right": "the same for the right eye",
        "calibration": "calibration file, from the clip's folder, the given one, or absolute",
        "unit_m": "metres per unit of the calibration's translation: 0.001 for millimetres",
        "fps": "frames per second of image folders",
        "license": "licence of the clips, kept in their records",
    }
    tried_on: ClassVar[str] = "OpenCV's raw chessboard pairs with their calibration; KITTI odometry images"

    def recognises(self, path: Path) -> str | None:
        if not path.is_dir():
            return None
        for folder in _folders(path):
            eyes = _find_eyes(folder, {})
            if eyes is not None:
                where = "" if folder == path else f" in {folder.relative_to(path)}"
                return f"{eyes.left.name} and {eyes.right.name}{where}"
        return None

    def find(self, path: Path, **options: Any) -> list[ClipRef]:
        check_options(self, options)
        refs = []
        for folder in _clip_folders(path, options):
            name = file_name(*folder.relative_to(path).parts) if folder != path else file_name(path.resolve().name)
            refs.append(ClipRef(name, folder, self.name, {"root": str(path)}, dict(options)))
        if not refs:
            raise InputError(
                "no folder with a left and a right eye",
                file=path,
                remedy=f"Name the eyes with -o left=... -o right=..., or as {'/'.join(EYES[0])}",
            )
        return unique(refs)

    def open(self, ref: ClipRef) -> StereoClip:
        options, folder = ref.options, ref.path
        eyes = _find_eyes(folder, options)
        if eyes is None:
            raise InputError("the left and right eye are not there any more", file=folder)
        fps = number_option(options, "fps", 0, 0, 1000) or None
        unit_m = number_option(options, "unit_m", 0, 0, 1000) or None
        left = open_frames(eyes.left, fps, eyes.left_pattern)
        right = open_frames(eyes.right, fps, eyes.right_pattern)
        check_same_frames(left.num_frames, right.num_frames, folder)
        _check_same_names(left, right)
        calibration = read_calibration(
            _calibration_path(folder, Path(ref.key.get("root", folder)), options),
            ImageSize(left.width, left.height),
            unit_m,
            ("P2", "P3") if eyes.left.stem.endswith("2") else ("P0", "P1"),
        )
        times = read_times(folder, left.num_frames)
        rectification = calibration.rectification
        rectified_mp4 = rectification is None and eyes.left.suffix.lower() == ".mp4"
        with_fps = fps or rate_of_times(times) or left.fps or calibration.fps
        return PairedClip(
            clip_id=ref.clip_id,
            source="user",
            license=str(options.get("license", "")),
            path=folder,
            left=left,
            right=right,
            camera=calibration.camera,
            fps=with_fps,
            rectify=None if rectification is None else rectification.apply,
            video=eyes.left if rectified_mp4 else None,
            timestamps_s=times,
            cam_to_world=_poses(folder, left.num_frames),
            notes={"calibration": calibration.path.name, "rectified_here": rectification is not None},
        )


def unique(refs: list[ClipRef]) -> list[ClipRef]:
    """The refs, refused where two have one id: folders a/b_c and a_b/c."""
    seen: dict[str, Path] = {}
    for ref in refs:
        if ref.clip_id in seen:
            raise InputError(
                f"gives the same clip id {ref.clip_id!r} as {seen[ref.clip_id]}", file=ref.path, remedy="Rename one"
            )
        seen[ref.clip_id] = ref.path
    return refs


def read_times(folder: Path, num_frames: int) -> NDArray[np.float64] | None:
    """(T,) seconds from the first frame, from `times.txt` or `timestamps.txt` (a number a line), or None.

    The numbers are seconds, or milli-, micro- or nanoseconds since 1970, which are told by their size.

    Raises:
        InputError: fewer lines than frames, times that do not rise, or a rate that no camera has.
    """
    path = next((folder / name for name in TIME_NAMES if (folder / name).is_file()), None)
    if path is None:
        return None
    times = read_number_rows(path, 1)[:, 0]
    if len(times) < num_frames:
        raise InputError(f"{len(times)} times for {num_frames} frames", file=path, row=len(times))
    return rising(times[:num_frames], path)


def rising(times: NDArray[np.float64], path: Path, first_row: int = 0) -> NDArray[np.float64]:
    """Seconds from the first of (T,) times, which may be milli-, micro- or nanoseconds since 1970.

    Raises:
        InputError: naming the row that is not later than the one before; or a rate that no camera has.
    """
    unit = next((unit for above, unit in _CLOCKS if len(times) and times[0] > above), 1.0)
    for row in range(len(times)):
        if not np.isfinite(times[row]) or (row > 0 and times[row] <= times[row - 1]):
            raise InputError(
                f"time {times[row]:g} does not come after the one before it",
                file=path,
                row=first_row + row,
                field="seconds",
            )
    seconds = (times - times[0]) / unit
    rate = rate_of_times(seconds)
    if rate is not None and not SLOWEST_FPS <= rate <= FASTEST_FPS:
        raise InputError(
            f"the times give {rate:.3g} frames per second",
            file=path,
            field="seconds",
            remedy="Write seconds. Smaller units are told by their size only where they count from 1970",
        )
    return seconds


def rate_of_times(times: NDArray[np.float64] | None) -> float | None:
    """Frames per second of (T,) seconds, None for fewer than two."""
    return None if times is None or len(times) < 2 else float((len(times) - 1) / (times[-1] - times[0]))


def _poses(folder: Path, num_frames: int) -> NDArray[np.float64] | None:
    path = next((folder / name for name in POSE_NAMES if (folder / name).is_file()), None)
    if path is None:
        return None
    rows = read_number_rows(path, 12)
    if len(rows) < num_frames:
        raise InputError(f"{len(rows)} poses for {num_frames} frames", file=path, row=len(rows))
    return start_at_first(check_rigid(pose_matrices(rows[:num_frames]), path, "pose"))


def _folders(root: Path, depth: int = MAX_DEPTH) -> Iterator[Path]:
    """`root` and the folders below it in order, hidden ones left out."""
    yield root
    if depth > 0:
        for child in sorted(child for child in root.iterdir() if child.is_dir() and not child.name.startswith(".")):
            yield from _folders(child, depth - 1)


def _clip_folders(root: Path, options: Mapping[str, Any]) -> Iterator[Path]:
    """Folders with two eyes; what is inside such a folder is not searched."""
    inside: Path | None = None
    for folder in _folders(root) if root.is_dir() else ():
        if inside is not None and inside in folder.parents:
            continue
        if _find_eyes(folder, options) is not None:
            inside = folder
            yield folder


def _find_eyes(folder: Path, options: Mapping[str, Any]) -> _Eyes | None:
    left_name, right_name = options.get("left"), options.get("right")
    if (left_name is None) != (right_name is None):
        raise InputError("only one eye is named", field="left" if left_name is None else "right")
    if left_name is not None:
        left_name, right_name = str(left_name), str(right_name)
        if any(letter in left_name for letter in "*?["):
            found = list_images(folder, left_name) and list_images(folder, right_name)
            return _Eyes(folder, folder, left_name, right_name) if found else None
        left, right = folder / left_name, folder / right_name
        return _Eyes(left, right) if _holds_frames(left) and _holds_frames(right) else None
    names = {entry.name: entry for entry in folder.iterdir()}
    stems: dict[str, Path] = {}
    for entry in sorted(names.values()):
        if is_video(entry) or _holds_frames(entry):
            stems.setdefault(entry.stem if entry.is_file() else entry.name, entry)
    for left_stem, right_stem in EYES:
        if left_stem in stems and right_stem in stems:
            return _Eyes(_data_folder(stems[left_stem]), _data_folder(stems[right_stem]))
    return None


def _data_folder(path: Path) -> Path:
    """EuRoC and KITTI raw keep an eye's images in `<eye>/data`."""
    return path / "data" if path.is_dir() and not list_images(path) else path


def _holds_frames(path: Path) -> bool:
    if path.is_dir():
        return any(list_images(folder) for folder in (path, path / "data") if folder.is_dir())
    return is_video(path)


def _calibration_path(folder: Path, root: Path, options: Mapping[str, Any]) -> Path:
    if "calibration" in options:
        named = Path(str(options["calibration"])).expanduser()
        for candidate in (folder / named, root / named, named):
            if candidate.is_file():
                return candidate
        raise InputError("there is no such calibration file", file=named, field="calibration")
    places = [folder, *(parent for parent in folder.parents if parent == root or root in parent.parents)]
    for place in places:
        found = find_calibration(place)
        if found is not None:
            return found
    raise InputError(
        "no calibration file",
        file=folder,
        field="calibration",
        remedy="Put a calibration.json beside the eyes (docs/readers.md shows one), or name it with -o calibration=...",
    )


def _check_same_names(left: FrameSource, right: FrameSource) -> None:
    """Images that are numbered must have the same numbers in both eyes, or one eye lags behind the other."""
    if not (isinstance(left, ImageFrames) and isinstance(right, ImageFrames)):
        return
    for row, (left_path, right_path) in enumerate(zip(left.paths, right.paths, strict=True)):
        numbers = [re.search(r"(\d{1,8})$", path.stem) for path in (left_path, right_path)]
        if all(numbers) and len({int(number[1]) for number in numbers if number}) > 1:
            raise InputError(
                f"the left eye has {left_path.name}, the right one {right_path.name}",
                file=right_path,
                row=row,
                remedy="Remove the frames that only one eye has",
            )

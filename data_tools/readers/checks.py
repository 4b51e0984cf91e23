"""What readers of data sets share: options, numbered files, tables of numbers, and poses that are what they claim."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import invert_pose
from ..stereo.clip import Reader

FloatArray = NDArray[np.float64]

#: Rotations printed with few digits are put right up to this; what is further off is an error.
_ROTATION_TOLERANCE = 1e-3


def check_options(reader: Reader, options: Mapping[str, Any]) -> None:
    """Raise InputError, with a suggestion, for an option that the reader does not have."""
    for name in options:
        if name not in reader.options:
            near = difflib.get_close_matches(name, reader.options, 1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            known = ", ".join(reader.options) or "none"
            raise InputError(
                f"reader {reader.name} has no option {name!r}", field=name, remedy=f"{hint}Its options: {known}"
            )


def number_option(options: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    """A number given as such or as text. Raises InputError where it is none, or outside low..high."""
    value = options.get(name, default)
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{value!r} is not a number", field=name) from None
    if not low <= number <= high:
        raise InputError(f"{number:g} is not between {low:g} and {high:g}", field=name)
    return number


def choice_option(options: Mapping[str, Any], name: str, choices: Sequence[str]) -> str:
    """One of some words, the first by default. Raises InputError for another one."""
    value = str(options.get(name, choices[0]))
    if value not in choices:
        raise InputError(f"{value!r} is none of {', '.join(choices)}", field=name)
    return value


def file_name(*parts: str) -> str:
    """A clip id from names of folders and files: joined by underscores, anything unusual replaced by one."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", "_".join(parts)).strip("._") or "clip"


def numbered_files(folder: Path, pattern: str) -> dict[int, Path]:
    """Files of a folder by the number in their name, in order.

    Args:
        folder: need not exist.
        pattern: regular expression for the whole name with one group, the number: r"rgb_(\\d+)\\.jpg".
    """
    if not folder.is_dir():
        return {}
    matches = ((re.fullmatch(pattern, path.name), path) for path in folder.iterdir())
    return dict(sorted((int(match[1]), path) for match, path in matches if match))


def find_folders(
    path: Path, fits: Callable[[Path], bool], depth: int, first_only: bool = False, max_looks: int = 200
) -> list[Path]:
    """Folders that fit, in order of depth and name: `path` itself or below it; not looked for inside one that fits.

    Args:
        path: need not exist.
        fits: says whether a folder is what is looked for.
        depth: levels below `path`.
        first_only: stop at the first, or after `max_looks` folders: for telling cheaply what a folder is.
        max_looks: folders.
    """
    found: list[Path] = []
    looks = 0
    level = [path] if path.is_dir() else []
    for remaining in range(depth, -1, -1):
        below: list[Path] = []
        for folder in level:
            looks += 1
            if first_only and looks > max_looks:
                return found
            if fits(folder):
                found.append(folder)
                if first_only:
                    return found
            elif remaining:
                with os.scandir(folder) as entries:
                    names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
                below += [folder / name for name in names]
        level = below
    return found


def check_gapless(numbers: Iterable[int], folder: Path) -> None:
    """Raise InputError naming the frame that is missing in a run of numbers."""
    for before, after in pairwise(numbers):
        if after != before + 1:
            raise InputError(
                f"frame {before + 1} is missing, {before} and {after} are there",
                file=folder,
                row=before + 1,
                remedy="Fetch it again; a gap would pass for a jump of the camera",
            )


def read_number_rows(path: Path, columns: int, skip: int = 0) -> FloatArray:
    """A text table of numbers between blanks, (N, columns) float64. Empty lines are passed over.

    Args:
        path: the file.
        columns: how many every row must have.
        skip: lines of header.

    Raises:
        InputError: naming file and 0-based line of a row that is too short, too long or not numbers.
    """
    rows = []
    for number, line in enumerate(read_text(path).splitlines()):
        values = line.split()
        if number < skip or not values:
            continue
        if len(values) != columns:
            raise InputError(f"{len(values)} numbers in the line, expected {columns}", file=path, row=number)
        try:
            rows.append([float(value) for value in values])
        except ValueError as error:
            raise InputError(f"not a number ({error})", file=path, row=number) from None
    if not rows:
        raise InputError("the file holds no rows of numbers", file=path)
    return np.array(rows, np.float64)


def read_text(path: Path) -> str:
    """The text of a file. Raises InputError where it is missing or not text."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise InputError(f"the file cannot be read ({reason})", file=path) from None


def check_rigid(poses: FloatArray, path: Path, field: str, rows: Sequence[int] | None = None) -> FloatArray:
    """Poses (T, 4, 4) with rotations made orthonormal to machine precision.

    Args:
        poses: camera-to-world or its inverse.
        path, field: for the message.
        rows: what to name each pose by; its index by default.

    Raises:
        InputError: naming the row with a NaN, or whose 3x3 block is further from a rotation than rounding takes it.
    """
    names = rows if rows is not None else range(len(poses))
    for name, pose in zip(names, poses, strict=True):
        if not np.isfinite(pose).all():
            raise InputError("the pose holds NaN or infinite numbers", file=path, row=name, field=field)
    u, _, vt = np.linalg.svd(poses[:, :3, :3])
    rotations = u @ vt
    off = np.abs(rotations - poses[:, :3, :3]).max(axis=(1, 2))
    for name, distance, rotation in zip(names, off, rotations, strict=True):
        if distance > _ROTATION_TOLERANCE or np.linalg.det(rotation) < 0:
            raise InputError("the 3x3 block of the pose is not a rotation", file=path, row=name, field=field)
    rigid = np.tile(np.eye(4), (len(poses), 1, 1))
    rigid[:, :3, :3] = rotations
    rigid[:, :3, 3] = poses[:, :3, 3]
    return rigid


def pose_matrices(rows: FloatArray) -> FloatArray:
    """(T, 12) or (T, 16) rows of a 3x4 or 4x4 matrix, row by row, as (T, 4, 4)."""
    matrices = np.tile(np.eye(4), (len(rows), 1, 1))
    matrices[:, :3] = rows[:, :12].reshape(-1, 3, 4)
    return matrices


def start_at_first(cam_to_world: FloatArray) -> FloatArray:
    """The same poses (T, 4, 4) in a world that is the camera of frame 0."""
    return invert_pose(cam_to_world[0]) @ cam_to_world


def read_png(path: Path, dtype: type[np.generic], channels: int, size: tuple[int, int] | None = None) -> NDArray[Any]:
    """Pixels of a lossless image as they are stored, colours in RGB order; (H, W) for one channel, else (H, W, C).

    Raises:
        InputError: missing, does not decode, or of another type, number of channels or size (width, height).
    """
    return decode_png(read_bytes(path), path, dtype, channels, size)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file. Raises InputError where it is missing."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"the file cannot be read ({error.strerror})", file=path) from None


def decode_png(
    data: bytes, path: Path, dtype: type[np.generic], channels: int, size: tuple[int, int] | None = None
) -> NDArray[Any]:
    """`read_png` for bytes that come from elsewhere; `path` is for the message."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if image is None:
        raise InputError("not an image, or one that is cut off", file=path, remedy="Copy it again")
    found = 1 if image.ndim == 2 else image.shape[2]
    if image.dtype != np.dtype(dtype) or found != channels:
        raise InputError(
            f"{found} channels of {image.dtype}, expected {channels} of {np.dtype(dtype)}", file=path, field="pixels"
        )
    check_map_size(image, size, path)
    return image if channels == 1 else np.ascontiguousarray(image[:, :, ::-1])


def check_map_size(pixels: NDArray[Any], size: tuple[int, int] | None, path: Path) -> None:
    """Raise InputError where a map of depth, disparity or ids has not the (width, height) of the images."""
    if size is not None and (pixels.shape[1], pixels.shape[0]) != size:
        raise InputError(
            f"{pixels.shape[1]}x{pixels.shape[0]} pixels, the images have {size[0]}x{size[1]}",
            file=path,
            field="size",
        )


def pinhole(fx: float, fy: float, cx: float, cy: float) -> FloatArray:
    """(3, 3) intrinsics."""
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def steady_stretches(values: FloatArray, tolerance: float) -> list[tuple[int, int]]:
    """[start, stop) of the runs of rows (T, C) that stay within `tolerance` of their first row.

    A clip has one camera: a zoom ends it.
    """
    starts = [0]
    for row in range(1, len(values)):
        if not math.isclose(float(np.abs(values[row] - values[starts[-1]]).max()), 0.0, abs_tol=tolerance):
            starts.append(row)
    return list(pairwise([*starts, len(values)]))

"""Chessboard pictures to camera matrices: one camera alone, or a stereo pair with its baseline in metres."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..atomic import atomic_path
from ..errors import InputError
from .camera import FloatArray, StereoCamera
from .rectify import RawStereoCalibration

Picture = Path | NDArray[np.uint8]

#: A camera has 4 + 5 unknowns and a view of a plane settles 2 of the first 4; three is the least, ten is good.
MIN_VIEWS = 3
GOOD_VIEWS = 10
#: A view is dropped whose error exceeds this many medians, as a blurred or bent board gives, and OUTLIER_FLOOR_PX.
OUTLIER_MEDIANS = 3.0
OUTLIER_FLOOR_PX = 0.3
#: Below this share of the picture covered by corners, distortion is guessed at the borders.
GOOD_COVERAGE = 0.5
#: A focal length known worse than this says that the board was hardly tilted.
GOOD_FOCAL_STD = 0.01

_COVERAGE_CELLS = 8
_BOARD_REMEDY = (
    "Count inner corners, where black squares touch (one less than squares each way), leave a white margin "
    "around the board and let all of it be seen"
)


@dataclass(frozen=True)
class View:
    """What became of one picture, or of one pair.

    Attributes:
        name: of the (left) picture.
        errors_px: RMS reprojection error of each camera, NaN where it was left out.
        left_out: why, None where it was used.
    """

    name: str
    errors_px: tuple[float, ...]
    left_out: str | None = None


@dataclass(frozen=True, eq=False)
class CameraCalibration:
    """One camera from chessboard views.

    Attributes:
        width, height: pixels.
        matrix: (3, 3) float64 pixels, integer coordinates at pixel centres.
        distortion: (5,) float64, k1 k2 p1 p2 k3.
        rms_px: over the views used.
        focal_std_px: standard deviation of fx.
        coverage: share of an 8x8 grid over the picture that holds a corner of some view.
        views: one per picture, in order.
        board_poses: name of a used view -> (4, 4) float64 board-to-camera; the board's origin is its first corner, X
            runs along its rows, and its unit is that of the square.
    """

    width: int
    height: int
    matrix: FloatArray
    distortion: FloatArray
    rms_px: float
    focal_std_px: float
    coverage: float
    views: list[View]
    board_poses: dict[str, FloatArray]

    def warnings(self) -> list[str]:
        """What makes this calibration doubtful, with a remedy each."""
        used = sum(view.left_out is None for view in self.views)
        return _warnings(used, [("camera", self.coverage, self.focal_std_px / self.matrix[0, 0])])


@dataclass(frozen=True, eq=False)
class StereoCalibration:
    """A stereo pair from chessboard pairs.

    Attributes:
        raw: the cameras and how they stand.
        left, right: each camera alone, before the joint refinement.
        rms_px: over both eyes of the pairs used.
        views: one per pair, in order, with the errors of the left and the right eye.
    """

    raw: RawStereoCalibration
    left: CameraCalibration
    right: CameraCalibration
    rms_px: float
    views: list[View]

    def warnings(self) -> list[str]:
        """What makes this calibration doubtful, with a remedy each."""
        used = sum(view.left_out is None for view in self.views)
        eyes = [("left", self.left), ("right", self.right)]
        return _warnings(used, [(name, eye.coverage, eye.focal_std_px / eye.matrix[0, 0]) for name, eye in eyes])


def calibrate_camera(pictures: Sequence[Picture], pattern: tuple[int, int], square_m: float) -> CameraCalibration:
    """Calibrate one camera (Zhang, PAMI 2000, as cv2.calibrateCamera has it).

    Args:
        pictures: files or (H, W[, 3]) uint8, all of one size.
        pattern: inner corners along and across the board.
        square_m: side of a square in metres (or any unit, which board poses then have).

    Raises:
        InputError: a bad pattern, unreadable or unequal pictures, too few views with a whole board.
    """
    board = _board(pattern, square_m)
    found = _find_all(pictures, pattern)
    return _calibrate_found(found, board)


def calibrate_stereo(
    pairs: Sequence[tuple[Picture, Picture]], pattern: tuple[int, int], square_m: float
) -> StereoCalibration:
    """Calibrate a stereo pair: each camera alone, then how they stand, then everything together.

    Pairs with a board missing in one eye, or whose error stands out, are left out and named in `views`.

    Args:
        pairs: (left, right) pictures taken at one moment, all of one size.
        pattern: inner corners along and across the board.
        square_m: side of a square in metres; the baseline scales with it.

    Raises:
        InputError: as `calibrate_camera`, or the cameras turn out not to stand side by side.
    """
    board = _board(pattern, square_m)
    left = _find_all([pair[0] for pair in pairs], pattern)
    right = _find_all([pair[1] for pair in pairs], pattern)
    if left.size != right.size:
        raise InputError(f"left pictures are {left.size}, right ones {right.size} pixels", field="right")
    reasons = _missing_eyes(left, right)
    both = [index for index, reason in enumerate(reasons) if reason is None]
    _check_enough(len(both), len(pairs))
    for index in both:
        right.corners[index] = _same_direction(left.corners[index], right.corners[index])
    left_alone = _calibrate_found(left.only(both), board)
    right_alone = _calibrate_found(right.only(both), board)

    errors = np.full((len(pairs), 2), np.nan)
    solution = _solve_stereo(left, right, both, board, left_alone, right_alone)
    while True:
        errors[:] = np.nan
        errors[both] = solution.errors_px
        outliers = _outliers(errors.max(axis=1))
        if not outliers or len(both) - len(outliers) < MIN_VIEWS:
            break
        for index in outliers:
            reasons[index] = _outlier_reason(errors[index].max(), np.nanmedian(errors.max(axis=1)))
        both = [index for index in both if index not in outliers]
        solution = _solve_stereo(left, right, both, board, left_alone, right_alone)

    views = [
        View(name, (float(error[0]), float(error[1])), reason)
        for name, error, reason in zip(left.names, errors, reasons, strict=True)
    ]
    return StereoCalibration(solution.raw(left.size), left_alone, right_alone, solution.rms_px, views)


def pair_pictures(left: Sequence[Path], right: Sequence[Path]) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """Pairs by the last number in the file names, and the pictures without a partner.

    Where names hold no numbers, or the same twice, equal counts are paired in order.

    Raises:
        InputError: no way to pair them.
    """
    left_keys, right_keys = _numbers(left), _numbers(right)
    if left_keys is not None and right_keys is not None and left_keys.keys() & right_keys.keys():
        pairs = [(left_keys[key], right_keys[key]) for key in left_keys if key in right_keys]
        alone = [path for key, path in left_keys.items() if key not in right_keys]
        alone += [path for key, path in right_keys.items() if key not in left_keys]
        return pairs, alone
    if len(left) != len(right) or not left:
        raise InputError(
            f"{len(left)} left and {len(right)} right pictures cannot be paired",
            remedy="Number them alike: left01.jpg, right01.jpg",
        )
    return list(zip(left, right, strict=True)), []


def calibration_record(calibration: RawStereoCalibration | StereoCamera | CameraCalibration) -> dict[str, Any]:
    """The calibration as JSON has it; lengths in metres."""
    size = {"width": calibration.width, "height": calibration.height}
    if isinstance(calibration, RawStereoCalibration):
        return {
            "model": "raw pinhole",
            **size,
            "left_matrix": calibration.left_matrix.tolist(),
            "left_distortion": calibration.left_distortion.tolist(),
            "right_matrix": calibration.right_matrix.tolist(),
            "right_distortion": calibration.right_distortion.tolist(),
            "rotation": calibration.rotation.tolist(),
            "translation_m": calibration.translation.tolist(),
        }
    if isinstance(calibration, StereoCamera):
        record = {
            "model": "rectified pinhole",
            **size,
            "intrinsics": calibration.intrinsics.tolist(),
            "baseline_m": calibration.baseline,
        }
        if calibration.disparity_offset_px:
            record["disparity_offset_px"] = calibration.disparity_offset_px
        return record
    return {
        "model": "raw pinhole camera",
        **size,
        "matrix": calibration.matrix.tolist(),
        "distortion": calibration.distortion.tolist(),
    }


def write_calibration(
    path: str | Path, calibration: RawStereoCalibration | StereoCamera | CameraCalibration, fps: float | None = None
) -> None:
    """Write `calibration_record` as JSON, whole or not at all; `fps` of the video where it is known."""
    record = calibration_record(calibration)
    if fps is not None:
        record["fps"] = fps
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")


def find_corners(gray: NDArray[np.uint8], pattern: tuple[int, int]) -> NDArray[np.float32] | None:
    """(N, 2) float32 sub-pixel inner corners row by row, None where no whole board is seen."""
    flags = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE
    found, corners = cv2.findChessboardCorners(gray, pattern, flags=flags)
    if not found:
        # Slower, but finds boards under uneven light and blur.
        found, corners = cv2.findChessboardCornersSB(gray, pattern, flags=cv2.CALIB_CB_NORMALIZE_IMAGE)
        if not found:
            return None
    corners = np.asarray(corners, np.float32).reshape(pattern[1], pattern[0], 2)
    # A window that reaches the next corner pulls the result away: 1 px and more on small boards.
    spacing = min(np.linalg.norm(np.diff(corners, axis=axis), axis=-1).min() for axis in (0, 1))
    half = int(np.clip(spacing * 0.25, 2, 11))
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 60, 1e-4)
    refined = cv2.cornerSubPix(gray, corners.reshape(-1, 1, 2).copy(), (half, half), (-1, -1), stop)
    return np.asarray(refined, np.float32).reshape(-1, 2)


@dataclass(eq=False)
class _Found:
    names: list[str]
    size: tuple[int, int]
    corners: list[NDArray[np.float32] | None]

    def only(self, indices: list[int]) -> _Found:
        return _Found([self.names[i] for i in indices], self.size, [self.corners[i] for i in indices])


@dataclass(eq=False)
class _StereoSolution:
    left_matrix: FloatArray
    left_distortion: FloatArray
    right_matrix: FloatArray
    right_distortion: FloatArray
    rotation: FloatArray
    translation: FloatArray
    rms_px: float
    errors_px: FloatArray

    def raw(self, size: tuple[int, int]) -> RawStereoCalibration:
        return RawStereoCalibration(
            *size,
            self.left_matrix,
            self.left_distortion,
            self.right_matrix,
            self.right_distortion,
            self.rotation,
            self.translation,
        )


def _board(pattern: tuple[int, int], square_m: float) -> NDArray[np.float32]:
    """(N, 3) float32 corners of the board in its own plane."""
    columns, rows = pattern
    if min(columns, rows) < 3:
        raise InputError(f"a board of {columns}x{rows} inner corners is too small", field="board", remedy=_BOARD_REMEDY)
    if columns == rows:
        raise InputError(
            f"a board of {columns}x{rows} inner corners looks the same when turned",
            field="board",
            remedy="Use one with different counts, such as 9x6",
        )
    if not square_m > 0:
        raise InputError(f"must be a positive length in metres, got {square_m}", field="square")
    board = np.zeros((columns * rows, 3), np.float32)
    board[:, :2] = np.mgrid[:columns, :rows].T.reshape(-1, 2) * square_m
    return board


def _find_all(pictures: Sequence[Picture], pattern: tuple[int, int]) -> _Found:
    if not pictures:
        raise InputError("no pictures", field="pictures", remedy="Give at least ten views of the board")
    names: list[str] = []
    corners: list[NDArray[np.float32] | None] = []
    size: tuple[int, int] | None = None
    for index, picture in enumerate(pictures):
        name = picture.name if isinstance(picture, Path) else f"view {index}"
        gray = _read_gray(picture)
        found_size = (gray.shape[1], gray.shape[0])
        if size is not None and found_size != size:
            raise InputError(
                f"has {found_size[0]}x{found_size[1]} pixels, the first picture {size[0]}x{size[1]}",
                file=picture if isinstance(picture, Path) else name,
                remedy="All pictures must come from the camera at one setting",
            )
        size = found_size
        names.append(name)
        corners.append(find_corners(gray, pattern))
    assert size is not None
    return _Found(names, size, corners)


def _read_gray(picture: Picture) -> NDArray[np.uint8]:
    if isinstance(picture, Path):
        gray = cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE)
        if gray is None:
            raise InputError("not a picture that OpenCV can read", file=picture)
        return np.asarray(gray, np.uint8)
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if picture.ndim == 3 else picture, np.uint8)


def _calibrate_found(found: _Found, board: NDArray[np.float32]) -> CameraCalibration:
    reasons = [None if corners is not None else "no whole board found" for corners in found.corners]
    used = [index for index, reason in enumerate(reasons) if reason is None]
    _check_enough(len(used), len(found.corners))
    errors = np.full(len(found.corners), np.nan)
    while True:
        images = [_points(found.corners[index]) for index in used]
        rms, matrix, coefficients, turns, shifts, deviations, _, per_view = cv2.calibrateCameraExtended(
            [board] * len(used),
            images,
            found.size,
            np.zeros((3, 3)),
            np.zeros(5),
        )
        errors[:] = np.nan
        errors[used] = np.asarray(per_view).ravel()
        outliers = _outliers(errors)
        if not outliers or len(used) - len(outliers) < MIN_VIEWS:
            break
        for index in outliers:
            reasons[index] = _outlier_reason(errors[index], np.nanmedian(errors))
        used = [index for index in used if index not in outliers]
    poses = {found.names[index]: _pose(turn, shift) for index, turn, shift in zip(used, turns, shifts, strict=True)}
    views = [
        View(name, (float(error),), reason) for name, error, reason in zip(found.names, errors, reasons, strict=True)
    ]
    return CameraCalibration(
        *found.size,
        np.asarray(matrix, np.float64),
        np.asarray(coefficients, np.float64).ravel(),
        float(rms),
        float(np.asarray(deviations).ravel()[0]),
        _coverage(np.concatenate(images), found.size),
        views,
        poses,
    )


def _solve_stereo(
    left: _Found,
    right: _Found,
    used: list[int],
    board: NDArray[np.float32],
    left_alone: CameraCalibration,
    right_alone: CameraCalibration,
) -> _StereoSolution:
    boards = [board] * len(used)
    left_points = [_points(left.corners[index]) for index in used]
    right_points = [_points(right.corners[index]) for index in used]
    # Copied, since OpenCV writes its results into what it is given.
    left_matrix: Any = left_alone.matrix.copy()
    left_distortion: Any = left_alone.distortion.copy()
    right_matrix: Any = right_alone.matrix.copy()
    right_distortion: Any = right_alone.distortion.copy()
    rotation: Any = np.eye(3)
    translation: Any = np.zeros((3, 1))
    # How the cameras stand first, with each as it is alone; from there the joint solution is near.
    for flags in (cv2.CALIB_FIX_INTRINSIC, cv2.CALIB_USE_INTRINSIC_GUESS | cv2.CALIB_USE_EXTRINSIC_GUESS):
        rms, left_matrix, left_distortion, right_matrix, right_distortion, rotation, translation, *_, errors = (
            cv2.stereoCalibrateExtended(
                boards,
                left_points,
                right_points,
                left_matrix,
                left_distortion,
                right_matrix,
                right_distortion,
                left.size,
                rotation,
                translation,
                flags=flags,
            )
        )
    return _StereoSolution(
        np.asarray(left_matrix, np.float64),
        np.asarray(left_distortion, np.float64),
        np.asarray(right_matrix, np.float64),
        np.asarray(right_distortion, np.float64),
        np.asarray(rotation, np.float64),
        np.asarray(translation, np.float64),
        float(rms),
        np.asarray(errors, np.float64).reshape(-1, 2),
    )


def _points(corners: NDArray[np.float32] | None) -> NDArray[np.float32]:
    assert corners is not None
    return corners.reshape(-1, 1, 2)


def _pose(turn: Any, shift: Any) -> FloatArray:
    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(np.asarray(turn, np.float64))[0]
    pose[:3, 3] = np.asarray(shift, np.float64).ravel()
    return pose


def _coverage(corners: NDArray[np.float32], size: tuple[int, int]) -> float:
    cells = np.floor(corners.reshape(-1, 2) / np.asarray(size) * _COVERAGE_CELLS).astype(int)
    return len(np.unique(cells, axis=0)) / _COVERAGE_CELLS**2


def _missing_eyes(left: _Found, right: _Found) -> list[str | None]:
    reasons: list[str | None] = []
    for one, other in zip(left.corners, right.corners, strict=True):
        eyes = [name for name, corners in (("left", one), ("right", other)) if corners is None]
        reasons.append(f"no whole board found in the {' and '.join(eyes)} eye" if eyes else None)
    return reasons


def _same_direction(left: NDArray[np.float32] | None, right: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    """The right corners from the same end of the board as the left ones: some boards look alike upside down."""
    if left is None or right is None:
        return right
    return right[::-1] if float((left[-1] - left[0]) @ (right[-1] - right[0])) < 0 else right


def _outliers(errors: FloatArray) -> list[int]:
    limit = max(OUTLIER_MEDIANS * float(np.nanmedian(errors)), OUTLIER_FLOOR_PX)
    return [int(index) for index in np.flatnonzero(np.nan_to_num(errors) > limit)]


def _outlier_reason(error: float, median: float) -> str:
    return f"error of {error:.2f} px, the median is {median:.2f} px"


def _check_enough(found: int, total: int) -> None:
    if found < MIN_VIEWS:
        raise InputError(
            f"a whole board was found in {found} of {total} views, {MIN_VIEWS} are needed and {GOOD_VIEWS} are good",
            field="board",
            remedy=_BOARD_REMEDY,
        )


def _warnings(used: int, cameras: list[tuple[str, float, float]]) -> list[str]:
    warnings = []
    if used < GOOD_VIEWS:
        warnings.append(f"only {used} views were used; take at least {GOOD_VIEWS}")
    for name, coverage, focal_std in cameras:
        if coverage < GOOD_COVERAGE:
            warnings.append(f"{name}: the board covered {coverage:.0%} of the picture; move it to the corners, too")
        if focal_std > GOOD_FOCAL_STD:
            warnings.append(f"{name}: the focal length is known to {focal_std:.1%} only; tilt the board more")
    return warnings


def _numbers(paths: Sequence[Path]) -> dict[int, Path] | None:
    """Path by the last number of its name; None where a name has none or two have the same."""
    keyed = {}
    for path in paths:
        digits = re.findall(r"\d+", path.stem)
        if not digits or int(digits[-1]) in keyed:
            return None
        keyed[int(digits[-1])] = path
    return keyed

"""From a calibrated pair of raw cameras to rectified images: rows correspond, lenses are undone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .camera import FloatArray, StereoCamera

Image = NDArray[np.uint8]

#: Lengths that OpenCV's pinhole model knows: radial and tangential, rational, thin prism, tilted sensor.
DISTORTION_LENGTHS = (4, 5, 8, 12, 14)

#: Above this a translation is taken for millimetres, the commonest slip in calibration files. Metres.
MAX_BASELINE_M = 30.0


@dataclass(frozen=True, eq=False)
class RawStereoCalibration:
    """Two pinhole cameras with lens distortion, and how the right one stands to the left one.

    A left-camera point p is `rotation @ p + translation` in the right camera, as cv2.stereoCalibrate has it. The right
    camera stands on the right, so translation[0] is negative.

    Attributes:
        width, height: pixels of either raw image.
        left_matrix, right_matrix: (3, 3) float64 pixels, integer coordinates at pixel centres.
        left_distortion, right_distortion: (N,) float64, OpenCV's order, N one of 4, 5, 8, 12, 14; empty for none.
        rotation: (3, 3) float64.
        translation: (3,) float64 metres.

    Raises:
        InputError: naming the field: shapes, no rotation, one camera above or behind the other, eyes swapped,
            millimetres.
    """

    width: int
    height: int
    left_matrix: FloatArray
    left_distortion: FloatArray
    right_matrix: FloatArray
    right_distortion: FloatArray
    rotation: FloatArray
    translation: FloatArray

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            if getattr(self, name) < 1:
                raise InputError(f"must be a positive number of pixels, got {getattr(self, name)}", field=name)
        for name in ("left_matrix", "right_matrix"):
            object.__setattr__(self, name, camera_matrix(getattr(self, name), name))
        for name in ("left_distortion", "right_distortion"):
            object.__setattr__(self, name, distortion(getattr(self, name), name))
        object.__setattr__(self, "rotation", _rotation(self.rotation))
        translation = np.asarray(self.translation, np.float64).ravel()
        if translation.shape != (3,) or not np.isfinite(translation).all():
            raise InputError("must be three finite numbers, metres", field="translation")
        object.__setattr__(self, "translation", translation)
        _check_placement(self.rotation, self.translation)

    def rectify(self, alpha: float = 0.0) -> Rectification:
        """Rectify by cv2.stereoRectify, keeping the image size.

        Args:
            alpha: 0 keeps no pixel from outside the raw images, 1 keeps every raw pixel and leaves black borders.

        Raises:
            InputError: alpha outside 0..1, or no rectified view exists.
        """
        if not 0.0 <= alpha <= 1.0:
            raise InputError(f"must lie within 0 and 1, got {alpha}", field="alpha")
        left_rotation, right_rotation, left_projection, right_projection, *_ = cv2.stereoRectify(
            self.left_matrix,
            self.left_distortion,
            self.right_matrix,
            self.right_distortion,
            (self.width, self.height),
            self.rotation,
            self.translation.reshape(3, 1),  # OpenCV 5 takes a plain vector for a row
            flags=cv2.CALIB_ZERO_DISPARITY,
            alpha=alpha,
        )
        focal = float(left_projection[0, 0])
        if not (math.isfinite(focal) and focal > 0):
            raise InputError(
                f"rectification ends with a focal length of {focal} px",
                field="left_distortion",
                remedy="The coefficients do not belong to these matrices, or to a fisheye model; calibrate again",
            )
        camera = StereoCamera(
            self.width,
            self.height,
            np.asarray(left_projection[:, :3], np.float64),
            baseline=float(-right_projection[0, 3] / right_projection[0, 0]),
            disparity_offset_px=float(left_projection[0, 2] - right_projection[0, 2]),
        )
        return Rectification(
            self,
            camera,
            np.asarray(left_rotation, np.float64),
            np.asarray(right_rotation, np.float64),
            np.asarray(right_projection[:, :3], np.float64),
        )


@dataclass(eq=False)
class Rectification:
    """Maps raw pairs to rectified ones. Picklable: the maps are built where they are first used.

    Attributes:
        calibration: of the raw pair.
        camera: of the rectified pair, same size as the raw one.
        left_rotation, right_rotation: (3, 3) float64, raw camera axes to rectified ones.
        right_intrinsics: (3, 3) float64 pixels, of the rectified right camera.
    """

    calibration: RawStereoCalibration
    camera: StereoCamera
    left_rotation: FloatArray
    right_rotation: FloatArray
    right_intrinsics: FloatArray
    _maps: tuple[tuple[Any, Any], tuple[Any, Any]] | None = field(default=None, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": None}

    def apply(self, left: Image, right: Image) -> tuple[Image, Image]:
        """Rectify a pair (H, W) or (H, W, 3) uint8; black where the raw image holds nothing.

        Raises:
            InputError: an image of another size than the calibration's.
        """
        for image, eye in ((left, "left"), (right, "right")):
            height, width = image.shape[:2]
            if (width, height) != (self.calibration.width, self.calibration.height):
                raise InputError(
                    f"the {eye} image has {width}x{height} pixels, "
                    f"the calibration {self.calibration.width}x{self.calibration.height}",
                    remedy="Calibrate at the size of the video; a resized or cropped video needs other matrices",
                )
        if self._maps is None:
            self._maps = self._build_maps()
        left_maps, right_maps = self._maps
        return _remap(left, left_maps), _remap(right, right_maps)

    def _build_maps(self) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        # CV_16SC2: fixed point at 1/32 px, about twice as fast as float maps.
        raw, size = self.calibration, (self.camera.width, self.camera.height)
        left = cv2.initUndistortRectifyMap(
            raw.left_matrix, raw.left_distortion, self.left_rotation, self.camera.intrinsics, size, cv2.CV_16SC2
        )
        right = cv2.initUndistortRectifyMap(
            raw.right_matrix, raw.right_distortion, self.right_rotation, self.right_intrinsics, size, cv2.CV_16SC2
        )
        return (left[0], left[1]), (right[0], right[1])


def _remap(image: Image, maps: tuple[Any, Any]) -> Image:
    return np.asarray(cv2.remap(image, *maps, cv2.INTER_LINEAR), np.uint8)


def camera_matrix(matrix: Any, name: str) -> FloatArray:
    """`matrix` as (3, 3) float64. Raises InputError with field `name` where it is no camera matrix."""
    array = np.asarray(matrix, np.float64)
    if array.shape != (3, 3) or not np.isfinite(array).all():
        raise InputError("must be a 3x3 matrix of finite numbers", field=name)
    if array[0, 0] <= 0 or array[1, 1] <= 0:
        raise InputError(f"focal lengths must be positive, got {array[0, 0]} and {array[1, 1]}", field=name)
    if not np.allclose(array[2], (0, 0, 1)):
        raise InputError(f"the last row must be 0 0 1, got {array[2].tolist()}", field=name)
    return array


def distortion(coefficients: Any, name: str) -> FloatArray:
    """`coefficients` as (N,) float64, no coefficients as four zeros.

    Raises:
        InputError: with field `name`, where the length is none of OpenCV's pinhole model.
    """
    array = np.asarray(coefficients, np.float64).ravel()
    if array.size == 0:
        return np.zeros(4)
    if array.size not in DISTORTION_LENGTHS:
        raise InputError(
            f"has {array.size} coefficients, the pinhole model has {', '.join(map(str, DISTORTION_LENGTHS))}",
            field=name,
            remedy="Fisheye and omnidirectional models are not read here; undistort such video to a pinhole first",
        )
    if not np.isfinite(array).all():
        raise InputError("must be finite numbers", field=name)
    return array


def _rotation(matrix: Any) -> FloatArray:
    array = np.asarray(matrix, np.float64)
    if array.shape == (3,) or array.shape in ((1, 3), (3, 1)):
        array = np.asarray(cv2.Rodrigues(array.reshape(3))[0])
    if array.shape != (3, 3) or not np.isfinite(array).all():
        raise InputError("must be a 3x3 rotation or three numbers of a rotation vector", field="rotation")
    if not np.allclose(array @ array.T, np.eye(3), atol=1e-3) or np.linalg.det(array) < 0:
        raise InputError("is no rotation: its rows are not orthonormal, or it mirrors", field="rotation")
    return array


def _check_placement(rotation: FloatArray, translation: FloatArray) -> None:
    right_center = -rotation.T @ translation
    across, down, ahead = right_center
    length = float(np.linalg.norm(right_center))
    place = f"the right camera stands at {np.round(right_center, 4).tolist()} m from the left one"
    if length == 0:
        raise InputError("is zero: both cameras stand in one place", field="translation")
    if abs(across) < max(abs(down), abs(ahead)):
        raise InputError(
            f"{place}, more above or behind it than beside it",
            field="translation",
            remedy="Only side-by-side cameras are supported. Turn the images of a vertical rig by 90 degrees and "
            "calibrate them so",
        )
    if across < 0:
        raise InputError(
            f"{place}, on its left side",
            field="translation",
            remedy="Are the eyes swapped, or is this the left-from-right transform? Right from left is "
            "expected (cv2.stereoCalibrate), where translation[0] is negative",
        )
    if length > MAX_BASELINE_M:
        raise InputError(
            f"a baseline of {length:.1f} m",
            field="translation",
            remedy="Translations are metres; is this in millimetres? Divide by 1000",
        )

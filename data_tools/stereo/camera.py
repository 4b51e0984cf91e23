"""The rectified stereo camera and what follows from it: depth of a disparity, points of pixels, their uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StereoCamera:
    """A rectified pair: rows correspond, the right camera is the left one moved by `baseline` along +X.

    Attributes:
        width, height: pixels of either image.
        intrinsics: (3, 3) float64 pixels, rectified left camera; pixel centres have integer coordinates.
        baseline: metres, positive.
        disparity_offset_px: cx of the left camera minus cx of the right one, so that
            depth = fx * baseline / (disparity - disparity_offset_px). 0 for most rectified pairs.

    Raises:
        InputError: naming the field that is not what it should be.
    """

    width: int
    height: int
    intrinsics: FloatArray
    baseline: float
    disparity_offset_px: float = 0.0

    def __post_init__(self) -> None:
        intrinsics = np.asarray(self.intrinsics, np.float64)
        object.__setattr__(self, "intrinsics", intrinsics)
        for name in ("width", "height"):
            if getattr(self, name) < 1:
                raise InputError(f"must be a positive number of pixels, got {getattr(self, name)}", field=name)
        if intrinsics.shape != (3, 3) or not np.isfinite(intrinsics).all():
            raise InputError("must be a 3x3 matrix of finite numbers", field="intrinsics")
        if intrinsics[0, 0] <= 0 or intrinsics[1, 1] <= 0:
            raise InputError(
                f"focal lengths must be positive, got {intrinsics[0, 0]} and {intrinsics[1, 1]}", field="intrinsics"
            )
        if not (math.isfinite(self.baseline) and self.baseline > 0):
            raise InputError(
                f"must be a positive length in metres, got {self.baseline}",
                field="baseline",
                remedy="Is it given in another unit, or are the eyes swapped?",
            )

    @property
    def focal_px(self) -> float:
        """fx, pixels."""
        return float(self.intrinsics[0, 0])

    def depth(self, disparity_px: NDArray[np.floating]) -> NDArray[np.float32]:
        """Metres along the optical axis, NaN where the disparity is NaN or not positive. Any shape."""
        shifted = np.asarray(disparity_px, np.float32) - np.float32(self.disparity_offset_px)
        depth = np.full(shifted.shape, np.nan, np.float32)
        np.divide(np.float32(self.focal_px * self.baseline), shifted, out=depth, where=shifted > 0)
        return depth

    def disparity(self, depth_m: NDArray[np.floating]) -> NDArray[np.float32]:
        """The inverse of `depth`; NaN where the depth is NaN or not positive."""
        depth_m = np.asarray(depth_m, np.float32)
        with np.errstate(divide="ignore", invalid="ignore"):
            disparity = np.float32(self.focal_px * self.baseline) / depth_m + np.float32(self.disparity_offset_px)
        return np.where(depth_m > 0, disparity, np.float32(np.nan)).astype(np.float32)

    def depth_std(self, depth_m: NDArray[np.floating], disparity_std_px: float) -> NDArray[np.float32]:
        """Standard deviation of a depth, metres: Z^2 / (f b) times that of the disparity, by d = f b / Z."""
        depth_m = np.asarray(depth_m, np.float32)
        return (depth_m * depth_m * np.float32(disparity_std_px / (self.focal_px * self.baseline))).astype(np.float32)

    def lift(self, pixels: NDArray[np.floating], depth_m: NDArray[np.floating]) -> FloatArray:
        """Camera-frame points (N, 3), metres, of pixels (N, 2) as (u, v) with depths (N,)."""
        fx, fy = self.intrinsics[0, 0], self.intrinsics[1, 1]
        cx, cy = self.intrinsics[0, 2], self.intrinsics[1, 2]
        z = np.asarray(depth_m, np.float64)
        pixels = np.asarray(pixels, np.float64)
        points = np.empty((len(z), 3))
        points[:, 0] = (pixels[:, 0] - cx) / fx * z
        points[:, 1] = (pixels[:, 1] - cy) / fy * z
        points[:, 2] = z
        return points

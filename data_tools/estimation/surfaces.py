"""Surfaces of things in depth maps: their points without what is off them, and images at the size of analysis."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..schema import MAX_POINTS_PER_OBJECT
from ..stereo.camera import StereoCamera
from .tracking import bounding_window, nearest_rank

_DEPTH_OF_WIDTH = 0.5  # no face of a thing lies farther from its middle than this share of its width
# Pixels, and share of the disparity: between neighbours (over two pixels), more is a jump from surface to surface.
_JUMP_PX, _JUMP = 0.3, 0.04

FloatArray = NDArray[np.float64]
FloatImage = NDArray[np.float32]


def surface_points(camera: StereoCamera, disparity_px: FloatImage, mask: NDArray[np.bool_]) -> FloatArray:
    """Camera-frame points (N, 3), metres, of the pixels of one object, without those that are off its surface.

    Args:
        camera: of the size of the images.
        disparity_px: (H, W), NaN where unknown.
        mask: (H, W) bool.

    Off the surface is what lies farther from the median depth than three times the median deviation, and a tenth of
    the object's width, unless no jump of depth parts it from what is nearer: a receding side of a box is the box.
    """
    window = bounding_window(mask)
    inside = mask[window] & np.isfinite(disparity_px[window])
    rows, columns = np.nonzero(inside)
    if not len(rows):
        return np.zeros((0, 3))
    # Half of all pixels around a pixel agree with it: the nearest of many noisy depths would be too near.
    top, left = window[0].start, window[1].start
    usual = nearest_rank(disparity_px[window][inside], 0.5)
    rows, columns = rows + top, columns + left
    filled = np.where(inside, disparity_px[window], usual).astype(np.float32)
    smooth = cv2.medianBlur(filled, 5)
    depth = camera.depth(smooth[rows - top, columns - left]).astype(np.float64)
    known = np.isfinite(depth)
    rows, columns, depth = rows[known], columns[known], depth[known]
    if not len(depth):
        return np.zeros((0, 3))
    middle = float(nearest_rank(depth, 0.5))
    spread = 1.4826 * float(nearest_rank(np.abs(depth - middle), 0.5))
    width = (columns.max() - columns.min() + 1) * middle / camera.focal_px
    away = np.abs(depth - middle)
    near = away <= max(3 * spread, 0.1 * width, 0.02 * middle)
    if not near.all():
        joined = _joined_to(smooth, inside, rows[near] - top, columns[near] - left)[rows - top, columns - left]
        near |= joined & (away <= _DEPTH_OF_WIDTH * width)
    return camera.lift(np.stack([columns, rows], axis=1)[near], depth[near])


def _joined_to(
    disparity_px: FloatImage, inside: NDArray[np.bool_], rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """(H, W) pixels inside that no jump of disparity parts from those given, which are most of them."""
    square = np.ones((3, 3), np.uint8)
    high = cv2.dilate(disparity_px, square)
    flat = inside & (high - cv2.erode(disparity_px, square) < np.maximum(_JUMP_PX, _JUMP * high))
    _, labels = cv2.connectedComponents(flat.astype(np.uint8), connectivity=4)
    count = np.bincount(labels.ravel())
    known = np.bincount(labels[rows, columns], minlength=len(count))
    belongs = known > 0.5 * count
    belongs[0] = False
    return belongs[labels]


def thin_points(points: FloatArray) -> NDArray[np.float32]:
    """At most 256 of (N, 3) points, evenly spread over their order."""
    if len(points) > MAX_POINTS_PER_OBJECT:
        chosen = np.linspace(0, len(points) - 1, MAX_POINTS_PER_OBJECT).round().astype(np.intp)
        points = points[chosen]
    return points.astype(np.float32)


def shrink_camera(camera: StereoCamera, scale: int) -> StereoCamera:
    """The camera of images that are `scale` times smaller, each pixel the mean of a block."""
    if scale == 1:
        return camera
    matrix = camera.intrinsics.copy()
    matrix[:2] /= scale
    # The centre of a block of pixels with integer centres lies at scale * i + (scale - 1) / 2.
    matrix[:2, 2] -= (scale - 1) / (2 * scale)
    return StereoCamera(
        camera.width // scale, camera.height // scale, matrix, camera.baseline, camera.disparity_offset_px / scale
    )


def shrink_disparity(disparity_px: FloatImage, scale: int, size: tuple[int, int]) -> FloatImage:
    """Disparities (h, w) in pixels of an image `scale` times smaller, of size (width, height).

    One pixel of each block speaks for it: the mean over a depth edge would be on neither side.
    """
    if scale == 1:
        return disparity_px.astype(np.float32)
    width, height = size
    middle = scale // 2
    picked = disparity_px[middle : middle + scale * height : scale, middle : middle + scale * width : scale]
    return np.ascontiguousarray(picked, np.float32) / np.float32(scale)

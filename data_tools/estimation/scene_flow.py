"""Motion that the camera's own motion does not explain: scene flow residuals against their own uncertainty.

For a pixel x with disparity d, seen from a camera that then moves by (R, t), a static world predicts

    x' ~ K R K^-1 x + K t d / (f b),    d' = d / z',    z' = third component of the left side

Optical flow says where the pixel went, the second disparity map how near it is there. The squared residuals over their
variances add up to a chi-square statistic with three degrees of freedom; its root is the evidence, in standard
deviations.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry import invert_pose
from ..stereo.camera import StereoCamera

FloatImage = NDArray[np.float32]

# One wrong disparity is no proof of motion: its share of the statistic is cut at five standard deviations.
_MAX_DISPARITY_TERM = 25.0


class Evidence(NamedTuple):
    """What one pair of frames says about the pixels of the first.

    Attributes:
        sigmas: (H, W) float32, residual over its standard deviation; NaN where nothing can be told (no disparity,
            hidden or out of sight in the other frame).
        residual_px: (H, W, 2) float32, motion that the camera's does not explain.
        gain: (H, W) float32 grey levels by which that motion explains the image better than a static world does; 0
            where nothing can be told.
        other_pixels: (H, W, 2) float32, where the pixel is in the other frame.
        other_disparity_px: (H, W) float32, its disparity there, NaN where unknown.
        is_lost: (H, W) bool, where a static world would show the pixel in the other frame, and flow finds no match.
    """

    sigmas: FloatImage
    residual_px: FloatImage
    gain: FloatImage
    other_pixels: FloatImage
    other_disparity_px: FloatImage
    is_lost: NDArray[np.bool_]


class StaticFlow(NamedTuple):
    """Where a static world would go: pixel (H, W) each, disparity, and how the pixel moves with the disparity."""

    u: FloatImage
    v: FloatImage
    disparity_px: FloatImage
    du: FloatImage
    dv: FloatImage


def static_flow(
    camera: StereoCamera,
    disparity_px: FloatImage,
    from_cam_to_world: NDArray[np.float64],
    to_cam_to_world: NDArray[np.float64],
) -> StaticFlow:
    """Predict pixels and disparities in the second view, from those of the first (H, W) and the two poses (4, 4).

    `camera` has the size of the disparity image. Values are NaN where the disparity is.
    """
    height, width = disparity_px.shape
    motion = invert_pose(to_cam_to_world) @ from_cam_to_world
    matrix = camera.intrinsics
    rotated = (matrix @ motion[:3, :3] @ np.linalg.inv(matrix)).astype(np.float32)
    shift = (matrix @ motion[:3, 3] / (camera.focal_px * camera.baseline)).astype(np.float32)
    columns = np.arange(width, dtype=np.float32)
    rows = np.arange(height, dtype=np.float32)[:, None]
    shifted = disparity_px - np.float32(camera.disparity_offset_px)
    planes = [rotated[i, 0] * columns + (rotated[i, 1] * rows + rotated[i, 2]) + shift[i] * shifted for i in range(3)]
    scale = np.maximum(planes[2], np.float32(1e-3))
    u, v = planes[0] / scale, planes[1] / scale
    du, dv = (shift[0] - u * shift[2]) / scale, (shift[1] - v * shift[2]) / scale
    return StaticFlow(u, v, shifted / scale + np.float32(camera.disparity_offset_px), du, dv)


def fill_from_behind(disparity_px: FloatImage) -> FloatImage:
    """(H, W) with every hole filled by the farther of its two neighbours along the row.

    Only to predict where things would go: what a stereo pair cannot see of a row lies behind the nearer edge.
    """
    known = np.isfinite(disparity_px)
    height, width = disparity_px.shape
    columns = np.arange(width)
    before = np.maximum.accumulate(np.where(known, columns, -1), axis=1)
    after = np.minimum.accumulate(np.where(known, columns, width)[:, ::-1], axis=1)[:, ::-1]
    rows = np.arange(height)[:, None]
    left = np.where(before >= 0, disparity_px[rows, before.clip(min=0)], np.float32(np.nan))
    right = np.where(after < width, disparity_px[rows, after.clip(max=width - 1)], np.float32(np.nan))
    filled: FloatImage = np.fmin(left, right).astype(np.float32)
    return filled


def warp_static(other: NDArray[np.uint8], still: StaticFlow, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) the other frame as a static world would show it here; `image` where that is unknown or out of sight.

    Flow from here to there then holds only what moves, however far the camera went.
    """
    height, width = image.shape
    # NaN compares as False: unknown is not inside.
    inside = (still.u >= 0) & (still.v >= 0) & (still.u <= width - 1) & (still.v <= height - 1)
    u, v = np.where(inside, still.u, np.float32(0)), np.where(inside, still.v, np.float32(0))
    warped = cv2.remap(other, u, v, cv2.INTER_LINEAR)
    return np.where(inside, warped, image)


def motion_evidence(
    still: StaticFlow,
    known_here: NDArray[np.bool_],
    image: NDArray[np.uint8],
    warped: NDArray[np.uint8],
    other_disparity_px: FloatImage,
    flow_px: FloatImage,
    flow_std_px: float,
    disparity_std_px: float,
) -> Evidence:
    """Evidence of motion for the pixels of one frame against another.

    Args:
        still: where a static world would go in the other frame, holes of the disparity filled.
        known_here: (H, W) bool, where the disparity of the frame was measured.
        image: (H, W) uint8, the frame.
        warped: (H, W) uint8, the other frame as a static world would show it here: the other at (still.u, still.v).
        other_disparity_px: (H, W) of the other frame, in pixels of these images; NaN where unknown.
        flow_px: (H, W, 2) optical flow from `image` to `warped`: the motion that the camera's does not explain.
        flow_std_px, disparity_std_px: standard deviations of one measurement.
    """
    height, width = image.shape
    columns = np.arange(width, dtype=np.float32)
    rows = np.arange(height, dtype=np.float32)[:, None]
    u, v = flow_px[..., 0] + columns, flow_px[..., 1] + rows  # in the warped image
    found = cv2.remap(warped, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    mismatch = cv2.blur(cv2.absdiff(found, image), (3, 3))
    unmoved = cv2.blur(cv2.absdiff(warped, image), (3, 3))
    # The warped image at a pixel is the other one where a static world would show that pixel's own surface.
    edge = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": float("nan")}
    other_u = cv2.remap(still.u, u, v, cv2.INTER_NEAREST, **edge) + u - np.round(u)
    other_v = cv2.remap(still.v, u, v, cv2.INTER_NEAREST, **edge) + v - np.round(v)
    seen = cv2.remap(
        other_disparity_px,
        other_u,
        other_v,
        cv2.INTER_NEAREST,
        **edge,
    )
    spread_u, spread_v = still.du * disparity_std_px, still.dv * disparity_std_px
    along = flow_px[..., 0] * flow_px[..., 0] + flow_px[..., 1] * flow_px[..., 1]
    statistic = along / (flow_std_px**2 + spread_u * spread_u + spread_v * spread_v)
    change = seen - still.disparity_px
    nearer = change * change / np.float32(2 * disparity_std_px**2)
    statistic += np.where(np.isfinite(nearer), np.minimum(nearer, _MAX_DISPARITY_TERM), 0.0)
    # What is hidden in the other frame has no true match there: the best one looks otherwise or lies at another depth.
    inside = (still.u >= 0) & (still.v >= 0) & (still.u < width - 1) & (still.v < height - 1)
    hidden = (mismatch > 6 + 0.5 * unmoved.astype(np.float32)) | (np.abs(change) > 0.3 * still.disparity_px + 1)
    in_sight = known_here & inside
    known = in_sight & ~hidden & np.isfinite(statistic) & np.isfinite(other_u)
    sigmas = np.where(known, np.sqrt(statistic), np.float32(np.nan)).astype(np.float32)
    gain = np.where(known, unmoved.astype(np.float32) - mismatch, np.float32(0))
    return Evidence(sigmas, flow_px, gain, np.stack([other_u, other_v], axis=-1), seen, in_sight & ~known)


def join_evidence(pair: list[Evidence]) -> FloatImage:
    """(H, W) evidence of one frame against several others: the least of those that can tell, NaN where none can.

    What moves differs from every other frame; the smear of flow along a depth edge shows on one side of it in one
    direction of time only.
    """
    lowest: FloatImage = np.fmin.reduce([evidence.sigmas for evidence in pair])
    return lowest


def join_gains(pair: list[Evidence]) -> FloatImage:
    """(H, W) grey levels: the larger gain of the frames compared with."""
    largest: FloatImage = np.maximum.reduce([evidence.gain for evidence in pair])
    return largest

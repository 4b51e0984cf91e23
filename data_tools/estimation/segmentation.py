"""From evidence of motion to the pixels of each moving thing in one frame."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from .tracking import nearest_rank

FloatImage = NDArray[np.float32]

# Grey levels. Flow fits the noise of the image a little: what stands still gains up to half of this.
MIN_GAIN = 1.0
# Disparity jumps from one surface to another by more than this, in pixels and as a share, and steps within one by less
# than that; a region consists of surfaces above this share of it.
_JUMP_PX, _JUMP = 0.6, 0.12
_STEP_PX, _STEP, _SURFACE = 0.4, 0.06, 0.12
_ROOM = 10  # pixels around a component: its region may grow by the reach of the watershed
Mask = NDArray[np.bool_]


class Segment(NamedTuple):
    """One connected moving region of a frame.

    Attributes:
        mask: (H, W) bool, at the analysis size.
        sigmas: median evidence inside.
    """

    mask: Mask
    sigmas: float


def find_segments(
    sigmas: FloatImage,
    disparity_px: FloatImage,
    residual_px: FloatImage,
    gain: FloatImage,
    image: NDArray[np.uint8],
    seed_sigmas: float,
    grow_sigmas: float,
    min_pixels: int,
) -> list[Segment]:
    """Moving regions of one frame, each on one surface and with one motion, with edges where the image has them.

    Args:
        sigmas: (H, W) evidence, NaN where unknown.
        disparity_px: (H, W), NaN where unknown.
        residual_px: (H, W, 2) motion that the camera's does not explain.
        gain: (H, W) grey levels by which motion explains the image better than a static world.
        image: (H, W, 3) uint8 RGB.
        seed_sigmas: a region needs pixels above it, a share of its area at that.
        grow_sigmas: it consists of pixels above it.
        min_pixels: least area.
    """
    known = np.isfinite(sigmas)
    smooth = cv2.medianBlur(np.where(known, sigmas, np.float32(0)), 5)
    moving = (smooth > grow_sigmas).astype(np.uint8)
    # The smear of flow along depth edges of still things is a line of a pixel or two.
    moving = cv2.morphologyEx(moving, cv2.MORPH_OPEN, _disk(1))
    cuts = _depth_edges(disparity_px) | _motion_edges(residual_px)
    pieces = moving.copy()
    pieces[cuts] = 0
    pieces = cv2.morphologyEx(pieces, cv2.MORPH_OPEN, _disk(1))
    # Flow is smeared over a thing's border, and gains nothing there.
    safe = cv2.blur(gain, (3, 3)) > 0.5 * MIN_GAIN
    num, labels, stats, _ = cv2.connectedComponentsWithStats(pieces, connectivity=4)
    areas = stats[:, cv2.CC_STAT_AREA]
    certain = np.bincount(labels[smooth > seed_sigmas], minlength=num) / areas
    explained = np.bincount(labels[safe], minlength=num) / areas
    enough = (areas >= max(4, min_pixels // 3)) & (certain >= 0.3) & (explained >= 0.1)
    enough[0] = False
    if not enough.any():
        return []
    numbers = np.where(enough, np.cumsum(enough) + 1, 0)  # 1 is the background
    markers = numbers[labels].astype(np.int32)
    still = known & (smooth < 0.5 * grow_sigmas)
    boxes = {int(numbers[label]): _window(stats[label], labels.shape) for label in np.flatnonzero(enough)}
    regions = _fit_edges(markers, boxes, safe, still, moving, image, disparity_px)
    segments = []
    for number, box in boxes.items():
        for inside in _surfaces(regions[box] == number, disparity_px[box], min_pixels):
            # Beside an edge of depth a static world explains the image as well as any motion.
            if np.count_nonzero(inside) >= min_pixels and float(gain[box][inside].mean()) > MIN_GAIN:
                mask = np.zeros(regions.shape, np.bool_)
                mask[box] = inside
                segments.append(Segment(mask, float(nearest_rank(smooth[box][inside], 0.5))))
    return segments


def _window(stats: NDArray[np.int32], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The block of the image around a component, with room for morphology."""
    left, top = stats[cv2.CC_STAT_LEFT] - _ROOM, stats[cv2.CC_STAT_TOP] - _ROOM
    right = left + stats[cv2.CC_STAT_WIDTH] + 2 * _ROOM
    bottom = top + stats[cv2.CC_STAT_HEIGHT] + 2 * _ROOM
    return slice(max(0, top), min(shape[0], bottom)), slice(max(0, left), min(shape[1], right))


def _fit_edges(
    markers: NDArray[np.int32],
    boxes: dict[int, tuple[slice, slice]],
    safe: Mask,
    still: Mask,
    moving: NDArray[np.uint8],
    image: NDArray[np.uint8],
    disparity_px: FloatImage,
) -> NDArray[np.int32]:
    """Watershed from the safe inside and the safe outside of the regions to the edges of colour between them.

    Flow is known to half a patch only, so the border of a region of flow runs beside that of the thing.
    """
    inside = (markers > 1).astype(np.uint8)
    # Gains are means over three pixels, and the flow of a pixel beside an edge is that of the thing.
    seeds = np.zeros(markers.shape, np.int32)
    for number, box in boxes.items():
        seeds[box][_core(markers[box] == number, safe[box])] = number
    reach = cv2.dilate(np.maximum(inside, moving), _disk(4))
    # A calm spot inside a thing is no background; one that lies beside it is.
    beside = cv2.dilate(cv2.morphologyEx(inside, cv2.MORPH_CLOSE, _disk(3)), _disk(2)) == 0
    seeds[(reach == 0) | (still & beside)] = 1
    # Disparity joins colour as what an edge is seen by; unknown disparity is filled, for it is no edge.
    blurred = cv2.GaussianBlur(image, (3, 3), 0)
    grown = cv2.watershed(blurred, seeds.copy())
    grown[grown < 1] = 0
    # The watershed's own lines belong to the region that they border on most.
    lines = grown == 0
    filled = cv2.dilate(np.where(grown > 1, grown, 0).astype(np.float32), _disk(1)).astype(np.int32)
    grown[lines] = filled[lines]
    return _off_surface(grown, boxes, disparity_px)


def _core(region: Mask, safe: Mask) -> Mask:
    """The part of a region that surely shows the thing: as far inside what motion explains as the region is wide."""
    area = np.count_nonzero(region)
    explained = cv2.morphologyEx((region & safe).astype(np.uint8), cv2.MORPH_CLOSE, _disk(2))
    for radius in (3, 2, 1):
        core = cv2.erode(explained, _disk(radius)) > 0
        if np.count_nonzero(core) >= max(4, 0.15 * area):
            return core
    thin = region & safe
    return thin if thin.any() else region


def _off_surface(
    regions: NDArray[np.int32], boxes: dict[int, tuple[slice, slice]], disparity_px: FloatImage
) -> NDArray[np.int32]:
    """Drop pixels whose disparity is not that of their region: a wall seen past an edge that has no colour."""
    for number, box in boxes.items():
        inside, disparity = regions[box] == number, disparity_px[box]
        values = disparity[inside]
        values = values[np.isfinite(values)]
        if len(values) < 4:
            continue
        low, middle, high = (float(nearest_rank(values, share)) for share in (0.1, 0.5, 0.9))
        slack = max(1.0, 0.1 * middle)
        wrong = inside & ((disparity < low - slack) | (disparity > high + slack))
        regions[box][wrong] = 1
    return regions


def _surfaces(region: Mask, disparity_px: FloatImage, min_pixels: int) -> list[Mask]:
    """The region, or its parts where it holds surfaces at different depths: things that pass before each other.

    What flow smears from one to the other joins them, and a jump of disparity over a few pixels parts them here.
    """
    known = np.isfinite(disparity_px)
    highest, lowest = _extremes(disparity_px)
    flat = region & known & (highest - lowest < np.maximum(_STEP_PX, _STEP * highest))
    num, labels, stats, _ = cv2.connectedComponentsWithStats(flat.astype(np.uint8), connectivity=4)
    least = max(min_pixels, _SURFACE * np.count_nonzero(region))
    large = [label for label in range(1, num) if stats[label, cv2.CC_STAT_AREA] >= least]
    if len(large) < 2:
        return [region]
    middles = np.sort([float(nearest_rank(disparity_px[labels == label], 0.5)) for label in large])
    # Halfway between neighbours that are far enough apart.
    limits = [(low + high) / 2 for low, high in pairwise(middles) if high - low > max(_JUMP_PX, _JUMP * high)]
    if not limits:
        return [region]
    layers = np.digitize(np.where(known, disparity_px, np.float32(-1)), limits)
    layers[~known] = -1
    return [region & (layers == layer) for layer in range(len(limits) + 1)]


def _depth_edges(disparity_px: FloatImage) -> Mask:
    """Where disparity jumps between neighbours, (H, W)."""
    highest, lowest = _extremes(disparity_px)
    return (lowest < 1e5) & (highest - lowest > np.maximum(_JUMP_PX, _JUMP * highest))


def _extremes(disparity_px: FloatImage) -> tuple[FloatImage, FloatImage]:
    """(H, W) largest and least disparity among the nine pixels around; 0 and 1e6 where none is known."""
    known, square = np.isfinite(disparity_px), np.ones((3, 3), np.uint8)
    highest = cv2.dilate(np.where(known, disparity_px, np.float32(0)), square)
    lowest = cv2.erode(np.where(known, disparity_px, np.float32(1e6)), square)
    return np.asarray(highest, np.float32), np.asarray(lowest, np.float32)


def _motion_edges(residual_px: FloatImage) -> Mask:
    """Where unexplained motion jumps between neighbours, (H, W)."""
    size = np.ones((3, 3), np.uint8)
    jumps = [cv2.morphologyEx(np.ascontiguousarray(residual_px[..., i]), cv2.MORPH_GRADIENT, size) for i in range(2)]
    across, down = residual_px[..., 0], residual_px[..., 1]
    squared = across * across + down * down
    jump = jumps[0] * jumps[0] + jumps[1] * jumps[1]
    return np.asarray(jump > np.maximum(np.float32(1.5**2), np.float32(0.4**2) * squared))


def _disk(radius: int) -> NDArray[np.uint8]:
    size = 2 * radius + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)

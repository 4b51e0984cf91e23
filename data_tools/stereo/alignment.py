"""Whether the two eyes of a clip fit together: rows that correspond, left and right not swapped, not one eye twice."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from .clip import StereoPair

Image = NDArray[np.uint8]

#: Corners followed per pair: enough for a median, at a tenth of the time that matching a pair densely takes.
_CORNERS = 200
_WINDOW = 21
#: A match followed back ends within this distance of where it began, pixels.
_RETURN_PX = 0.5
#: With a smaller share of the corners found and found back, the rest is in doubt, and features are matched instead.
_FOLLOWED = 0.5
_FEATURES = 800
_RATIO = 0.8  # Lowe's
#: Larger images are halved: the vertical error is measured to a twentieth of a pixel anyway.
_MAX_SIDE = 1024
#: A disparity below minus this counts as negative, below plus this as none, pixels. Matches are good to 0.1.
_NOISE_PX = 1.0
_SAME_PX = 0.25


@dataclass(frozen=True)
class AlignmentLimits:
    """Where a pair of eyes is refused.

    Attributes:
        max_vertical_error_px: median distance of matches from their row. Semi-global matching looks along the row only
            and loses most pixels at 2 px.
        max_negative_share: of matches with negative disparity. Wrong matches alone stay below a tenth.
        min_matches: over all pairs; with fewer nothing can be said.
    """

    max_vertical_error_px: float = 1.0
    max_negative_share: float = 0.3
    min_matches: int = 30


@dataclass(frozen=True)
class PairAlignment:
    """How the eyes of some pairs fit together. Figures are NaN where there are no matches.

    Attributes:
        num_pairs, num_matches: pairs looked at, points matched in all of them.
        vertical_error_px: median of |v_right - v_left|.
        vertical_error_p90_px: its 90th percentile.
        vertical_bias_px: median of v_right - v_left.
        disparity_px: median of u_left - u_right, less the camera's disparity offset.
        disparity_range_px: its 2nd and 98th percentiles.
        negative_disparity_share: of matches with a disparity below -1 px.
        no_disparity_share: of matches with a disparity within 0.25 px of 0.
    """

    num_pairs: int
    num_matches: int
    vertical_error_px: float
    vertical_error_p90_px: float
    vertical_bias_px: float
    disparity_px: float
    disparity_range_px: tuple[float, float]
    negative_disparity_share: float
    no_disparity_share: float


class Matches(NamedTuple):
    """Points of one pair that show the same thing: (N, 2) float32 pixels as (u, v)."""

    left: NDArray[np.float32]
    right: NDArray[np.float32]


def find_matches(left: Image, right: Image) -> Matches:
    """Points of the left image (H, W[, 3]) found in the right one, in whatever direction, and found back.

    Corners are followed by pyramidal Lucas-Kanade, which is good to about 0.1 px where two views differ as little as
    those of most pairs. Where too many get lost, as on repeated patterns close by, SIFT takes over (Lowe, IJCV 2004).
    """
    left, right = _gray(left), _gray(right)
    scale = 1.0
    while max(left.shape) > _MAX_SIDE:
        left, right = _halve(left), _halve(right)
        scale /= 2
    matches, share = _follow_corners(left, right)
    if 0 < share < _FOLLOWED:
        matches = _match_features(left, right)
    half = (1 / scale - 1) / 2  # pixel centres have integer coordinates at every scale
    return Matches(*((points / scale + half).astype(np.float32) for points in matches))


def _follow_corners(left: Image, right: Image) -> tuple[Matches, float]:
    """Matches, and the share of corners that were found and found back."""
    corners = cv2.goodFeaturesToTrack(left, _CORNERS, qualityLevel=0.01, minDistance=7)
    if corners is None:
        return Matches(np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)), 0.0
    # The coarsest level still shows something at 16 px; a disparity of a third of the width is 5 px there.
    options: dict[str, Any] = {
        "winSize": (_WINDOW, _WINDOW),
        "maxLevel": max(0, int(math.log2(min(left.shape) / 16))),
    }
    # Zero motion is where it starts; the array is given because OpenCV's types ask for one.
    moved, found, _ = cv2.calcOpticalFlowPyrLK(left, right, corners, np.zeros_like(corners), **options)
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(right, left, moved, np.zeros_like(corners), **options)
    away = np.linalg.norm((back - corners).reshape(-1, 2), axis=1)
    good = (found.ravel() > 0) & (found_back.ravel() > 0) & (away < _RETURN_PX)
    points = [np.asarray(array, np.float32).reshape(-1, 2)[good] for array in (corners, moved)]
    return Matches(*points), float(good.mean())


def _match_features(left: Image, right: Image) -> Matches:
    sift = cv2.SIFT.create(_FEATURES)
    (left_points, left_features), (right_points, right_features) = (
        sift.detectAndCompute(image, None) for image in (left, right)
    )
    if len(left_points) < 2 or len(right_points) < 2:
        return Matches(np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32))
    matcher = cv2.BFMatcher()
    back = {match.queryIdx: match.trainIdx for match in matcher.match(right_features, left_features)}
    chosen = [
        (best.queryIdx, best.trainIdx)
        for best, second in matcher.knnMatch(left_features, right_features, k=2)
        if best.distance < _RATIO * second.distance and back[best.trainIdx] == best.queryIdx
    ]
    return Matches(
        np.array([left_points[index].pt for index, _ in chosen], np.float32).reshape(-1, 2),
        np.array([right_points[index].pt for _, index in chosen], np.float32).reshape(-1, 2),
    )


def measure_alignment(pairs: Iterable[StereoPair], disparity_offset_px: float = 0.0) -> PairAlignment:
    """Measure a few pairs of a clip, rectified or said to be.

    Args:
        pairs: some of the clip; five spread over it are plenty.
        disparity_offset_px: of the clip's camera.
    """
    disparities, rises = [np.zeros(0)], [np.zeros(0)]
    num_pairs = 0
    for pair in pairs:
        matches = find_matches(pair.left, pair.right)
        shift = (matches.right - matches.left).astype(np.float64)
        disparities.append(-shift[:, 0] - disparity_offset_px)
        rises.append(shift[:, 1])
        num_pairs += 1
    disparity, rise = np.concatenate(disparities), np.concatenate(rises)
    if not len(disparity):
        nan = math.nan
        return PairAlignment(num_pairs, 0, nan, nan, nan, nan, (nan, nan), nan, nan)
    low, median, high = np.percentile(disparity, (2, 50, 98))
    return PairAlignment(
        num_pairs=num_pairs,
        num_matches=len(disparity),
        vertical_error_px=float(np.median(np.abs(rise))),
        vertical_error_p90_px=float(np.percentile(np.abs(rise), 90)),
        vertical_bias_px=float(np.median(rise)),
        disparity_px=float(median),
        disparity_range_px=(float(low), float(high)),
        negative_disparity_share=float(np.mean(disparity < -_NOISE_PX)),
        no_disparity_share=float(np.mean(np.abs(disparity) < _SAME_PX)),
    )


def alignment_fault(alignment: PairAlignment, limits: AlignmentLimits | None = None) -> str | None:
    """Why a clip with these eyes should be refused, as "name: sentence"; None where they fit together.

    Names: too few matches, swapped eyes, identical eyes, bad rectification, negative disparity.
    """
    limits = limits or AlignmentLimits()
    if alignment.num_matches < limits.min_matches:
        return (
            f"too few matches: {alignment.num_matches} points match between the eyes in {alignment.num_pairs} pairs, "
            f"{limits.min_matches} are needed; the images are flat, dark, or do not show the same place"
        )
    rows_fit = alignment.vertical_error_px <= limits.max_vertical_error_px
    negative = alignment.negative_disparity_share
    if negative > 1 - limits.max_negative_share:
        also = "" if rows_fit else f"; rows are off by {alignment.vertical_error_px:.1f} px, too"
        return f"swapped eyes: {negative:.0%} of {alignment.num_matches} matches lie to the left in the left eye{also}"
    if alignment.no_disparity_share > 0.9 and rows_fit:
        return (
            f"identical eyes: {alignment.no_disparity_share:.0%} of {alignment.num_matches} matches have no disparity; "
            "both eyes show one video, or everything is too far away"
        )
    if not rows_fit:
        return (
            f"bad rectification: matches lie {alignment.vertical_error_px:.1f} px off their row (median; bias "
            f"{alignment.vertical_bias_px:+.1f} px), {limits.max_vertical_error_px:g} px are allowed; "
            "check the calibration, or calibrate again"
        )
    if negative > limits.max_negative_share:
        return (
            f"negative disparity: {negative:.0%} of {alignment.num_matches} matches lie behind infinity; the eyes are "
            "turned inwards or shifted, so that depth does not follow from disparity"
        )
    return None


def _gray(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image, np.uint8)


def _halve(image: Image) -> Image:
    size = (image.shape[1] // 2, image.shape[0] // 2)
    return np.asarray(cv2.resize(image[: 2 * size[1], : 2 * size[0]], size, interpolation=cv2.INTER_AREA), np.uint8)

"""Quality of a stretch of frames: figures measured while they pass, and the limits that keep a clip out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..stereo.alignment import AlignmentLimits, PairAlignment, alignment_fault
from ..stereo.clip import StereoPair

Image = NDArray[np.uint8]

#: Width of the small grey picture that cuts, exposure and frozen frames are judged on, pixels.
_THUMB_WIDTH = 160
#: Mean grey level, 0 to 255, and spread under which a frame is black: the noise of a covered lens stays below both.
_BLACK_LEVEL = 20.0
_BLACK_SPREAD = 4.0
#: Mean difference in grey levels under which two frames are one; noise of a sensor alone is above it.
_SAME_FRAME = 0.02
#: A cut is suspected where the histograms are further apart (Bhattacharyya, 0 to 1) or the pictures correlate less.
_CUT_HISTOGRAM = 0.35
_CUT_CORRELATION = 0.5
#: And found where fewer than this share of corners can be followed into the next frame and back.
_CUT_TRACKED = 0.2
#: Change of exposure between two frames, as a factor, that counts as a jump.
_EXPOSURE_JUMP = 1.25


@dataclass(frozen=True)
class QualityLimits:
    """What a clip must reach to be kept. A figure that was not measured (poses of the source, say) breaks no limit.

    Attributes:
        min_matches: median number of points tracked from frame to frame.
        min_valid_depth: share of pixels with a depth, mean over frames.
        max_reprojection_px: median reprojection error of the camera poses, pixels.
        min_track_coverage: share of frames whose pose rests on enough tracked points.
        max_camera_noise_m: standard deviation of the camera centre, metres.
        max_black: share of black frames.
        max_frozen: share of frames that repeat the frame before while others move.
        max_exposure_jumps: frames where the exposure changes by a quarter at once.
        min_objects: objects found or given.
        allow_static: keep clips in which neither camera nor any object moves.
    """

    min_matches: float = 40.0
    min_valid_depth: float = 0.3
    max_reprojection_px: float = 1.5
    min_track_coverage: float = 0.9
    max_camera_noise_m: float = 0.1
    max_black: float = 0.0
    max_frozen: float = 0.1
    max_exposure_jumps: int = 2
    min_objects: int = 0
    allow_static: bool = False

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not value >= 0:
                raise InputError(f"must be at least 0, got {value}", field=f"quality.{item.name}")


# limit -> (figure, whether the figure must stay below it)
_LIMITED: dict[str, tuple[str, bool]] = {
    "min_matches": ("num_matches", False),
    "min_valid_depth": ("valid_depth", False),
    "max_reprojection_px": ("reprojection_px", True),
    "min_track_coverage": ("track_coverage", False),
    "max_camera_noise_m": ("camera_noise_m", True),
    "max_black": ("black", True),
    "max_frozen": ("frozen", True),
    "max_exposure_jumps": ("exposure_jumps", True),
    "min_objects": ("num_objects", False),
}


@dataclass(frozen=True)
class Reason:
    """Why a clip is kept out.

    Attributes:
        name: of the fault, for counting: "valid_depth", "swapped eyes", "too short".
        text: one sentence.
        value, limit: the figure and what it had to reach, None where the fault has no number.
    """

    name: str
    text: str
    value: float | None = None
    limit: float | None = None


def broken_limits(figures: dict[str, Any], limits: QualityLimits) -> list[Reason]:
    """Every limit that the figures break, in the order of `QualityLimits`."""
    reasons = []
    for name, (figure, is_upper) in _LIMITED.items():
        value, limit = figures.get(figure), float(getattr(limits, name))
        if value is None:
            continue
        if value > limit if is_upper else value < limit:
            word = "above" if is_upper else "below"
            reasons.append(Reason(figure, f"{figure} {value:.4g} is {word} quality.{name} {limit:g}", value, limit))
    if figures.get("static") and not limits.allow_static:
        reasons.append(Reason("static", "neither the camera nor any object moves"))
    return reasons


def figure_limits(limits: QualityLimits) -> dict[str, float]:
    """Figure -> its limit."""
    return {figure: float(getattr(limits, name)) for name, (figure, _) in _LIMITED.items()}


def alignment_figures(alignment: PairAlignment) -> dict[str, Any]:
    """What the two eyes say of each other."""
    return {
        "stereo_matches": alignment.num_matches,
        "vertical_error_px": alignment.vertical_error_px,
        "negative_disparity": alignment.negative_disparity_share,
    }


def alignment_reason(alignment: PairAlignment, limits: AlignmentLimits) -> Reason | None:
    """Why the eyes do not fit together, with the figure that tells; None where they do."""
    fault = alignment_fault(alignment, limits)
    if fault is None:
        return None
    name = fault.partition(":")[0]
    value, limit = {
        "too few matches": (alignment.num_matches, limits.min_matches),
        "bad rectification": (alignment.vertical_error_px, limits.max_vertical_error_px),
        "identical eyes": (alignment.no_disparity_share, None),
    }.get(name, (alignment.negative_disparity_share, limits.max_negative_share))
    return Reason(name, fault, value, limit)


class Seen(NamedTuple):
    """What one frame looks like beside the one before it.

    Attributes:
        is_cut: it cannot follow the frame before in one shot.
        is_black: nothing to see.
        repeats: it equals the frame before, in both eyes.
        one_eye_repeats: it does in one eye only, so the two eyes are no longer of one moment.
        exposure_jumps: it is much lighter or darker.
        brightness: mean grey level, 0 to 255.
    """

    is_cut: bool
    is_black: bool
    repeats: bool
    one_eye_repeats: bool
    exposure_jumps: bool
    brightness: float


class FrameMeter:
    """Looks at frames in order, on small pictures; keeps the last one only.

    Black frames belong to no shot: the frame after them is compared with the one before them.
    """

    def __init__(self) -> None:
        self._before: _Look | None = None

    def see(self, pair: StereoPair) -> Seen:
        """Take the next frame."""
        look = _Look.of(pair)
        if look.is_black:
            return Seen(False, True, False, False, False, look.brightness)
        before, self._before = self._before, look
        if before is None or _is_cut(before, look):
            return Seen(before is not None, False, False, False, False, look.brightness)
        same_left = _mean_difference(before.left, look.left) < _SAME_FRAME
        same_right = _mean_difference(before.right, look.right) < _SAME_FRAME
        return Seen(
            is_cut=False,
            is_black=False,
            repeats=same_left and same_right,
            one_eye_repeats=same_left != same_right,
            exposure_jumps=_is_exposure_jump(before.left, look.left),
            brightness=look.brightness,
        )


def frame_figures(seen: Sequence[Seen]) -> dict[str, Any]:
    """Figures of a shot: shares of black and of repeated frames, exposure jumps, mean grey level.

    A shot in which no frame differs from the one before is static, not frozen.
    """
    steps = sum(not frame.is_black for frame in seen) - 1
    repeats = sum(frame.repeats for frame in seen)
    return {
        "black": sum(frame.is_black for frame in seen) / len(seen),
        "frozen": ((repeats if repeats < steps else 0) + sum(frame.one_eye_repeats for frame in seen)) / max(1, steps),
        "exposure_jumps": sum(frame.exposure_jumps for frame in seen),
        "brightness": float(np.mean([frame.brightness for frame in seen])),
    }


@dataclass(frozen=True, eq=False)
class _Look:
    left: Image
    right: Image
    histogram: NDArray[np.float32]
    brightness: float
    is_black: bool

    @classmethod
    def of(cls, pair: StereoPair) -> _Look:
        left = _thumb(pair.left)
        grey = _grey(left)
        mean, spread = cv2.meanStdDev(grey)
        counts = cv2.calcHist([left], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3).ravel()
        histogram = (counts / counts.sum()).astype(np.float32)
        is_black = bool(mean[0, 0] < _BLACK_LEVEL and spread[0, 0] < _BLACK_SPREAD)
        return cls(grey, _thumb(_grey(pair.right)), histogram, float(mean[0, 0]), is_black)


def _thumb(image: Image) -> Image:
    height, width = image.shape[:2]
    if width <= _THUMB_WIDTH:
        return image
    size = (_THUMB_WIDTH, max(1, round(height * _THUMB_WIDTH / width)))
    # Halves first: OpenCV has a fast path for them, and none for other factors.
    while image.shape[1] >= 2 * _THUMB_WIDTH and not (image.shape[0] % 2 or image.shape[1] % 2):
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _grey(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def _mean_difference(first: Image, second: Image) -> float:
    return float(cv2.mean(cv2.absdiff(first, second))[0])


def _is_exposure_jump(before: Image, now: Image) -> bool:
    """By the middle of the ratios at pixels that are neither dark nor burnt out: motion moves both ways, light one."""
    usable = (before > 15) & (before < 240) & (now > 15) & (now < 240)
    if usable.mean() < 0.2:
        return False
    ratio = float(np.median(now[usable].astype(np.float32) / before[usable]))
    return max(ratio, 1 / ratio) > _EXPOSURE_JUMP


def _is_cut(before: _Look, now: _Look) -> bool:
    distance = cv2.compareHist(before.histogram, now.histogram, cv2.HISTCMP_BHATTACHARYYA)
    if distance < _CUT_HISTOGRAM and (
        _correlation(before.left, now.left) > _CUT_CORRELATION
        or _shifted_correlation(before.left, now.left) > _CUT_CORRELATION
    ):
        return False
    return _tracked_share(before.left, now.left) < _CUT_TRACKED


def _middle(image: Image) -> Image:
    height, width = image.shape
    return image[height // 6 : height - height // 6, width // 6 : width - width // 6]


def _correlation(before: Image, now: Image) -> float:
    """Of the middle of both pictures, -1 to 1: most frames need no search."""
    return float(cv2.matchTemplate(_middle(before), _middle(now), cv2.TM_CCOEFF_NORMED)[0, 0])


def _shifted_correlation(before: Image, now: Image) -> float:
    """Best correlation, -1 to 1, of the middle of one picture with the other: a pan of a sixth is no change."""
    return float(cv2.matchTemplate(before, _middle(now), cv2.TM_CCOEFF_NORMED).max())


def _tracked_share(before: Image, now: Image) -> float:
    """Share of corners of `before` that lead into `now` and back; 1 where there is nothing to follow.

    Both are brought to the same mean and spread first, since Lucas-Kanade takes brightness to be constant.
    """
    before, now = (np.asarray(cv2.equalizeHist(image), np.uint8) for image in (before, now))
    corners = cv2.goodFeaturesToTrack(before, 120, 0.01, 4)
    if corners is None or len(corners) < 12:
        return 1.0
    options = {"winSize": (15, 15), "maxLevel": 3}
    found, status, _ = cv2.calcOpticalFlowPyrLK(before, now, corners, None, **options)
    back, back_status, _ = cv2.calcOpticalFlowPyrLK(now, before, found, None, **options)
    returned = np.abs(back - corners).reshape(-1, 2).max(axis=1) < 0.5
    followed = (status.ravel() == 1) & (back_status.ravel() == 1) & returned
    # Wrong matches come back too, now and then, but look different.
    height, width = now.shape
    return float((followed & _alike(before, now, corners, found, width, height)).mean())


def _alike(before: Image, now: Image, start: Any, end: Any, width: int, height: int) -> NDArray[np.bool_]:
    alike = np.zeros(len(start), np.bool_)
    for position, (first, second) in enumerate(zip(start.reshape(-1, 2), end.reshape(-1, 2), strict=True)):
        if not (0 <= second[0] < width and 0 <= second[1] < height):
            continue
        one, other = (
            cv2.getRectSubPix(image, (9, 9), (float(place[0]), float(place[1]))).astype(np.float32)
            for image, place in ((before, first), (now, second))
        )
        alike[position] = cv2.matchTemplate(one, other, cv2.TM_CCOEFF_NORMED)[0, 0] > 0.7
    return alike

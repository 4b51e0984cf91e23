"""Dense disparity of rectified pairs: OpenCV's matchers, a photometric refinement, or what the source brings."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..stereo.clip import StereoClip, StereoPair

Image = NDArray[np.uint8]
FloatImage = NDArray[np.float32]

METHODS = ("sgbm", "bm", "source")
LEARNED = "learned:"

# OpenCV's names of the directions that costs are summed over.
_PATHS = {
    3: cv2.STEREO_SGBM_MODE_SGBM_3WAY,
    5: cv2.STEREO_SGBM_MODE_SGBM,
    8: cv2.STEREO_SGBM_MODE_HH,
}
#: Penalties of a disparity step of 1 and of more, per pixel of the block, as in OpenCV's samples.
_SMALL_STEP, _LARGE_STEP = 8, 32
#: Islands of disparity smaller than one in so many pixels of the image are dropped: 100 px at 512x512.
_SPECKLE_SHARE = 2600
_PROBE_SPECKLE_SHARE, _PROBE_UNIQUENESS_PERCENT = 400, 15
_SPECKLE_STEP_PX = 2
_BM_BLOCK_PX = 15

# Refinement, tuned on the synthetic world (benchmarks/stereo_depth.py).
_REFINE_WINDOW_PX = 11
_SMOOTH_WINDOW_PX = 9
#: Disparities of one window that differ by less belong to one surface.
_ONE_SURFACE_PX = 2.0
#: Squared grey levels per pixel: gradients below it give way to what the matcher said.
_GRADIENT_FLOOR = 0.25
#: With less texture a disparity is a guess: 30 to 80% of them are off by more than a pixel.
_MIN_TEXTURE = 0.05
#: Confidence beside an edge or a hole, where a quarter of the disparities is off by more than a pixel.
_EDGE_CONFIDENCE = 0.3

#: The refined error is this part of what the refinement changed, and at least so many pixels: measured on the
#: synthetic world.
_ERROR_PER_CHANGE, _LEAST_STD_PX = 0.5, 0.08
#: Of a matcher alone, and of archives that networks or scanners made, which do not say.
_RAW_STD_PX, _SOURCE_STD_PX = 0.3, 0.2

#: Range of disparities: looked for in images of this width, up to half of it, then widened by a factor and pixels.
_PROBE_WIDTH = 160
_RANGE_PERCENTILES = (0.2, 99.8)
_RANGE_FACTOR, _RANGE_MARGIN_PX = 1.15, 2.0
#: Without enough matches in the probes: as far as an eighth of the width.
_MIN_PROBE_PIXELS = 200
_UNKNOWN_RANGE_SHARE = 1 / 8


@dataclass(frozen=True)
class DisparityConfig:
    """How disparity is found.

    Attributes:
        method: "sgbm" (semi-global matching), "bm" (block matching, half the time, more holes), "source" (the
            clip's own disparity or depth), "learned:file.pt" or "learned:module:function" (see `learned_disparity`).
        min_depth_m: nearest depth looked for; by default it is found from a few pairs of the clip.
        max_disparity_px: the same in pixels.
        block_px: side of the matched block, odd. Larger is smoother and blurs edges.
        paths: directions that SGBM sums over: 3, 5 or 8. More take longer.
        left_right_max_diff_px: a disparity is dropped where the right eye's differs by more; 0 drops none.
        uniqueness_percent: by how much the best match must beat the next.
        halve: match at half size and refine at full size: less than half the time; thin things and edges suffer.
        halve_rows: with "sgbm" over 3 paths, match at half the height and refine at full size: two thirds of the time.
            Disparities run along the row, so that little is lost. `halve` goes before it; off without `refine`.
        halve_rows_between: `halve_rows` for the frames that are not compared with others: where objects are found by
            their motion, those that are not looked at (`objects.rate_hz`). In these, the edges of things matter less.
        refine: fit disparities to the images below a pixel; halves their error. Always on with `halve`.
    """

    method: str = "sgbm"
    min_depth_m: float | None = None
    max_disparity_px: float | None = None
    block_px: int = 5
    paths: int = 3
    left_right_max_diff_px: int = 1
    uniqueness_percent: int = 10
    halve: bool = False
    halve_rows: bool = False
    halve_rows_between: bool = True
    refine: bool = True

    def __post_init__(self) -> None:
        if self.method not in METHODS and not self.method.startswith(LEARNED):
            raise InputError(
                f"unknown method {self.method!r}",
                field="disparity.method",
                remedy=f"Known: {', '.join(METHODS)}, {LEARNED}file.pt, {LEARNED}module:function",
            )
        if self.min_depth_m is not None and self.max_disparity_px is not None:
            raise InputError("both it and min_depth_m say where to stop", field="disparity.max_disparity_px")
        for name in ("min_depth_m", "max_disparity_px"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"must be above 0, got {value}", field=f"disparity.{name}")
        if not (1 <= self.block_px <= 21 and self.block_px % 2):
            raise InputError(f"must be odd and within 1 and 21, got {self.block_px}", field="disparity.block_px")
        if self.paths not in _PATHS:
            raise InputError(f"must be 3, 5 or 8, got {self.paths}", field="disparity.paths")
        if self.left_right_max_diff_px < 0:
            raise InputError(
                f"must be at least 0, got {self.left_right_max_diff_px}", field="disparity.left_right_max_diff_px"
            )
        if not 0 <= self.uniqueness_percent < 100:
            raise InputError(
                f"must lie within 0 and 99, got {self.uniqueness_percent}", field="disparity.uniqueness_percent"
            )


class Disparity(NamedTuple):
    """Disparity of one frame.

    Attributes:
        pixels: (H, W) float32 pixels, u_left - u_right, NaN where unknown. Holes are never filled.
        confidence: (H, W) float32 within 0 and 1, 0 where unknown: low on flat surfaces and beside edges and holes; a
            weight, not a probability. None where the method has none.
        std_px: standard deviation of the disparity away from edges, an estimate good to a factor of 2 to 3.
    """

    pixels: FloatImage
    confidence: FloatImage | None
    std_px: float


class DisparityRange(NamedTuple):
    """Disparities looked for, pixels: from `minimum` on, `length` of them, a multiple of 16."""

    minimum: int
    length: int


class DisparityEstimator(ABC):
    """Finds the disparity of rectified pairs of one clip."""

    @abstractmethod
    def compute(self, left: Image, right: Image, frame: int) -> Disparity:
        """The disparity of a pair.

        Args:
            left, right: (H, W, 3) uint8 RGB or (H, W) uint8, rectified.
            frame: of the clip, for methods that read instead of match.
        """


def make_disparity_estimator(
    config: DisparityConfig,
    clip: StereoClip,
    probe_pairs: Sequence[StereoPair],
    compared: Container[int] | None = None,
    with_confidence: bool = True,
) -> DisparityEstimator:
    """The estimator that `config` names, fit to a clip.

    Args:
        probe_pairs: a few pairs spread over the clip, which the range of disparities is found from.
        compared: frames that are compared with one another; `halve_rows_between` is for the others. None: all are.
        with_confidence: of matched disparities; without it `Disparity.confidence` is None, which saves time.

    Raises:
        InputError: the source has no disparity; a network that cannot be loaded.
    """
    if config.method == "source":
        return SourceDisparity(clip)
    if config.method.startswith(LEARNED):
        from .learned_disparity import LearnedDisparity

        return LearnedDisparity(config.method.removeprefix(LEARNED), config.left_right_max_diff_px)
    return MatchedDisparity(config, find_disparity_range(config, clip, probe_pairs), compared, with_confidence)


def find_disparity_range(
    config: DisparityConfig, clip: StereoClip, probe_pairs: Sequence[StereoPair]
) -> DisparityRange:
    """Disparities worth looking for in a clip, from what is found in small copies of its pairs.

    Infinity is left out only where everything is near, as on a table top.
    """
    camera = clip.camera
    offset = camera.disparity_offset_px
    found = [_small_disparities(pair, offset) for pair in probe_pairs]
    disparities = np.concatenate(found) if found else np.zeros(0, np.float32)
    highest = offset + camera.width * _UNKNOWN_RANGE_SHARE
    lowest = offset
    if len(disparities) >= _MIN_PROBE_PIXELS:
        low, high = np.percentile(disparities - offset, _RANGE_PERCENTILES)
        highest = offset + high * _RANGE_FACTOR + _RANGE_MARGIN_PX
        lowest = max(offset, offset + low / _RANGE_FACTOR - _RANGE_MARGIN_PX)
    if config.max_disparity_px is not None:
        highest = config.max_disparity_px
    elif config.min_depth_m is not None:
        highest = float(camera.disparity(np.array([config.min_depth_m]))[0])
    minimum = math.floor(offset)
    # Sub-pixel fits need a neighbour on either side, hence one more at the far end.
    length = _sixteens(highest - minimum + 1)
    if _sixteens(highest - math.floor(lowest) + 1) < length:
        minimum = math.floor(lowest)
        length = _sixteens(highest - minimum + 1)
    return DisparityRange(minimum, min(length, _sixteens(camera.width)))


def _sixteens(count: float) -> int:
    return 16 * max(1, math.ceil(count / 16))


def _small_disparities(pair: StereoPair, offset: float) -> FloatImage:
    """Reliable disparities of a pair, in its own pixels, found in copies of `_PROBE_WIDTH`."""
    width = pair.left.shape[1]
    scale = max(1.0, width / _PROBE_WIDTH)
    small = [
        cv2.resize(gray_image(image), None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
        for image in (pair.left, pair.right)
    ]
    minimum = math.floor(offset / scale)
    matcher = _SemiGlobal(
        DisparityConfig(uniqueness_percent=_PROBE_UNIQUENESS_PERCENT),
        DisparityRange(minimum, _sixteens(width / scale / 2)),
        _PROBE_SPECKLE_SHARE,
    )
    disparity, found = matcher.match(np.asarray(small[0], np.uint8), np.asarray(small[1], np.uint8))
    if found.any():
        # Left of the largest disparity many pixels have no match and find a wrong, small one.
        largest = float(np.percentile(disparity[found], _RANGE_PERCENTILES[1]))
        found[:, : min(max(0, round(largest)), found.shape[1] // 2)] = False
    values: FloatImage = disparity[found] * np.float32(scale)
    return values


class SourceDisparity(DisparityEstimator):
    """What the clip's source has; images are not looked at."""

    def __init__(self, clip: StereoClip) -> None:
        self._clip = clip

    def compute(self, left: Image, right: Image, frame: int) -> Disparity:
        """The source's disparity, or that of its depth. Raises InputError where a frame has neither."""
        pixels = self._clip.disparity(frame)
        if pixels is None:
            depth_m = self._clip.depth(frame)
            if depth_m is None:
                raise InputError(
                    "the source has neither disparity nor depth",
                    file=self._clip.path,
                    row=f"frame {frame}",
                    remedy="Use disparity.method=sgbm",
                )
            pixels = self._clip.camera.disparity(depth_m)
        return Disparity(pixels, None, _SOURCE_STD_PX)


class MatchedDisparity(DisparityEstimator):
    """OpenCV's SGBM (Hirschmueller, PAMI 2008) or BM, checked from the right eye, refined on the images.

    Attributes:
        config: as given.
        range: disparities looked for.
    """

    def __init__(
        self,
        config: DisparityConfig,
        range: DisparityRange,
        compared: Container[int] | None = None,
        with_confidence: bool = True,
    ) -> None:
        self.config = config
        self.range = range
        self._compared = compared if config.halve_rows_between else None
        self._with_confidence = with_confidence
        matched = DisparityRange(math.floor(range.minimum / 2), _sixteens(range.length / 2)) if config.halve else range
        self._matcher = _BlockMatcher(config, matched) if config.method == "bm" else _SemiGlobal(config, matched)
        self._refinements: dict[tuple[int, int], DisparityRefinement] = {}
        # Block matching and sums over more paths lose more by it than three paths do.
        self._can_halve_rows = config.refine and config.method == "sgbm" and config.paths == 3

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_refinements": {}}

    def compute(self, left: Image, right: Image, frame: int) -> Disparity:
        left, right = gray_image(left), gray_image(right)
        if self.config.halve:
            raw, found = self._match_halves(left, right)
        elif self._halves_rows(frame) and len(left) > 1:
            raw, found = self._match_rows(left, right)
        else:
            raw, found = self._matcher.match(left, right)
        columns = np.arange(raw.shape[1], dtype=np.float32)
        found &= raw <= columns  # a match outside the right image is none
        if not (self.config.refine or self.config.halve):
            raw[~found] = np.nan
            return Disparity(raw, None, _RAW_STD_PX)
        pixels, found, confidence = self._refine(left, right, raw, found)
        found &= pixels <= columns
        changed = np.abs(pixels[::8, ::4] - raw[::8, ::4])[found[::8, ::4]]
        change = 1.4826 * float(np.median(changed)) if len(changed) else 0.0
        missing = ~found
        np.copyto(pixels, np.float32(np.nan), where=missing)
        if confidence is not None:
            np.copyto(confidence, np.float32(0), where=missing)
        return Disparity(pixels, confidence, max(_LEAST_STD_PX, _ERROR_PER_CHANGE * change))

    def _halves_rows(self, frame: int) -> bool:
        is_between = self._compared is not None and frame not in self._compared
        return self._can_halve_rows and (self.config.halve_rows or is_between)

    def _refine(self, left: Image, right: Image, disparity_px: FloatImage, found: NDArray[np.bool_]) -> Refined:
        height, width = disparity_px.shape
        if (height, width) not in self._refinements:
            self._refinements[height, width] = DisparityRefinement(height, width, self._with_confidence)
        return self._refinements[height, width].refine(left, right, disparity_px, found)

    def _match_rows(self, left: Image, right: Image) -> tuple[FloatImage, NDArray[np.bool_]]:
        """Matches of the mean of every two rows."""
        height, width = left.shape
        small, found = self._matcher.match(*(_shrunk(image, width, (height + 1) // 2) for image in (left, right)))
        double, found = np.repeat(small, 2, axis=0)[:height], np.repeat(found, 2, axis=0)[:height]
        _settle_edges(left, right, double, found)
        return double, found

    def _match_halves(self, left: Image, right: Image) -> tuple[FloatImage, NDArray[np.bool_]]:
        height, width = left.shape
        left, right = (_shrunk(image, (width + 1) // 2, (height + 1) // 2) for image in (left, right))
        small, found = self._matcher.match(left, right)
        # Once more at full size: what half-size pixels leave open is more than one step can close.
        small, found, _ = self._refine(left, right, small, found)
        double = np.repeat(np.repeat(2 * small, 2, axis=0), 2, axis=1)
        found = np.repeat(np.repeat(found, 2, axis=0), 2, axis=1)
        return np.ascontiguousarray(double[:height, :width]), np.ascontiguousarray(found[:height, :width])


def _settle_edges(left: Image, right: Image, disparity_px: FloatImage, found: NDArray[np.bool_]) -> None:
    """Beside horizontal edges a row may belong to what its other neighbour shows: in place, where that fits better."""
    height, width = disparity_px.shape
    # Rows come in equal twos; the other neighbour of an even row is above it, of an odd one below.
    other = np.arange(height)
    other = np.clip(other + np.where(other % 2, 1, -1), 0, height - 1)
    rows, columns = np.nonzero((np.abs(disparity_px[other] - disparity_px) > 1) & found & found[other])
    rivals = disparity_px[other[rows], columns]
    mine, theirs = (
        sum(
            np.abs(
                left[rows, np.clip(columns + shift, 0, width - 1)].astype(np.int16)
                - right[rows, np.clip(columns + shift - np.rint(values).astype(np.intp), 0, width - 1)]
            )
            for shift in range(-2, 3)
        )
        for values in (disparity_px[rows, columns], rivals)
    )
    better = theirs < mine
    disparity_px[rows[better], columns[better]] = rivals[better]


def _shrunk(image: Image, width: int, height: int) -> Image:
    """The means of whole blocks of pixels; an odd last row or column counts twice."""
    rows, columns = -image.shape[0] % height, -image.shape[1] % width
    whole = cv2.copyMakeBorder(image, 0, rows, 0, columns, cv2.BORDER_REPLICATE) if rows or columns else image
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


class _Matcher(ABC):
    """An OpenCV matcher over a range, with the left border that OpenCV leaves out."""

    def __init__(self, config: DisparityConfig, range: DisparityRange, speckle_share: int = _SPECKLE_SHARE) -> None:
        self._config, self._range, self._speckle_share = config, range, speckle_share
        self._built: tuple[int, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_built": None}  # OpenCV objects do not pickle

    def match(self, left: Image, right: Image) -> tuple[FloatImage, NDArray[np.bool_]]:
        """(H, W) disparities in pixels, and where they hold; elsewhere the first is 0."""
        if self._built is None or self._built[0] != left.size:
            self._built = left.size, self.build(max(1, left.size // self._speckle_share))
        # OpenCV answers nothing in the first columns, as many as the range; with as many before them it does.
        before = max(0, self._range.minimum + self._range.length)
        after = max(0, -self._range.minimum)
        padded = [cv2.copyMakeBorder(image, 0, 0, before, after, cv2.BORDER_REPLICATE) for image in (left, right)]
        sixteenths = self._built[1].compute(*padded)[:, before : before + left.shape[1]]
        found = sixteenths >= 16 * self._range.minimum
        pixels = sixteenths.astype(np.float32)
        pixels *= np.float32(1 / 16)
        np.copyto(pixels, np.float32(0), where=~found)
        return pixels, found

    @abstractmethod
    def build(self, speckle_px: int) -> Any:
        """The OpenCV object; islands below `speckle_px` pixels are to be dropped."""


class _SemiGlobal(_Matcher):
    def build(self, speckle_px: int) -> Any:
        block = self._config.block_px
        return cv2.StereoSGBM.create(
            minDisparity=self._range.minimum,
            numDisparities=self._range.length,
            blockSize=block,
            P1=_SMALL_STEP * block**2,
            P2=_LARGE_STEP * block**2,
            disp12MaxDiff=self._config.left_right_max_diff_px or -1,
            preFilterCap=31,
            uniquenessRatio=self._config.uniqueness_percent,
            speckleWindowSize=speckle_px,
            speckleRange=_SPECKLE_STEP_PX,
            mode=_PATHS[self._config.paths],
        )


class _BlockMatcher(_Matcher):
    def build(self, speckle_px: int) -> Any:
        matcher = cv2.StereoBM.create(self._range.length, max(_BM_BLOCK_PX, self._config.block_px))
        matcher.setMinDisparity(self._range.minimum)
        matcher.setDisp12MaxDiff(self._config.left_right_max_diff_px or -1)
        matcher.setUniquenessRatio(self._config.uniqueness_percent)
        matcher.setSpeckleWindowSize(speckle_px)
        matcher.setSpeckleRange(_SPECKLE_STEP_PX)
        return matcher


class Refined(NamedTuple):
    """Refined disparities (H, W), where they hold, and their confidence within 0 and 1, if it was asked for."""

    pixels: FloatImage
    found: NDArray[np.bool_]
    confidence: FloatImage | None


class DisparityRefinement:
    """Moves disparities by less than a pixel to where the images agree, then averages within surfaces.

    One step of Lucas-Kanade along the row: with the right image warped by d, the change is
    sum g (right - left) / (sum g^2 + floor) over a window, g the horizontal gradient. This undoes the preference of
    semi-global matching for whole pixels. Where all of a window lies within `_ONE_SURFACE_PX`, its mean is taken.

    Holds its images of work: pages that are new to the process take longer than the sums.
    """

    def __init__(self, height: int, width: int, with_confidence: bool = True) -> None:
        self.shape = (height, width)
        self._with_confidence = with_confidence
        self._columns = np.tile(np.arange(width, dtype=np.float32), (height, 1))
        self._rows = np.repeat(np.arange(height, dtype=np.float32), width).reshape(height, width)
        self._left, self._right, self._warped, self._gradient, self._texture, self._pull, self._weight, self._pixels = (
            np.zeros((height, width), np.float32) for _ in range(8)
        )

    def refine(self, left: Image, right: Image, disparity_px: FloatImage, found: NDArray[np.bool_]) -> Refined:
        """Refine one pair.

        Args:
            left, right: (H, W) uint8.
            disparity_px: (H, W) finite.
            found: (H, W) where it holds.

        Returns:
            Disparities where found and where there is texture enough to tell.
        """
        self._left[...] = left
        self._right[...] = right
        np.subtract(self._columns, disparity_px, out=self._warped)
        warped: Any = cv2.remap(
            self._right, self._warped, self._rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        gain, shift = _exposure(warped, self._left, found)
        warped *= np.float32(gain)
        warped += np.float32(shift)
        warped -= self._left
        gradient: Any = cv2.Sobel(self._left, cv2.CV_32F, 1, 0, dst=self._gradient, ksize=3, scale=1 / 8)
        gradient *= found
        window = (_REFINE_WINDOW_PX, _REFINE_WINDOW_PX)
        np.multiply(gradient, warped, out=warped)
        step: Any = cv2.boxFilter(warped, -1, window, dst=self._pull)
        np.multiply(gradient, gradient, out=warped)
        texture: Any = cv2.boxFilter(warped, -1, window, dst=self._texture)
        np.add(texture, np.float32(_GRADIENT_FLOOR), out=warped)
        step /= warped
        np.clip(step, -0.5, 0.5, out=step)
        pixels = np.add(disparity_px, step, out=self._pixels)
        found = found & (texture > _MIN_TEXTURE)
        confidence = texture / warped if self._with_confidence else None
        is_one_surface, share = self._average_surfaces(pixels, found)
        if confidence is not None:
            beside_edge = ~is_one_surface | (share < 0.999)
            np.multiply(confidence, np.float32(_EDGE_CONFIDENCE), out=confidence, where=beside_edge)
        return Refined(pixels.copy(), found, confidence)

    def _average_surfaces(self, pixels: FloatImage, found: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], FloatImage]:
        """Average in place; where a window shows one surface, and the share of each window that is known."""
        far = np.float32(1e4)
        window = (_SMOOTH_WINDOW_PX, _SMOOTH_WINDOW_PX)
        kernel = np.ones(window, np.uint8)
        missing = ~found
        np.copyto(pixels, far, where=missing)
        lowest: Any = cv2.erode(pixels, kernel, dst=self._left)
        np.copyto(pixels, -far, where=missing)
        span: Any = cv2.dilate(pixels, kernel, dst=self._right)
        span -= lowest
        np.copyto(pixels, np.float32(0), where=missing)
        self._weight[...] = found
        share: Any = cv2.boxFilter(self._weight, -1, window, dst=self._gradient)
        mean: Any = cv2.boxFilter(pixels, -1, window, dst=self._pull)
        is_one_surface = span < _ONE_SURFACE_PX
        is_one_surface &= found
        np.divide(mean, share, out=pixels, where=is_one_surface)
        return is_one_surface, share


def _exposure(image: FloatImage, target: FloatImage, found: NDArray[np.bool_]) -> tuple[float, float]:
    """Gain and shift that give `image` the mean and spread of `target`, from a sample: eyes may differ in exposure."""
    sample = found[::8, ::4]
    if np.count_nonzero(sample) < 16:
        return 1.0, 0.0
    mine, theirs = image[::8, ::4][sample], target[::8, ::4][sample]
    gain = float(np.clip(theirs.std() / max(float(mine.std()), 1e-3), 0.5, 2.0))
    return gain, float(theirs.mean() - gain * mine.mean())


def gray_image(image: Image) -> Image:
    """(H, W) of an RGB or grey image."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image, np.uint8)

"""Scales of the pictures of a clip: colours of depths, and metres of the top-down plot."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .view_drawing import (
    AXIS,
    FONT,
    GRID,
    INK,
    UNKNOWN,
    Box,
    Floats,
    Image,
    canvas,
    circle,
    polyline,
    put_text,
    square,
)

#: Width of the scale of depths, pixels.
BAR_PX = 72
_MARGINS = (46, 30, 14, 34)  # of the plot: left, top, right, bottom


@dataclass(frozen=True)
class DepthScale:
    """Colours of depths: logarithmic from `near_m` (red) to `far_m` (blue), metres."""

    near_m: float
    far_m: float

    @classmethod
    def of(cls, depths_m: NDArray[Any]) -> DepthScale | None:
        """From the 2nd to the 98th percentile of the known depths; None where there are none."""
        known = np.asarray(depths_m, np.float64)
        known = known[np.isfinite(known) & (known > 0)]
        if not len(known):
            return None
        near, far = np.percentile(known, [2, 98])
        return cls(float(near) * 0.98, max(float(far) * 1.02, float(near) * 1.1))

    def place(self, depth_m: Any) -> NDArray[np.float64]:
        """0 at the near end, 1 at the far one."""
        with np.errstate(divide="ignore", invalid="ignore"):
            part = np.log(np.asarray(depth_m, np.float64) / self.near_m) / math.log(self.far_m / self.near_m)
        return np.clip(part, 0, 1)

    def colors(self, depth_m: NDArray[Any]) -> Image:
        """(..., 3) RGB of depths; dark grey where unknown."""
        depth_m = np.asarray(depth_m, np.float32)
        known = np.isfinite(depth_m) & (depth_m > 0)
        level = np.round(255 * (1 - self.place(np.where(known, depth_m, 1)))).astype(np.uint8)
        table = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1]
        return np.where(known[..., None], table[level], np.array(UNKNOWN, np.uint8)).astype(np.uint8)

    def ticks(self) -> list[float]:
        """Round depths within the scale, metres."""
        powers = range(math.floor(math.log10(self.near_m)), math.ceil(math.log10(self.far_m)) + 1)
        ticks = [mantissa * 10.0**power for power in powers for mantissa in (1, 2, 5)]
        ticks = [tick for tick in ticks if self.near_m <= tick <= self.far_m]
        if len(ticks) < 4:
            step = nice_step((self.far_m - self.near_m) / 5)
            first = math.ceil(self.near_m / step)
            ticks = [step * number for number in range(first, math.floor(self.far_m / step) + 1)]
        return ticks

    def bar(self, height: int) -> Image:
        """A strip of all colours with its metres, `height` pixels high; near is at the bottom."""
        image = canvas(BAR_PX, height)
        top, bottom = 18, height - 10
        depths = self.near_m * (self.far_m / self.near_m) ** np.linspace(1, 0, bottom - top)
        image[top:bottom, 6:20] = self.colors(depths)[:, None]
        put_text(image, "depth", 4, 12, INK, 0.38)
        last = math.inf
        for tick in self.ticks():
            y = bottom - float(self.place(tick)) * (bottom - top)
            if last - y >= 14:
                polyline(image, np.array([(20, y), (24, y)]), INK, 1)
                put_text(image, f"{tick:.4g} m", 27, y + 4, INK, 0.38)
                last = y
        return image


def nice_step(at_least: float) -> float:
    """The smallest 1, 2 or 5 times a power of ten that is not below `at_least` (positive)."""
    power = 10.0 ** math.floor(math.log10(at_least))
    return next(float(f"{m * power:.3g}") for m in (1, 2, 5, 10) if m * power >= at_least * (1 - 1e-9))


class TopDown:
    """World X (to the right) and Z (up the picture) in pixels, one scale for both.

    Args:
        xz: (N, 2) world metres that have to be inside.
        width, height: pixels of the plot with its margins.
    """

    def __init__(self, xz: Floats, width: int, height: int) -> None:
        self.width, self.height = width, height
        left, top, right, bottom = _MARGINS
        self.area = Box(left, top, width - left - right, height - top - bottom)
        low, high = xz.min(axis=0), xz.max(axis=0)
        # A camera that stands still would be drawn as large as its noise.
        span = np.maximum(high - low, 1.0) * 1.12
        self.pixels_per_m = float(min(self.area.width / span[0], self.area.height / span[1]))
        self._center_m = (low + high) / 2
        self._center_px = np.array([self.area.x + self.area.width / 2, self.area.y + self.area.height / 2])

    def to_pixels(self, xz: NDArray[Any]) -> Floats:
        """Pixels (..., 2) of world metres (..., 2) as (x, z)."""
        offset = (np.asarray(xz, np.float64) - self._center_m) * self.pixels_per_m
        return self._center_px + offset * np.array([1.0, -1.0])

    def grid(self) -> Image:
        """The empty plot: lines every 1, 2 or 5 times a power of ten metres, numbered at the edges."""
        image = canvas(self.width, self.height)
        area = self.area
        step = nice_step(52 / self.pixels_per_m)
        half = np.array([area.width, area.height]) / 2 / self.pixels_per_m
        low, high = self._center_m - half, self._center_m + half
        for axis in (0, 1):
            for number in range(math.ceil(low[axis] / step), math.floor(high[axis] / step) + 1):
                value = number * step
                x, y = self.to_pixels(np.array([value, value]))
                color = AXIS if number == 0 else GRID
                text = f"{value:.6g}"
                width = cv2.getTextSize(text, FONT, 0.38, 1)[0][0]
                if axis == 0:
                    polyline(image, np.array([(x, area.y), (x, area.y + area.height)]), color, 1)
                    put_text(image, text, x - width / 2, area.y + area.height + 14, INK, 0.38)
                else:
                    polyline(image, np.array([(area.x, y), (area.x + area.width, y)]), color, 1)
                    put_text(image, text, area.x - width - 5, y + 4, INK, 0.38)
        cv2.rectangle(image, (area.x, area.y), (area.x + area.width, area.y + area.height), AXIS, 1)
        put_text(image, "Z forward, m", 6, 14, INK, 0.4)
        words = f"X right, m    grid {step:g} m"
        width = cv2.getTextSize(words, FONT, 0.4, 1)[0][0]
        put_text(image, words, area.x + area.width - width, self.height - 5, INK, 0.4)
        self._legend(image)
        return image

    def _legend(self, image: Image) -> None:
        y = self.height - 9
        x = float(self.area.x + 8)
        circle(image, np.array([x, y]), 5, INK, 2)
        put_text(image, "start", x + 10, y + 4, INK, 0.4)
        square(image, np.array([x + 62, y]), 5, INK, -1)
        put_text(image, "end", x + 72, y + 4, INK, 0.4)

"""Pictures of objects for a vision model: frames with numbered outlines, and one picture of each object."""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
FloatArray = NDArray[np.float64]

#: Objects asked about at once, the largest ones; the others keep their words. More marks than that hide the picture.
_MOST_OBJECTS = 24
#: Frames with marks that are sent, so that objects which are never seen together are all shown.
_MOST_FRAMES = 3
#: Longest side of the marked frames; least and greatest longest side of the crops, pixels.
_FRAME_PX, _LEAST_CROP_PX, _CROP_PX = 1024, 160, 384
#: Shown around an object in its crop, share of its longer side.
_CROP_MARGIN = 0.25
_JPEG_QUALITY = 90
_COLOURS = (
    (255, 64, 64),
    (64, 224, 64),
    (80, 128, 255),
    (255, 208, 0),
    (255, 80, 255),
    (0, 224, 224),
    (255, 144, 32),
    (176, 112, 255),
)


class Regions(ABC):
    """Where the objects of a clip are in its frames."""

    @abstractmethod
    def areas(self, ids: Sequence[int]) -> dict[int, FloatArray]:
        """(T,) sizes of those objects that are seen at all, 0 where one is not seen; units do not matter."""

    @abstractmethod
    def inside(self, number: int, frame: int, size: tuple[int, int]) -> Image:
        """(h, w) uint8, 1 inside the object, at `size` (width, height)."""

    @abstractmethod
    def bounds(self, number: int, frame: int, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in pixels of a picture of `size` (width, height)."""


class MaskRegions(Regions):
    """From masks (T, h, w) uint8 of object ids, 0 background, at the size of the frames or smaller."""

    def __init__(self, masks: NDArray[np.uint8]) -> None:
        self._masks = masks

    def areas(self, ids: Sequence[int]) -> dict[int, FloatArray]:
        counts = np.stack([np.bincount(mask.ravel(), minlength=256) for mask in self._masks]).astype(np.float64)
        return {number: counts[:, number] for number in ids if 0 < number < 256 and counts[:, number].any()}

    def inside(self, number: int, frame: int, size: tuple[int, int]) -> Image:
        return np.asarray(cv2.resize(self._masks[frame], size, interpolation=cv2.INTER_NEAREST) == number, np.uint8)

    def bounds(self, number: int, frame: int, size: tuple[int, int]) -> tuple[float, float, float, float]:
        mask = self._masks[frame]
        rows, columns = np.nonzero(mask == number)
        across, down = size[0] / mask.shape[1], size[1] / mask.shape[0]
        return columns.min() * across, rows.min() * down, (columns.max() + 1) * across, (rows.max() + 1) * down


class BoxRegions(Regions):
    """From boxes (T, 4) left, top, right, bottom in pixels of a picture of `size`, NaN where an object is not seen."""

    def __init__(self, boxes: Mapping[int, FloatArray], size: tuple[int, int]) -> None:
        self._size = size
        self._boxes = {number: np.clip(values, 0, np.tile(size, 2)) for number, values in boxes.items()}

    def areas(self, ids: Sequence[int]) -> dict[int, FloatArray]:
        found: dict[int, FloatArray] = {}
        for number in ids:
            if number in self._boxes:
                box = self._boxes[number]
                sides = np.nan_to_num(box[:, 2:] - box[:, :2]).clip(0)
                area = np.where(sides.min(axis=1) >= 1, sides.prod(axis=1), 0.0)
                if area.any():
                    found[number] = area
        return found

    def inside(self, number: int, frame: int, size: tuple[int, int]) -> Image:
        image = np.zeros(size[::-1], np.uint8)
        if np.isfinite(self._boxes[number][frame]).all():
            left, top, right, bottom = (round(value) for value in self.bounds(number, frame, size))
            image[top:bottom, left:right] = 1
        return image

    def bounds(self, number: int, frame: int, size: tuple[int, int]) -> tuple[float, float, float, float]:
        scale = np.tile(np.array(size) / self._size, 2)
        left, top, right, bottom = (self._boxes[number][frame] * scale).tolist()
        return left, top, right, bottom


class ShownObjects:
    """The objects that can be shown, the frames to show them in, and the pictures.

    Args:
        frames: T images (H, W, 3) uint8 RGB.
        regions: of the same frames.
        ids: of the objects.

    Attributes:
        ids: at most `_MOST_OBJECTS` of those asked for, in their order.
        frames: numbers of the frames to mark.
    """

    def __init__(self, frames: Sequence[Image], regions: Regions, ids: Sequence[int]) -> None:
        self._frames, self._regions = frames, regions
        self._areas = regions.areas(ids)
        if any(len(area) != len(frames) for area in self._areas.values()):
            raise ValueError(f"{len(frames)} frames with objects of another number")
        largest = sorted(self._areas, key=lambda number: (-float(self._areas[number].max()), number))[:_MOST_OBJECTS]
        self.ids = [number for number in ids if number in largest]
        self.frames = self._choose()

    def _choose(self) -> list[int]:
        """Frames that together show the objects, each as large as may be: greedy cover."""
        chosen: list[int] = []
        waiting = set(self.ids)
        while waiting and len(chosen) < _MOST_FRAMES:
            worth = sum((self._areas[n] > 0) + self._areas[n] / self._areas[n].max() for n in sorted(waiting))
            frame = int(np.argmax(worth))
            chosen.append(frame)
            waiting -= {number for number in waiting if self._areas[number][frame]}
        return sorted(chosen)

    def marked(self, frame: int) -> Image:
        """The frame with a numbered outline around every object asked about."""
        height, width = self._frames[frame].shape[:2]
        scale = min(1.0, _FRAME_PX / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = np.ascontiguousarray(cv2.resize(self._frames[frame], size, interpolation=cv2.INTER_AREA))
        shapes = [(place, number, self._regions.inside(number, frame, size)) for place, number in enumerate(self.ids)]
        seen = [item for item in shapes if item[2].any()]
        for place, _, inside in seen:
            contours, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(image, contours, -1, (0, 0, 0), 5)  # a rim, so that red shows on red
            cv2.drawContours(image, contours, -1, _COLOURS[place % len(_COLOURS)], 2)
        for place, number, inside in seen:  # after all outlines, which must not cross a number
            _write_number(image, number, inside, _COLOURS[place % len(_COLOURS)])
        return image

    def crop(self, number: int) -> Image:
        """The object, and a little around it, where it is largest."""
        frame = int(np.argmax(self._areas[number]))
        image = self._frames[frame]
        left, top, right, bottom = self._regions.bounds(number, frame, (image.shape[1], image.shape[0]))
        margin = _CROP_MARGIN * max(bottom - top, right - left)
        part = image[
            max(0, int(top - margin)) : int(np.ceil(bottom + margin)),
            max(0, int(left - margin)) : int(np.ceil(right + margin)),
        ]
        longest = max(part.shape[:2])
        factor = float(np.clip(longest, _LEAST_CROP_PX, _CROP_PX)) / longest
        size = (max(1, round(part.shape[1] * factor)), max(1, round(part.shape[0] * factor)))
        return cv2.resize(part, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)


def _write_number(image: Image, number: int, inside: Image, colour: tuple[int, int, int]) -> None:
    """Black on a box of the colour, at the pixel that is deepest inside the object."""
    depth = cv2.distanceTransform(cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 3)
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    scale = max(0.4, max(image.shape[:2]) / 1400)
    (width, height), below = cv2.getTextSize(str(number), cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    x = int(np.clip(column - 1 - width // 2, 2, max(2, image.shape[1] - width - 3)))
    y = int(np.clip(row - 1 + height // 2, height + 3, max(height + 3, image.shape[0] - below - 3)))
    cv2.rectangle(image, (x - 2, y - height - 2), (x + width + 2, y + below), colour, cv2.FILLED)
    cv2.putText(image, str(number), (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA)


def image_part(image: Image) -> dict[str, Any]:
    """RGB picture as a part of a chat message: a JPEG in a data URL."""
    good, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert good, "a JPEG of any RGB image can be made"
    text = base64.b64encode(data.tobytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{text}"}}

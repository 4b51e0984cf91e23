"""Drawing on pictures of a clip: colours, lines, marks, masks, and labels that keep out of each other's way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]
Color = tuple[int, int, int]

FONT = cv2.FONT_HERSHEY_SIMPLEX
TEXT = 0.45  # OpenCV's scale: capitals of about 10 px
SHIFT = 4  # bits of sub-pixel positions in OpenCV's drawing

PAPER: Color = (255, 255, 255)
INK: Color = (30, 30, 30)
GRID: Color = (224, 224, 224)
AXIS: Color = (170, 170, 170)
CAMERA: Color = (40, 40, 40)
ALARM: Color = (170, 20, 20)
UNKNOWN: Color = (45, 45, 45)
EMPTY: Color = (70, 70, 74)


class Box(NamedTuple):
    """A rectangle of pixels: left, top, width, height."""

    x: int
    y: int
    width: int
    height: int


def id_color(object_id: int) -> Color:
    """RGB of an object, the same in every picture: hues a golden angle apart, so that near ids differ."""
    hue = 180 * ((0.58 + object_id * 0.61803398875) % 1)
    value = (225, 185, 245)[object_id % 3]
    red, green, blue = cv2.cvtColor(np.array([[[hue, 215, value]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0]
    return int(red), int(green), int(blue)


def place_labels(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[int, int]],
    area: Box,
    taken: Sequence[Box] = (),
) -> list[Box | None]:
    """Where labels go: near their anchors, inside `area`, none over another or over a box of `taken`.

    Args:
        anchors: (x, y) pixels, one per label; a label's best place is centred a little above.
        sizes: (width, height) pixels.

    Returns:
        One box per label, None where no room is left. Earlier labels choose first.
    """
    boxes: list[Box | None] = []
    blocked = list(taken)
    for (x, y), (width, height) in zip(anchors, sizes, strict=True):
        last_x, last_y = area.x + area.width - width, area.y + area.height - height
        if last_x < area.x or last_y < area.y:
            boxes.append(None)
            continue
        best = (
            int(np.clip(round(x - width / 2), area.x, last_x)),
            int(np.clip(round(y - height - 7), area.y, last_y)),
        )
        step = max(2, height // 4)
        left = np.unique(np.r_[area.x : last_x + 1 : step, best[0], last_x])
        top = np.unique(np.r_[area.y : last_y + 1 : step, best[1], last_y])
        # Sidesteps are dearer than steps up or down: a label reads best straight over or under its object.
        cost = 1.5 * (left[None] - best[0]).astype(np.float64) ** 2 + (top[:, None] - best[1]) ** 2
        for box in blocked:
            columns = (left < box.x + box.width) & (left + width > box.x)
            rows = (top < box.y + box.height) & (top + height > box.y)
            cost[rows[:, None] & columns[None]] = np.inf
        row, column = np.unravel_index(int(np.argmin(cost)), cost.shape)
        if not np.isfinite(cost[row, column]):
            boxes.append(None)
            continue
        box = Box(int(left[column]), int(top[row]), width, height)
        boxes.append(box)
        blocked.append(box)
    return boxes


def label_size(text: str) -> tuple[int, int]:
    (width, height), below = cv2.getTextSize(text, FONT, TEXT, 1)
    return width + 8, max(height, 11) + below + 6


def put_text(image: Image, text: str, x: float, y: float, color: Color, scale: float = TEXT) -> None:
    """Text whose base line starts at (x, y)."""
    cv2.putText(image, text, (round(x), round(y)), FONT, scale, color, 1, cv2.LINE_AA)


def put_label(image: Image, text: str, box: Box, color: Color) -> None:
    """Text on a filled box."""
    cv2.rectangle(image, (box.x, box.y), (box.x + box.width - 1, box.y + box.height - 1), color, -1)
    bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140
    below = cv2.getTextSize(text, FONT, TEXT, 1)[1]
    put_text(image, text, box.x + 4, box.y + box.height - below - 3, (0, 0, 0) if bright else PAPER)


def fitting(text: str, width: int, scale: float = TEXT) -> str:
    """`text`, cut with dots where it is wider than `width` pixels."""
    if cv2.getTextSize(text, FONT, scale, 1)[0][0] <= width:
        return text
    while text and cv2.getTextSize(text + "...", FONT, scale, 1)[0][0] > width:
        text = text[:-1]
    return text + "..."


@dataclass
class Label:
    text: str
    short: str
    anchor: tuple[float, float]
    color: Color


def put_labels(image: Image, labels: list[Label], area: Box, taken: Sequence[Box], shown: Sequence[Box]) -> None:
    """All labels without overlap, none over `taken`.

    Where it can, a label also stays off `shown`, what there is to see; where it has no room its short form is tried.
    """
    placed: list[tuple[Label, str, Box]] = []
    for label in labels:
        text = fitting(label.text, area.width - 8)
        blocked = [*taken, *(box for _, _, box in placed)]
        for words, boxes in ((text, [*blocked, *shown]), (text, blocked), (label.short, blocked)):
            box = place_labels([label.anchor], [label_size(words)], area, boxes)[0]
            if box is not None:
                placed.append((label, words, box))
                break
    for label, _, box in placed:
        _put_leader(image, label, box)
    for label, text, box in placed:
        put_label(image, text, box, label.color)


def _put_leader(image: Image, label: Label, box: Box) -> None:
    """A line from a label that had to move to what it names."""
    x, y = label.anchor
    near = (
        float(np.clip(x, box.x, box.x + box.width - 1)),
        float(np.clip(y, box.y, box.y + box.height - 1)),
    )
    if math.hypot(near[0] - x, near[1] - y) > 12:
        polyline(image, np.array([near, (x, y)]), label.color, 1)


def fixed(points: NDArray[Any]) -> NDArray[np.int32]:
    """Positions in OpenCV's sub-pixel units; far outside ones are held, so that they do not overflow."""
    return np.round(np.clip(points, -1e5, 1e5) * (1 << SHIFT)).astype(np.int32)


def polyline(image: Image, points: NDArray[Any], color: Color, thickness: int) -> None:
    if len(points) > 1:
        cv2.polylines(image, [fixed(points)], False, color, thickness, cv2.LINE_AA, SHIFT)


def circle(image: Image, point: NDArray[Any], radius: float, color: Color, thickness: int) -> None:
    x, y = fixed(point).tolist()
    cv2.circle(image, (x, y), round(radius * (1 << SHIFT)), color, thickness, cv2.LINE_AA, SHIFT)


def square(image: Image, point: NDArray[Any], half: int, color: Color, thickness: int) -> None:
    if np.abs(point).max() > 1e5:
        return
    x, y = (round(float(value)) for value in point)
    cv2.rectangle(image, (x - half, y - half), (x + half, y + half), color, thickness)


def canvas(width: int, height: int, color: Color = PAPER) -> Image:
    return np.full((height, width, 3), color, np.uint8)


def paste(canvas: Image, image: Image, x: int, y: int) -> None:
    canvas[y : y + image.shape[0], x : x + image.shape[1]] = image


def draw_mask(image: Image, mask: NDArray[np.bool_], color: Color) -> Box | None:
    """Tint and outline; the box of the mask, None where it is empty."""
    if not mask.any():
        return None
    image[mask] = np.round(0.5 * image[mask] + 0.5 * np.array(color)).astype(np.uint8)
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, outlines, -1, color, 2)
    rows, columns = np.nonzero(mask)
    return bounds(np.stack([columns, rows], axis=1))


def bounds(pixels: NDArray[Any]) -> Box:
    low, high = np.floor(pixels.min(axis=0)).astype(int), np.ceil(pixels.max(axis=0)).astype(int)
    return Box(int(low[0]), int(low[1]), int(high[0] - low[0]) + 1, int(high[1] - low[1]) + 1)


def along(path: Floats, every_px: float = 8.0) -> list[Box]:
    """Small boxes along a line, so that labels stay off it."""
    lengths = np.r_[0, np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))]
    places = np.linspace(0, lengths[-1], 1 + min(500, int(lengths[-1] / every_px)))
    points = np.stack([np.interp(places, lengths, path[:, axis]) for axis in (0, 1)], axis=1)
    return [around((point[0], point[1]), 7) for point in points]


def around(point: tuple[float, float], half: int) -> Box:
    return Box(round(point[0]) - half, round(point[1]) - half, 2 * half + 1, 2 * half + 1)


def mark(image: Image, start: NDArray[Any], end: NDArray[Any], color: Color) -> None:
    """A ring where a path starts, a full square where it ends."""
    square(image, end, 4, color, -1)
    circle(image, start, 6, PAPER, 4)
    circle(image, start, 6, color, 2)


def arrow(image: Image, start: NDArray[Any], end: NDArray[Any], color: Color) -> None:
    along = end - start
    length = float(np.linalg.norm(along))
    if length < 3:  # a camera that looks up or down
        return
    across = np.array([-along[1], along[0]]) / length * 4
    neck = end - along / length * 7
    polyline(image, np.stack([start, end]), color, 1)
    cv2.fillPoly(image, [fixed(np.stack([end, neck + across, neck - across]))], color, cv2.LINE_AA, SHIFT)


def even(image: Image) -> Image:
    """With a white row or column more where a side is odd: video has no odd sides."""
    height, width = image.shape[:2]
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), constant_values=255)

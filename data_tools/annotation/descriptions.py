"""Words for objects without any model: the source's label or "object", with colour, size and place where they tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry import project_points, world_to_camera_points
from ..stereo.camera import StereoCamera

FloatArray = NDArray[np.float64]

#: Upper ends of hue ranges, degrees; red goes on at 345.
_HUES = ((15, "red"), (42, "orange"), (68, "yellow"), (165, "green"), (195, "cyan"), (255, "blue"), (290, "purple"),
         (345, "pink"), (360, "red"))  # fmt: skip
_COLOUR_NAMES = (
    "red",
    "orange",
    "yellow",
    "green",
    "cyan",
    "blue",
    "purple",
    "pink",
    "white",
    "grey",
    "black",
    "brown",
)
#: A colour is said where at least this share of the pixels has it.
_COLOUR_SHARE = 0.5
#: One object is called the larger of two where it is by this factor.
_SIZE_FACTOR = 1.6
#: One is called left of another where they are this share of the width apart, nearer where this share of the distance.
_APART_SHARE = 0.08
_NEARER_SHARE = 0.15
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


@dataclass(eq=False)
class Described:
    """What is known of an object for finding words.

    Attributes:
        category: "car"; "object" where nothing is known.
        colour: one of twelve names, None where no colour prevails.
        points: per frame (N_i, 3) world metres, (0, 3) where unseen.
    """

    category: str
    colour: str | None
    points: Sequence[NDArray[np.float32]]


def describe(objects: Sequence[Described], camera: StereoCamera, cam_to_world: FloatArray) -> list[str]:
    """A description of each, "the red car on the left".

    Colour is always said; size, then place, where several would have the same words. Place is that in the first frame
    in which all of those are seen. What stays alike keeps the same words, and is not asked about.
    """
    words = [" ".join(part for part in (item.colour, item.category) if part) for item in objects]
    alike: dict[str, list[int]] = defaultdict(list)
    for number, word in enumerate(words):
        alike[word].append(number)
    told = [f"the {word}" for word in words]
    for word, members in alike.items():
        if len(members) > 1:
            for number, text in zip(members, _apart(word, [objects[n] for n in members], camera, cam_to_world),
                                    strict=True):  # fmt: skip
                told[number] = text
    return told


def _apart(word: str, members: list[Described], camera: StereoCamera, poses: FloatArray) -> list[str]:
    """Descriptions of things that share the words `word`."""
    same = [f"the {word}"] * len(members)
    if len(members) == 2:
        sizes = [_size_m(item) for item in members]
        if min(sizes) > 0 and max(sizes) / min(sizes) > _SIZE_FACTOR:
            return [f"the {'larger' if size == max(sizes) else 'smaller'} {word}" for size in sizes]
    frame = next((t for t in range(len(poses)) if all(len(item.points[t]) for item in members)), None)
    if frame is None:
        return same
    centers = np.stack([np.asarray(item.points[frame], np.float64).mean(axis=0) for item in members])
    local = world_to_camera_points(poses[frame], centers)
    if (local[:, 2] <= 0).any():
        return same
    column = project_points(camera.intrinsics, local)[:, 0]
    order = np.argsort(column)
    if np.diff(column[order]).min() > _APART_SHARE * camera.width:
        if len(members) > len(_ORDINALS):
            return same
        texts = list(same)
        for place, number in enumerate(order):
            if len(members) == 2:
                texts[number] = f"the {word} on the {'right' if place else 'left'}"
            else:
                texts[number] = f"the {_ORDINALS[place]} {word} from the left"
        return texts
    distance = np.linalg.norm(local, axis=1)
    if len(members) == 2 and distance.max() > (1 + _NEARER_SHARE) * distance.min():
        return [f"the {'nearer' if one == distance.min() else 'farther'} {word}" for one in distance]
    return same


def _size_m(item: Described) -> float:
    """Median over frames of the distance from the middle that holds 90% of the points, metres."""
    sizes = [
        float(np.percentile(np.linalg.norm(points - np.median(points, axis=0), axis=1), 90))
        for points in item.points
        if len(points) > 5
    ]
    return float(np.median(sizes)) if sizes else 0.0


class ColourVotes:
    """Counts the colour names of an object's pixels over frames."""

    def __init__(self) -> None:
        self._counts = np.zeros(len(_COLOUR_NAMES), np.int64)

    def add(self, pixels: NDArray[np.uint8]) -> None:
        """Pixels (N, 3) RGB of one frame. Those of a grey camera have no colour to name."""
        if len(pixels) and (pixels != pixels[:, :1]).any():
            self._counts += np.bincount(colour_numbers(pixels), minlength=len(_COLOUR_NAMES))

    @property
    def winner(self) -> str | None:
        """The name that most pixels have, None where no name has half of them."""
        total = int(self._counts.sum())
        best = int(self._counts.argmax())
        return _COLOUR_NAMES[best] if total and self._counts[best] >= _COLOUR_SHARE * total else None


def colour_numbers(pixels: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Place in the list of colour names of each of (N, 3) RGB pixels."""
    hsv = cv2.cvtColor(np.ascontiguousarray(pixels[None]).astype(np.float32) / 255, cv2.COLOR_RGB2HSV)[0]
    hue, saturation, value = hsv[:, 0], hsv[:, 1], hsv[:, 2]
    names = np.array([_COLOUR_NAMES.index(name) for _, name in _HUES])
    numbers = names[np.searchsorted([end for end, _ in _HUES], hue, side="right").clip(max=len(_HUES) - 1)]
    brown = np.isin(numbers, [_COLOUR_NAMES.index("orange"), _COLOUR_NAMES.index("red")])
    brown &= (hue > 8) & (hue < 42) & (value < 0.5)
    numbers = np.where(brown, _COLOUR_NAMES.index("brown"), numbers)
    pale = saturation < 0.22
    grey = np.where(value > 0.72, _COLOUR_NAMES.index("white"), _COLOUR_NAMES.index("grey"))
    numbers = np.where(pale, grey, numbers)
    return np.asarray(np.where(value < 0.18, _COLOUR_NAMES.index("black"), numbers), np.intp)

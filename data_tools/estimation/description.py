"""Words that single out each object of a clip without any network: its label, colour, size and place."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from .tracking import bounding_window

FloatArray = NDArray[np.float64]

#: sRGB examples of each name, in light and in shade: saturated ones, and those of cloth, paint and skin of animals.
COLOUR_EXAMPLES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((242, 20, 20), (190, 16, 16), (150, 25, 30), (200, 65, 60), (110, 20, 25)),
    "orange": ((255, 128, 5), (204, 102, 4), (235, 150, 70), (222, 105, 45)),
    "yellow": ((242, 230, 13), (195, 185, 10), (155, 147, 8), (235, 215, 120), (212, 172, 45)),
    "green": ((20, 217, 31), (14, 150, 22), (60, 120, 60), (95, 130, 75), (35, 75, 42), (150, 200, 130)),
    "cyan": ((13, 230, 242), (10, 180, 190), (8, 140, 148), (110, 200, 205)),
    "blue": (
        (26, 38, 242),
        (18, 26, 165),
        (30, 70, 150),
        (70, 110, 170),
        (25, 35, 85),
        (125, 170, 225),
        (145, 205, 240),
    ),
    "purple": ((120, 40, 150), (122, 0, 128), (85, 20, 115), (150, 110, 190), (90, 60, 120)),
    "magenta": ((242, 26, 230), (190, 20, 180), (150, 16, 142)),
    "pink": ((255, 150, 180), (255, 105, 180), (240, 190, 200), (225, 130, 150)),
    "brown": ((101, 67, 33), (125, 75, 40), (90, 60, 50), (150, 110, 80), (195, 165, 125)),
    "white": ((255, 255, 255), (228, 228, 228), (200, 200, 200)),
    "grey": ((155, 155, 155), (128, 128, 128), (100, 100, 100), (75, 75, 75)),
    "black": ((0, 0, 0), (20, 20, 20), (40, 40, 40)),
}

#: Frames that show less than this share of the pixels of the fullest one do not tell the colour.
_LEAST_SHARE = 0.25
#: Things differ in size where one is this many times the other.
_SIZE_RATIO = 1.4
#: Things differ in place where this share of the image lies between them.
_PLACE_GAP = 0.08
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
#: Pixels of an object that are looked at, per frame.
_MAX_PIXELS = 4000


@dataclass(frozen=True, eq=False)
class ObjectAppearance:
    """What one object of a clip looks like.

    Attributes:
        rgb: (N, 3) one colour per frame that shows it well, 0 to 255; (0, 3) where its pixels are not known.
        extent_m: diagonal of the box around its points, metres; 0 where unknown.
        place: (u, v) of its middle at first sight, as shares of width and height; None where unknown.
        first_frame: in which it is seen.
        category: the source's label, None where there is none.
    """

    rgb: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))
    extent_m: float = 0.0
    place: tuple[float, float] | None = None
    first_frame: int = 0
    category: str | None = None

    @property
    def colour(self) -> str | None:
        """Name of the colour, None where no pixel is known."""
        return colour_name(np.median(to_lab(self.rgb), axis=0)) if len(self.rgb) else None


def describe_objects(objects: Sequence[ObjectAppearance]) -> list[tuple[str, str]]:
    """(category, description) of each object of a clip, ("ball", "the large red ball on the left").

    The colour is always said. Where that leaves several alike, size tells them apart, then place at first sight, then
    which comes first. No two descriptions of a clip are equal; the same objects always get the same words.
    """
    categories = [(item.category or "").strip().lower() or "object" for item in objects]
    words = [_with_colour(item.colour, category) for item, category in zip(objects, categories, strict=True)]
    for group in _alike(words):
        for number, size in zip(group, _size_words([objects[n].extent_m for n in group]), strict=True):
            words[number] = f"{size} {words[number]}" if size else words[number]
    texts = [f"the {word}" for word in words]
    for group in _alike(words):
        for number, text in zip(group, _place_texts(words[group[0]], [objects[n] for n in group]), strict=True):
            texts[number] = text
    return list(zip(categories, number_equal(texts), strict=True))


def measure_appearance(
    frames: Sequence[NDArray[np.uint8]],
    masks: NDArray[np.uint8],
    object_id: int,
    points: Sequence[NDArray[np.float32]],
    category: str | None = None,
) -> ObjectAppearance:
    """Colour, size and first place of an object.

    Args:
        frames: T times (H, W, 3) uint8 RGB.
        masks: (T, h, w) uint8 object ids; frames are brought to their size where it differs.
        object_id: the object's value in the masks.
        points: per frame (N_i, 3) world metres, (0, 3) where unseen.
        category: the source's label.
    """
    samples, counts = [], []
    place, first_frame = None, 0
    for number, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
        whole = mask == object_id
        window = bounding_window(whole)
        own = whole[window]
        if not own.size:
            continue
        height, width = mask.shape
        if place is None:
            v, u = np.nonzero(whole)
            place, first_frame = (float((u.mean() + 0.5) / width), float((v.mean() + 0.5) / height)), number
        if frame.shape[:2] != mask.shape:
            frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        samples.append(lit_colour(frame[window][_inner(own)]))
        counts.append(int(np.count_nonzero(own)))
    kept = [sample for sample, count in zip(samples, counts, strict=True) if count >= _LEAST_SHARE * max(counts)]
    return ObjectAppearance(
        rgb=np.array(kept, np.float64).reshape(-1, 3),
        extent_m=extent_m(points),
        place=place,
        first_frame=first_frame,
        category=category,
    )


def lit_colour(pixels: NDArray[np.uint8]) -> FloatArray:
    """Median RGB (3,) of the lighter half of pixels (N, 3), N > 0: what a thing looks like where light falls on it."""
    pixels = pixels[:: -(-len(pixels) // _MAX_PIXELS)]
    light = to_lab(pixels)[:, 0]
    return np.asarray(np.median(pixels[light >= np.median(light)], axis=0), np.float64)


def extent_m(points: Sequence[NDArray[np.float32]]) -> float:
    """Diagonal of the box around the middle 90% of an object's points, metres: upper quartile over frames.

    The upper quartile, because what covers an object or cuts it off makes it look smaller, never larger.
    """
    sizes = []
    for cloud in points:
        if len(cloud) > 7:
            low, high = np.percentile(cloud, [5, 95], axis=0)
            sizes.append(float(np.linalg.norm(high - low)))
    return float(np.percentile(sizes, 75)) if sizes else 0.0


def to_lab(rgb: NDArray[np.floating] | NDArray[np.uint8]) -> FloatArray:
    """CIE L*a*b* (N, 3), D65, of sRGB (N, 3) in 0 to 255."""
    image = np.ascontiguousarray(np.asarray(rgb, np.float32).reshape(1, -1, 3)) / np.float32(255)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2LAB)[0], np.float64)


def colour_name(lab: FloatArray) -> str:
    """Name of the nearest example of COLOUR_EXAMPLES to an L*a*b* colour (3,).

    Distances are those of CIE94, lightness at half weight: a shadow changes the lightness of a thing, not its hue.
    """
    names, examples = _examples()
    chroma, chromas = float(np.hypot(*lab[1:])), np.hypot(examples[:, 1], examples[:, 2])
    lightness = examples[:, 0] - lab[0]
    across = ((examples[:, 1:] - lab[1:]) ** 2).sum(axis=1)
    d_chroma = chromas - chroma
    d_hue_squared = np.maximum(across - d_chroma**2, 0.0)
    mean_chroma = np.sqrt(chroma * chromas)
    distance = (
        (lightness / 2) ** 2
        + (d_chroma / (1 + 0.045 * mean_chroma)) ** 2
        + d_hue_squared / (1 + 0.015 * mean_chroma) ** 2
    )
    return names[int(np.argmin(distance))]


def _examples() -> tuple[list[str], FloatArray]:
    names = [name for name, colours in COLOUR_EXAMPLES.items() for _ in colours]
    return names, to_lab(np.array([colour for colours in COLOUR_EXAMPLES.values() for colour in colours], np.float64))


def _inner(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask without its rim, where the colours of what is behind shine in; all of it where nothing else is left."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    return np.asarray(depth > min(3.0, 0.5 * float(depth.max())))


# ------------------------------------------------------------------------------------------------------------ words


def _with_colour(colour: str | None, category: str) -> str:
    if colour is None or colour in category.split():
        return category
    return f"{colour} {category}"


def _alike(words: Sequence[str]) -> list[list[int]]:
    """Places of equal words, groups of two and more."""
    groups: dict[str, list[int]] = defaultdict(list)
    for number, word in enumerate(words):
        groups[word].append(number)
    return [group for group in groups.values() if len(group) > 1]


def _size_words(sizes: Sequence[float]) -> list[str | None]:
    """ "large" and "small" on either side of the widest gap between sizes, None where there is none wide enough."""
    order = np.sort(sizes)
    if order[0] <= 0:
        return [None] * len(sizes)
    ratios = order[1:] / order[:-1]
    widest = int(np.argmax(ratios))
    if ratios[widest] < _SIZE_RATIO:
        return [None] * len(sizes)
    return ["large" if size > order[widest] else "small" for size in sizes]


def _place_texts(word: str, members: list[ObjectAppearance]) -> list[str]:
    """Descriptions of things that share all other words."""
    places = [item.place for item in members]
    known = [place for place in places if place is not None]
    if len(known) == len(places):
        across, down = np.array(known).T
        if _apart(across):
            return _ranked(across, [f"the {word} on the left", f"the {word} on the right"], word, " from the left")
        if _apart(down):
            return _ranked(down, [f"the {word} at the top", f"the {word} at the bottom"], word, " from the top")
    first = np.array([item.first_frame for item in members], float)
    if len(set(first)) == len(first):
        two = [f"the {word} that appears first", f"the {word} that appears later"]
        return _ranked(first, two, word, " to appear")
    return [f"the {word}"] * len(members)


def _apart(values: FloatArray) -> bool:
    return bool(np.diff(np.sort(values)).min() >= _PLACE_GAP)


def _ranked(values: FloatArray, two: list[str], word: str, tail: str) -> list[str]:
    ranks = np.argsort(np.argsort(values, kind="stable"))
    if len(values) == 2:
        return [two[rank] for rank in ranks]
    return [f"the {_ordinal(int(rank))} {word}{tail}" for rank in ranks]


def number_equal(texts: list[str]) -> list[str]:
    """Equal texts told apart by number, the last resort: "object number 2"."""
    total, seen = Counter(texts), Counter[str]()
    taken = {text for text in texts if total[text] == 1}
    result = []
    for text in texts:
        if total[text] == 1:
            result.append(text)
            continue
        while True:
            seen[text] += 1
            candidate = f"{text} number {seen[text]}"
            if candidate not in taken:
                break
        taken.add(candidate)
        result.append(candidate)
    return result


def _ordinal(rank: int) -> str:
    if rank < len(_ORDINALS):
        return _ORDINALS[rank]
    number = rank + 1
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"

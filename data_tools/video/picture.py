"""A decoded frame as RGB pixels, as they are stored or as a player shows them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from .source import Image

#: Pixel aspects (width by height) beyond these are taken for a writer's error and ignored. Anamorphic film has 2:1.
_ASPECTS = (Fraction(1, 4), Fraction(4))


@dataclass(frozen=True)
class Presentation:
    """How a player shows stored pixels.

    Attributes:
        transpose: rows become columns; done first.
        flip_x, flip_y: mirrored left to right, upside down.
        aspect: width of a stored pixel by its height.
    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False
    aspect: Fraction = Fraction(1)

    @property
    def is_plain(self) -> bool:
        """Whether pixels are shown as they are stored."""
        return self == Presentation()

    def stretched(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the stored picture after its pixels were made square. The longer way is taken."""
        if self.aspect >= 1:
            return max(1, round(width * self.aspect)), height
        return width, max(1, round(height / self.aspect))

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the picture that is shown."""
        width, height = self.stretched(width, height)
        return (height, width) if self.transpose else (width, height)

    def turn(self, image: Image) -> Image:
        """(H, W, 3) pixels, turned and mirrored."""
        if self.transpose:
            image = image.transpose(1, 0, 2)
        if self.flip_x:
            image = image[:, ::-1]
        if self.flip_y:
            image = image[::-1]
        return np.ascontiguousarray(image)


def presentation_of(frame: Any, stream: Any) -> Presentation:
    """What a frame's display matrix and the stream's pixel aspect ask for. Turns are rounded to right angles."""
    aspect = stream.sample_aspect_ratio
    if not aspect or not _ASPECTS[0] <= aspect <= _ASPECTS[1]:
        aspect = Fraction(1)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Presentation(aspect=Fraction(aspect))
    # ISO/IEC 14496-12, 6.2.2: (p q 1) times {a b u; c d v; x y w} is where the pixel at column p and row q is shown.
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].astype(np.int64)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Presentation(False, bool(a < 0), bool(d < 0), Fraction(aspect))
    return Presentation(True, bool(c < 0), bool(b < 0), Fraction(aspect))


def rgb(frame: Any, reformatter: VideoReformatter, presentation: Presentation) -> Image:
    """(H, W, 3) uint8 RGB of a frame, as it is shown.

    FFmpeg's scaler follows the colour matrix and range that the frame states. Grey is repeated, alpha is dropped.
    """
    width, height = presentation.stretched(frame.width, frame.height)
    converted = reformatter.reformat(
        frame, width=width, height=height, format="rgb24", interpolation=Interpolation.BILINEAR
    )
    return presentation.turn(np.asarray(converted.to_ndarray(), np.uint8))

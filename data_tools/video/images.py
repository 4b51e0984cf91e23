"""Frames that are one image file each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError
from .source import FrameSource, Image

_IMREAD_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION


class ImageFrames(FrameSource):
    """Frames that are one image file each. Grey images repeat their channel, alpha is dropped.

    The size is that of the first image, which is decoded when the size is first asked for.
    """

    def __init__(self, paths: Sequence[Path], fps: float | None = None) -> None:
        if not paths:
            raise InputError("no images", field="paths")
        self.paths = [Path(path) for path in paths]
        self.path = self.paths[0].parent
        self.num_frames = len(self.paths)
        self.fps = fps
        self._size: tuple[int, int] | None = None

    @property
    def width(self) -> int:
        return self._first_size()[1]

    @property
    def height(self) -> int:
        return self._first_size()[0]

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Image]:
        start, stop, _ = slice(start, stop).indices(self.num_frames)
        return map(self._frame, range(start, stop))

    def frames_at(self, indices: Sequence[int]) -> Iterator[Image]:
        return map(self._frame, self._checked(indices))

    def _frame(self, number: int) -> Image:
        image = read_image(self.paths[number], number)
        if image.shape[:2] != self._first_size():
            height, width = self._first_size()
            raise InputError(
                f"frame {number} has {image.shape[1]}x{image.shape[0]} pixels, the first one {width}x{height}",
                file=self.paths[number],
                row=number,
            )
        return image

    def _first_size(self) -> tuple[int, int]:
        if self._size is None:
            height, width = read_image(self.paths[0], 0).shape[:2]
            self._size = (height, width)
        return self._size


def read_image(path: Path, frame: int | None = None) -> Image:
    """(H, W, 3) uint8 RGB pixels of an image file, in the order they are stored (no rotation by EXIF).

    Raises:
        InputError: the file is missing, cut off, not an image, or has more than 8 bits a channel: a stretch to 8 bits
            would be a guess.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"the image cannot be read ({error.strerror})", file=path, row=frame) from None
    # libjpeg only warns about a file that is cut off, and fills the rest with grey.
    cut_off = data.startswith(b"\xff\xd8") and b"\xff\xd9" not in data[-4096:]
    image = None if cut_off or not data else cv2.imdecode(np.frombuffer(data, np.uint8), _IMREAD_FLAGS)
    if image is None:
        raise InputError("not an image, or one that is cut off", file=path, row=frame, remedy="Copy it again")
    if image.dtype != np.uint8:
        raise InputError(
            f"the image has {8 * image.dtype.itemsize} bits a channel",
            file=path,
            row=frame,
            remedy="Convert the whole sequence to 8 bits with one fixed scale, so that brightness stays comparable",
        )
    return np.ascontiguousarray(image[:, :, ::-1], np.uint8)

"""What a source of frames is, whatever the frames are stored in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

Image = NDArray[np.uint8]


class FrameSource(ABC):
    """RGB frames of one eye, in order. Picklable; holds no open file between calls.

    Attributes:
        path: the file or folder, or a remote address, for messages.
        num_frames: how many frames `frames()` yields.
        width, height: pixels.
        fps: mean frames per second, None where the source does not say.
        irregular_times_s: (num_frames,) float64, seconds from the first frame, where the frames do not come at one rate
            (variable frame rate); None where frame i is shown at i / fps.
    """

    path: Path | str
    num_frames: int
    fps: float | None
    irregular_times_s: NDArray[np.float64] | None = None

    @property
    @abstractmethod
    def width(self) -> int: ...

    @property
    @abstractmethod
    def height(self) -> int: ...

    @abstractmethod
    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Image]:
        """(H, W, 3) uint8 RGB frames start..stop-1 in order, clamped to what there is as a slice would be.

        Raises:
            InputError: naming the file and the frame that does not decode or has another size than the first one.
        """

    def frames_at(self, indices: Sequence[int]) -> Iterator[Image]:
        """The frames of these indices, which must not decrease; an index may repeat. Reads no further than the last.

        Raises:
            InputError: as `frames`, or an index that is out of range or smaller than the one before it.
        """
        wanted = self._checked(indices)
        if not wanted:
            return
        position = 0
        for number, frame in enumerate(self.frames(wanted[0], wanted[-1] + 1), wanted[0]):
            while position < len(wanted) and wanted[position] == number:
                yield frame
                position += 1

    def cut(self, start: int, stop: int) -> FrameSource:
        """Frames start..stop-1 as a source of their own."""
        return self if (start, stop) == (0, self.num_frames) else _Cut(self, start, stop)

    def _checked(self, indices: Sequence[int]) -> list[int]:
        wanted = [int(index) for index in indices]
        for before, index in zip([0, *wanted], wanted, strict=False):
            if not before <= index < self.num_frames:
                raise InputError(
                    f"frame {index} asked for after frame {before}, there are {self.num_frames}",
                    file=self.path,
                    field="frames",
                )
        return wanted


class _Cut(FrameSource):
    """A stretch of another source."""

    def __init__(self, whole: FrameSource, start: int, stop: int) -> None:
        if not 0 <= start < stop <= whole.num_frames:
            raise InputError(
                f"frames {start} to {stop - 1} asked for, there are {whole.num_frames}", file=whole.path, field="frames"
            )
        self.path, self.fps, self.num_frames = whole.path, whole.fps, stop - start
        if whole.irregular_times_s is not None:
            self.irregular_times_s = whole.irregular_times_s[start:stop] - whole.irregular_times_s[start]
        self._whole, self._start = whole, start

    @property
    def width(self) -> int:
        return self._whole.width

    @property
    def height(self) -> int:
        return self._whole.height

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Image]:
        start, stop, _ = slice(start, stop).indices(self.num_frames)
        return self._whole.frames(self._start + start, self._start + stop)

"""Frames to an mp4 that OpenCV and PyAV read, the same bytes every time."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from os import PathLike

import av
import av.video.stream
import numpy as np
from numpy.typing import NDArray

#: MPEG-4 part 2 with the quantiser held at its finest: what is lost is the chroma resolution of 4:2:0 alone.
_CODEC = "mpeg4"
_OPTIONS = {"qmin": "1", "qmax": "2", "flags": "+qscale+bitexact", "global_quality": "118"}


def write_mp4(path: str | PathLike[str], frames: Iterable[NDArray[np.uint8]], fps: float) -> None:
    """Encode RGB frames (T,H,W,3), at least one, an array or one after the other; height and width must be even."""
    coming = iter(frames)
    first = next(coming)
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(_CODEC, rate=Fraction(fps).limit_denominator(1001), options=_OPTIONS)
        assert isinstance(stream, av.video.stream.VideoStream)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # frames are sliced by thread, which would show in the bytes
        for frame in chain([first], coming):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())

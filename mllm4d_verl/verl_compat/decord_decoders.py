"""decord's first decoders. No upstream thread is known; decord 0.6.0 is its last release."""

from __future__ import annotations

import contextlib
import importlib.util
import threading
import time
from collections.abc import Callable

from mllm4d_verl.verl_compat.adaptation import adapts, proves


def _decord_installed() -> bool:
    return importlib.util.find_spec("decord") is not None


@adapts("decord.video_reader", "VideoReader.__init__", where=_decord_installed, known={"decord": "<=0.6.0"})
def open_one_decoder_at_a_time(stock: Callable) -> Callable:
    """decord aborts the process when two threads open a process's first decoders at the same time.

    Its FFmpeg fills tables that all decoders of a codec share when the first of them opens, without a lock ("Assertion
    ret >= 0 failed at libavcodec/bitstream.c"). verl opens the videos of a batch in a pool of threads. Here one opens
    after the other; frames are still decoded side by side.
    """
    opening = threading.Lock()

    def __init__(self, *args, **kwargs):  # noqa: N807
        with opening:
            stock(self, *args, **kwargs)

    return __init__


class _NoVideoError(Exception):
    """Ends the constructor before it comes to FFmpeg."""


class _Source:
    """A file for decord's constructor, which reads it first of all. It notes how many constructors read at once."""

    reading = 0
    most = 0
    lock = threading.Lock()

    def read(self) -> bytes:
        source = type(self)
        with source.lock:
            source.reading += 1
            source.most = max(source.most, source.reading)
        time.sleep(0.02)  # long enough for the other threads to arrive where nothing holds them back
        with source.lock:
            source.reading -= 1
        raise _NoVideoError


@proves(open_one_decoder_at_a_time)
def _constructors_run_side_by_side(init: Callable) -> bool:
    """FFmpeg itself is left out: where the fault is there it ends the process."""
    from decord.video_reader import VideoReader

    class Source(_Source):
        pass

    def open_one() -> None:
        reader = VideoReader.__new__(VideoReader)
        with contextlib.suppress(_NoVideoError):
            init(reader, Source())

    threads = [threading.Thread(target=open_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not Source.most:
        raise RuntimeError("decord's constructor does not read its source")
    return Source.most > 1

"""decord's first decoders."""

from __future__ import annotations

import importlib.util
import inspect
import threading
from collections.abc import Callable

from mllm4d_verl.verl_compat.adaptation import adapts, proves


def _decord_installed() -> bool:
    return importlib.util.find_spec("decord") is not None


@adapts("decord.video_reader", "VideoReader.__init__", where=_decord_installed)
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


@proves(open_one_decoder_at_a_time)
def _stock_opens_without_a_lock(stock: Callable) -> bool:
    return "with " not in inspect.getsource(stock)

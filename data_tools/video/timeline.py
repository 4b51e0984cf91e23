"""When each frame of a video file is shown, from its index or its packets; pixels are decoded only where these lie."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Codecs whose packets may hold a picture that is never shown (VP8's alternate references), so that packets are more
#: than frames.
HIDES_PICTURES = frozenset({"vp8"})


@dataclass(frozen=True)
class Timeline:
    """Frames of a video in the order they are shown.

    Attributes:
        num_frames: T.
        fps: mean frames per second; None where neither header nor times tell.
        irregular_times_s: (T,) float64 seconds from the first frame, None where frame i is shown at i / fps.
        pts: (T,) int64 ascending presentation times in the stream's time base, None where the file does not tell them;
            then frames can only be counted from the start.
        keys: (K,) int64 numbers of the frames at which decoding can start.
    """

    num_frames: int
    fps: float | None
    irregular_times_s: NDArray[np.float64] | None = None
    pts: NDArray[np.int64] | None = None
    keys: NDArray[np.int64] | None = None


def timeline_of_index(stream: Any) -> Timeline | None:
    """The timeline of a stream whose container has a whole index (mp4, mov), without its `pts`.

    The index holds decoding times, which are presentation times where no picture is decoded ahead of the one that is
    shown before it. None where there are such pictures (B-frames), where the index is not whole, or where the times in
    it are irregular.
    """
    entries = list(stream.index_entries)
    if not entries or len(entries) != stream.frames or not entries[0].is_keyframe or _hides_pictures(stream):
        return None
    if stream.codec_context.has_b_frames:
        return None
    ticks = [entry.timestamp for entry in entries if not entry.is_discard]
    if not ticks:
        return None
    rate, irregular = _rate(np.sort(np.array(ticks, np.int64)), stream)
    return None if irregular is not None else Timeline(len(ticks), rate)


def timeline_of_packets(packets: Iterable[Any], stream: Any) -> Timeline | None:
    """The timeline that the packets of a stream tell; None where they do not, so that frames have to be decoded.

    Packets before the first key frame are left out, and pictures that are shown before it: they lack what they were
    predicted from.
    """
    shown: list[int] = []
    key_ticks: list[int] = []
    if _hides_pictures(stream) or lacks_times(stream):
        return None
    for packet in packets:
        if packet.pts is None:
            return None
        if packet.is_keyframe:
            key_ticks.append(packet.pts)
        if key_ticks and packet.pts >= key_ticks[0] and not packet.is_discard:
            shown.append(packet.pts)
    return timeline_of_times(shown, key_ticks, stream)


def timeline_of_times(shown: list[int], key_ticks: list[int], stream: Any) -> Timeline | None:
    """The timeline of presentation times in any order; None where two are equal, or there are none."""
    pts = np.unique(np.array(shown, np.int64))
    if len(pts) != len(shown) or not len(pts):
        return None
    keys = np.searchsorted(pts, np.unique(np.array(key_ticks, np.int64)))
    rate, irregular = _rate(pts, stream)
    return Timeline(len(pts), rate, irregular, pts, keys[keys < len(pts)])


def lacks_times(stream: Any) -> bool:
    """Whether presentation times are guesses: AVI stores none, and the order of pictures with B-frames is not that of
    its packets."""
    return stream.container.format.name == "avi" and stream.codec_context.has_b_frames > 0


def stated_rate(stream: Any) -> float | None:
    """Frames per second as the header has them."""
    rate = stream.average_rate or stream.guessed_rate
    return float(rate) if rate else None


def _rate(ticks: NDArray[np.int64], stream: Any) -> tuple[float | None, NDArray[np.float64] | None]:
    """Frames per second, and the times where these do not follow from it: more than half a frame off, at any frame."""
    stated = stated_rate(stream)
    if len(ticks) < 2 or not stream.time_base:
        return stated, None
    times = (ticks - ticks[0]) * float(stream.time_base)
    numbers = np.arange(len(ticks))
    for rate in (stated, (len(ticks) - 1) / times[-1]):
        if rate and np.abs(times * rate - numbers).max() <= 0.5:
            return rate, None
    return (len(ticks) - 1) / times[-1], times


def _hides_pictures(stream: Any) -> bool:
    return stream.codec_context.name in HIDES_PICTURES or stream.codec_context.codec.canonical_name in HIDES_PICTURES

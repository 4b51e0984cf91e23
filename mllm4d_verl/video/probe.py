"""What a video holds, asked of the decoder that will read it in training."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.video.location import identity
from mllm4d_verl.video.reading import naming_the_video, open_element


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video without decoding all of it.

    Attributes:
        num_frames: frames that can be decoded.
        fps: mean frames per second.
        height, width: pixels of a frame as players show it.
        irregular_times_s: seconds of each frame from the first one, where they do not follow from fps.
    """

    num_frames: int
    fps: float
    height: int
    width: int
    irregular_times_s: tuple[float, ...] | None = None

    def time_s(self, frame: int) -> float:
        """Seconds from the first frame to this one."""
        return frame / self.fps if self.irregular_times_s is None else self.irregular_times_s[frame]

    @property
    def duration_s(self) -> float:
        """Seconds from the first frame to the end of the last one."""
        return self.time_s(self.num_frames - 1) + 1 / self.fps

    def frames_between(self, start_s: float | None, end_s: float | None) -> int:
        """How many frames lie between two times, as `reading.read_video` counts them; None leaves an end open."""
        start_s, last_s = start_s or 0.0, self.duration_s if end_s is None else min(end_s, self.duration_s)
        if self.irregular_times_s is not None:
            return sum(start_s <= time <= last_s for time in self.irregular_times_s)
        found = int(last_s * self.fps) - int(-(-start_s * self.fps // 1)) + (end_s is not None)
        return max(0, min(found, self.num_frames))


def probe_video(video: str | os.PathLike[str] | Mapping[str, Any]) -> VideoInfo:
    """Open a video, decode its first and its last frame, and say what it is. Remembered until the file changes.

    Args:
        video: a file, a folder of images, a remote address; or a video element (see `reading.read_video`).

    Raises:
        InputError: the file is missing, empty, not a video, or one of the two frames does not decode.
    """
    element = video if isinstance(video, Mapping) else {"video": os.fspath(video)}
    file = element["video"]
    files = [file] if isinstance(file, str) else list(file)
    return _probe(tuple(files), element.get("raw_fps"), tuple(identity(file) for file in files))


@functools.lru_cache(maxsize=65536)
def _probe(files: tuple[str, ...], raw_fps: float | None, identities: tuple) -> VideoInfo:
    source = open_element({"video": files[0] if len(files) == 1 else list(files), "raw_fps": raw_fps})
    with naming_the_video():
        for _ in source.frames_at([0, source.num_frames - 1]):
            pass
    assert source.fps is not None
    times = source.irregular_times_s
    return VideoInfo(
        source.num_frames, source.fps, source.height, source.width, None if times is None else tuple(times.tolist())
    )


def check_video(
    video: str | os.PathLike[str] | Mapping[str, Any], num_frames: int, row: int | str | None = None
) -> VideoInfo:
    """Probe a video and make sure that `num_frames` can be sampled from it.

    Raises:
        InputError: as `probe_video`, or the video is shorter than `num_frames`, or `num_frames` is odd.
    """
    file = video["video"] if isinstance(video, Mapping) else video
    if num_frames < 2 or num_frames % 2:
        raise InputError(f"must be even and at least 2, got {num_frames}", file=file, row=row, field="num_frames")
    info = probe_video(video)
    if info.num_frames < num_frames:
        raise InputError(
            f"{num_frames} frames are to be sampled from a video of {info.num_frames}",
            file=file,
            row=row,
            field="num_frames",
            remedy="Make questions with fewer frames, or drop the clip",
        )
    return info

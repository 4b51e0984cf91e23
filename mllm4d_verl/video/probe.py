"""What a video file holds, asked of the decoder that will read it in training."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

from mllm4d_verl.data_tools.errors import InputError


@dataclass(frozen=True)
class VideoInfo:
    """Header of a video: frames, frames per second, pixels."""

    num_frames: int
    fps: float
    height: int
    width: int


def probe_video(path: str | os.PathLike[str]) -> VideoInfo:
    """Open a video, decode its first and its last frame, and say what it is. Remembered until the file changes.

    Raises:
        InputError: the file is missing, empty, not a video, or one of the two frames does not decode.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise InputError(
            f"the video cannot be opened ({error.strerror})",
            file=path,
            field="video",
            remedy="Restore the file, or point data.media_root to the folder that the rows' paths start from",
        ) from None
    return _probe(os.fspath(path), status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=65536)
def _probe(path: str, mtime_ns: int, size: int) -> VideoInfo:
    import decord

    try:
        reader = decord.VideoReader(path, num_threads=1)
        num_frames, fps = len(reader), float(reader.get_avg_fps())
        height, width = reader.get_batch([0, num_frames - 1]).shape[1:3]
    except Exception as error:  # decord raises its own classes, RuntimeError and IndexError, by the kind of damage
        reason = str(error).strip().splitlines()
        raise InputError(
            f"the video does not decode ({reason[-1][:200] if reason else type(error).__name__})",
            file=path,
            field="video",
            remedy="Encode it anew (H.264 or MPEG-4 in mp4) or drop its rows",
        ) from error
    return VideoInfo(num_frames, fps, height, width)


def check_video(path: str | os.PathLike[str], num_frames: int, row: int | str | None = None) -> VideoInfo:
    """Probe a video and make sure that `num_frames` can be sampled from it.

    Raises:
        InputError: as `probe_video`, or the video is shorter than `num_frames`, or `num_frames` is odd.
    """
    if num_frames < 2 or num_frames % 2:
        raise InputError(f"must be even and at least 2, got {num_frames}", file=path, row=row, field="num_frames")
    info = probe_video(path)
    if info.num_frames < num_frames:
        raise InputError(
            f"{num_frames} frames are to be sampled from a video of {info.num_frames}",
            file=path,
            row=row,
            field="num_frames",
            remedy="Make questions with fewer frames, or drop the clip",
        )
    return info

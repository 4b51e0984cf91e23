"""Which files are videos or images, and how a path becomes a source of frames."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import InputError
from .file import VideoFrames
from .images import ImageFrames
from .location import is_remote, is_video_name, local_path
from .source import FrameSource

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})


def natural_key(path: Path) -> list[tuple[int, int | str]]:
    """A sorting key by which frame_10 comes after frame_9."""
    parts = re.split(r"(\d+)", path.name)
    return [(1, int(part)) if part.isdigit() else (0, part) for part in parts]


def list_images(folder: Path, pattern: str | None = None) -> list[Path]:
    """Image files of a folder in natural order; `pattern` is a shell pattern such as "left*.png"."""
    found = folder.glob(pattern) if pattern else folder.iterdir()
    images = (path for path in found if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."))
    return sorted(images, key=natural_key)


def is_video(path: Path) -> bool:
    """Whether the name is that of a video file."""
    return is_video_name(path) and not path.name.startswith(".") and path.is_file()


def open_frames(
    path: Path | str,
    fps: float | None = None,
    pattern: str | None = None,
    *,
    as_shown: bool = False,
    time_limit_s: float | None = None,
) -> FrameSource:
    """Frames of a video file or of a folder of images.

    Args:
        path: a video file, a folder of images, a file:// address of either, or the address of a remote video.
        fps: frames per second where the source does not know it (folders), or to overrule a video's own.
        pattern: shell pattern for the images of a folder.
        as_shown, time_limit_s: see `VideoFrames`.

    Raises:
        InputError: nothing there that holds frames.
    """
    folder = None if is_remote(path) else Path(local_path(path))
    if folder is not None and folder.is_dir():
        images = list_images(folder, pattern)
        if not images:
            wanted = f" that match {pattern!r}" if pattern else ""
            raise InputError(f"the folder holds no images{wanted}", file=folder)
        return ImageFrames(images, fps)
    source = VideoFrames(path, as_shown=as_shown, time_limit_s=time_limit_s)
    if fps is not None:
        source.fps, source.irregular_times_s = fps, None
    return source

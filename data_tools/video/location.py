"""Where a video lies: a path, a file:// address, or a remote address that fsspec can open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ..errors import InputError

#: Animated GIF and PNG are videos to FFmpeg; animated WebP is not.
VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".gif", ".apng"})

_MISSING_REMEDY = "Restore the file, or point data.media_root to the folder that the rows' paths start from"


def is_remote(video: str | os.PathLike[str]) -> bool:
    """Whether it is an address of another scheme than file: s3://, gs://, hf://, https://."""
    return isinstance(video, str) and "://" in video and not video.startswith("file://")


def is_video_name(video: str | os.PathLike[str]) -> bool:
    """Whether a path or an address ends as that of a video file does."""
    return os.path.splitext(urlsplit(os.fspath(video)).path)[1].lower() in VIDEO_SUFFIXES


def local_path(video: str | os.PathLike[str]) -> str:
    """The path of a local video, without `file://`."""
    text = os.fspath(video)
    return unquote(urlsplit(text).path) if text.startswith("file://") else text


def join(folder: str | os.PathLike[str], video: str) -> str:
    """The absolute path or the address of a video whose name is relative to a folder, unless it is absolute itself."""
    if is_remote(video):
        return video
    base = os.fspath(folder)
    if is_remote(base):
        return f"{base.rstrip('/')}/{video.lstrip('/')}"
    return os.path.abspath(os.path.join(base, local_path(video)))


def exists(video: str | os.PathLike[str]) -> bool:
    """Whether there is a file, a folder or a remote object of that name."""
    if is_remote(video):
        file_system, path = _remote(str(video))
        return bool(file_system.exists(path))
    return os.path.exists(local_path(video))


def identity(video: str | os.PathLike[str]) -> tuple[Any, ...]:
    """What changes when the content does: size and time of a file, of all files of a folder, of a remote object.

    Raises:
        InputError: there is nothing of that name.
    """
    if is_remote(video):
        file_system, path = _remote(str(video))
        try:
            info = file_system.info(path)
        except (OSError, ValueError) as error:
            raise _missing(video, str(error)) from None
        told = (info.get(key) for key in ("size", "ETag", "etag", "mtime", "LastModified", "updated"))
        return (str(video), *(str(value) for value in told if value is not None))
    path = local_path(video)
    try:
        status = os.stat(path)
        if not os.path.isdir(path):
            return path, status.st_mtime_ns, status.st_size
        files = sorted((entry.name, entry.stat().st_mtime_ns, entry.stat().st_size) for entry in os.scandir(path))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise _missing(path, getattr(error, "strerror", None) or str(error)) from None
    return path, tuple(files)


def open_remote(video: str) -> Any:
    """A binary file of a remote address, to be closed by the caller. Its `size` may be None.

    Raises:
        InputError: fsspec or its part for this scheme is not installed, or there is no such object.
    """
    file_system, path = _remote(video)
    try:
        return file_system.open(path, "rb")
    except (OSError, ValueError) as error:
        raise _missing(video, str(error)) from None


def checked_local_file(video: str | os.PathLike[str]) -> Path:
    """The path of a local video file. Raises InputError where there is none (a pipe, too, is none)."""
    path = Path(local_path(video))
    if not path.is_file():
        raise InputError("there is no such video", file=path)
    return path


def _remote(video: str) -> tuple[Any, str]:
    try:
        import fsspec

        file_system, path = fsspec.core.url_to_fs(video)
    except (ImportError, ValueError) as error:
        raise InputError(
            f"the address cannot be opened ({error})",
            file=video,
            field="video",
            remedy="Install fsspec and its part for this scheme (s3fs, gcsfs, aiohttp), or copy the file here",
        ) from None
    return file_system, path


def _missing(video: str | os.PathLike[str], reason: str | None) -> InputError:
    return InputError(f"the video cannot be opened ({reason})", file=video, field="video", remedy=_MISSING_REMEDY)

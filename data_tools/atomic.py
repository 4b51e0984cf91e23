"""Files that are either whole or absent: write to a temporary name in the same folder, then rename."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .errors import InputError

# A temporary file whose process is gone is removed after an hour: on a shared file system it may be another machine's.
_ABANDONED_AFTER_S = 3600.0
_TEMPORARY = re.compile(r"\..+?\.([0-9]{1,9})\.[0-9]{1,12}\.tmp(?:\.[^.]+)?")
_LONGEST_STEM = 150  # bytes of a name that a temporary name repeats; a suffix and three numbers come on top
_numbers = itertools.count()


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the block ends well, and vanishes when it does not.

    The suffix is kept, since writers such as ffmpeg or OpenCV choose the format by it. Folders are created. Where
    `path` is a link, the file that it points to is replaced, and the link stays. A device or a named pipe
    (`/dev/stdout`) gets the finished content written into it. A file that is replaced keeps its permissions. Temporary
    files of killed processes are removed.

    Raises:
        InputError: `path` is a folder.

    Example:
        >>> with atomic_path("out/table.txt") as temporary:  # doctest: +SKIP
        ...     temporary.write_text("done")
    """
    given = Path(path)
    is_new, mode = False, stat.S_IFREG
    try:
        mode = given.stat().st_mode  # follows links
    except FileNotFoundError:
        is_new = True
    if stat.S_ISDIR(mode):
        raise InputError("is a folder, and a file is to be written there", file=given, remedy="Name a file")
    if not stat.S_ISREG(mode):
        with _written_through(given) as temporary:
            yield temporary
        return
    final = Path(os.path.realpath(given))
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(final.parent)
    # Threads of a process may write the same file; and a name has at most 255 bytes, whatever is added to it.
    stem = os.fsencode(final.stem)[:_LONGEST_STEM].decode(errors="ignore")
    temporary = final.with_name(f".{stem}.{os.getpid()}.{next(_numbers)}.tmp{final.suffix}")
    try:
        yield temporary
        if not is_new:
            os.chmod(temporary, stat.S_IMODE(mode))
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _written_through(device: Path) -> Iterator[Path]:
    """A temporary file whose content goes into a device or a pipe, which stays what it is."""
    with tempfile.TemporaryDirectory(prefix="mllm4d-") as folder:
        temporary = Path(folder) / device.name
        yield temporary
        with open(temporary, "rb") as content, open(device, "wb") as target:
            shutil.copyfileobj(content, target)


@functools.lru_cache(maxsize=1024)
def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of killed processes from a folder; looks once in each folder and process."""
    for entry in os.scandir(folder):
        match = _TEMPORARY.fullmatch(entry.name)
        if not match or _runs(int(match[1])):
            continue
        with contextlib.suppress(OSError):  # another process was quicker
            if time.time() - entry.stat().st_mtime > _ABANDONED_AFTER_S:
                os.unlink(entry.path)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # not ours to ask: it runs
        return True
    return True

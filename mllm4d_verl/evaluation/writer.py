"""One process at a time writes a file: a lock that ends with its holder, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


class LockedError(Exception):
    """Another process holds the lock."""


@contextlib.contextmanager
def only_writer(path: str | os.PathLike[str], wait: bool) -> Iterator[None]:
    """Hold the lock file `path`; it is gone afterwards.

    A killed run's worker lives for a moment longer than the run. Whoever goes on with the run must not read what is
    there before that worker is gone: its last answer would be asked for twice.

    POSIX record locks belong to the process: children that a library forks do not keep them, as they would `flock`.

    Args:
        path: of a file used for nothing else.
        wait: until it is free; else raise.

    Raises:
        LockedError: another process holds it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = open(path, "a")  # noqa: SIM115  held until the end of the context
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            file.close()
            raise LockedError(str(path)) from error
        if _is_still_at(file.fileno(), path):
            break
        file.close()  # its holder removed it in the meantime: this one locks nothing any more
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _is_still_at(descriptor: int, path: Path) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)

"""Decoded frames on a local disk, shared by all processes of a machine and kept over epochs, restarts and runs.

One file per video and sampling: an array of bytes in NumPy's format, which readers map into memory, then the metadata.
A file appears whole or not at all, so that any number of processes may write, and be killed, at any moment. NumPy's
format and a rename are all it takes; no kept cache library maps a value into memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import struct
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mllm4d_verl.data_tools.atomic import atomic_path
from mllm4d_verl.data_tools.errors import InputError

#: Environment variable: the store's folder, or "off".
PLACE = "MLLM4D_FRAME_STORE"
OFF = "off"
#: Gigabytes (2**30 bytes) that a store may take unless the user says otherwise: 14,000 clips of 8 frames of 224 x 224
#: pixels, or 650 of 32 frames of 512 x 512.
DEFAULT_GB = 16.0
#: Goes up when decoding, resizing or the file's layout changes, so that older files are not read.
_VERSION = 1
#: The last bytes of a file: length of the metadata, and a mark that tells a whole file.
_TAIL = struct.Struct("<Q8s")
_MARK = b"mllm4dV1"
#: Seconds between two notes of the last use of a file. Finer than this, the order of leaving does not matter.
_USE_NOTED_EVERY_S = 600.0
#: Of what would be free on the disk without the store, the share that the store may take.
_SHARE_OF_FREE = 0.5
#: A process looks at the size of the store after it has written this share of what is allowed.
_CHECKED_EVERY = 1 / 64
#: What is left after clearing, as a share of what is allowed: room for some writes before the next clearing.
_KEPT = 0.9


class Entry(NamedTuple):
    """(N, 3, H, W) uint8 frames, mapped from the file, and their metadata."""

    frames: NDArray[np.uint8]
    metadata: dict[str, Any]


class FrameStore:
    """Frames by key in a folder of at most `max_bytes`; what was not used for longest leaves first.

    Safe among threads and processes. The bound is exceeded by at most 1/64 for each process that writes, and by what
    the others write while one of them clears.

    Attributes:
        root: the folder. It is created, for this user alone.
        max_bytes: the bound.
    """

    def __init__(self, root: str | os.PathLike[str], max_bytes: int) -> None:
        self.root = Path(root)
        self.max_bytes = max_bytes
        self._unchecked = max_bytes  # bytes since the last look at the size; the first write looks
        self._lock = threading.Lock()
        self._is_closed = False
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def __repr__(self) -> str:
        return f"FrameStore({str(self.root)!r}, {self.max_bytes})"

    def get(self, key: str) -> Entry | None:
        """The frames of a key, None where the store has none."""
        path = self._path(key)
        try:
            entry = _read(path)
            if time.time() - path.stat().st_mtime > _USE_NOTED_EVERY_S:
                os.utime(path)
        except OSError:  # absent, or another process has just removed it
            entry = None
        except ValueError:  # a disk that lost power leaves such files
            path.unlink(missing_ok=True)
            entry = None
        return entry

    def put(self, key: str, frames: NDArray[np.uint8], metadata: Mapping[str, Any]) -> None:
        """Keep the frames of a key. A store that cannot be written to warns once and stays as it is."""
        if self._is_closed or frames.nbytes > self.max_bytes:
            return
        try:
            self._make_room(frames.nbytes)
            if self._is_closed:
                return
            with atomic_path(self._path(key)) as temporary, open(temporary, "wb") as file:
                np.lib.format.write_array(file, np.ascontiguousarray(frames), allow_pickle=False)
                text = json.dumps(dict(metadata)).encode()
                file.write(text + _TAIL.pack(len(text), _MARK))
        except OSError as error:
            self._close(f"{error.strerror}")

    def size(self) -> tuple[int, int]:
        """How many entries there are, and their bytes."""
        sizes = [size for _, size, _ in self._files()]
        return len(sizes), sum(sizes)

    def clear(self) -> None:
        """Remove all entries. Processes that have mapped one keep it."""
        for path, *_ in self._files():
            path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.root / key[:2] / f"{key[2:]}.frames"

    def _files(self) -> list[tuple[Path, int, float]]:
        """Path, bytes and time of last use of every entry."""
        found = []
        for folder in self.root.glob("[0-9a-f][0-9a-f]"):
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.endswith(".frames") and not entry.name.startswith("."):
                        with contextlib.suppress(FileNotFoundError):
                            status = entry.stat()
                            found.append((Path(entry.path), status.st_size, status.st_mtime))
        return found

    def _make_room(self, coming: int) -> None:
        """Remove what was not used for longest where the store is too large. One process at a time; others go on."""
        with self._lock:
            self._unchecked += coming
            if self._unchecked < self.max_bytes * _CHECKED_EVERY:
                return
        with open(self.root / ".clearing", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            with self._lock:
                self._unchecked = 0
            files = self._files()
            total = sum(size for _, size, _ in files)
            free_without = total + shutil.disk_usage(self.root).free
            allowed = min(self.max_bytes, int(free_without * _SHARE_OF_FREE))
            if allowed < coming:
                self._close("the disk is full")
                return
            if total + coming <= allowed:
                return
            for path, size, _ in sorted(files, key=lambda file: file[2]):
                path.unlink(missing_ok=True)
                total -= size
                if total + coming <= allowed * _KEPT:
                    break

    def _close(self, reason: str) -> None:
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        warnings.warn(
            f"decoded frames are no longer stored in {self.root} ({reason}); videos are decoded anew. Set {PLACE} to a "
            f"folder on a disk with room, or to {OFF}",
            stacklevel=2,
        )


def _read(path: Path) -> Entry:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size < _TAIL.size:
            raise ValueError("not a whole file")
        file.seek(-_TAIL.size, os.SEEK_END)
        length, mark = _TAIL.unpack(file.read())
        if mark != _MARK:
            raise ValueError("not a whole file")
        file.seek(-_TAIL.size - length, os.SEEK_END)
        metadata = json.loads(file.read(length))
    # Copy on write: torch warns of memory that it may not write to, and nobody writes.
    frames = np.lib.format.open_memmap(path, mode="c")
    if frames.dtype != np.uint8 or frames.ndim != 4:
        raise ValueError(f"an array of {frames.dtype} with {frames.ndim} axes")
    return Entry(frames, metadata)


def key_of(*parts: Any) -> str:
    """Key of what decides the frames: the file's identity, the sampling, the sizes. Anything that JSON can write."""
    return hashlib.sha256(json.dumps([_VERSION, *parts], sort_keys=True).encode()).hexdigest()[:40]


def open_store(gigabytes: float | None = None) -> FrameStore | None:
    """The store of this user on this machine; None where it is off.

    It lies in the folder that the environment variable MLLM4D_FRAME_STORE names, or in `mllm4d_frames_<user id>` of the
    folder for temporary files. `MLLM4D_FRAME_STORE=off` and 0 gigabytes turn it off.

    Args:
        gigabytes: its bound, in 2**30 bytes; None takes 16.

    Raises:
        InputError: a negative size, or a relative path in MLLM4D_FRAME_STORE.
    """
    gigabytes = DEFAULT_GB if gigabytes is None else gigabytes
    if isinstance(gigabytes, bool) or not isinstance(gigabytes, int | float) or not 0 <= gigabytes < float("inf"):
        raise InputError(
            f"not a size: {gigabytes!r}", field="data.frame_store_gb", remedy="Give gigabytes, or 0 for no store"
        )
    place = os.environ.get(PLACE, "")
    if place == OFF or gigabytes == 0:
        return None
    if place and not os.path.isabs(place):
        raise InputError(
            f"{place!r} is no absolute path: the processes of a run have other working folders",
            field=PLACE,
            remedy=f"Name an absolute path, or {OFF}",
        )
    root = Path(place or os.path.join(tempfile.gettempdir(), f"mllm4d_frames_{os.getuid()}"))
    try:
        store = FrameStore(root, int(gigabytes * 2**30))
        if not place and root.stat().st_uid != os.getuid():
            raise PermissionError(1, "it belongs to another user")
    except OSError as error:
        warnings.warn(f"no frames are stored in {root} ({error.strerror}); set {PLACE} to a folder", stacklevel=2)
        return None
    return store

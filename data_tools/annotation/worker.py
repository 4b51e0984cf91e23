"""A process that annotates clips one after the other, and the handle its parent holds it by.

The process is a child of its own, not a fork: whatever a clip does to it (a decoder that hangs or crashes, memory that
runs out) costs that clip and nothing else.
"""

from __future__ import annotations

import errno
import importlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..stereo.clip import ClipRef
from .config import AnnotateConfig
from .naming import Breaker
from .store import BAD_INPUT, CRASH, DISK, ERROR, MEMORY, TIMEOUT, AnnotationFolder, Status

#: A disk without room, in the words of different file systems.
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: Imports of a process on a cold disk; longer means that it will never come up.
_SECONDS_TO_START = 180.0


class DiskFullError(OSError):
    """The folder that is written into has no room left."""


@dataclass(frozen=True)
class Setup:
    """What a process needs to know once.

    Attributes:
        source: the folder that is annotated; paths are noted relative to it.
        out: the folder that is written.
        config: settings.
        threads: of OpenCV, so that all processes together use the cores once.
    """

    source: Path
    out: Path
    config: AnnotateConfig
    threads: int

    def status(self, ref: ClipRef, **parts: Any) -> Status:
        """The record of a clip."""
        return Status(ref.clip_id, ref.reader, os.path.relpath(ref.path, self.source), **parts)


class Worker:
    """One process and the clip it has in hand.

    Args:
        setup: what the process needs to know.
        breaker: read before each clip; whoever made it tells it of the statuses.

    Give it a clip, wait on `connection` (or until `deadline`), then call `collect`, again and again until that returns
    a status. A process that dies or runs out of time is replaced.
    """

    def __init__(self, setup: Setup, breaker: Breaker) -> None:
        self._setup, self._breaker = setup, breaker
        self._folder = AnnotationFolder(setup.out)
        self.ref: ClipRef | None = None
        self._start()

    def _start(self) -> None:
        self.connection, theirs = Pipe()
        environment = {
            **os.environ,
            # one thread for BLAS: sums must not depend on how many processes there are
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
            "OPENCV_FFMPEG_LOGLEVEL": "-8",  # what it would print on a broken file is in our own error
        }
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL)
        theirs.close()
        self.connection.send(self._setup)
        self._is_up = False
        self._clips_given = 0
        self._oom_kills = _count_oom_kills()
        self._started = time.monotonic()
        self._clip_deadline: float | None = None

    @property
    def deadline(self) -> float:
        """When, on the monotonic clock, `collect` must be called at the latest; infinite while idle."""
        if not self._is_up:
            return self._started + _SECONDS_TO_START
        return float("inf") if self._clip_deadline is None else self._clip_deadline

    def seconds_left(self) -> float | None:
        """Until the deadline, at least 0; None where there is none. For `multiprocessing.connection.wait`."""
        left = self.deadline - time.monotonic()
        return None if left == float("inf") else max(0.0, left)

    def give(self, ref: ClipRef) -> None:
        """Hand over the next clip; a process that has had its share is replaced first."""
        assert self.ref is None, "one clip at a time"
        if self._clips_given >= self._setup.config.run.clips_per_worker:
            self.close()
            self._start()
        self.ref = ref
        self._clips_given += 1
        try:
            self.connection.send((ref, self._breaker.given_up))
        except BrokenPipeError:  # it died while idle, which is no fault of this clip
            self.close()
            self._start()
            self._clips_given = 1
            self.connection.send((ref, self._breaker.given_up))

    def collect(self) -> Status | None:
        """Read one message, or judge that the process has died or hangs. None while its clip is not finished.

        Raises:
            DiskFullError: the clip could not be written for want of room; it stays unfinished.
            RuntimeError: the process did not even start.
        """
        try:
            if self.connection.poll():
                return self._take(self.connection.recv())
        except (EOFError, ConnectionResetError):
            return self._bury()
        if time.monotonic() >= self.deadline:
            if not self._is_up:
                self.close()
                raise RuntimeError(f"a process did not start within {_SECONDS_TO_START:.0f} s")
            return self._give_up()
        return None

    def close(self) -> None:
        """End the process now; what it was writing stays a temporary file."""
        self._process.kill()
        self._process.wait()
        self.connection.close()

    def _take(self, message: tuple[Any, ...]) -> Status | None:
        run = self._setup.config.run
        kind, *rest = message
        if kind == "up":
            self._is_up = True
        elif kind == "begun":
            self._clip_deadline = time.monotonic() + run.seconds_to_open
        elif kind == "opened":
            self._clip_deadline = time.monotonic() + run.seconds_to_open + run.seconds_per_frame * rest[0]
            self._clip_deadline += self._setup.config.naming.longest_s
        else:
            self.ref, self._clip_deadline = None, None
            if kind == "disk full":
                raise DiskFullError(rest[0])
            status: Status = rest[0]
            return status
        return None

    def _give_up(self) -> Status:
        run = self._setup.config.run
        text = (
            f"not finished within {run.seconds_to_open:g} s and {run.seconds_per_frame:g} s per frame "
            "(run.seconds_to_open, run.seconds_per_frame); the process was stopped"
        )
        self.close()
        return self._failed(TIMEOUT, text)

    def _bury(self) -> Status | None:
        code = self._process.wait()
        self.connection.close()
        if not self._is_up:
            raise RuntimeError(f"a process for clips ended with code {code} before it took one")
        if self.ref is None:
            self._start()
            return None
        name = signal.Signals(-code).name if code < 0 else f"code {code}"
        if code == -signal.SIGKILL and _count_oom_kills() > self._oom_kills:
            return self._failed(MEMORY, "the kernel ended the process for want of memory; use fewer workers")
        return self._failed(CRASH, f"the process that read it ended with {name}")

    def _failed(self, kind: str, text: str) -> Status:
        assert self.ref is not None
        status = self._setup.status(self.ref, failure={"kind": kind, "text": text})
        self.ref = None
        self._folder.clear_leftovers(self._process.pid)
        self._folder.remove_clip(status.clip_id)
        self._start()
        self._folder.write_status(status)
        return status


def _count_oom_kills() -> int:
    """Processes that the kernel has ended for want of memory since it booted; 0 where it does not say."""
    try:
        text = Path("/proc/vmstat").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill "))


# ------------------------------------------------------------------------------------------------ in the process


def annotate_ref(ref: ClipRef, setup: Setup, on_open: Any = None, names_given_up: str = "") -> Status:
    """Annotate one clip and write its status.

    Args:
        ref: the clip.
        setup: folders and settings.
        names_given_up: see `annotate_clip`.
        on_open: called with the number of frames once the clip is open.

    Raises:
        DiskFullError: nothing of the clip counts as written.
    """
    folder = AnnotationFolder(setup.out)
    try:
        status = _annotate(ref, setup, on_open, names_given_up)
        folder.write_status(status)
    except OSError as error:
        if error.errno in _DISK_FULL:
            folder.remove_clip(ref.clip_id)  # it is to be done again; till then it takes no room
            raise DiskFullError(str(error)) from error
        raise
    return status


def _annotate(ref: ClipRef, setup: Setup, on_open: Any, names_given_up: str) -> Status:
    import cv2

    from ..readers import open_clip
    from .clip import annotate_clip

    num_frames = 0
    try:
        clip = open_clip(ref)
        num_frames = clip.num_frames
        if on_open is not None:
            on_open(num_frames)
        outcomes = annotate_clip(clip, setup.config, setup.out, names_given_up)
        return setup.status(ref, num_frames=num_frames, outcomes=tuple(outcomes))
    except InputError as error:
        kind, text = BAD_INPUT, str(error)
    except MemoryError as error:
        kind, text = MEMORY, f"{error or 'memory ran out'}; use fewer workers or a smaller frames.max_frames"
    except cv2.error as error:
        is_memory = error.code == -4  # StsNoMem
        kind, text = (MEMORY, "OpenCV ran out of memory; use fewer workers") if is_memory else (ERROR, _where(error))
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise
        kind, text = DISK, str(error)
    except Exception as error:  # a fault of ours: it costs this clip, and its place is kept for a report
        kind, text = ERROR, _where(error)
    AnnotationFolder(setup.out).remove_clip(ref.clip_id)
    return setup.status(ref, num_frames=num_frames, failure={"kind": kind, "text": text})


def _where(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {str(error).strip()} ({Path(frame.filename).name}:{frame.lineno})"


def prepare_process(threads: int) -> None:
    """Threads and messages of the libraries that read clips, and the code: no clip's time is to go by on imports."""
    import av
    import cv2

    from .. import readers  # noqa: F401
    from . import clip  # noqa: F401

    cv2.setNumThreads(threads)
    av.logging.set_level(av.logging.PANIC)


def main(descriptor: int) -> None:
    """Serve the parent at the other end of the pipe until it closes it, or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent decides
    connection = Connection(descriptor)
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, messages), daemon=True).start()
    setup: Setup = messages.get()
    prepare_process(setup.threads)
    connection.send(("up",))
    while True:
        ref, names_given_up = messages.get()
        connection.send(("begun",))
        try:
            status = annotate_ref(
                ref, setup, lambda num_frames: connection.send(("opened", num_frames)), names_given_up
            )
        except DiskFullError as error:
            connection.send(("disk full", str(error)))
        else:
            connection.send(("done", status))


def _listen(connection: Connection, messages: queue.SimpleQueue[Any]) -> None:
    """Ends the process when the parent is gone, even if it was killed, and whatever the clip in hand is doing."""
    while True:
        try:
            messages.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)


if __name__ == "__main__":
    # Under its own name, so that what is sent has the class that the parent knows.
    importlib.import_module("mllm4d_verl.data_tools.annotation.worker").main(int(sys.argv[1]))

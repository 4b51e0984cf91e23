"""A process and all it starts: how much memory they hold together, and how to end every one of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from types import TracebackType

import psutil

_GRACE_SECONDS = (15.0, 5.0)  # after SIGINT, after SIGTERM


class MemoryMeter:
    """A context manager that samples the memory of this process and all its descendants.

    Args:
        every_seconds: time between two samples.
    """

    def __init__(self, every_seconds: float = 5.0) -> None:
        self._every_seconds = every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.peak_bytes = 0

    def __enter__(self) -> MemoryMeter:
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        own = psutil.Process()
        while True:
            self.peak_bytes = max(self.peak_bytes, resident_bytes({own, *own.children(recursive=True)}))
            if self._stop.wait(self._every_seconds):
                return


def resident_bytes(processes: set[psutil.Process]) -> int:
    """Proportional set size (shared pages counted once) summed over the processes that are still there."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.is_running():  # the same process, not a later one with its id
                total += process.memory_full_info().pss
    return total


class ProcessTree:
    """Follows a child that leads its own process group, with every descendant ever seen.

    Ray and vLLM start servers that leave the group or outlive their parent, so descendants are remembered (by process
    id and start time) each time `memory_bytes` or `remember` looks.
    """

    def __init__(self, leader: subprocess.Popen) -> None:
        self._leader = leader
        self._seen: set[psutil.Process] = set()
        self.peak_memory_bytes = 0
        self.remember()

    def remember(self) -> None:
        """Note the descendants that are alive now."""
        with contextlib.suppress(psutil.NoSuchProcess):
            leader = psutil.Process(self._leader.pid)
            self._seen.add(leader)
            self._seen.update(leader.children(recursive=True))

    def memory_bytes(self) -> int:
        """`resident_bytes` of the tree now. Updates the peak."""
        self.remember()
        total = resident_bytes(self._seen)
        self.peak_memory_bytes = max(self.peak_memory_bytes, total)
        return total

    def end(self) -> None:
        """End the whole tree: ask first (SIGINT as Ctrl-C does, then SIGTERM), then SIGKILL what is left."""
        self.remember()
        for number, grace in zip((signal.SIGINT, signal.SIGTERM), _GRACE_SECONDS, strict=True):
            if self._leader.poll() is not None:
                break
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._leader.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._leader.wait(grace)
            self.remember()
        self.end_leftovers()

    def end_leftovers(self) -> None:
        """Kill every process of the tree that is still alive; a finished run has none."""
        deadline = time.monotonic() + 5.0
        alive = [process for process in self._seen if process.is_running()]
        while alive and time.monotonic() < deadline and self._leader.poll() is not None:
            _, alive = psutil.wait_procs(alive, timeout=1.0)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=5.0)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._leader.wait(5.0)

"""A process and all it starts: how much memory they hold together, and how to end every one of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time

import psutil

_GRACE_SECONDS = (15.0, 5.0)  # after SIGINT, after SIGTERM


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
        """Proportional set size summed over the tree: shared pages counted once. Updates the peak."""
        self.remember()
        total = 0
        for process in self._seen:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.is_running():  # the same process, not a later one with its id
                    total += process.memory_full_info().pss
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

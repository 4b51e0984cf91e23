"""Processor time of this process and all it starts, kept on disk so that it survives a kill."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import psutil

from mllm4d_verl.data_tools.atomic import atomic_path

_EVERY_SECONDS = 1.0
_SAVE_EVERY_SECONDS = 5.0


class Usage(NamedTuple):
    """What a job took, over all its launches.

    Attributes:
        seconds: wall time.
        processor_seconds: user and system time of all processes.
        launches: how often it was started; more than one after a kill, whose repeated steps count again.
    """

    seconds: float
    processor_seconds: float
    launches: int


class UsageMeter:
    """A context manager that follows the processor time of this process and of every descendant ever seen.

    Ray's servers and workers leave their parent, so each process is remembered, with the time it had used when it was
    last looked at: once a second. What a process uses after the last look before its end is not counted.

    Args:
        folder: gets a file for this launch.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / f"launch_{len(list(folder.glob('launch_*.json'))):03d}.json"
        self._own = psutil.Process()
        self._used: dict[psutil.Process, float] = {}
        self._began_processor = _processor_seconds(self._own)
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> UsageMeter:
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self.look()
        self._save()

    def look(self) -> float:
        """Look at all processes now; processor seconds of this launch so far."""
        with self._lock:
            for process in (self._own, *self._own.children(recursive=True), *list(self._used)):
                with contextlib.suppress(psutil.Error):
                    if process.is_running():  # the same process, not a later one with its id
                        self._used[process] = _processor_seconds(process)
            return sum(self._used.values()) - self._began_processor

    def _watch(self) -> None:
        saved = -_SAVE_EVERY_SECONDS
        while not self._stop.wait(_EVERY_SECONDS):
            self.look()
            if time.monotonic() - saved >= _SAVE_EVERY_SECONDS:
                self._save()
                saved = time.monotonic()

    def _save(self) -> None:
        used = {
            "seconds": round(time.monotonic() - self._began, 2),
            "processor_seconds": round(sum(self._used.values()) - self._began_processor, 2),
        }
        with atomic_path(self._file) as part:
            Path(part).write_text(json.dumps(used) + "\n", encoding="utf-8")


def read_usage(folder: Path) -> Usage:
    """The sum over the launches noted in a folder."""
    launches = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("launch_*.json"))]
    return Usage(
        seconds=round(sum(launch["seconds"] for launch in launches), 2),
        processor_seconds=round(sum(launch["processor_seconds"] for launch in launches), 2),
        launches=len(launches),
    )


def _processor_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)

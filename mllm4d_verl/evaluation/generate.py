"""Runs a GenerationJob in a process of its own and waits for it: quiet console, log in a file, safe to interrupt."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mllm4d_verl.data_tools.atomic import atomic_path

from .job import GenerationJob

LOG_NAME = "engine.log"
JOB_NAME = "job.json"
_POLL_S = 0.2
_GRACE_S = 10.0
_LOG_TAIL_LINES = 15

Progress = Callable[[int, int | None], None]


class GenerationError(RuntimeError):
    """The process that generates ended with a fault; the message has the end of its log."""

    def __init__(self, message: str, log: Path) -> None:
        super().__init__(message)
        self.log = log


def run_job(job: GenerationJob, folder: Path, progress: Progress | None = None) -> None:
    """Generate the responses that `job.unfinished` lacks.

    Args:
        job: what to generate.
        folder: gets `engine.log` and `job.json`.
        progress: called with (responses so far, responses in all or None while the engine starts).

    Raises:
        GenerationError: the process failed. Responses that were finished stay, and the next call goes on after them.
    """
    job_file, log_file = folder / JOB_NAME, folder / LOG_NAME
    with atomic_path(job_file) as temporary:
        temporary.write_text(json.dumps(asdict(job), indent=2) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", f"{__package__}.worker", str(job_file), str(os.getpid())]
    with open(log_file, "ab") as log:
        # A session of its own: Ctrl-C reaches this process only, which then ends the engine and all its children.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    counts = _Counts(job)
    try:
        while process.poll() is None:
            if progress is not None:
                progress(*counts())
            time.sleep(_POLL_S)
    finally:
        _end(process)
    if progress is not None:
        progress(*counts())
    if process.returncode != 0:
        raise GenerationError(
            f"generation ended with exit code {process.returncode}; the end of {log_file}:\n{_tail(log_file)}", log_file
        )


@dataclass(frozen=True)
class Plan:
    """What the worker will have answered when it is done.

    Attributes:
        keys: (id, sample) of every response, in the order of the question file.
        media: what the model sees of the videos, see `questions.describe_media`.
    """

    keys: list[tuple[str, int]]
    media: dict[str, Any]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, job: GenerationJob) -> Plan:
        """The plan of a job. Raises OSError before the worker has written it."""
        content = json.loads(plan_file(job).read_text(encoding="utf-8"))
        return cls([(question, sample) for question, sample in content["keys"]], content["media"])


def plan_file(job: GenerationJob) -> Path:
    """Where the worker writes its Plan."""
    return Path(job.unfinished).with_suffix(".plan.json")


def lock_file(job: GenerationJob) -> Path:
    """Held by the worker."""
    return Path(job.unfinished).with_suffix(".lock")


class _Counts:
    """Counts the finished responses; reads on where it stopped, for it is asked several times a second."""

    def __init__(self, job: GenerationJob) -> None:
        self._job = job
        self._total: int | None = None
        self._done, self._offset = 0, 0

    def __call__(self) -> tuple[int, int | None]:
        try:
            if self._total is None:
                self._total = len(Plan.read(self._job).keys)
            with open(self._job.unfinished, "rb") as file:
                file.seek(self._offset)
                lines = file.read().rpartition(b"\n")[0]
        except OSError:  # the engine is starting
            return self._done, self._total
        if lines:
            self._done += lines.count(b"\n") + 1
            self._offset += len(lines) + 1
        return self._done, self._total


def _end(process: subprocess.Popen) -> None:
    if process.poll() is not None:
        return
    for signal_number, wait_s in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal_number)
        try:
            process.wait(wait_s)
            return
        except subprocess.TimeoutExpired:
            continue


def _tail(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-_LOG_TAIL_LINES:])

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
from dataclasses import asdict
from pathlib import Path

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
    command = [sys.executable, "-m", f"{__package__}.worker", str(job_file)]
    with open(log_file, "ab") as log:
        # A session of its own: Ctrl-C reaches this process only, which then ends the engine and all its children.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        while process.poll() is None:
            if progress is not None:
                progress(*_counts(job))
            time.sleep(_POLL_S)
    finally:
        _end(process)
    if progress is not None:
        progress(*_counts(job))
    if process.returncode != 0:
        raise GenerationError(
            f"generation ended with exit code {process.returncode}; the end of {log_file}:\n{_tail(log_file)}", log_file
        )


def plan_file(job: GenerationJob) -> Path:
    """Where the worker writes the ids of the questions it will have answered, in the order of the file."""
    return Path(job.unfinished).with_suffix(".plan.json")


def _counts(job: GenerationJob) -> tuple[int, int | None]:
    try:
        total = len(json.loads(plan_file(job).read_text(encoding="utf-8")))
        with open(job.unfinished, "rb") as file:
            return sum(line.endswith(b"\n") for line in file), total
    except OSError:  # the engine is starting
        return 0, None


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

"""Runs a command the way a user does, and reads what it logged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

TIME_LIMIT_S = 540
_RUN_ID = "MLLM4D_E2E_RUN"  # in the environment of a command and of everything it starts


@dataclass(frozen=True)
class Finished:
    """A command that has ended.

    Attributes:
        returncode: of the command.
        log: file with its standard output and error.
        metrics: what verl's `file` logger wrote, one mapping per step, `step` included.
        seconds: wall time.
    """

    returncode: int
    log: Path
    metrics: list[dict[str, float]]
    seconds: float

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def check(self) -> Finished:
        """Fail the test, with the end of the log, unless the command succeeded."""
        if self.returncode != 0:
            pytest.fail(f"exit code {self.returncode}; the log {self.log} ends:\n{self.output[-6000:]}")
        return self


def run_command(
    command: Sequence[str],
    folder: Path,
    *,
    env: Mapping[str, str] | None = None,
    time_limit_s: float = TIME_LIMIT_S,
    until: Callable[[str], bool] | None = None,
) -> Finished:
    """Run `command` in `folder` on the CPU lane with a Ray of its own, and leave no process of it behind.

    Args:
        command: program and arguments; "python" stands for the running interpreter.
        folder: working directory; the log and the metrics file are written there. Use one folder per run.
        env: more variables.
        time_limit_s: the command is killed after this many seconds, and the test fails.
        until: called with the log so far; when it returns true the command is killed (-9), as by a crash.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run_id = uuid.uuid4().hex
    # Sockets below Ray's folder must not exceed 107 characters.
    ray_folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    log, metrics = folder / "run.log", folder / "metrics.jsonl"
    variables = {
        **os.environ,
        # The console scripts of the running interpreter's environment, activated or not.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "VERL_PLATFORM": "cpu",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "2",
        "RAY_TMPDIR": ray_folder,
        "VERL_FILE_LOGGER_PATH": str(metrics),
        "MLLM4D_FRAME_STORE": str(folder / "frame_store"),
        _RUN_ID: run_id,
        **(env or {}),
    }
    variables.pop("RAY_ADDRESS", None)
    arguments = [sys.executable if word == "python" else word for word in command]
    started = time.monotonic()
    try:
        with log.open("wb") as stream:
            process = subprocess.Popen(
                arguments, cwd=folder, env=variables, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
            )
            _wait(process, log, time_limit_s, until)
    finally:
        _end_everything(run_id)
        shutil.rmtree(ray_folder, ignore_errors=True)
    rows = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
    return Finished(
        process.returncode, log, [{"step": row["step"], **row["data"]} for row in rows], time.monotonic() - started
    )


def _wait(process: subprocess.Popen, log: Path, time_limit_s: float, until: Callable[[str], bool] | None) -> None:
    deadline = time.monotonic() + time_limit_s
    while process.poll() is None:
        if time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            end = log.read_text(errors="replace")[-6000:]
            pytest.fail(f"no end after {time_limit_s:.0f} s; the log {log} ends:\n{end}")
        if until is not None and until(log.read_text(errors="replace")):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return
        time.sleep(0.5)


def _end_everything(run_id: str) -> None:
    """Kill what a run left behind: Ray's daemons and workers are in process groups of their own."""
    import psutil

    for process in psutil.process_iter():
        try:
            if process.environ().get(_RUN_ID) == run_id:
                process.kill()
        except psutil.Error:
            continue

"""A process that does one job: `python -m mllm4d_verl.study.worker job.json PARENT`. Executors start it.

A process of its own, so that verl and vLLM find a clean environment and what they leave behind ends with it. When its
parent is killed, it ends too, with everything it has started.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.evaluation.writer import only_writer
from mllm4d_verl.training.stages import StageLog

from .jobs import FAILED_FILE, LOG_FILE, Job, stamp_name

_LOCK = "job.lock"
_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
_EXIT_INTERRUPTED = 130
_END_SECONDS = 60.0  # a worker that was told to end may take so long: Ray's and vLLM's processes end before it


def run_in_process(job: Job, environment: Mapping[str, str], show_progress: bool = False) -> str | None:
    """Do a job in a worker process, and wait for it.

    Args:
        environment: of the process; the job's own variables are added where it has none of that name.
        show_progress: whether the worker's bars go to this process's standard error, or to the job's log.

    Returns:
        Why it failed; None if it did not.
    """
    file = job.save()
    variables = {**job.environment, **environment}
    with open(job.path / LOG_FILE, "ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "mllm4d_verl.study.worker", str(file), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=None if show_progress else log,
            env=variables,
            start_new_session=True,  # Ctrl-C reaches this process alone, which ends the worker in order
        )
        try:
            code = child.wait()
        except BaseException:
            _end(child)
            raise
    if code == 0 and job.is_done:
        return None
    return job.failure() or f"the worker ended with code {code}; its log is {job.path / LOG_FILE}"


def do_job(job: Job) -> None:
    """Do a job in this process, unless it is done. Another process that is at it is waited for.

    Raises:
        Exception: whatever the job raises; the message is in failed.json too.
    """
    with only_writer(job.path / _LOCK, wait=True):
        failed = job.path / FAILED_FILE
        failed.unlink(missing_ok=True)
        module, _, name = job.entry.partition(":")
        try:
            work = getattr(importlib.import_module(module), name)
            StageLog(job.path).run(stamp_name(), job.key, (), job.path / job.product, lambda: work(job))
        except Exception as error:
            text = str(error) if isinstance(error, InputError | RuntimeError) else f"{type(error).__name__}: {error}"
            failed.write_text(json.dumps({"error": text}), encoding="utf-8")
            raise


def _end(child: subprocess.Popen[Any]) -> None:
    """End a worker, and give it the time to end its own processes."""
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
    try:
        child.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _end_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before the line above
        raise SystemExit(1)


def _interrupt(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once: what ends now must not be interrupted by a second one
    raise KeyboardInterrupt


def main(arguments: list[str]) -> None:
    """Entry point of the process."""
    _end_with_parent(int(arguments[1]))
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        do_job(Job.read(Path(arguments[0])))
    except KeyboardInterrupt:
        raise SystemExit(_EXIT_INTERRUPTED) from None
    except Exception:  # the message is in failed.json; standard output is the job's log
        traceback.print_exc(file=sys.stdout)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main(sys.argv[1:])

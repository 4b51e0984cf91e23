"""Runs code in an interpreter of its own: what importing verl and vLLM does with the plugin happens once a process."""

import atexit
import functools
import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path

from mllm4d_verl.cpu_lane.environment import cpu_lane_environment

WARM = Path(__file__).with_name("warm_interpreter.py")


def python(code, *arguments, timeout=240, **env):
    """Run `code` with these arguments and variables in a fresh process; return (standard output, standard error)."""
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**_variables(), **env},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout, run.stderr


def warm_python(code, *arguments, timeout=240, **env):
    """As `python`, in a process that has imported torch, transformers, Ray and their like, and neither verl nor vLLM.

    Most of the time of a fresh process goes into those. The plugin comes into play later, when verl or vLLM is loaded.
    """
    process = _warm_process()
    with tempfile.TemporaryDirectory() as folder:
        output, error = Path(folder, "output"), Path(folder, "error")
        question = {"code": code, "arguments": arguments, "environment": {**_variables(), **env}}
        process.stdin.write(json.dumps({**question, "output": str(output), "error": str(error)}) + "\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], timeout)[0]:
            _warm_process.cache_clear()
            process.kill()
            raise subprocess.TimeoutExpired(code, timeout)
        assert process.stdout.readline() == "0\n", error.read_text()
        return output.read_text(), error.read_text()


@functools.cache
def _warm_process():
    """The process that `warm_python` copies: one for all tests of a run."""
    process = subprocess.Popen(
        [sys.executable, str(WARM)], env=_variables(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(process.kill)
    return process


def _variables():
    return {k: v for k, v in os.environ.items() if k not in cpu_lane_environment() and not k.startswith("MLLM4D_")}

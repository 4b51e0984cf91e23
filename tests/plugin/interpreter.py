"""Runs code in a fresh interpreter: what `import verl` and `import vllm` do with the plugin happens once a process."""

import os
import subprocess
import sys

from mllm4d_verl.cpu_lane.environment import cpu_lane_environment


def python(code, *arguments, timeout=240, **env):
    """Run `code` with these arguments and variables and return (standard output, standard error)."""
    variables = {k: v for k, v in os.environ.items() if k not in cpu_lane_environment() and not k.startswith("MLLM4D_")}
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**variables, **env},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout, run.stderr

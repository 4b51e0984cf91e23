"""vLLM's adaptations, examined in a process like those that vLLM starts for its engine and its workers.

The process inherits the environment of one that has imported verl's vLLM server. It loads vLLM's general plugins as
`EngineCore` and `WorkerWrapperBase` do, and nothing of verl before that.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from mllm4d_verl.doctor.check import ENGINE, FAILED, Check

TIME_LIMIT_S = 300  # for one process: importing vLLM takes 10 to 60 s on slow disks

# The module of the actor whose children vLLM's engine processes are. The plugin acts on its import.
_VERLS_VLLM_SERVER = "verl.workers.rollout.vllm_rollout.vllm_async_server"


def examine_engine(environment: dict[str, str] | None = None) -> list[Check]:
    """Start a process as vLLM does and examine the adaptations of vLLM in it.

    Args:
        environment: what verl adds to the environment of its rollout servers; None adds nothing.
    """
    try:
        importlib.import_module(_VERLS_VLLM_SERVER)
    except Exception as error:
        return [Check(ENGINE, "start", FAILED, f"verl's vLLM server: {type(error).__name__}: {error}")]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "checks.json"
        try:
            finished = subprocess.run(
                [sys.executable, "-c", f"from {__name__} import main; main()", str(file)],
                env={**os.environ, **(environment or {})},
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIME_LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            return [Check(ENGINE, "start", FAILED, f"no answer within {TIME_LIMIT_S} s")]
        if not file.exists():
            end = "; ".join(finished.stderr.strip().splitlines()[-3:])
            return [Check(ENGINE, "start", FAILED, f"exit code {finished.returncode}: {end}")]
        return [Check(**check) for check in json.loads(file.read_text())]


def verls_environment() -> dict[str, str]:
    """Variables that verl sets for its rollout servers, whose children vLLM's engine processes are."""
    from verl.plugin.platform import get_platform
    from verl.trainer.constants_ppo import get_ppo_ray_runtime_env

    platform = get_platform()
    return {
        **get_ppo_ray_runtime_env()["env_vars"],
        **dict.fromkeys(platform.ray_noset_envvars(), "1"),
        **platform.rollout_env_vars(),
    }


def main() -> None:
    """The fresh process: writes its checks to the file named by its argument, as JSON."""
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    from mllm4d_verl.doctor.process import examine_adaptations

    checks = examine_adaptations(ENGINE, vllm=True, verl=False)
    Path(sys.argv[1]).write_text(json.dumps([asdict(check) for check in checks]))

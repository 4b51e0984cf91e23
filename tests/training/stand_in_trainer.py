"""Plans whose command is a small program in the trainer's place, and a watcher that looks at it more often."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from mllm4d_verl.training import run as run_module
from mllm4d_verl.training.command import TrainingJob, VerlCommand
from mllm4d_verl.training.recipe import find_recipe
from mllm4d_verl.training.run import TrainingPlan, run_training


def plan(tmp_path: Path, program: str, total_steps: int = 2) -> TrainingPlan:
    """A plan whose command is a Python program; METRICS and CHECKPOINTS are defined in it."""
    job = TrainingJob("sft", find_recipe("tiny_cpu"), tmp_path)
    metrics = tmp_path / "metrics" / "launch_000.jsonl"
    head = f"METRICS = {str(metrics)!r}; CHECKPOINTS = {str(job.checkpoints)!r}\n"
    command = VerlCommand([sys.executable, "-c", head + textwrap.dedent(program)])
    return TrainingPlan(job, None, command, total_steps, tmp_path / "logs" / "launch_000.log", metrics)


def run_and_look_often(tmp_path: str, program: str) -> None:
    """`run_training` in a process of its own that is to be interrupted."""
    run_module._POLL_SECONDS = run_module._MEMORY_EVERY_SECONDS = 0.1
    run_training(plan(Path(tmp_path), program))

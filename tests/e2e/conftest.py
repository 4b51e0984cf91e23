"""Fixtures of the end-to-end tests: real trainers, run as commands on the CPU lane."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import runner

pytest.importorskip("verl")
pytest.importorskip("vllm")


@pytest.fixture(scope="session")
def run_command() -> Callable[..., runner.Finished]:
    """`run_command(command, folder, env=, time_limit_s=, until=)`, see `runner.run_command`."""
    return runner.run_command


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Builds the tiny model of an architecture once per session: `tiny_model("qwen3_vl")`."""
    from mllm4d_verl.recipes.tiny_cpu.model import build_tiny_model

    built: dict[str, Path] = {}

    def build(arch: str) -> Path:
        if arch not in built:
            # A sharp output layer, so that the tokens the rollout may not sample weigh nothing in the actor either.
            built[arch] = build_tiny_model(
                tmp_path_factory.mktemp(arch), arch=arch, seed=0, hidden=64, layers=2, head_std=0.3
            )
        return built[arch]

    return build

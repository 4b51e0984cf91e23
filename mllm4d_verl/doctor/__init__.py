"""Proves that plugin, versions, reward, dataset and prompts fit together: in this process, on every Ray node, in vLLM.

verl swallows the errors of plugins, and registration that works in the driver may be missing in its workers. So nothing
here trusts that something was registered: each check uses what it checks.
"""

from __future__ import annotations

import os

from mllm4d_verl.doctor.check import (
    ACTOR,
    DRIVER,
    ENGINE,
    FAILED,
    OK,
    PROMPTS,
    SKIPPED,
    WARNING,
    Check,
    folded,
    healthy,
    places,
)
from mllm4d_verl.doctor.engine import examine_engine, verls_environment
from mllm4d_verl.doctor.nodes import examine_nodes
from mllm4d_verl.doctor.process import FLASH, SDPA, examine_process
from mllm4d_verl.doctor.prompts import examine_prompts, examine_sample, vllm_inputs
from mllm4d_verl.doctor.versions import examine_versions

__all__ = [
    "ACTOR",
    "DRIVER",
    "ENGINE",
    "FAILED",
    "FLASH",
    "OK",
    "PROMPTS",
    "SDPA",
    "SKIPPED",
    "WARNING",
    "Check",
    "examine",
    "folded",
    "healthy",
    "places",
    "vllm_inputs",
]


def examine(
    model: str | os.PathLike[str] | None = None, *, ray: bool = True, vllm: bool = True, attention: str = FLASH
) -> list[Check]:
    """Run every check.

    Args:
        model: checkpoint whose processor is compared with vLLM's; None makes a tiny Qwen3-VL and a tiny Qwen2.5-VL.
        ray: also check in an actor on every node of the Ray at RAY_ADDRESS, or in one of a Ray started for it.
        vllm: also check what concerns vLLM.
        attention: what training will use, FLASH or SDPA.
    """
    checks = [*examine_versions(), *examine_process(DRIVER, vllm=vllm, attention=attention)]
    if not healthy(check for check in checks if check.name == "plugin"):
        return [*checks, Check(ACTOR, "registration", SKIPPED, "the driver has no plugin")]
    checks += examine_sample()
    if vllm and not ray:  # with Ray, each actor starts such a process
        checks += examine_engine(verls_environment())
    checks += (
        examine_nodes(vllm=vllm, attention=attention) if ray else [Check(ACTOR, "registration", SKIPPED, "--no-ray")]
    )
    checks += examine_prompts(model) if vllm else [Check(PROMPTS, "prompt tokens", SKIPPED, "--no-vllm")]
    return checks

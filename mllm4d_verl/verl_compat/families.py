"""Which model family a processor is of."""

from __future__ import annotations

from typing import Any


def is_qwen3_vl(processor: Any) -> bool:
    return "Qwen3VL" in type(processor).__name__


def is_qwen2_5_vl(processor: Any) -> bool:
    return "Qwen2_5_VL" in type(processor).__name__

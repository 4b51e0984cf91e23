"""Question rows on their way into verl: the RL dataset, the SFT dataset, and the checks before either is built.

The dataset classes import verl and torch; `validate_rows` does not. Hence the lazy names.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mllm4d_verl.datasets.rl import MLLM4DDataset
    from mllm4d_verl.datasets.sft import MLLM4DSFTDataset
    from mllm4d_verl.datasets.validation import DataSummary, validate_rows

_HOME = {
    "MLLM4DDataset": "rl",
    "MLLM4DSFTDataset": "sft",
    "DataSummary": "validation",
    "validate_rows": "validation",
}

__all__ = ["DataSummary", "MLLM4DDataset", "MLLM4DSFTDataset", "validate_rows"]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)

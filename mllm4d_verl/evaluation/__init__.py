"""How good is a model: answers from vLLM on the prompts of training, scored by ST-reward, with honest intervals."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mllm4d_verl.evaluation.comparison import Comparison, compare_records
    from mllm4d_verl.evaluation.generate import GenerationError
    from mllm4d_verl.evaluation.responses import ResponseRecord, read_responses, write_responses
    from mllm4d_verl.evaluation.run import EvaluationResult, evaluate
    from mllm4d_verl.evaluation.scoring import score_records
    from mllm4d_verl.evaluation.summary import Summary, summarise

_HOME = {
    "Comparison": "comparison",
    "EvaluationResult": "run",
    "GenerationError": "generate",
    "ResponseRecord": "responses",
    "Summary": "summary",
    "compare_records": "comparison",
    "evaluate": "run",
    "read_responses": "responses",
    "score_records": "scoring",
    "summarise": "summary",
    "write_responses": "responses",
}

__all__ = [
    "Comparison",
    "EvaluationResult",
    "GenerationError",
    "ResponseRecord",
    "Summary",
    "compare_records",
    "evaluate",
    "read_responses",
    "score_records",
    "summarise",
    "write_responses",
]


def __getattr__(name: str):
    # Lazy, because the worker process imports a module of this package before vLLM's environment is set.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)

"""Asks vLLM itself whether its KV cache holds one request of a recipe, without a GPU and without weights.

vLLM builds its configuration from the model's architecture and the arguments that verl gives it, and its own function
checks the cache (`vllm.v1.core.kv_cache_utils.get_kv_cache_configs`, the one that an engine calls at its start).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_TIMEOUT_SECONDS = 300  # importing vLLM takes 10 to 60 seconds, by the disk
_BLOCK_SIZE = 16  # tokens of a cache block; vLLM's default on a GPU
_MARK = "MLLM4D_ENGINE_CHECK "  # in front of the answer: vLLM prints to standard output too


@dataclass(frozen=True)
class EngineQuestion:
    """What an engine is started with.

    Attributes:
        model_config: the model's `config.json`.
        max_model_len, max_num_seqs, max_num_batched_tokens, tensor_parallel: as verl passes them.
        available: bytes for the KV cache on each GPU.
    """

    model_config: dict[str, Any]
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    tensor_parallel: int
    available: int


@dataclass(frozen=True)
class EngineAnswer:
    """What vLLM says.

    Attributes:
        fits: whether the engine would start.
        reason: vLLM's message where it would not.
        by: "vLLM 0.28.0", or "estimate" where vLLM could not be asked.
    """

    fits: bool
    reason: str
    by: str


def ask_vllm(question: EngineQuestion) -> EngineAnswer:
    """Ask in this process, which imports vLLM.

    Raises:
        Exception: vLLM is missing or refuses the arguments for another reason than the cache.
    """
    import torch
    import vllm
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.core.kv_cache_utils import get_kv_cache_configs
    from vllm.v1.kv_cache_interface import FullAttentionSpec

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(question.model_config), encoding="utf-8")
        config = EngineArgs(
            model=folder,
            skip_tokenizer_init=True,
            load_format="dummy",
            dtype="bfloat16",
            block_size=_BLOCK_SIZE,
            enforce_eager=True,  # compilation is configured otherwise, which would ask for a GPU
            distributed_executor_backend="mp",  # as verl has it
            max_model_len=question.max_model_len,
            max_num_seqs=question.max_num_seqs,
            max_num_batched_tokens=question.max_num_batched_tokens,
            tensor_parallel_size=question.tensor_parallel,
        ).create_engine_config()
    model, parallel = config.model_config, config.parallel_config
    layer = FullAttentionSpec(
        block_size=_BLOCK_SIZE,
        num_kv_heads=model.get_num_kv_heads(parallel),
        head_size=model.get_head_size(),
        dtype=torch.bfloat16,
    )
    layers = {f"layers.{index}": layer for index in range(model.get_num_layers(parallel))}
    workers = question.tensor_parallel
    by = f"vLLM {vllm.__version__}"
    try:
        get_kv_cache_configs(config, [layers] * workers, [question.available] * workers)
    except ValueError as error:
        return EngineAnswer(False, str(error), by)
    return EngineAnswer(True, "", by)


def ask_vllm_outside(question: EngineQuestion) -> EngineAnswer | None:
    """Ask in a process of its own, so that this one stays free of vLLM. None where vLLM could not be asked."""
    command = [sys.executable, "-m", "mllm4d_verl.training.budget.engine"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(asdict(question)),
            env={**os.environ, "VLLM_LOGGING_LEVEL": "ERROR"},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    answers = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    return EngineAnswer(**json.loads(answers[-1].removeprefix(_MARK))) if done.returncode == 0 and answers else None


def estimate(question: EngineQuestion, cache_per_token: int) -> EngineAnswer:
    """The same question answered by multiplication, where vLLM could not be asked."""
    blocks = -(-question.max_model_len // _BLOCK_SIZE)
    needed = blocks * _BLOCK_SIZE * cache_per_token
    reason = f"one request of {question.max_model_len} tokens needs {needed / 2**30:.1f} GiB of KV cache, "
    left = question.available / 2**30
    reason += f"{left:.1f} GiB are there" if left > 0 else f"and the weights alone are {-left:.1f} GiB too many"
    return EngineAnswer(needed <= question.available, "" if needed <= question.available else reason, "estimate")


def main() -> None:
    """Read a question as JSON from standard input and print the answer."""
    print(_MARK + json.dumps(asdict(ask_vllm(EngineQuestion(**json.load(sys.stdin))))))


if __name__ == "__main__":
    main()

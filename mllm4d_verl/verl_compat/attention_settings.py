"""Attention settings with which verl computes another model, checked before Ray starts and before weights are loaded.

verl's sequence parallelism was made for packed sequences and flash-attn (verl pull request 735), and says so nowhere in
its checks: with `attn_implementation=sdpa` each process attends to its own part of a sequence, and nothing fails.
`mllm4d_verl/training/attention.py` says which settings are right. Runs of other models are not looked at.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.verl_compat.adaptation import adapts, proves

_KNOWN = {"verl": ">=0.9.0,<=0.9.1"}


@adapts("verl.workers.config.actor", "FSDPActorConfig.validate", known=_KNOWN)
def check_attention_before_ray(stock: Callable) -> Callable:
    """PPO's trainer: its driver validates the actor's settings, where verl checks those of sequence parallelism."""

    def validate(self, n_gpus, train_batch_size, model_config=None):
        from mllm4d_verl.training.attention import check_model_settings

        stock(self, n_gpus, train_batch_size, model_config)
        if model_config:
            ulysses = max(self.ulysses_sequence_parallel_size, self.fsdp_config.ulysses_sequence_parallel_size)
            check_model_settings(model_config, ulysses, "actor_rollout_ref.model")

    return validate


@proves(check_attention_before_ray)
def _lets_ulysses_run_without_flash_attn(validate: Callable) -> bool:
    from verl.workers.config import FSDPActorConfig

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps({"model_type": "qwen3_vl"}))
        model = {"path": folder, "use_remove_padding": True, "override_config": {"attn_implementation": "sdpa"}}
        actor = FSDPActorConfig(
            strategy="fsdp", rollout_n=1, ulysses_sequence_parallel_size=2, use_dynamic_bsz=True, ppo_mini_batch_size=2
        )
        try:
            validate(actor, 2, 2, model)
        except InputError:
            return False
    return True


@adapts("verl.workers.engine.fsdp.transformer_impl", "FSDPEngine.__init__", known=_KNOWN)
def check_attention_before_weights(stock: Callable) -> Callable:
    """The SFT trainer has no such place: there, and in every worker, the engine is asked before it loads weights."""

    def __init__(self, model_config, engine_config, *args, **kwargs):  # noqa: N807
        from mllm4d_verl.training.attention import DEFAULT_IMPLEMENTATION, check_attention

        check_attention(
            getattr(model_config.hf_config, "model_type", None),
            model_config.override_config.get("attn_implementation") or DEFAULT_IMPLEMENTATION,
            model_config.use_remove_padding,
            engine_config.ulysses_sequence_parallel_size,
            "model.override_config.attn_implementation",
        )
        stock(self, model_config, engine_config, *args, **kwargs)

    return __init__


@proves(check_attention_before_weights)
def _engine_takes_ulysses_without_flash_attn(init: Callable) -> bool:
    """The engine stops at what comes next, which is distributed processes, unless it is stopped before."""
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngine

    model = SimpleNamespace(
        hf_config=SimpleNamespace(model_type="qwen3_vl"),
        override_config={"attn_implementation": "sdpa"},
        use_remove_padding=True,
    )
    engine = SimpleNamespace(ulysses_sequence_parallel_size=2)
    try:
        init(object.__new__(FSDPEngine), model, engine, None, None)
    except InputError:
        return False
    except Exception:
        return True
    return True

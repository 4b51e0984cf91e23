"""Attention without flash-attn: which settings verl computes correctly, and which it does not.

verl packs the sequences of a micro batch into one (`use_remove_padding=true`). flash-attn's kernel is told where each
begins. With another `attn_implementation` it depends:

* `ulysses_sequence_parallel_size` above 1: verl gathers the parts of a sequence from their processes inside
  flash-attn's function (verl/models/transformers/monkey_patch.py). Another implementation attends to its own part only.
  Nothing fails; log-probabilities are those of another model.
* Qwen2-VL and Qwen2.5-VL: verl replaces the attention layer by one that calls flash-attn, whatever the setting. It
  fails without flash-attn; with it, at the first micro batch that holds one sequence alone.
* Otherwise transformers builds a mask that separates the sequences where text positions start again. That is so with
  the versions that were tried, and it is tried again here, on a small model, before a run relies on it.

`tests/plugin/test_packed_sequences.py` shows each of these with verl's engine.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from mllm4d_verl.data_tools.errors import InputError

# What verl asks transformers for where `override_config.attn_implementation` is not set (verl/workers/config/model.py).
DEFAULT_IMPLEMENTATION = "flash_attention_2"

# Model types whose attention layer verl replaces by calls of flash-attn once sequences are packed.
FLASH_ATTENTION_ONLY = ("qwen2_vl", "qwen2_5_vl")

# Model types these checks are for: the two families of the recipes. verl's runs of other models are not looked at.
CHECKED_MODELS = (*FLASH_ATTENTION_ONLY, "qwen3_vl", "qwen3_vl_moe")

REMEDY = "Add `+attention=sdpa`, which pads instead of packing, or install flash-attn and leave attn_implementation out"


def check_attention(model_type: str | None, implementation: str, packed: bool, ulysses: int, field: str) -> None:
    """Refuse settings with which a token would not attend to its own sequence, all of it and nothing else.

    Args:
        model_type: of the model's config.json.
        implementation: `attn_implementation`.
        packed: `use_remove_padding`.
        ulysses: `ulysses_sequence_parallel_size`.
        field: name of the setting of the implementation, for the message.

    Raises:
        InputError: verl and transformers would compute something else, or crash after the model is loaded.
    """
    if model_type not in CHECKED_MODELS or not packed or implementation.startswith("flash_attention"):
        return
    if ulysses > 1:
        raise InputError(
            f"attention {implementation!r} with ulysses_sequence_parallel_size={ulysses}: verl gathers the parts of a "
            "sequence for flash-attn only, so each process would attend to its own part",
            field=field,
            remedy=REMEDY,
        )
    if model_type in FLASH_ATTENTION_ONLY:
        raise InputError(
            f"attention {implementation!r} with use_remove_padding=true: verl computes packed sequences of "
            f"{model_type} by flash-attn only",
            field=field,
            remedy=REMEDY,
        )
    if not packed_sequences_stay_apart(implementation):
        raise InputError(
            f"attention {implementation!r} with use_remove_padding=true: with this version of transformers, the "
            "sequences of a micro batch see each other",
            field=field,
            remedy=REMEDY,
        )


def model_type_of(path: str, trust_remote_code: bool = False) -> str | None:
    """`model_type` of a checkpoint folder or hub name; None where its config cannot be read, which verl will report."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code).model_type
    except (OSError, ValueError):
        return None


def check_model_settings(model: Mapping[str, Any], ulysses: int, field: str) -> None:
    """`check_attention` for the model section of a verl configuration.

    Args:
        model: `actor_rollout_ref.model` of PPO, or `model` of SFT.
        ulysses: `ulysses_sequence_parallel_size`.
        field: name of that section.

    Raises:
        InputError: see `check_attention`.
    """
    implementation = (model.get("override_config") or {}).get("attn_implementation") or DEFAULT_IMPLEMENTATION
    packed = bool(model.get("use_remove_padding", False))
    if not packed or implementation.startswith("flash_attention"):
        return  # nothing to look at: the model's config need not be read
    model_type = model_type_of(model["path"], bool(model.get("trust_remote_code", False)))
    check_attention(model_type, implementation, packed, ulysses, f"{field}.override_config.attn_implementation")


@functools.cache
def packed_sequences_stay_apart(implementation: str) -> bool:
    """Whether the second of two packed sequences is the same whatever the first one holds.

    Tried on a Qwen3-VL text model of one layer, given what verl's engine gives it: no mask, and position ids of shape
    (4, 1, length) whose first row, the text's, starts again with each sequence.
    """
    import torch
    from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextModel

    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 8}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    length = 6  # of each of the two sequences
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = Qwen3VLTextConfig(**size, **heads, rope_parameters=rope, pad_token_id=0)
        model = Qwen3VLTextModel._from_config(config, attn_implementation=implementation).float().eval()
        second = torch.randn(1, length, 16)
        firsts = [torch.randn(1, length, 16) for _ in range(2)]
    positions = torch.arange(length).repeat(2).expand(4, 1, -1)
    with torch.no_grad():
        one, other = (
            model(inputs_embeds=torch.cat([first, second], dim=1), position_ids=positions, use_cache=False)[0]
            for first in firsts
        )
    return torch.allclose(one[:, length:], other[:, length:], atol=1e-5)

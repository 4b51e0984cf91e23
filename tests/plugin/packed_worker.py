"""Log-probabilities and gradients of verl's SFT engine for one batch of videos, with several settings in one process.

`torchrun --nproc_per_node N packed_worker.py JOBS.json`, where JOBS is a list of {"overrides": [...], "out": FILE,
"flash_attn": BOOL}. It runs in processes of its own, because verl replaces methods of transformers' classes for good.

flash-attn has kernels for GPUs only. Its functions are stood in for by plain attention, sequence by sequence;
everything that decides which tokens belong to which sequence is verl's and transformers' own.
"""

from __future__ import annotations

import importlib.machinery
import json
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path

import torch


def attend(q, k, v, causal: bool, scale: float | None):
    """Attention of one sequence; q, k, v are (batch, length, heads, head size), k and v may have fewer heads."""
    query, key, value = (each.transpose(1, 2) for each in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=causal, scale=scale, enable_gqa=True
    ).transpose(1, 2)


def flash_attn_func(q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, window_size=None, deterministic=False):
    return attend(q, k, v, causal, softmax_scale)


def flash_attn_varlen_func(
    q,
    k,
    v,
    cu_seqlens_q,
    cu_seqlens_k,
    max_seqlen_q,
    max_seqlen_k,
    dropout_p=0.0,
    softmax_scale=None,
    causal=False,
    window_size=None,
    deterministic=False,
):
    """q, k, v: (tokens of all sequences, heads, head size); cu_seqlens are the bounds of the sequences."""
    bounds = cu_seqlens_q.tolist()
    assert bounds == cu_seqlens_k.tolist()
    assert (bounds[0], bounds[-1]) == (0, len(q)), "flash-attn leaves tokens outside of the bounds undefined"
    return torch.cat(
        [attend(q[None, i:j], k[None, i:j], v[None, i:j], causal, softmax_scale)[0] for i, j in pairwise(bounds)]
    )


def stand_in_for_flash_attn() -> None:
    """Let transformers and verl find a `flash_attn` whose functions are the ones above."""
    import transformers.utils
    from transformers.utils import import_utils

    package = types.ModuleType("flash_attn")
    package.__spec__ = importlib.machinery.ModuleSpec("flash_attn", None, is_package=True)
    package.__path__, package.__version__ = [], "2.8.3"
    package.flash_attn_func, package.flash_attn_varlen_func = flash_attn_func, flash_attn_varlen_func
    package.flash_attn_with_kvcache = None
    padding = types.ModuleType("flash_attn.bert_padding")
    padding.pad_input = padding.unpad_input = None  # padded batches are computed without flash-attn here
    sys.modules.update({"flash_attn": package, "flash_attn.bert_padding": padding})
    for module in (transformers.utils, import_utils):
        module.is_flash_attn_2_available = lambda: True
    from transformers import modeling_utils

    # It would go on to look for the kernels' GPU.
    modeling_utils.PreTrainedModel._flash_attn_can_dispatch = lambda self, *args, **kwargs: True


def keep_float32() -> None:
    """verl casts what Qwen2.5-VL attends to to bfloat16, which flash-attn's kernels need and the stand-in does not."""
    from verl.models.transformers import qwen2_vl

    qwen2_vl.fa_peft_integration_check = lambda query, key, value, target_dtype: (query, key, value)


@contextmanager
def no_flash_attn() -> Iterator[None]:
    """verl's Qwen2-VL code as it is where flash-attn is not installed: without the names that it imports from there."""
    from verl.models.transformers import qwen2_vl

    names = ["flash_attn_func", "flash_attn_varlen_func"]
    names += ["_flash_supports_window_size", "_flash_supports_deterministic", "_flash_use_top_left_mask"]
    taken = {name: vars(qwen2_vl).pop(name) for name in names}
    try:
        yield
    finally:
        vars(qwen2_vl).update(taken)


@contextmanager
def nothing_refused() -> Iterator[None]:
    """verl's engine without our refusal of settings: what they lead to is what is to be seen."""
    from verl.workers.engine.fsdp import transformer_impl  # noqa: F401 - keeps the stock one

    from mllm4d_verl.verl_compat import ADAPTATIONS

    refusal = ADAPTATIONS["check_attention_before_weights"]
    with refusal.trying(refusal.stock):
        yield


def run(job: dict) -> dict:
    """Build verl's SFT trainer with the job's settings and take one batch forward and backward.

    Returns:
        `lengths` of this process's sequences in tokens, and `log_probs` of all their tokens, one sequence after the
        other; `gradients` by name of the weight, gathered; and the mean `loss` of all processes.
    """
    from verl.trainer.sft_trainer import SFTTrainer
    from verl.utils import tensordict_utils as tu

    from mllm4d_verl.training.recipe import find_recipe

    config = find_recipe("tiny_cpu").compose("sft", job["overrides"])
    trainer = SFTTrainer(config)
    batch = tu.get_tensordict(
        tensor_dict=next(iter(trainer.train_dataloader)),
        non_tensor_dict={
            "use_remove_padding": config.model.use_remove_padding,
            "use_dynamic_bsz": config.data.use_dynamic_bsz,
            "max_token_len_per_gpu": config.data.max_token_len_per_gpu,
            "micro_batch_size_per_gpu": config.data.micro_batch_size_per_gpu,
            "temperature": 1.0,
            "global_batch_size": trainer.global_batch_size,
            "pad_mode": config.data.pad_mode,
            "pad_token_id": trainer.model_config.tokenizer.pad_token_id,
            "return_model_output": True,
        },
    )
    with trainer.engine.train_mode(), nullcontext() if job["flash_attn"] else no_flash_attn():
        output = trainer.engine.forward_backward_batch(batch, loss_function=trainer.loss_fn)
        gradients = {
            name: weight.grad.full_tensor() if hasattr(weight.grad, "full_tensor") else weight.grad
            for name, weight in trainer.engine.module.named_parameters()
            if weight.grad is not None
        }
    log_probs = output["model_output"]["log_probs"]
    loss = torch.tensor(sum(output["loss"]))
    torch.distributed.all_reduce(loss)
    return {
        "lengths": batch["input_ids"].offsets().diff(),
        "log_probs": log_probs.values() if log_probs.is_nested else log_probs,
        "gradients": gradients,
        "loss": loss.item() / torch.distributed.get_world_size(),
    }


def main() -> None:
    stand_in_for_flash_attn()
    from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group

    keep_float32()
    initialize_global_process_group()
    with nothing_refused():
        for job in json.loads(Path(sys.argv[1]).read_text()):
            try:
                result = run(job)
            except (NameError, ValueError) as error:
                result = {"error": str(error)}
            if torch.distributed.get_rank() == 0:
                torch.save(result, job["out"])
    destroy_global_process_group()


if __name__ == "__main__":
    main()

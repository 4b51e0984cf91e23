"""The settings of a stage that decide what it costs, read from verl's configuration of either trainer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf.errors import ConfigAttributeError

from mllm4d_verl.data_tools.errors import InputError


@dataclass(frozen=True)
class RolloutSettings:
    """What GRPO adds to a training stage.

    Attributes:
        questions, answers: of one step.
        val_rows: questions that validation holds at a time; None: the whole held-out set.
        val_answers: to each of them.
        validates: whether the run validates at all.
        max_model_len: positions of one request; None means all that the model has.
        sleeps_with_weights: whether the sleeping engine keeps its weights in host memory, as with LoRA.
    """

    questions: int
    answers: int
    val_rows: int | None
    val_answers: int
    validates: bool
    tensor_parallel: int
    gpu_memory_utilization: float
    max_model_len: int | None
    max_num_seqs: int
    max_num_batched_tokens: int
    enforce_eager: bool
    lora_rank: int
    log_prob_tokens: int
    sleeps_with_weights: bool
    agent_workers: int
    own_reference: bool
    reference_offload: bool


@dataclass(frozen=True)
class StageSettings:
    """Settings of one stage.

    Attributes:
        gpus, nodes: GPUs of a node, nodes.
        bytes_per_weight: of the trainer's weights.
        micro_batch_tokens: tokens of the largest micro batch; `longest` of the longest sample the settings allow.
        kept_checkpoints: None keeps all.
        loader_rows: rows that the data loaders' workers hold ready on a node (SFT; GRPO's hold no frames).
        rollout: None in SFT.
        keys: names of the settings that a remedy may name, by what they are.
    """

    gpus: int
    nodes: int
    lora_rank: int
    target_modules: Any
    exclude_modules: Any
    bytes_per_weight: int
    param_offload: bool
    optimizer_offload: bool
    gradient_checkpointing: bool
    micro_batch_tokens: int
    longest: int
    kept_checkpoints: int | None
    save_lora_only: bool
    loader_rows: int
    rollout: RolloutSettings | None
    keys: dict[str, str]

    @property
    def world(self) -> int:
        return self.gpus * self.nodes


_GRPO_KEYS = {
    "micro_batch": "actor_rollout_ref.actor.ppo_max_token_len_per_gpu",
    "keep": "trainer.max_actor_ckpt_to_keep",
    "offload": "actor_rollout_ref.actor.fsdp_config.param_offload",
    "lora_only": "+actor_rollout_ref.actor.checkpoint.save_lora_only",
}
_SFT_KEYS = {
    "micro_batch": "data.max_token_len_per_gpu",
    "keep": "trainer.max_ckpt_to_keep",
    "offload": "engine.param_offload",
    "lora_only": "+checkpoint.save_lora_only",
}


def read_settings(config: Any, stage: str) -> StageSettings:
    """Read a composed configuration.

    Args:
        config: from `Recipe.compose`.
        stage: "sft", "cold-start" or "grpo".

    Raises:
        InputError: a setting that memory depends on is missing, or is no positive number where it has to be one.
    """
    try:
        settings = _read(config, stage)
    except (ConfigAttributeError, TypeError, ValueError, ZeroDivisionError) as error:
        raise InputError(
            f"the configuration does not say what {stage} costs: {str(error).splitlines()[0]}", field="overrides"
        ) from error
    rollout = settings.rollout
    counts = {"trainer.n_gpus_per_node": settings.gpus, "trainer.nnodes": settings.nodes}
    counts[settings.keys["micro_batch"]] = settings.micro_batch_tokens
    if rollout is not None:
        prefix = "actor_rollout_ref.rollout"
        counts |= {
            f"{prefix}.tensor_model_parallel_size": rollout.tensor_parallel,
            f"{prefix}.max_num_seqs": rollout.max_num_seqs,
            f"{prefix}.max_num_batched_tokens": rollout.max_num_batched_tokens,
            f"{prefix}.log_prob_max_token_len_per_gpu": rollout.log_prob_tokens,
            f"{prefix}.n": rollout.answers,
        }
    for key, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise InputError(f"must be a positive number, got {count!r}", field=key)
    if rollout is not None and rollout.tensor_parallel > settings.world:
        raise InputError(
            f"an engine on {rollout.tensor_parallel} GPUs does not fit {settings.world} of the run",
            field="actor_rollout_ref.rollout.tensor_model_parallel_size",
        )
    return settings


def _read(config: Any, stage: str) -> StageSettings:
    grpo = stage == "grpo"
    model = config.actor_rollout_ref.model if grpo else config.model
    data, trainer = config.data, config.trainer
    if grpo:
        actor = config.actor_rollout_ref.actor
        engine, checkpoint = actor.fsdp_config, actor.checkpoint
        dynamic, per_gpu, limit = (
            actor.use_dynamic_bsz,
            actor.ppo_micro_batch_size_per_gpu,
            actor.ppo_max_token_len_per_gpu,
        )
        longest = data.max_prompt_length + data.max_response_length
    else:
        engine, checkpoint = config.engine, config.checkpoint
        dynamic, per_gpu, limit = data.use_dynamic_bsz, data.micro_batch_size_per_gpu, data.max_token_len_per_gpu
        longest = data.max_length
    # torch's DataLoader keeps two batches ready for each worker.
    loader_rows = 0 if grpo else 2 * data.num_workers * data.train_batch_size // trainer.nnodes
    return StageSettings(
        gpus=trainer.n_gpus_per_node,
        nodes=trainer.nnodes,
        lora_rank=model.lora_rank,
        target_modules=model.target_modules,
        exclude_modules=model.exclude_modules,
        bytes_per_weight=4 if engine.model_dtype in ("fp32", "float32") else 2,
        param_offload=bool(engine.param_offload),
        optimizer_offload=bool(engine.optimizer_offload),
        gradient_checkpointing=bool(model.enable_gradient_checkpointing),
        micro_batch_tokens=limit if dynamic else (per_gpu or 1) * longest,
        longest=longest,
        kept_checkpoints=trainer.max_actor_ckpt_to_keep if grpo else trainer.max_ckpt_to_keep,
        save_lora_only=bool(checkpoint.get("save_lora_only", False)) and model.lora_rank > 0,
        loader_rows=loader_rows,
        rollout=_rollout(config) if grpo else None,
        keys=_GRPO_KEYS if grpo else _SFT_KEYS,
    )


def _rollout(config: Any) -> RolloutSettings:
    settings = config.actor_rollout_ref
    rollout, model, actor = settings.rollout, settings.model, settings.actor
    sends_adapters = model.lora_rank > 0 and not model.lora.get("merge", False)
    return RolloutSettings(
        questions=config.data.get("gen_batch_size") or config.data.train_batch_size,
        answers=(config.data.get("gen_batch_size") or config.data.train_batch_size) * rollout.n,
        val_rows=config.data.val_batch_size,
        val_answers=rollout.val_kwargs.n,
        validates=config.trainer.test_freq > 0 or bool(config.trainer.val_before_train),
        tensor_parallel=rollout.tensor_model_parallel_size,
        gpu_memory_utilization=rollout.gpu_memory_utilization,
        max_model_len=rollout.max_model_len,
        max_num_seqs=rollout.max_num_seqs,
        max_num_batched_tokens=rollout.max_num_batched_tokens,
        enforce_eager=bool(rollout.enforce_eager),
        lora_rank=model.lora_rank if sends_adapters else 0,
        log_prob_tokens=rollout.log_prob_max_token_len_per_gpu,
        sleeps_with_weights=sends_adapters and bool(rollout.free_cache_engine),
        agent_workers=rollout.agent.num_workers,
        own_reference=model.lora_rank == 0 and (actor.use_kl_loss or config.algorithm.use_kl_in_reward),
        reference_offload=bool(settings.ref.fsdp_config.param_offload),
    )

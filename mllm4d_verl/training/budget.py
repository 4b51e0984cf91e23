"""What a recipe costs before anything is downloaded: parameters, tokens per prompt, memory per GPU."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mllm4d_verl.data_tools.errors import InputError

from .recipe import Recipe

MODEL_CONFIG = "model_config.json"
_GIB = 2**30
_TEXT_TOKENS = 512  # st_cot system text, question and options with Qwen's tokenizer, rounded up
_DEFAULT_FRAMES = 32


@dataclass(frozen=True)
class ParameterCounts:
    """Weights of a model under a recipe.

    Attributes:
        total: of the base model.
        vision: of its vision tower, merger included.
        trainable: that the optimizer holds: LoRA's, or all.
        trainable_vision: of those, in the vision tower.
    """

    total: int
    vision: int
    trainable: int
    trainable_vision: int


@dataclass(frozen=True)
class TokenBudget:
    """Tokens of one sample.

    Attributes:
        frames: frames sampled.
        video: visual tokens, timestamps and marks.
        prompt: video and text.
        prompt_limit: what the recipe allows.
        response_limit: what the recipe allows; 0 where the prompt's limit includes the response (SFT).
    """

    frames: int
    video: int
    prompt: int
    prompt_limit: int
    response_limit: int

    @property
    def fits(self) -> bool:
        return self.prompt <= self.prompt_limit


@dataclass(frozen=True)
class MemoryBudget:
    """Bytes on one GPU. An estimate: fragmentation, buffers of the communication library and CUDA itself come on top.

    Attributes:
        weights: the trainer's shard of the base model and LoRA.
        gradients, optimizer: of what is trained, sharded; Adam keeps two float32 numbers a weight.
        activations: of one micro batch, with a checkpoint per layer and one layer unfolded.
        logits: of one micro batch, bfloat16 with a float32 copy and its gradient.
        rollout_weights: of the engine, bfloat16.
        cache_per_token: keys and values of one token in the engine.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    rollout_weights: int
    cache_per_token: int

    @property
    def training(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits


@dataclass(frozen=True)
class RecipeBudget:
    """All of it, for one stage of a recipe."""

    recipe: str
    stage: str
    gpus: int
    parameters: ParameterCounts
    tokens: TokenBudget
    memory: MemoryBudget

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        record = asdict(self)
        record["tokens"]["fits"] = self.tokens.fits
        record["memory"]["training"] = self.memory.training
        return record

    def table(self) -> Any:
        """A rich table for people."""
        from rich.table import Table

        table = Table(title=f"{self.recipe}/{self.stage} on {self.gpus} GPUs", title_justify="left", show_header=False)
        table.add_column()
        table.add_column(justify="right")
        counts, tokens, memory = self.parameters, self.tokens, self.memory
        table.add_row("parameters", f"{counts.total / 1e9:.2f} B")
        table.add_row("  of the vision tower", f"{counts.vision / 1e9:.2f} B")
        table.add_row("  trained", f"{counts.trainable / 1e6:.1f} M")
        table.add_section()
        table.add_row(f"tokens of a video ({tokens.frames} frames)", f"{tokens.video}")
        table.add_row("prompt / limit", f"{tokens.prompt} / {tokens.prompt_limit}{'' if tokens.fits else '  TOO LONG'}")
        table.add_row("response limit", f"{tokens.response_limit or '-'}")
        table.add_section()
        for name in ("weights", "gradients", "optimizer", "activations", "logits", "training"):
            table.add_row(f"{name} per GPU", f"{getattr(memory, name) / _GIB:.1f} GiB")
        if memory.rollout_weights:
            table.add_row("rollout engine's weights per GPU", f"{memory.rollout_weights / _GIB:.1f} GiB")
            table.add_row("rollout cache per 1000 tokens", f"{1000 * memory.cache_per_token / _GIB:.2f} GiB")
        return table


def recipe_budget(
    recipe: Recipe, stage: str, frame_size: tuple[int, int], overrides: Sequence[str] = ()
) -> RecipeBudget:
    """Parameters, tokens and memory of a stage.

    Args:
        recipe: one with a `model_config.json`.
        stage: "sft", "cold-start" or "grpo".
        frame_size: (width, height) of the source videos in pixels.
        overrides: Hydra overrides.

    Raises:
        InputError: the recipe has no `model_config.json`, or an override is refused.
    """
    config = recipe.compose(stage, overrides)
    model = config.actor_rollout_ref.model if stage == "grpo" else config.model
    gpus = config.trainer.nnodes * config.trainer.n_gpus_per_node
    architecture = read_model_config(recipe)
    counts = count_parameters(architecture, model.lora_rank, model.target_modules, model.exclude_modules)
    tokens = _tokens(architecture, config, stage, frame_size)
    return RecipeBudget(
        recipe.name, stage, gpus, counts, tokens, _memory(architecture, config, stage, counts, tokens, gpus)
    )


def read_model_config(recipe: Recipe) -> Any:
    """The architecture of a recipe's model as a transformers configuration.

    Raises:
        InputError: the recipe has no `model_config.json`.
    """
    file: Path = recipe.folder / MODEL_CONFIG
    if not file.is_file():
        raise InputError(
            f"recipe {recipe.name!r} does not describe its model",
            file=file,
            remedy="Choose a recipe of a released model",
        )
    from transformers import AutoConfig

    return AutoConfig.for_model(**json.loads(file.read_text(encoding="utf-8")))


def count_parameters(
    architecture: Any, lora_rank: int = 0, target_modules: Any = "all-linear", exclude_modules: Any = None
) -> ParameterCounts:
    """Count the weights of a model that is built without memory, LoRA added as verl adds it.

    Args:
        architecture: a transformers configuration.
        lora_rank: 0 trains all weights.
        target_modules, exclude_modules: as in verl's model configuration.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(architecture, dtype=torch.bfloat16)
    sizes = {name: weight.numel() for name, weight in model.named_parameters()}
    total, vision = sum(sizes.values()), sum(size for name, size in sizes.items() if _in_vision(name))
    if lora_rank == 0:
        return ParameterCounts(total, vision, total, vision)

    from omegaconf import OmegaConf
    from peft import LoraConfig, get_peft_model

    plain = [OmegaConf.to_container(m) if OmegaConf.is_config(m) else m for m in (target_modules, exclude_modules)]
    lora = LoraConfig(task_type="CAUSAL_LM", r=lora_rank, target_modules=plain[0], exclude_modules=plain[1])
    with torch.device("meta"):
        adapted = get_peft_model(model, lora)
    trained = {name: weight.numel() for name, weight in adapted.named_parameters() if weight.requires_grad}
    trained_vision = sum(size for name, size in trained.items() if _in_vision(name))
    return ParameterCounts(total, vision, sum(trained.values()), trained_vision)


def _in_vision(name: str) -> bool:
    return "visual." in name


def _tokens(architecture: Any, config: Any, stage: str, frame_size: tuple[int, int]) -> TokenBudget:
    from mllm4d_verl.video.budget import QWEN2_5_VL, QWEN3_VL, video_tokens

    geometry = QWEN3_VL if architecture.model_type == "qwen3_vl" else QWEN2_5_VL
    data, (width, height) = config.data, frame_size
    frames = data.num_frames or _DEFAULT_FRAMES
    video = video_tokens(geometry, frames, height, width, data.min_pixels, data.max_pixels)
    if stage == "grpo":
        return TokenBudget(frames, video, video + _TEXT_TOKENS, data.max_prompt_length, data.max_response_length)
    return TokenBudget(frames, video, video + _TEXT_TOKENS, data.max_length, 0)


def _memory(
    architecture: Any, config: Any, stage: str, counts: ParameterCounts, tokens: TokenBudget, gpus: int
) -> MemoryBudget:
    text = architecture.text_config
    grpo = stage == "grpo"
    actor = config.actor_rollout_ref.actor if grpo else None
    engine = actor.fsdp_config if grpo else config.engine
    bytes_per_weight = 4 if engine.model_dtype == "fp32" else 2
    if grpo:
        dynamic, per_gpu, limit = (
            actor.use_dynamic_bsz,
            actor.ppo_micro_batch_size_per_gpu,
            actor.ppo_max_token_len_per_gpu,
        )
    else:
        dynamic, per_gpu, limit = (
            config.data.use_dynamic_bsz,
            config.data.micro_batch_size_per_gpu,
            config.data.max_token_len_per_gpu,
        )
    micro_batch = limit if dynamic else per_gpu * (tokens.prompt + tokens.response_limit)
    adapter = counts.trainable if counts.trainable < counts.total else 0
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    # bfloat16: one input per layer, and inside the layer that is unfolded about 4 widths and 3 feed-forward widths.
    per_token = 2 * (text.num_hidden_layers * text.hidden_size + 4 * text.hidden_size + 3 * text.intermediate_size)
    tensor_parallel = config.actor_rollout_ref.rollout.tensor_model_parallel_size if grpo else 1
    return MemoryBudget(
        weights=(counts.total + adapter) * bytes_per_weight // gpus,
        gradients=counts.trainable * 4 // gpus,
        optimizer=counts.trainable * 8 // gpus,
        activations=micro_batch * per_token,
        logits=micro_batch * text.vocab_size * (2 + 4 + 4),
        rollout_weights=counts.total * 2 // tensor_parallel if grpo else 0,
        cache_per_token=2 * 2 * text.num_hidden_layers * text.num_key_value_heads * head_dim // tensor_parallel
        if grpo
        else 0,
    )

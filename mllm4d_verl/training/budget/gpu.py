"""Memory of one GPU: what the trainer needs for an update, and what the rollout engine has left for its KV cache.

Weights, gradients, optimizer, LoRA buffers and KV cache are counted exactly. Activations, workspaces and CUDA's own
memory are estimates; their formulas are in the code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .model import ParameterCounts
from .settings import RolloutSettings, StageSettings

# Bytes that CUDA, cuBLAS and NCCL take in each process on a GPU: between 0.5 and 1 GiB on NVIDIA GPUs.
_CONTEXT_BYTES = 3 * 2**28
# Bytes of the engine's captured CUDA graphs; they stay when it sleeps. vLLM logs about 1 GiB for models of this size.
_GRAPH_BYTES = 2**30


@dataclass(frozen=True)
class MemoryBudget:
    """Bytes on one GPU.

    Attributes:
        weights: the trainer's shard of the base model and LoRA.
        gradients, optimizer: of what is trained, sharded; Adam keeps two float32 numbers a weight.
        unsharded: weights that FSDP gathers for computing, bfloat16: embedding, head and two layers; 0 on one GPU.
        activations: of one micro batch, with a checkpoint per layer and one layer unfolded.
        logits: of one micro batch, bfloat16 with a float32 copy and its gradient.
        log_prob_logits: of one micro batch without gradients, bfloat16 with a float32 copy; 0 in SFT.
        context: what CUDA takes in the trainer's process, and in the sleeping engine's with its graphs.
        resident: what the trainer leaves on the GPU while the engine generates.
        rollout_weights: of the engine, bfloat16, with its buffers for the LoRA adapter.
        rollout_workspace: what vLLM sets aside for the forward pass of a full batch; see `_workspace`.
        cache_per_token: keys and values of one token in the engine.
    """

    weights: int
    gradients: int
    optimizer: int
    unsharded: int
    activations: int
    logits: int
    log_prob_logits: int
    context: int
    resident: int
    rollout_weights: int
    rollout_workspace: int
    cache_per_token: int

    @property
    def training(self) -> int:
        """Bytes of an update at its highest."""
        fixed = self.fixed
        return fixed + max(self.activations + self.logits, self.log_prob_logits)

    @property
    def fixed(self) -> int:
        """Bytes of an update that do not depend on the size of a micro batch."""
        return self.weights + self.gradients + self.optimizer + self.unsharded + self.context


def gpu_memory(architecture: Any, settings: StageSettings, counts: ParameterCounts) -> MemoryBudget:
    """Memory of a stage on one GPU.

    Args:
        architecture: a transformers configuration.
        settings: of the stage.
        counts: weights of the model.
    """
    text, rollout, world = architecture.text_config, settings.rollout, settings.world
    adapter = counts.trainable if settings.lora_rank else 0
    weights = (counts.total + adapter) * settings.bytes_per_weight // world
    optimizer = counts.trainable * 8 // world
    # bfloat16. Inside the layer that is unfolded, about 4 widths and 3 feed-forward widths are kept; without gradient
    # checkpointing every layer is.
    unfolded = 4 * text.hidden_size + 3 * text.intermediate_size
    layers = text.num_hidden_layers
    per_token = 2 * (layers * text.hidden_size + unfolded * (1 if settings.gradient_checkpointing else layers))
    resident = 0 if settings.param_offload else weights
    resident += 0 if settings.optimizer_offload else optimizer
    if rollout is not None and rollout.own_reference and not rollout.reference_offload:
        resident += counts.total * settings.bytes_per_weight // world
    return MemoryBudget(
        weights=weights,
        gradients=counts.trainable * 4 // world,
        optimizer=optimizer,
        unsharded=_gathered(text, counts) if world > 1 else 0,
        activations=settings.micro_batch_tokens * per_token,
        logits=settings.micro_batch_tokens * text.vocab_size * (2 + 4 + 4),
        log_prob_logits=0 if rollout is None else rollout.log_prob_tokens * text.vocab_size * (2 + 4),
        context=_CONTEXT_BYTES if rollout is None else 2 * _CONTEXT_BYTES + _graphs(rollout),
        resident=resident,
        rollout_weights=0 if rollout is None else _engine_weights(text, rollout, counts),
        rollout_workspace=0 if rollout is None else _workspace(architecture, rollout),
        cache_per_token=0 if rollout is None else _cache_per_token(text, rollout),
    )


def engine_memory(memory: MemoryBudget, rollout: RolloutSettings, gpu_bytes: int) -> int:
    """Bytes that vLLM has for its KV cache: its share of the GPU without weights and workspace. May be negative."""
    return math.ceil(gpu_bytes * rollout.gpu_memory_utilization) - memory.rollout_weights - memory.rollout_workspace


def _graphs(rollout: RolloutSettings) -> int:
    return 0 if rollout.enforce_eager else _GRAPH_BYTES


def _gathered(text: Any, counts: ParameterCounts) -> int:
    embedding = text.vocab_size * text.hidden_size
    layer = (counts.total - counts.vision - 2 * embedding) // text.num_hidden_layers
    return 2 * (2 * embedding + 2 * max(layer, 0))


def _engine_weights(text: Any, rollout: RolloutSettings, counts: ParameterCounts) -> int:
    """Base model, and a pair of matrices for every linear layer of the language model: vLLM prepares all of them."""
    query, key = text.num_attention_heads * _head_dim(text), text.num_key_value_heads * _head_dim(text)
    shapes = [(text.hidden_size, query), (text.hidden_size, key), (text.hidden_size, key), (query, text.hidden_size)]
    shapes += [(text.hidden_size, text.intermediate_size)] * 3
    lora = rollout.lora_rank * sum(a + b for a, b in shapes) * text.num_hidden_layers
    return 2 * (counts.total + lora) // rollout.tensor_parallel


def _workspace(architecture: Any, rollout: RolloutSettings) -> int:
    """vLLM runs one full batch before it sizes its cache, with a video that fills it: peak of that run, an estimate.

    The larger of a language model's layer (4 widths and 2 feed-forward widths a token) and a vision tower's layer (4
    patches a token; 4 widths and one feed-forward width a patch), the features of the video at every layer that they
    enter, float32 logits of every sequence, twice, CUDA graphs, and what CUDA itself takes.
    """
    text, vision, tokens = architecture.text_config, architecture.vision_config, rollout.max_num_batched_tokens
    language = 2 * tokens * (4 * text.hidden_size + 2 * text.intermediate_size // rollout.tensor_parallel)
    tower = 2 * 4 * tokens * (4 * vision.hidden_size + vision.intermediate_size)
    entries = 1 + len(getattr(vision, "deepstack_visual_indexes", None) or ())
    features = 2 * tokens * text.hidden_size * entries
    sampler = 2 * 4 * rollout.max_num_seqs * text.vocab_size
    return max(language, tower) + features + sampler + _graphs(rollout) + _CONTEXT_BYTES


def _cache_per_token(text: Any, rollout: RolloutSettings) -> int:
    heads = max(1, text.num_key_value_heads // rollout.tensor_parallel)
    return 2 * 2 * text.num_hidden_layers * heads * _head_dim(text)


def _head_dim(text: Any) -> int:
    return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads

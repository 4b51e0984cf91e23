"""Rows, a reward model's truth and settings as any verl user has them: nothing of this project in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

DATA_SOURCE = "somebody/videos"
TRUTH: dict[str, Any] = {"answer": "B", "camera_center": [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]], "object_center": None}

#: What any verl run on a CPU needs in float32; `tiny_cpu/grpo` has the reasons. None of it is about prompts or rewards.
CPU = (
    "actor_rollout_ref.model.use_remove_padding=False",
    "actor_rollout_ref.model.enable_gradient_checkpointing=False",
    "+actor_rollout_ref.model.override_config.attn_implementation=sdpa",
    "actor_rollout_ref.actor.strategy=fsdp2",
    "actor_rollout_ref.actor.fsdp_config.strategy=fsdp2",
    "actor_rollout_ref.actor.fsdp_config.use_torch_compile=False",
    "actor_rollout_ref.actor.fsdp_config.model_dtype=fp32",
    "+actor_rollout_ref.actor.fsdp_config.mixed_precision={param_dtype:fp32,reduce_dtype:fp32,buffer_dtype:fp32}",
    "actor_rollout_ref.actor.use_torch_compile=False",
    "actor_rollout_ref.rollout.name=vllm",
    "actor_rollout_ref.rollout.dtype=float32",
    "actor_rollout_ref.rollout.tensor_model_parallel_size=1",
    "actor_rollout_ref.rollout.enforce_eager=True",
    "actor_rollout_ref.rollout.free_cache_engine=False",
    "+actor_rollout_ref.rollout.enable_sleep_mode=False",
    "actor_rollout_ref.rollout.enable_prefix_caching=False",
    "actor_rollout_ref.rollout.gpu_memory_utilization=0.2",
    "actor_rollout_ref.rollout.max_model_len=768",
    "actor_rollout_ref.rollout.max_num_seqs=8",
    "actor_rollout_ref.rollout.max_num_batched_tokens=2048",
    "actor_rollout_ref.rollout.agent.num_workers=1",
    "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=64",
    "trainer.device=cpu",
    "trainer.nnodes=1",
    "trainer.n_gpus_per_node=1",
    "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
    "ray_kwargs.ray_init.num_cpus=16",
    "+ray_kwargs.ray_init.num_gpus=1",
    "+ray_kwargs.ray_init.include_dashboard=False",
    "+ray_kwargs.ray_init.object_store_memory=500000000",
)


def write_rows(folder: Path, write_video: Callable[..., Path]) -> Path:
    """A parquet file in `folder`: several frame rates, two videos in a prompt, text like a timestamp."""
    texts = [
        "<video>does it move left?",
        "Look: <video> at <1.0 seconds>, does it move?",
        "<video>then<video>which moves?",
        "<video>?",
    ]
    rows = []
    for i, text in enumerate(texts):
        videos = [
            {
                "type": "video",
                "video": str(
                    write_video(folder / f"{i}_{k}.mp4", num_frames=16, fps=(3.0, 8.0, 30.0)[(i + k) % 3], seed=i)
                ),
                "nframes": 4 + 4 * k,
                "min_pixels": 784,
                "max_pixels": 64 * 64,
            }
            for k in range(text.count("<video>"))
        ]
        rows.append(
            {
                "data_source": DATA_SOURCE,
                "prompt": [{"role": "user", "content": text}],
                "videos": videos,
                "reward_model": {"style": "rule", "ground_truth": json.dumps(TRUTH)},
                "extra_info": {"index": i},
            }
        )
    path = folder / "rows.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return path


def check_agreement(metrics: list[dict[str, float]], updates: int) -> None:
    """Weights moved in each of `updates` steps, and rollout and actor gave their tokens the same probability."""
    gradients = [step["actor/grad_norm"] for step in metrics if "actor/grad_norm" in step]
    assert len(gradients) == updates, metrics
    assert min(gradients) > 0, gradients
    # verl's own name in bypass mode is the second; runs with a reward or a dataset of ours have it under the first.
    names = ("rollout_corr/k3_kl", "actor/rollout_corr/k3_kl")
    divergence = [step[name] for step in metrics for name in names if name in step]
    assert len(divergence) == updates, metrics
    assert max(divergence) < 1e-5, divergence

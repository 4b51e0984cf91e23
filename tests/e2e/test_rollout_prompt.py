"""Rollout and actor see the same prompt: GRPO updates on videos in float32, where their probabilities must agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

UPDATES = 3

LORA = (
    "actor_rollout_ref.model.lora_rank=8",
    "actor_rollout_ref.model.lora_alpha=16",
    "actor_rollout_ref.model.target_modules=all-linear",
    "actor_rollout_ref.model.exclude_modules='.*visual.*'",
    "actor_rollout_ref.rollout.load_format=safetensors",
)


def verl_rows(folder: Path, write_video: Callable) -> Path:
    """Rows as any verl user writes them: several frame rates, two videos in a prompt, text like a timestamp."""
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
                "data_source": "test",
                "prompt": [{"role": "user", "content": text}],
                "videos": videos,
                "reward_model": {"style": "rule", "ground_truth": '{"answer": "B"}'},
                "extra_info": {"index": i},
            }
        )
    path = folder / "rows.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return path


@pytest.mark.e2e
@pytest.mark.parametrize("tuned", ["full", "lora"])
@pytest.mark.parametrize("arch", ["qwen3_vl", "qwen2_5_vl"])
def test_rollout_and_actor_agree(arch: str, tuned: str, tiny_model, run_command, write_video, tmp_path: Path) -> None:
    data = verl_rows(tmp_path, write_video)
    run = run_command(
        [
            *("python", "-m", "verl.trainer.main_ppo", "--config-name", "tiny_cpu/grpo"),
            *(f"data.train_files={data}", f"data.val_files={data}", "data.custom_cls.path=null"),
            *("data.train_batch_size=4", "data.max_response_length=16", "data.shuffle=false"),
            f"actor_rollout_ref.model.path={tiny_model(arch)}",
            *("actor_rollout_ref.actor.ppo_mini_batch_size=4", "actor_rollout_ref.rollout.n=2"),
            "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=8",
            "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=8",
            f"trainer.total_training_steps={UPDATES}",
            *(
                "trainer.save_freq=-1",
                "trainer.resume_mode=disable",
                f"trainer.default_local_dir={tmp_path}/checkpoints",
            ),
            *(LORA if tuned == "lora" else ()),
        ],
        tmp_path,
    ).check()
    divergence = [step["rollout_corr/k3_kl"] for step in run.metrics if "rollout_corr/k3_kl" in step]
    assert len(divergence) == UPDATES, run.metrics
    assert max(divergence) < 1e-5, divergence

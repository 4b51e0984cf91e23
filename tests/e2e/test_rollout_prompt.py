"""Rollout and actor see the same prompt: GRPO updates on videos in float32, where their probabilities must agree."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from plain_verl import check_agreement, write_rows

pytestmark = pytest.mark.pins

UPDATES = 3

LORA = (
    "actor_rollout_ref.model.lora_rank=8",
    "actor_rollout_ref.model.lora_alpha=16",
    "actor_rollout_ref.model.target_modules=all-linear",
    "actor_rollout_ref.model.exclude_modules='.*visual.*'",
    "actor_rollout_ref.rollout.load_format=safetensors",
)


# An untrained model earns nothing from the ST-reward. This one differs from answer to answer, so that weights move.
REWARD = """
def compute_score(data_source, solution_str, ground_truth, extra_info=None, **options):
    score = sum(character in "aeiou" for character in solution_str) / max(len(solution_str), 1)
    return {"score": score, "acc": float(len(solution_str) % 2)}
"""
# What shows in the configuration that verl prints that the algorithm is the one that runs.
SIGNS = {
    "dapo": "'metric': 'acc'",
    "gspo": "'loss_mode': 'gspo'",
    "cispo": "'loss_mode': 'cispo'",
    "rloo": "'adv_estimator': 'rloo'",
}


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("arch", "tuned", "algorithm"),
    [
        ("qwen3_vl", "full", "dapo"),
        ("qwen3_vl", "lora", "gspo"),
        ("qwen2_5_vl", "full", "cispo"),
        ("qwen2_5_vl", "lora", "rloo"),
    ],
)
def test_rollout_and_actor_agree_under_every_algorithm(
    arch: str, tuned: str, algorithm: str, tiny_model, run_command, write_video, tmp_path: Path
) -> None:
    data = write_rows(tmp_path, write_video)
    reward = tmp_path / "reward.py"
    reward.write_text(REWARD)
    run = run_command(
        [
            *("python", "-m", "verl.trainer.main_ppo", "--config-name", "tiny_cpu/grpo"),
            f"+mllm4d_algorithm={algorithm}",
            *(f"data.train_files={data}", f"data.val_files={data}", "data.custom_cls.path=null"),
            *("data.train_batch_size=4", "data.max_response_length=16", "data.shuffle=false"),
            f"reward.custom_reward_function.path={reward}",
            f"actor_rollout_ref.model.path={tiny_model(arch)}",
            "actor_rollout_ref.actor.optim.lr=1e-3",
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
    check_agreement(run.metrics, UPDATES)
    assert SIGNS[algorithm] in run.output
    if algorithm == "dapo":  # of two answers, half of the pairs have an `acc` in common
        assert sum(step.get("training/filter_groups/evicted_samples", 0) for step in run.metrics) > 0


QUESTION = "does it move left?"


def rl_prompt(processor, prompt: list, config) -> tuple[list[int], torch.Tensor, torch.Tensor, list]:
    """Ids, positions, pixels and decoded videos of a prompt, by the code of verl's agent loop."""
    from types import SimpleNamespace

    from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
    from verl.utils.dataset.rl_dataset import RLHFDataset
    from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

    _, videos, _ = RLHFDataset._process_multi_modal_info(prompt, processor.image_processor.patch_size, config)
    builder = create_continuous_token_builder(
        processor.tokenizer, hf_model_type=processor.config.model_type, processor=processor
    )
    inputs: dict = {}
    ids = builder.build_initial_tokens(prompt, videos=videos, mm_inputs_out=inputs)
    batch = torch.tensor([ids])
    positions = AgentLoopWorker._compute_position_ids(
        SimpleNamespace(processor=processor), batch, torch.ones_like(batch), dict(inputs)
    )
    return ids, positions[0], inputs["pixel_values_videos"], videos


@pytest.mark.parametrize("fps", [3.0, 24.0, 29.97])
@pytest.mark.parametrize("arch", ["qwen3_vl", "qwen2_5_vl"])
def test_sft_and_rl_and_vllm_read_a_video_alike(arch: str, fps: float, tiny_model, write_video, tmp_path: Path) -> None:
    """The same tokens, timestamps, positions and pixels: verl's SFT dataset, ours, the agent loop, and vLLM."""
    import numpy as np
    from omegaconf import OmegaConf
    from verl.utils import hf_processor
    from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset
    from verl.workers.rollout.utils import qwen2_5_vl_dedup_image_tokens

    from mllm4d_verl.datasets import MLLM4DSFTDataset
    from mllm4d_verl.doctor import vllm_inputs

    processor = hf_processor(str(tiny_model(arch)))
    path = write_video(tmp_path / "video.mp4", num_frames=20, fps=fps)
    video = {"type": "video", "video": str(path), "nframes": 6, "min_pixels": 1024, "max_pixels": 64 * 64}
    config = OmegaConf.create(
        {"max_length": 512, "pad_mode": "no_padding", "truncation": "error", "ignore_input_ids_mismatch": True,
         "image_patch_size": processor.image_processor.patch_size, "prompt_template": "dataset"}
    )  # fmt: skip
    # A system turn, because Qwen2.5-VL's template writes one where there is none.
    prompt = [
        {"role": "system", "content": "You see."},
        {"role": "user", "content": [video, {"type": "text", "text": QUESTION}]},
    ]
    ids, positions, pixels, videos = rl_prompt(processor, prompt, config)

    rows = tmp_path / "rows.parquet"
    turns = [
        {"role": "system", "content": "You see."},
        {"role": "user", "content": f"<video>{QUESTION}"},
        {"role": "assistant", "content": "no"},
    ]
    pd.DataFrame([{"messages": turns, "videos": [video]}]).to_parquet(rows)
    for dataset_class in (MLLM4DSFTDataset, MultiTurnSFTDataset):
        row = dataset_class(str(rows), processor.tokenizer, config, processor)[0]
        assert row["input_ids"][: len(ids)].tolist() == ids, dataset_class
        assert torch.equal(row["position_ids"][:, : len(ids)], positions), dataset_class
        assert torch.equal(row["multi_modal_inputs"]["pixel_values_videos"], pixels), dataset_class

    rollout = vllm_inputs(tiny_model(arch), list(qwen2_5_vl_dedup_image_tokens(ids, processor)), videos[0])
    assert list(rollout["prompt_token_ids"]) == ids
    text = processor.tokenizer.decode(ids)
    if arch == "qwen3_vl":  # the time halfway between the two frames of a pair
        frames = np.linspace(0, 19, 6).round()
        times = (frames[0::2] + frames[1::2]) / 2 / fps
        assert [f"<{time:.1f} seconds>" for time in times] == re.findall(r"<\d+\.\d seconds>", text)
    else:
        sampled_fps = 6 / 20 * fps
        seconds = rollout["mm_kwargs"]["video"][0]["second_per_grid_ts"].data
        assert float(seconds) == pytest.approx(2 / sampled_fps, rel=1e-6)
        own = [position for position, token in enumerate(ids) if token == processor.video_token_id]
        expected = [int(k * float(seconds) * 2) for k in range(3)]
        start = int(positions[1, own[0]])
        assert sorted(set((positions[1, own] - start).tolist())) == sorted(set(expected))

"""`mllm4d train grpo`: Ray, FSDP, vLLM and the ST-reward; killed after a checkpoint, resumed, merged."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from small_world import write_questions_of_small_world

STEPS = 2


@pytest.mark.e2e
def test_two_steps_with_checkpoint_resume_after_a_kill_and_merge(tiny_model, run_command, tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    questions, out = write_questions_of_small_world(tmp_path), tmp_path / "out"
    command = [
        *("python", "-m", "mllm4d_verl.cli.main", "train", "grpo", "--recipe", "tiny_cpu", "--json"),
        *("--model", str(tiny_model("qwen3_vl")), "--data", str(questions), "--out", str(out)),
        *("data.train_batch_size=2", "data.max_response_length=16"),
        *("actor_rollout_ref.actor.ppo_mini_batch_size=2", "actor_rollout_ref.rollout.n=2"),
        "actor_rollout_ref.rollout.max_num_seqs=8",
        *(f"trainer.total_training_steps={STEPS}", "trainer.save_freq=1"),
    ]
    marker = out / "checkpoints" / "latest_checkpointed_iteration.txt"
    killed = run_command(command, tmp_path / "killed", until=lambda log: marker.exists())
    assert marker.exists(), killed.output
    resumed_from = int(marker.read_text())
    assert resumed_from == 1

    finished = run_command(command, tmp_path / "resumed").check()
    report = json.loads(finished.output.strip().splitlines()[-1])
    assert report["step"] == STEPS
    launch = out / "metrics" / "launch_001.jsonl"
    steps = [json.loads(line)["step"] for line in launch.read_text().splitlines()]
    assert steps == [2], "it started again instead of resuming"
    assert math.isfinite(report["metrics"]["critic/score/mean"])

    model = AutoModelForImageTextToText.from_pretrained(report["model"])
    assert len(AutoProcessor.from_pretrained(report["model"]).tokenizer) == model.config.text_config.vocab_size

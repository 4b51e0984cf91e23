"""`mllm4d train sft`: verl's SFT trainer on videos, killed in the middle, resumed, merged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_world import write_questions_of_small_world

STEPS = 3


@pytest.mark.e2e
@pytest.mark.pins
@pytest.mark.parametrize(("arch", "lora_rank"), [("qwen2_5_vl", 0), ("qwen3_vl", 8)], ids=["full", "lora"])
def test_trains_resumes_after_a_kill_and_merges(
    arch: str, lora_rank: int, tiny_model, run_command, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    questions, start, out = write_questions_of_small_world(tmp_path), tiny_model(arch), tmp_path / "out"
    command = [
        *("python", "-m", "mllm4d_verl.cli.main", "train", "sft", "--recipe", "tiny_cpu", "--json"),
        *("--model", str(start), "--data", str(questions), "--out", str(out), "--lora-rank", str(lora_rank)),
        *("data.train_batch_size=4", "data.val_files=null"),
        *(f"trainer.total_training_steps={STEPS}", "trainer.save_freq=1", "optim.lr=1e-2"),
        # As the GPU recipes: the checkpoints of a LoRA run hold the adapter alone. Without LoRA it has no effect.
        "+checkpoint.save_lora_only=true",
    ]
    marker = out / "checkpoints" / "latest_checkpointed_iteration.txt"
    killed = run_command(command, tmp_path / "killed", until=lambda log: marker.exists())
    assert marker.exists(), killed.output
    resumed_from = int(marker.read_text())
    assert resumed_from >= 1

    finished = run_command(command, tmp_path / "resumed").check()
    report = json.loads(finished.output.strip().splitlines()[-1])
    assert report["step"] == STEPS
    if resumed_from < STEPS:
        launch = out / "metrics" / "launch_001.jsonl"
        steps = [json.loads(line)["step"] for line in launch.read_text().splitlines()]
        assert min(steps) == resumed_from + 1, "it started again instead of resuming"

    trained = AutoModelForImageTextToText.from_pretrained(report["model"], dtype="float32")
    before = AutoModelForImageTextToText.from_pretrained(start, dtype="float32").state_dict()
    after = trained.state_dict()
    assert after.keys() == before.keys(), "LoRA has to be merged away"
    moved = {name for name in before if not torch.allclose(after[name], before[name], rtol=1e-2, atol=1e-3)}
    assert any("language_model" in name and "q_proj" in name for name in moved)
    checkpoint = out / "checkpoints" / f"global_step_{STEPS}" / "model_world_size_1_rank_0.pt"
    saved = torch.load(checkpoint, map_location="cpu", weights_only=False)
    assert all("lora_" in name for name in saved) == bool(lora_rank)
    if lora_rank:
        assert not any("visual" in name for name in moved)
    assert len(AutoProcessor.from_pretrained(report["model"]).tokenizer) == trained.config.text_config.vocab_size

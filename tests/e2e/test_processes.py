"""Two training processes and two vLLM servers on one machine, tensor parallelism, and SFT with two processes."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from small_world import write_questions_of_small_world

TWO_PROCESSES = ("trainer.n_gpus_per_node=2", "ray_kwargs.ray_init.num_gpus=2")
# The rewards of an untrained model are all 0: the entropy is what gives the update a gradient.
MOVES = ("actor_rollout_ref.actor.entropy_coeff=0.1", "actor_rollout_ref.actor.optim.lr=1e-3")


def train(stage: str, model: Path, data: Path, out: Path, *overrides: str) -> list[str]:
    return [
        *("python", "-m", "mllm4d_verl.cli.main", "train", stage, "--recipe", "tiny_cpu", "--json"),
        *("--model", str(model), "--data", str(data), "--out", str(out), *overrides),
    ]


def read_steps(out: Path, launch: int) -> dict[int, dict[str, float]]:
    """Metrics of a launch of `mllm4d train`, by step."""
    file = out / "metrics" / f"launch_{launch:03d}.jsonl"
    return {row["step"]: row["data"] for row in map(json.loads, file.read_text().splitlines())} if file.exists() else {}


def shards(checkpoint: Path) -> list[str]:
    return sorted(file.name for file in checkpoint.glob("model_world_size_*"))


@pytest.mark.e2e
def test_grpo_of_two_processes_with_two_servers_goes_on_with_tensor_parallel_2(
    tiny_model, run_command, mllm4d, tmp_path: Path
) -> None:
    """One run, killed and resumed: first a vLLM server for each process, then one whose model is split in two."""
    import torch
    from transformers import AutoModelForImageTextToText

    start, questions, out = tiny_model("qwen3_vl"), write_questions_of_small_world(tmp_path), tmp_path / "out"
    command = train(
        *("grpo", start, questions, out, *TWO_PROCESSES, *MOVES),
        *("data.train_batch_size=2", "data.max_response_length=16", "actor_rollout_ref.actor.ppo_mini_batch_size=2"),
        *("actor_rollout_ref.rollout.n=2", "actor_rollout_ref.rollout.max_num_seqs=8", "trainer.save_freq=1"),
    )
    first = out / "metrics" / "launch_000.jsonl"
    killed = run_command(
        [*command, "trainer.total_training_steps=9"],
        tmp_path / "killed",
        until=lambda log: first.exists() and first.read_text().count("\n") > 1,
    )
    done = read_steps(out, 0)
    assert sorted(done)[:2] == [1, 2], killed.output[-6000:]
    last = int((out / "checkpoints" / "latest_checkpointed_iteration.txt").read_text())
    actor = out / "checkpoints" / f"global_step_{last}" / "actor"
    assert shards(actor) == [f"model_world_size_2_rank_{rank}.pt" for rank in range(2)]
    log = (out / "logs" / "launch_000.log").read_text(errors="replace")
    assert len(set(re.findall(r"vLLMHttpServer pid=(\d+)", log))) == 2, "one server for each process"

    refused = mllm4d(*train("grpo", start, questions, out, "trainer.total_training_steps=10", "--dry-run")[3:])
    assert refused.returncode == 2
    assert "was written by 2 training processes" in refused.stdout + refused.stderr

    tensor_parallel = "actor_rollout_ref.rollout.tensor_model_parallel_size=2"
    resumed = run_command(
        [*command, f"trainer.total_training_steps={last + 1}", tensor_parallel], tmp_path / "resumed"
    ).check()
    report = json.loads(resumed.output.strip().splitlines()[-1])
    assert report["step"] == last + 1
    log = (out / "logs" / "launch_001.log").read_text(errors="replace")
    assert "Worker_TP0" in log
    assert "Worker_TP1" in log
    again = read_steps(out, 1)
    assert sorted(again) == [last + 1], "it started again instead of resuming"
    for step in (*done.values(), *again.values()):
        assert all(math.isfinite(value) for key, value in step.items() if key.startswith(("critic/", "actor/")))
        assert step["actor/grad_norm"] > 0
        assert step["rollout_corr/k3_kl"] < 1e-5

    before = AutoModelForImageTextToText.from_pretrained(start, dtype="float32").state_dict()
    after = AutoModelForImageTextToText.from_pretrained(report["model"], dtype="float32").state_dict()
    assert after.keys() == before.keys()
    assert any(not torch.allclose(after[name], before[name], rtol=1e-2, atol=1e-4) for name in before)


@pytest.mark.e2e
def test_sft_of_two_processes_learns_what_one_learns(tiny_model, run_command, mllm4d, tmp_path: Path) -> None:
    """The same losses and gradients for the same global batches; its two shards merge, and one process goes on."""
    questions, start = write_questions_of_small_world(tmp_path), tiny_model("qwen3_vl")
    settings = (
        *("data.train_batch_size=4", "data.val_files=null", "trainer.save_freq=2", "trainer.total_training_steps=2"),
        "trainer.marks=null",  # they are for one process
        *("optim.lr=1e-2", "optim.lr_scheduler_type=constant", "optim.lr_warmup_steps_ratio=0"),
    )
    steps, merged = {}, {}
    for processes in (1, 2):
        out = tmp_path / f"out{processes}"
        command = train("sft", start, questions, out, *settings, f"trainer.n_gpus_per_node={processes}")
        finished = run_command(command, tmp_path / f"run{processes}").check()
        merged[processes] = Path(json.loads(finished.output.strip().splitlines()[-1])["model"])
        steps[processes] = read_steps(out, 0)
        assert len(shards(out / "checkpoints" / "global_step_2")) == processes
    assert sorted(steps[1]) == sorted(steps[2]) == [1, 2]
    for step, tolerance in ((1, 1e-5), (2, 1e-2)):  # Adam makes of what is rounded a step of full length
        for key in ("train/loss", "train/grad_norm", "train/global_tokens"):
            assert steps[2][step][key] == pytest.approx(steps[1][step][key], rel=tolerance), (step, key)

    for processes, other in ((1, 2), (2, 1)):  # either way round
        more = (*settings, "trainer.total_training_steps=3", f"trainer.n_gpus_per_node={other}")
        refused = mllm4d(*train("sft", start, questions, tmp_path / f"out{processes}", *more, "--dry-run")[3:])
        assert refused.returncode == 2
        assert f"was written by {processes} training processes" in refused.stdout + refused.stderr

    out = tmp_path / "went_on"
    run_command(train("sft", merged[2], questions, out, *settings), tmp_path / "one_after_two").check()
    assert read_steps(out, 0)[1]["train/loss"] < steps[1][1]["train/loss"] - 0.1

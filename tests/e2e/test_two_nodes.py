"""GRPO with LoRA on two Ray nodes of one machine: a training process and a vLLM server on each."""

from __future__ import annotations

import json
import re
import sys
import uuid
from pathlib import Path

import pytest
from small_world import write_questions_of_small_world

# Two nodes, then the command in "$@". What `ray start` leaves running has the run's mark in its environment, by which
# `run_command` ends it.
START_CLUSTER = """
set -e
port=$(python -c "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])")
node="--num-cpus=8 --num-gpus=1 --object-store-memory=300000000 --disable-usage-stats"
ray start --head --port=$port --temp-dir=$RAY_TMPDIR --include-dashboard=false $node
ray start --address=127.0.0.1:$port $node
RAY_ADDRESS=127.0.0.1:$port exec "$@"
"""
# The cluster's own count: Ray refuses to be told again.
OF_THE_CLUSTER = [f"ray_kwargs.ray_init.{key}=null" for key in ("num_cpus", "num_gpus", "object_store_memory")]


@pytest.mark.e2e
def test_lora_grpo_on_two_nodes(tiny_model, run_command, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForImageTextToText

    start, questions, out = tiny_model("qwen3_vl"), write_questions_of_small_world(tmp_path), tmp_path / "out"
    finished = run_command(
        [
            *("bash", "-c", START_CLUSTER, "two_nodes"),
            *(sys.executable, "-m", "mllm4d_verl.cli.main", "train", "grpo", "--recipe", "tiny_cpu", "--json"),
            *("--model", str(start), "--data", str(questions), "--out", str(out), "--lora-rank", "8"),
            *(
                "data.train_batch_size=2",
                "data.max_response_length=16",
                "actor_rollout_ref.actor.ppo_mini_batch_size=2",
            ),
            *("actor_rollout_ref.rollout.n=2", "actor_rollout_ref.rollout.max_num_seqs=8"),
            # The rewards of an untrained model are all 0: the entropy is what gives the update a gradient.
            *("actor_rollout_ref.actor.entropy_coeff=0.1", "actor_rollout_ref.actor.optim.lr=1e-2"),
            *("trainer.total_training_steps=2", "trainer.save_freq=2", "trainer.nnodes=2", *OF_THE_CLUSTER),
        ],
        tmp_path / "run",
        # Every process of both nodes has the token that Ray asks for.
        env={"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex},
    ).check()
    report = json.loads(finished.output.strip().splitlines()[-1])
    assert report["step"] == 2
    log = (out / "logs" / "launch_000.log").read_text(errors="replace")
    assert len(set(re.findall(r"vLLMHttpServer pid=(\d+)", log))) == 2, "a server on each node"
    actor = out / "checkpoints" / "global_step_2" / "actor"
    assert sorted(file.name for file in actor.glob("model_*")) == [f"model_world_size_2_rank_{i}.pt" for i in range(2)]

    rows = [json.loads(line)["data"] for line in (out / "metrics" / "launch_000.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    for step in rows:
        assert step["actor/grad_norm"] > 0
        assert step["rollout_corr/k3_kl"] < 1e-5

    before = AutoModelForImageTextToText.from_pretrained(start, dtype="float32").state_dict()
    after = AutoModelForImageTextToText.from_pretrained(report["model"], dtype="float32").state_dict()
    assert after.keys() == before.keys(), "LoRA has to be merged away"
    moved = {name for name in before if not torch.allclose(after[name], before[name], rtol=1e-2, atol=1e-4)}
    assert moved
    assert all("_proj" in name and "visual" not in name for name in moved)

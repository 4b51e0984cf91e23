"""`mllm4d train grpo`: Ray, FSDP, vLLM and the ST-reward; an agent loop killed after a checkpoint, resumed, merged.

With GDPO, which has an advantage where all scores are 0, as those of random weights are.

On real pixels, KITTI's, in the released RFT format, where they are; else on the procedural world.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import psutil
import pytest
from kitti import KITTI, PROMPT, ask, read_prompts, write_clips
from small_world import write_questions_of_small_world

from mllm4d_verl.data_tools.released import write_rft
from mllm4d_verl.reward import STReward
from mllm4d_verl.rollouts.reading import read_rollouts

# A step takes a second or two on a free machine, and the kill comes some time after the first.
STEPS = 4


def kill_workers(name: str, out: Path) -> list[int]:
    """Kill -9 the Ray workers of this name that belong to the run in `out`; returns their process ids."""
    killed = []
    for process in psutil.process_iter():
        try:
            title = " ".join(process.cmdline())
            if title.startswith(f"ray::{name}") and str(out) in process.environ().get("VERL_FILE_LOGGER_PATH", ""):
                process.kill()
                killed.append(process.pid)
        except psutil.Error:
            continue
    return killed


@pytest.mark.e2e
@pytest.mark.parametrize("pixels", ["real", "rendered"])
def test_steps_with_checkpoint_resume_after_a_lost_agent_loop_and_merge(
    pixels: str, tiny_model, run_command, tmp_path: Path
) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    if pixels == "real" and not KITTI.is_dir():
        pytest.skip(f"the KITTI frames are not there: {KITTI}")
    if pixels == "rendered" and KITTI.is_dir():
        pytest.skip("done on real pixels, which are there")
    model, out, dumps = tiny_model("qwen3_vl"), tmp_path / "out", tmp_path / "dumps"
    overrides: tuple[str, ...] = ()
    if pixels == "real":
        data = write_rft(tmp_path / "rft.jsonl", ask(write_clips(tmp_path)))
        overrides = (
            *(f"data.{key}={value}" for key, value in PROMPT.items()),
            *("data.max_prompt_length=1024", "actor_rollout_ref.rollout.max_model_len=1152"),
        )
    else:
        data = write_questions_of_small_world(tmp_path)
    command = [
        *("python", "-m", "mllm4d_verl.cli.main", "train", "grpo", "--recipe", "tiny_cpu", "--json"),
        *("--model", str(model), "--data", str(data), "--out", str(out), "--algorithm", "gdpo"),
        # Random weights are never right; the length of an answer is what their answers differ in.
        *("algorithm.gdpo_reward_keys=[accuracy,response_chars]", "algorithm.gdpo_reward_weights=[0.5,0.5]"),
        f"trainer.rollout_data_dir={dumps}",
        *("data.train_batch_size=2", "data.max_response_length=16"),
        *("actor_rollout_ref.actor.ppo_mini_batch_size=2", "actor_rollout_ref.rollout.n=2"),
        "actor_rollout_ref.rollout.max_num_seqs=8",
        *(f"trainer.total_training_steps={STEPS}", "trainer.save_freq=1"),
        *overrides,
    ]
    marker, first = out / "checkpoints" / "latest_checkpointed_iteration.txt", out / "metrics" / "launch_000.jsonl"
    lost: list[int] = []

    def lose_an_agent_loop(log: str) -> bool:
        # verl writes a step's metrics after its checkpoint.
        if not lost and marker.exists() and first.exists() and first.read_text().strip():
            lost.extend(kill_workers("GroupAgentLoopWorker", out))
        return False

    # Stock verl waits for ever for the rollouts of the process that is gone.
    killed = run_command(command, tmp_path / "killed", until=lose_an_agent_loop)
    assert lost, killed.output
    assert killed.returncode != 0
    # The second is Ray's own word, where the process was gone before the next step's prompts were handed to it.
    assert "an agent loop has died" in killed.output or "ActorDiedError" in killed.output
    assert marker.exists(), killed.output
    resumed_from = int(marker.read_text())
    assert 1 <= resumed_from < STEPS
    assert list((tmp_path / "killed" / "frame_store").glob("??/*.frames")), "no decoded frames were kept"

    finished = run_command(command, tmp_path / "resumed").check()
    report = json.loads(finished.output.strip().splitlines()[-1])
    assert report["step"] == STEPS
    launches = [
        [json.loads(line) for line in (out / "metrics" / f"launch_{number:03d}.jsonl").read_text().splitlines()]
        for number in range(2)
    ]
    resumed = [step["step"] for step in launches[1]]
    assert resumed == list(range(resumed_from + 1, STEPS + 1)), "it started again instead of resuming"
    for step in (launches[0][0]["data"], launches[1][0]["data"]):
        assert all(math.isfinite(step[key]) for key in step if key.startswith(("critic/", "actor/"))), step
        assert step["rollout_corr/k3_kl"] < 1e-5
        if pixels == "real":
            lengths = [len(ids) for ids, _ in read_prompts(data, model)]
            assert min(lengths) <= step["prompt_length/min"] <= step["prompt_length/max"] <= max(lengths)

    steps = [launch[0]["data"] for launch in launches]
    assert any(step["critic/score/max"] == 0.0 < step["critic/advantages/max"] for step in steps), steps

    records = [json.loads(line) for line in (dumps / "2.jsonl").read_text().splitlines()]
    assert len(records) == 4
    assert {"id", "data_source", "gts", "uid", *STReward().keys} <= set(records[0])
    assert [rollout.place.id for rollout in read_rollouts(dumps / "2.jsonl")] == [record["id"] for record in records]

    trained = AutoModelForImageTextToText.from_pretrained(report["model"])
    assert len(AutoProcessor.from_pretrained(report["model"]).tokenizer) == trained.config.text_config.vocab_size

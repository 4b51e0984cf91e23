"""`mllm4d train` as typed: dry runs, the data check, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("verl")


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> Path:
    from mllm4d_verl.data_tools.questions import QuestionConfig, write_questions
    from mllm4d_verl.data_tools.synthetic import write_world

    folder = tmp_path_factory.mktemp("small")
    write_world(
        folder / "world", clips=6, seed=0, width=64, height=64, num_frames=4, fps=2.0, config="tiny", dense=False
    )
    write_questions(folder / "world", folder / "qa", QuestionConfig(num_frames=4, val_fraction=0.2, test_fraction=0.2))
    return folder / "qa"


def test_dry_run_prints_the_command_and_writes_nothing(questions, tmp_path):
    arguments = ("train", "grpo", "--recipe", "tiny_cpu", "--data", str(questions), "--out", "o", "--dry-run", "--json")
    command = [sys.executable, "-m", "mllm4d_verl.cli.main", *arguments, "trainer.total_training_steps=7"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    command, record = done.stdout.strip().splitlines()
    assert "verl.trainer.main_ppo --config-name tiny_cpu/grpo" in command
    assert command.endswith("trainer.total_training_steps=7")
    assert json.loads(record)["steps"] == 7
    assert not list(tmp_path.iterdir())


def test_bad_rows_stop_it_before_anything_starts(questions, tmp_path, mllm4d):
    import pandas as pd

    rows = pd.read_parquet(questions / "train.parquet")
    rows.loc[2, "video"] = "nowhere.mp4"
    rows.to_parquet(tmp_path / "train.parquet")
    done = mllm4d("train", "grpo", "--data", "train.parquet", "--out", "o", "data.media_root=/", cwd=tmp_path)
    assert done.returncode == 2
    assert "nowhere.mp4" in done.stderr or "does not exist" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "o").exists()


def test_a_misspelt_reward_stops_it_before_anything_starts(questions, tmp_path, mllm4d):
    wrong = "reward.custom_reward_function.reward_kwargs.components=[consistancy]"
    done = mllm4d("train", "grpo", "--data", str(questions), "--out", "o", wrong, cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean 'consistency'" in done.stderr


def test_cold_start_wants_texts(questions, tmp_path, mllm4d):
    """Rows without a response are questions for GRPO, not texts to learn from."""
    import pandas as pd

    rows = pd.read_parquet(questions / "train.parquet")
    rows["response"] = None
    rows.to_parquet(questions / "no_texts.parquet")
    arguments = ("train", "cold-start", "--data", str(questions / "no_texts.parquet"), "--out", "o")
    done = mllm4d(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "response" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "grpo", "--recipe", "qwen3_vl_8", "--out", "o"), "Did you mean"),
        (("train", "sft", "--data", "nowhere", "--out", "o"), "no training data"),
        (("train", "sft", "--out", "o", "trainer.typo=1"), "trainer.typo"),
        (("train", "budget", "--frame-size", "big"), "not a size"),
        (("demo", "--scale", "huge", "--out", "o"), "no scale"),
    ],
)
def test_bad_input_is_a_message_and_exit_code_2(tmp_path, arguments, message, mllm4d):
    done = mllm4d(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_budget_as_json(tmp_path, mllm4d):
    done = mllm4d("train", "budget", "--recipe", "qwen2_5_vl_7b", "--stage", "sft", "--json", cwd=tmp_path)
    record = json.loads(done.stdout.strip().splitlines()[-1])
    assert record["parameters"]["total"] == 8_292_166_656
    assert record["tokens"]["fits"]
    assert record["memory"]["rollout_weights"] == 0

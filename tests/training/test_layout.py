"""Resuming with another number of training processes than wrote the checkpoint, which verl cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.training.command import TrainingJob
from mllm4d_verl.training.layout import checkpoint_processes
from mllm4d_verl.training.recipe import find_recipe
from mllm4d_verl.training.run import plan_training


def write_checkpoint(out: Path, step: int, processes: int, role: str = "actor") -> Path:
    """The files by which verl's FSDP engine marks a checkpoint of `processes` shards."""
    folder = out / "checkpoints" / f"global_step_{step}" / role
    folder.mkdir(parents=True)
    (folder / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": processes}))
    (out / "checkpoints" / "latest_checkpointed_iteration.txt").write_text(str(step))
    return out / "checkpoints" / f"global_step_{step}"


def job(stage: str, out: Path, *overrides: str) -> TrainingJob:
    return TrainingJob(stage, find_recipe("tiny_cpu"), out, overrides=("trainer.total_training_steps=5", *overrides))


@pytest.mark.parametrize(
    ("stage", "role", "wrote", "overrides"),
    [
        ("grpo", "actor", 2, []),
        ("grpo", "actor", 1, ["trainer.n_gpus_per_node=2"]),
        ("grpo", "actor", 8, ["trainer.n_gpus_per_node=2", "trainer.nnodes=2"]),
        ("sft", "", 2, []),
    ],
)
def test_another_number_of_processes_is_refused_with_a_way_on(stage, role, wrote, overrides, tmp_path):
    checkpoint = write_checkpoint(tmp_path, 3, wrote, role)
    with pytest.raises(InputError, match=rf"step 3 was written by {wrote} training processes.*merge {checkpoint}"):
        plan_training(job(stage, tmp_path, *overrides))


@pytest.mark.parametrize(
    ("wrote", "overrides"), [(1, []), (2, ["trainer.n_gpus_per_node=2"]), (2, ["trainer.nnodes=2"])]
)
def test_the_same_number_goes_on(wrote, overrides, tmp_path):
    write_checkpoint(tmp_path, 3, wrote)
    assert plan_training(job("grpo", tmp_path, *overrides)).total_steps == 5


def test_a_finished_run_is_merged_whatever_the_number(tmp_path):
    write_checkpoint(tmp_path, 5, 2)
    assert plan_training(job("grpo", tmp_path)).total_steps == 5


def test_a_checkpoint_of_another_engine_is_left_to_verl(tmp_path):
    (tmp_path / "global_step_1" / "actor").mkdir(parents=True)
    assert checkpoint_processes(tmp_path / "global_step_1") is None


def test_marks_are_for_one_process(tmp_path):
    (tmp_path / "qa").mkdir()
    for name in ("train", "val"):
        (tmp_path / "qa" / f"{name}.parquet").touch()
    wanted = TrainingJob(
        "sft", find_recipe("tiny_cpu"), tmp_path, data=tmp_path / "qa", overrides=["trainer.n_gpus_per_node=2"]
    )
    with pytest.raises(InputError, match=r"trainer\.marks: held-out questions .* this run has 2.*trainer\.marks=null"):
        plan_training(wanted)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"world_size": null}'])
def test_a_damaged_checkpoint_is_named(text, tmp_path):
    checkpoint = write_checkpoint(tmp_path, 3, 2)
    (checkpoint / "actor" / "fsdp_config.json").write_text(text)
    with pytest.raises(InputError, match=r"fsdp_config\.json, field world_size: the checkpoint does not say"):
        checkpoint_processes(checkpoint)


@pytest.mark.parametrize(
    ("setting", "value"), [("n_gpus_per_node", "auto"), ("n_gpus_per_node", "0"), ("nnodes", "null")]
)
def test_processes_are_numbers(setting, value, tmp_path):
    write_checkpoint(tmp_path, 3, 2)
    with pytest.raises(InputError, match=f"field trainer.{setting}: must be a positive number"):
        plan_training(job("grpo", tmp_path, f"trainer.{setting}={value}"))

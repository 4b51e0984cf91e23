"""The verl command of a job: what is in it, in which order, and that it can be pasted into a shell."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

pytest.importorskip("verl")

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.training.command import TrainingJob, build_command, data_files
from mllm4d_verl.training.recipe import find_recipe


@pytest.fixture
def questions(tmp_path) -> Path:
    folder = tmp_path / "qa"
    folder.mkdir()
    for name in ("train", "val", "cold_start"):
        (folder / f"{name}.parquet").touch()
    return folder


def job(stage: str, out: Path, **changes) -> TrainingJob:
    return TrainingJob(stage, find_recipe(changes.pop("recipe", "tiny_cpu")), out, **changes)


class TestOverrides:
    def test_grpo_settings_go_to_the_actor(self, tmp_path, questions):
        overrides = job("grpo", tmp_path, model="org/model", data=questions, lora_rank=8).hydra_overrides()
        assert "actor_rollout_ref.model.path=org/model" in overrides
        assert "actor_rollout_ref.model.lora_rank=8" in overrides
        assert "actor_rollout_ref.model.lora_alpha=16" in overrides
        assert f"data.train_files={questions}/train.parquet" in overrides
        assert f"data.val_files={questions}/val.parquet" in overrides

    def test_cold_start_trains_on_its_own_file_and_has_no_validation(self, tmp_path, questions):
        overrides = job("cold-start", tmp_path, data=questions).hydra_overrides()
        assert f"data.train_files={questions}/cold_start.parquet" in overrides
        assert not any(text.startswith("data.val_files") for text in overrides)

    def test_what_is_not_given_stays_the_recipes(self, tmp_path):
        overrides = job("grpo", tmp_path).hydra_overrides()
        assert not any("model.path" in text or "lora" in text or "files" in text for text in overrides)

    def test_users_overrides_come_last(self, tmp_path):
        overrides = job("sft", tmp_path, model="a/b", overrides=("model.path=c/d",)).hydra_overrides()
        assert overrides.index("model.path=c/d") > overrides.index("model.path=a/b")

    @pytest.mark.parametrize(("resume", "mode"), [(True, "auto"), (False, "disable")])
    def test_resume(self, tmp_path, resume, mode):
        assert f"trainer.resume_mode={mode}" in job("sft", tmp_path, resume=resume).hydra_overrides()

    def test_odd_paths_survive_hydra(self, tmp_path):
        odd = tmp_path / "a b, c=[d]'s"
        odd.mkdir()
        (odd / "train.parquet").touch()
        composed = job("grpo", odd, data=odd / "train.parquet")
        config = composed.recipe.compose(
            "grpo", [text for text in composed.hydra_overrides() if not text.startswith("hydra.")]
        )
        assert config.data.train_files == str(odd / "train.parquet")
        assert config.trainer.default_local_dir == str(odd / "checkpoints")


class TestDataFiles:
    def test_a_file_of_its_own_is_also_what_grpo_validates_on(self, questions):
        file = questions / "train.parquet"
        assert data_files("grpo", file) == (file, file)
        assert data_files("sft", file) == (file, None)

    def test_missing_file_is_named(self, tmp_path):
        with pytest.raises(InputError, match=r"cold_start\.parquet.*mllm4d data questions"):
            data_files("cold-start", tmp_path)


class TestCommand:
    def test_entry_points(self, tmp_path):
        grpo = build_command(job("grpo", tmp_path), 1, {}, tmp_path / "m.jsonl").argv
        # A Ray cluster that is already running does not have this command's environment.
        given = f"++ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH={tmp_path / 'm.jsonl'}"
        assert given in grpo
        assert grpo[1:5] == ["-m", "verl.trainer.main_ppo", "--config-name", "tiny_cpu/grpo"]
        sft = build_command(job("sft", tmp_path, recipe="qwen3_vl_8b"), 8, {}, tmp_path / "m.jsonl").argv
        assert "--nproc_per_node=8" in sft
        assert sft[sft.index("--config-name") + 1] == "qwen3_vl_8b/sft"

    def test_recipes_environment_yields_to_the_users(self, tmp_path):
        command = build_command(job("grpo", tmp_path), 1, {"OMP_NUM_THREADS": "7"}, tmp_path / "m.jsonl")
        assert command.environment["VERL_PLATFORM"] == "cpu"
        assert "OMP_NUM_THREADS" not in command.environment

    def test_gpu_recipes_add_nothing_but_the_metrics_file(self, tmp_path):
        command = build_command(job("grpo", tmp_path, recipe="qwen3_vl_8b"), 1, {}, tmp_path / "m.jsonl")
        assert command.environment == {"VERL_FILE_LOGGER_PATH": str(tmp_path / "m.jsonl")}

    def test_text_can_be_pasted_into_a_shell(self, tmp_path):
        command = build_command(job("sft", tmp_path / "a b"), 1, {}, tmp_path / "m.jsonl")
        words = shlex.split(str(command))
        assert words[len(command.environment) :] == command.argv

    def test_own_recipe_folder_is_given_to_hydra(self, tmp_path):
        own = tmp_path / "mine"
        own.mkdir()
        (own / "grpo.yaml").write_text("# @package _global_\ndefaults: [/tiny_cpu/grpo, _self_]\n")
        argv = build_command(job("grpo", tmp_path, recipe=str(own)), 1, {}, tmp_path / "m.jsonl").argv
        assert argv[argv.index("--config-dir") + 1] == str(tmp_path)
        assert "mine/grpo" in argv


@pytest.mark.parametrize(("changes", "message"), [({"stage": "rl"}, "unknown stage"), ({"lora_rank": -1}, "LoRA rank")])
def test_impossible_jobs_are_refused(tmp_path, changes, message):
    arguments = {"stage": "sft", "recipe": find_recipe("tiny_cpu"), "out": tmp_path, **changes}
    with pytest.raises(InputError, match=message):
        TrainingJob(**arguments)

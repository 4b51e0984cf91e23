"""Marks that end a supervised stage: their settings, their file, and what they mean for a run that is started again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from stand_in_trainer import plan

pytest.importorskip("verl")

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.training import run as run_module
from mllm4d_verl.training.command import TrainingJob
from mllm4d_verl.training.marks import Marks, MarksReached, read_marks
from mllm4d_verl.training.recipe import find_recipe
from mllm4d_verl.training.run import plan_training, run_training

TASK = "camera_relative_direction"


class TestSettings:
    def test_null_means_that_the_steps_decide(self):
        assert Marks.from_config(None) is None

    def test_values(self):
        marks = Marks.from_config({"accuracy": {"all": 0.6, TASK: 0.8}, "first": 100, "every": 25})
        assert (marks.first, marks.every, marks.accuracy) == (100, 25, {"all": 0.6, TASK: 0.8})

    @pytest.mark.parametrize(
        ("config", "field"),
        [
            ({}, "trainer.marks.accuracy"),
            ({"accuracy": 0.6}, "trainer.marks.accuracy"),
            ({"accuracy": {"camera_direction": 0.6}}, "trainer.marks.accuracy"),
            ({"accuracy": {"all": 60}}, "trainer.marks.accuracy"),
            ({"accuracy": {"all": True}}, "trainer.marks.accuracy"),
            ({"accuracy": {"all": 0.6}, "every": 0}, "trainer.marks.every"),
            ({"accuracy": {"all": 0.6}, "questions": 1.5}, "trainer.marks.questions"),
            ({"accuracy": {"all": 0.6}, "evry": 5}, "trainer.marks"),
        ],
    )
    def test_a_wrong_setting_is_named(self, config, field):
        with pytest.raises(InputError) as caught:
            Marks.from_config(config)
        assert caught.value.field == field

    def test_when_it_is_checked(self):
        marks = Marks({"all": 0.5}, first=100, every=50)
        assert [step for step in range(1, 260) if marks.is_check(step)] == [100, 150, 200, 250]

    def test_what_is_missed(self):
        marks = Marks({"all": 0.5, TASK: 0.8, "object_camera_relative_distance": 0.9})
        # The third task has no held-out question, and so no mark to miss.
        assert marks.missed({"all": 0.5, TASK: 0.79}) == {TASK: 0.8}


class TestFile:
    def test_is_read_as_it_was_written(self, tmp_path):
        reached = MarksReached(150, {"all": 0.61, TASK: 0.7}, {TASK: 0.8}, [(100, 0.5), (150, 0.61)])
        reached.write(tmp_path / "checkpoints")
        assert read_marks(tmp_path / "checkpoints") == reached
        assert not reached.ended_by_marks

    def test_no_file(self, tmp_path):
        assert read_marks(tmp_path) is None


class TestCommand:
    def test_the_entry_point_checks_marks_where_they_are_set(self, tmp_path):
        recipe, data = find_recipe("tiny_cpu"), tmp_path / "qa"
        data.mkdir()
        for name in ("train", "val"):
            (data / f"{name}.parquet").touch()
        plain = plan_training(TrainingJob("sft", recipe, tmp_path / "a", data=data, overrides=["trainer.marks=null"]))
        marked = plan_training(TrainingJob("sft", recipe, tmp_path / "b", data=data))
        assert "verl.trainer.sft_trainer" in plain.command.argv
        assert "mllm4d_verl.training.marked_sft" in marked.command.argv
        assert marked.config.data.held_out_file == str(data / "val.parquet")

    def test_without_held_out_questions_the_steps_decide(self, tmp_path):
        (tmp_path / "rows.parquet").touch()
        job = TrainingJob("sft", find_recipe("tiny_cpu"), tmp_path, data=tmp_path / "rows.parquet")
        plan = plan_training(job)
        assert plan.marks is None
        assert "verl.trainer.sft_trainer" in plan.command.argv


class TestRunAgain:
    """The stand-in trainer stops at step 2 of 10, as verl's does where marks end a stage."""

    PROGRAM = """
        import json, os
        print(json.dumps({"step": 2, "data": {"train/loss": 0.5}}), file=open(METRICS, "a"))
        os.makedirs(CHECKPOINTS + "/global_step_2", exist_ok=True)
        open(CHECKPOINTS + "/latest_checkpointed_iteration.txt", "w").write("2")
        reached = {"step": 1, "accuracy": {"all": ACCURACY}, "missed": {}, "checks": [[1, ACCURACY]]}
        json.dump(reached, open(CHECKPOINTS + "/marks.json", "w"))
    """

    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch):
        monkeypatch.setattr(run_module, "_merge", lambda checkpoint, out, plan: out)
        monkeypatch.setattr(run_module, "_POLL_SECONDS", 0.05)

    def run(self, tmp_path, accuracy, program=None):
        text = (program or self.PROGRAM).replace("ACCURACY", str(accuracy))
        return run_training(replace(plan(tmp_path, text, total_steps=10), marks=Marks({"all": 0.6})))

    def test_nothing_starts_after_marks_that_were_reached(self, tmp_path):
        assert self.run(tmp_path, 0.7).marks.accuracy == {"all": 0.7}
        again = self.run(tmp_path, 0.7, "raise SystemExit('must not run')")
        assert (again.step, again.seconds) == (2, 0.0)

    def test_it_goes_on_below_them(self, tmp_path):
        self.run(tmp_path, 0.5)
        assert self.run(tmp_path, 0.5).seconds > 0

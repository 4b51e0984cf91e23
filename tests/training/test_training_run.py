"""Watching a training process: small stand-in programs play the trainer, real processes are started and ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from stand_in_trainer import plan

pytest.importorskip("verl")

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.training import run as run_module
from mllm4d_verl.training.command import TrainingJob
from mllm4d_verl.training.merge import checkpoint_step, latest_checkpoint, merge_checkpoint
from mllm4d_verl.training.metrics import last_step, launch_metrics_file, read_metrics, series
from mllm4d_verl.training.recipe import find_recipe
from mllm4d_verl.training.run import TrainingError, plan_training, run_training

WRITE_STEPS = """
    import json, os, time
    with open(METRICS, "a") as metrics:
        for step in (1, 2):
            print(json.dumps({"step": step, "data": {"train/loss": 1 / step}}), file=metrics, flush=True)
            time.sleep(0.2)
    os.makedirs(CHECKPOINTS + "/global_step_2")
    open(CHECKPOINTS + "/latest_checkpointed_iteration.txt", "w").write("2")
"""


@pytest.fixture
def no_merge(monkeypatch):
    """The stand-ins write no weights; merging is tested with real checkpoints in tests/e2e."""
    monkeypatch.setattr(run_module, "_merge", lambda checkpoint, out, plan: out)


@pytest.fixture
def look_often(monkeypatch):
    """Every twentieth of a second in place of every second."""
    monkeypatch.setattr(run_module, "_POLL_SECONDS", 0.05)


@pytest.mark.usefixtures("look_often")
class TestRunTraining:
    def test_reports_steps_and_result(self, tmp_path, no_merge):
        seen = []
        result = run_training(plan(tmp_path, WRITE_STEPS), on_step=lambda step, metrics: seen.append((step, metrics)))
        assert [step for step, _ in seen] == [1, 2]
        assert seen[-1][1] == {"train/loss": 0.5}
        assert (result.step, result.metrics[1]["train/loss"]) == (2, 1.0)
        assert result.peak_memory_bytes > 0

    def test_a_finished_run_starts_nothing(self, tmp_path, no_merge):
        run_training(plan(tmp_path, WRITE_STEPS))
        again = run_training(plan(tmp_path, "raise SystemExit('must not run')"))
        assert (again.step, again.seconds) == (2, 0.0)

    def test_failure_shows_the_end_of_the_log(self, tmp_path):
        with pytest.raises(TrainingError, match=r"code 3[\s\S]*the reason"):
            run_training(plan(tmp_path, "print('the reason', flush=True); raise SystemExit(3)"))

    def test_no_checkpoint_is_a_failure(self, tmp_path):
        with pytest.raises(TrainingError, match="without a checkpoint"):
            run_training(plan(tmp_path, "pass"))

    def test_a_hang_is_ended_and_said(self, tmp_path):
        started = time.monotonic()
        with pytest.raises(TrainingError, match="no sign of life"):
            run_training(plan(tmp_path, "import time; time.sleep(600)"), stall_minutes=0.02)
        assert time.monotonic() - started < 60

    def test_time_limit(self, tmp_path):
        program = "import time\nwhile True: print('busy', flush=True); time.sleep(0.2)"
        with pytest.raises(TrainingError, match="time limit"):
            run_training(plan(tmp_path, program), limit_minutes=0.02)

    def test_interrupting_ends_every_process_and_says_how_to_go_on(self, tmp_path):
        """Ctrl-C and `kill`, with a child that has a detached grandchild, as Ray's and vLLM's servers are."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        # Both at once: what is waited for is the time that processes are given to end by themselves.
        watchers = [self._start_watcher(tmp_path / number.name) for number in numbers]
        for watcher, number in zip(watchers, numbers, strict=True):
            self._wait_for(tmp_path / number.name / "pids", watcher)
        time.sleep(0.5)  # the tree is looked at every tenth of a second
        for watcher, number in zip(watchers, numbers, strict=True):
            os.kill(watcher.pid, number)
        for watcher, number in zip(watchers, numbers, strict=True):
            _, error = watcher.communicate(timeout=60)
            assert b"KeyboardInterrupt" in error, number.name
            for pid in map(int, (tmp_path / number.name / "pids").read_text().split()):
                assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, number.name

    def test_a_repeated_signal_does_not_leave_processes_behind(self, tmp_path):
        """Schedulers repeat SIGTERM, and so does Linux when a parent of several threads is killed."""
        folder = tmp_path / "slow"
        head = "import signal, sys, time; signal.signal(signal.SIGINT, lambda *_: (time.sleep(2), sys.exit()))\n"
        watcher = self._start_watcher(folder, head)
        self._wait_for(folder / "pids", watcher)
        time.sleep(0.5)
        for _ in range(3):
            watcher.send_signal(signal.SIGTERM)
            time.sleep(0.3)
        watcher.communicate(timeout=60)
        for pid in map(int, (folder / "pids").read_text().split()):
            assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    @staticmethod
    def _start_watcher(folder: Path, head: str = "") -> subprocess.Popen:
        """A process that runs a stand-in which writes its own and its grandchild's id to `folder`/pids."""
        folder.mkdir()
        pids = str(folder / "pids")
        grandchild = "import time; time.sleep(600)"
        program = (
            f"{head}import os, subprocess, sys, time\n"
            f"child = subprocess.Popen([sys.executable, '-c', {grandchild!r}], start_new_session=True)\n"
            f"open({pids!r} + '.part', 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
            f"os.rename({pids!r} + '.part', {pids!r})\n"
            "time.sleep(600)\n"
        )
        script = (
            f"import signal, sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            # A shell's background jobs start with Ctrl-C ignored, and so do these tests when run as one.
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from stand_in_trainer import run_and_look_often\n"
            f"run_and_look_often({str(folder)!r}, {program!r})\n"
        )
        return subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)

    @staticmethod
    def _wait_for(file: Path, watcher: subprocess.Popen) -> None:
        deadline = time.monotonic() + 120
        while not file.exists():
            assert time.monotonic() < deadline
            assert watcher.poll() is None, watcher.stderr.read().decode()
            time.sleep(0.1)


class TestPlan:
    def test_steps_from_configuration(self, tmp_path):
        job = TrainingJob("sft", find_recipe("tiny_cpu"), tmp_path, overrides=("trainer.total_training_steps=7",))
        assert plan_training(job, ambient={}).total_steps == 7

    def test_steps_from_rows(self, tmp_path):
        import pandas as pd

        pd.DataFrame({"id": range(70)}).to_parquet(tmp_path / "train.parquet")
        overrides = ("trainer.total_training_steps=null", "trainer.total_epochs=3", "data.train_batch_size=16")
        job = TrainingJob(
            "grpo", find_recipe("tiny_cpu"), tmp_path, data=tmp_path / "train.parquet", overrides=overrides
        )
        assert plan_training(job, ambient={}).total_steps == 70 // 16 * 3

    def test_not_resuming_over_checkpoints_is_refused(self, tmp_path):
        job = TrainingJob("sft", find_recipe("tiny_cpu"), tmp_path, resume=False)
        (job.checkpoints / "global_step_5").mkdir(parents=True)
        (job.checkpoints / "latest_checkpointed_iteration.txt").write_text("5")
        with pytest.raises(InputError, match="up to step 5"):
            plan_training(job, ambient={})

    def test_every_launch_has_its_own_log_and_metrics(self, tmp_path):
        job = TrainingJob("sft", find_recipe("tiny_cpu"), tmp_path)
        first = plan_training(job, ambient={})
        first.metrics_file.parent.mkdir(parents=True)
        first.metrics_file.touch()
        second = plan_training(job, ambient={})
        assert first.metrics_file != second.metrics_file
        assert first.log_file != second.log_file


class TestMetrics:
    def test_a_resumed_launch_replaces_the_steps_it_repeats(self, tmp_path):
        for values in ([1.0, 2.0, 3.0], [None, 20.0, 30.0, 40.0]):
            file = launch_metrics_file(tmp_path)
            lines = [{"step": i, "data": {"r": v}} for i, v in enumerate(values, 1) if v is not None]
            file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert series(read_metrics(tmp_path), ["r"]) == [(1, 1.0), (2, 20.0), (3, 30.0), (4, 40.0)]

    def test_a_line_cut_by_a_kill_is_skipped(self, tmp_path):
        file = tmp_path / "launch_000.jsonl"
        file.write_text('{"step": 1, "data": {}}\n{"step": 2, "da')
        assert last_step(file) == 1

    def test_no_file_no_step(self, tmp_path):
        assert last_step(tmp_path / "none.jsonl") is None
        assert read_metrics(tmp_path) == {}


class TestCheckpoints:
    def test_only_a_complete_one_counts(self, tmp_path):
        assert latest_checkpoint(tmp_path) is None
        (tmp_path / "global_step_4").mkdir()
        assert latest_checkpoint(tmp_path) is None  # the kill came before verl named it
        (tmp_path / "latest_checkpointed_iteration.txt").write_text("4")
        assert checkpoint_step(latest_checkpoint(tmp_path)) == 4

    def test_other_folders_are_not_merged(self, tmp_path):
        with pytest.raises(InputError, match="not a verl FSDP checkpoint"):
            merge_checkpoint(tmp_path, tmp_path / "hf")

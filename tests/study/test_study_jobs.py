"""Jobs in worker processes, one after the other and on a real Ray: done once, whatever happens in between."""

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
from stand_in_jobs import make

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.study.executors import run_locally, run_on_ray
from mllm4d_verl.study.jobs import Job
from mllm4d_verl.study.settings import RaySettings, Resources


def run(jobs: list[Job]) -> dict[str, tuple[str | None, bool]]:
    """Label of the job -> why it failed, and whether it was run."""
    finished = []
    run_locally(jobs, lambda job: None, finished.append)
    return {one.job.key.rpartition("-")[0]: (one.error, one.was_run) for one in finished}


class TestLocal:
    def test_a_job_is_done_once(self, tmp_path):
        jobs = [first := make(tmp_path, "first", "write"), make(tmp_path, "second", "write", (first.key,))]
        assert run(jobs) == {"first": (None, True), "second": (None, True)}
        assert run(jobs) == {"first": (None, False), "second": (None, False)}
        assert len((first.path / "runs").read_text().splitlines()) == 1

    def test_other_settings_are_another_job(self, tmp_path):
        assert run([make(tmp_path, "a", "write", say=1)]) == run([make(tmp_path, "a", "write", say=2)])
        assert len(list((tmp_path / "jobs").iterdir())) == 2

    def test_a_lost_product_is_made_again(self, tmp_path):
        job = make(tmp_path, "a", "write")
        run([job])
        (job.path / "product").unlink()
        assert run([job]) == {"a": (None, True)}

    def test_what_needs_a_failed_job_is_left_out_and_the_rest_is_done(self, tmp_path):
        bad = make(tmp_path, "bad", "fail")
        jobs = [bad, make(tmp_path, "needs", "write", (bad.key,)), make(tmp_path, "other", "write")]
        results = run(jobs)
        assert results["bad"] == ("the reason", True)
        assert results["needs"] == (f"left out: {bad.key} failed", False)
        assert results["other"] == (None, True)
        assert "the reason" in (bad.path / "job.log").read_text()

    def test_a_failed_job_is_tried_again(self, tmp_path):
        job = make(tmp_path, "bad", "fail")
        run([job])
        assert job.failure() == "the reason"
        assert run([job]) == {"bad": ("the reason", True)}

    def test_variables_of_the_job_do_not_replace_those_that_are_set(self, tmp_path, monkeypatch):
        monkeypatch.setenv("OMP_SET", "by the user")
        job = make(tmp_path, "a", "write")
        job.environment.update(OMP_SET="by the job", OMP_OTHER="by the job")
        run([job])
        found = job.record()["figures"]["environment"]
        assert (found["OMP_SET"], found["OMP_OTHER"]) == ("by the user", "by the job")

    def test_processor_time_of_all_processes_is_noted(self, tmp_path):
        job = make(tmp_path, "a", "burn")
        run([job])
        figures = job.record()["figures"]
        assert 2.4 < figures["processor_seconds"] < 6
        assert figures["launches"] == 1


class TestKill:
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
    def test_workers_end_with_the_study_and_the_job_is_done_by_the_next(self, tmp_path, number):
        job = make(tmp_path, "a", "wait")
        script = (
            "import signal, sys; from pathlib import Path\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            "from stand_in_jobs import make\n"
            "from mllm4d_verl.study.executors import run_locally\n"
            f"run_locally([make(Path({str(tmp_path)!r}), 'a', 'wait')], lambda job: None, print)\n"
        )
        study = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
        pids = self._wait_for(job.path / "pids", study)
        os.kill(study.pid, number)
        study.wait(60)
        deadline = time.monotonic() + 30
        while any(map(self._runs, pids)):
            assert time.monotonic() < deadline, "a worker outlived the study"
            time.sleep(0.1)
        assert not job.is_done
        (job.path / "go").touch()
        assert run([job]) == {"a": (None, True)}

    @staticmethod
    def _runs(pid: int) -> bool:
        return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE

    @staticmethod
    def _wait_for(file: Path, study: subprocess.Popen) -> list[int]:
        deadline = time.monotonic() + 120
        while not file.exists():
            assert time.monotonic() < deadline
            assert study.poll() is None
            time.sleep(0.1)
        return [int(pid) for pid in file.read_text().split()]


@pytest.mark.e2e
class TestRay:
    @pytest.fixture(scope="class", autouse=True)
    def cluster(self):
        """A Ray of this machine with logical resources of its own."""
        ray = pytest.importorskip("ray")
        folder = Path(__file__).parent
        ray.init(
            address="local",
            num_cpus=4,
            num_gpus=2,
            resources={"big_disk": 1},
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": str(folder)}},
        )
        yield
        ray.shutdown()

    def test_jobs_with_their_order_a_failure_and_a_clean_environment(self, tmp_path):
        first, bad = make(tmp_path, "first", "write"), make(tmp_path, "bad", "fail")
        second = make(tmp_path, "second", "write", (first.key,))
        needs = make(tmp_path, "needs", "write", (bad.key,))
        settings = RaySettings(address="local", train=Resources(cpus=1, gpus=1, resources={"big_disk": 0.5}))
        finished = []
        run_on_ray([first, bad, second, needs], settings, finished.append)
        errors = {one.job.key: one.error for one in finished}
        assert errors[first.key] is None
        assert errors[second.key] is None
        assert errors[bad.key].startswith("the reason (on ")
        assert errors[needs.key] == f"left out: {bad.key} failed"
        environment = first.record()["figures"]["environment"]
        assert environment["RAY_ADDRESS"] == "local", "verl would join the cluster that its own job runs on"
        assert "OMP_NUM_THREADS" not in environment, "Ray's number of threads would replace the recipe's"

        again = []
        run_on_ray([first, second], settings, again.append)
        assert [(one.error, one.was_run) for one in again] == [(None, False), (None, False)]

    def test_what_no_machine_has_is_said_before_anything_waits(self, tmp_path):
        settings = RaySettings(address="local", train=Resources(gpus=8))
        with pytest.raises(InputError, match=r"ray\.train: no machine of the cluster has 1 CPU, 8 GPU"):
            run_on_ray([make(tmp_path, "a", "write")], settings, print)


def test_job_files_hold_all_of_a_job(tmp_path):
    job = make(tmp_path, "a", "write", ("b", "c"), say={"x": [1, 2]})
    assert Job.read(job.save()) == job
    assert json.loads((job.path / "job.json").read_text())["after"] == ["b", "c"]

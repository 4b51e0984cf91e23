"""The trainer's wait for rollouts ends when the process that makes them is gone, on a real Ray."""

from __future__ import annotations

import os
import tempfile
import time
from collections import defaultdict
from types import SimpleNamespace

import pytest

pytest.importorskip("verl")

from mllm4d_verl.verl_compat import lost_workers


@pytest.fixture(scope="module")
def ray_here():
    import ray

    # A folder of its own, with a short name for its sockets: a Ray that starts removes old sessions of its folder.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        local = {"address": "local", "num_cpus": 1, "include_dashboard": False, "_temp_dir": folder}
        ray.init(**local, log_to_driver=False, configure_logging=False)
        yield ray
        ray.shutdown()


@pytest.fixture
def watch(monkeypatch):
    watch = lost_workers._Watch()
    monkeypatch.setattr(lost_workers, "_watch", watch)
    monkeypatch.setattr(lost_workers, "_LOOK_EVERY_S", 0.0)
    return watch


def test_a_living_worker_is_waited_for_and_a_dead_one_is_not(ray_here, watch):
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

    class Worker:
        def process(self) -> int:
            return os.getpid()

    worker = ray_here.remote(num_cpus=0)(Worker).remote()
    pid = ray_here.get(worker.process.remote())
    keys = defaultdict(set)
    buffer = SimpleNamespace(
        poll_interval=0.05, pending_keys=keys, running_keys=keys, finished_keys=keys, failure_keys=keys
    )
    watch.over([worker])
    watched = watch.workers[0]
    watch.over([worker])
    assert watch.workers == [watched]  # the same step's second batch does not forget what was asked

    for _ in range(20):
        ReplayBuffer._wait_for_next_poll(buffer, "train", time.time())
    os.kill(pid, 9)

    def wait() -> None:
        for _ in range(400):
            ReplayBuffer._wait_for_next_poll(buffer, "train", time.time())

    with pytest.raises(lost_workers.LostWorkerError, match="goes on from its last checkpoint"):
        wait()


def test_workers_are_asked_now_and_then_only(watch, monkeypatch):
    asked = []
    monkeypatch.setattr(lost_workers, "_LOOK_EVERY_S", 3600.0)
    watch.workers = [SimpleNamespace(death=lambda: asked.append(1))]
    watch.looked = -3600.0 - time.monotonic()
    for _ in range(5):
        watch.check()
    assert asked == [1]

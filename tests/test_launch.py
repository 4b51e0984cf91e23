"""The launch scripts: the commands they print, their errors, and that Ray ends with the run."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import psutil
import pytest

LAUNCH = Path(__file__).resolve().parents[1] / "launch"
SCRIPTS = sorted(path for path in LAUNCH.iterdir() if path.is_file())
NODES = {"NODES": "3", "HEAD_ADDRESS": "10.0.0.1", "GPUS": "8"}
OPTIONS = ("--recipe", "qwen3_vl_8b", "--out", "runs/with a space", "data.prompt='a b'")


def environment(**variables: str) -> dict[str, str]:
    """This process's variables without those that the scripts read, and with the console scripts of its interpreter."""
    ours = {
        "NODES",
        "NODE_RANK",
        "HEAD_ADDRESS",
        "GPUS",
        "DRY_RUN",
        "RAY_PORT",
        "RAY_OPTIONS",
        "RAY_ADDRESS",
        "RAY_AUTH_TOKEN",
    }
    kept = {key: value for key, value in os.environ.items() if key not in ours and not key.startswith("SLURM")}
    kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    return {**kept, **variables}


def launch(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(LAUNCH / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(**variables))


def printed(script: str, *arguments: str, **variables: str) -> list[list[str]]:
    done = launch(script, *arguments, DRY_RUN="1", **variables)
    assert done.returncode == 0, done.stderr
    return [shlex.split(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_is_valid_bash(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert script.name == "common.sh" or "set -euo pipefail" in script.read_text()


def test_one_node_passes_options_on() -> None:
    (command,) = printed("one_node.sh", "sft", *OPTIONS, GPUS="4")
    assert command == ["mllm4d", "train", "sft", "trainer.n_gpus_per_node=4", *OPTIONS]


def test_overrides_of_the_user_win_over_the_scripts(tmp_path: Path) -> None:
    """`mllm4d train` takes overrides before its options; Hydra takes the last of two."""
    (tmp_path / "rows.jsonl").write_text("{}")
    data = ("--data", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out"), "--no-check-data", "--no-check")
    pytest.importorskip("verl")
    done = launch("one_node.sh", "grpo", *data, "--dry-run", "trainer.n_gpus_per_node=2", GPUS="4")
    assert done.returncode == 0, done.stdout + done.stderr
    words = shlex.split(done.stdout)
    given = [word for word in words if word.startswith("trainer.n_gpus_per_node=")]
    assert given == ["trainer.n_gpus_per_node=4", "trainer.n_gpus_per_node=2"]


def test_head_starts_ray_and_trains() -> None:
    ray, train = printed("ray_nodes.sh", *OPTIONS, **NODES, NODE_RANK="0", RAY_OPTIONS="--num-cpus=4 --labels=a=b")
    assert ray[:3] == ["ray", "start", "--block"]
    assert {"--head", "--num-gpus=8", "--node-ip-address=10.0.0.1", "--port=6379", "--num-cpus=4"} <= set(ray)
    assert train[:3] == ["mllm4d", "train", "grpo"]
    assert {"trainer.nnodes=3", "trainer.n_gpus_per_node=8"} <= set(train)
    assert "actor_rollout_ref.rollout.agent.num_workers=24" in train
    assert train[-len(OPTIONS) :] == list(OPTIONS)


def test_other_machines_join() -> None:
    (ray,) = printed("ray_nodes.sh", *OPTIONS, **NODES, SLURM_PROCID="2", RAY_PORT="7000")
    assert ray[:3] == ["ray", "start", "--block"]
    assert "--address=10.0.0.1:7000" in ray
    assert "--head" not in ray


@pytest.mark.parametrize("missing", ["NODES", "HEAD_ADDRESS", "NODE_RANK"])
def test_a_missing_variable_is_named(missing: str) -> None:
    variables = {key: value for key, value in {**NODES, "NODE_RANK": "0"}.items() if key != missing}
    done = launch("ray_nodes.sh", DRY_RUN="1", **variables)
    assert done.returncode != 0
    assert missing in done.stderr


def test_slurm_runs_one_task_a_node(tmp_path: Path) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text("#!/bin/sh\nprintf 'gpu07\\ngpu08\\n'\n")
    scontrol.chmod(0o755)
    slurm = {
        "SLURM_JOB_NODELIST": "gpu[07-08]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "8",
        "SLURM_JOB_ID": "123456",
        "SLURM_SUBMIT_DIR": "/repo",
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }
    (command,) = printed("slurm.sbatch", *OPTIONS, **slurm)
    assert command[0] == "srun"
    assert {"--nodes=2", "--ntasks=2", "--ntasks-per-node=1"} <= set(command)
    assert command[-len(OPTIONS) - 1 :] == ["/repo/launch/ray_nodes.sh", *OPTIONS]


def test_a_head_that_never_comes_is_said() -> None:
    done = launch(
        "ray_nodes.sh",
        NODES="2",
        NODE_RANK="1",
        HEAD_ADDRESS="127.0.0.1",
        GPUS="1",
        RAY_PORT="1",
        WAIT_MINUTES="0",
        RAY_AUTH_TOKEN="0" * 64,
    )
    assert done.returncode == 1
    assert "nothing listens on 127.0.0.1:1" in done.stderr


def test_a_missing_secret_is_said() -> None:
    done = launch("ray_nodes.sh", **NODES, NODE_RANK="0")
    assert done.returncode != 0
    assert "RAY_AUTH_TOKEN: set it to a secret" in done.stderr


def processes_of(folder: str) -> list[psutil.Process]:
    """Processes whose command line has this folder: those of one Ray."""
    found = []
    for process in psutil.process_iter():
        try:
            if folder in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.e2e
@pytest.mark.skipif(
    not os.environ.get("MLLM4D_TEST_LAUNCH"), reason="MLLM4D_TEST_LAUNCH=1 starts two Rays on this machine"
)
def test_two_nodes_start_run_and_leave_nothing_behind(tmp_path: Path) -> None:
    """Real Ray on one machine; `mllm4d train --dry-run` in the place of a training, which test_two_nodes.py does."""
    pytest.importorskip("ray")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # paths of Ray's sockets must stay below 107 characters
    (tmp_path / "rows.jsonl").write_text("{}")
    options = ("--data", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out"))
    cluster = {
        "NODES": "2",
        "HEAD_ADDRESS": "127.0.0.1",
        "GPUS": "1",
        "RAY_PORT": str(port),
        "RAY_AUTH_TOKEN": uuid.uuid4().hex,
    }
    small = "--num-cpus=1 --object-store-memory=100000000"
    command = ["bash", str(LAUNCH / "ray_nodes.sh")]
    worker_log = tmp_path / "worker.log"
    with worker_log.open("w") as log:
        worker = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment(**cluster, NODE_RANK="1", RAY_OPTIONS=small)
        )
        head = subprocess.run(
            [*command, *options, "--no-check-data", "--no-check", "--dry-run"],
            env=environment(**cluster, NODE_RANK="0", RAY_OPTIONS=f"{small} --temp-dir={folder}"),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert head.returncode == 0, head.stdout + head.stderr
        assert worker.wait(timeout=120) == 0, worker_log.read_text()
    assert "trainer.nnodes=2" in head.stdout
    deadline = time.monotonic() + 60
    while processes_of(folder) and time.monotonic() < deadline:
        time.sleep(1)
    assert processes_of(folder) == []

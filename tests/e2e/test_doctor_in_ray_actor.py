"""`mllm4d doctor` finds a healthy installation healthy, on every Ray node and in vLLM's processes, and names faults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from runner import Finished

# Two Ray nodes on one machine; on the second, `peft` is of another version, and all else is well.
TWO_NODES = """
import os, pathlib, subprocess, sys
from ray.cluster_utils import Cluster

folder = pathlib.Path(sys.argv[1])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "node_name": "head"})
cluster.add_node(num_cpus=1, node_name="second", env_vars={"PYTHONPATH": str(folder / "other")})
cluster.wait_for_nodes()
environment = {**os.environ, "RAY_ADDRESS": cluster.address}
run = subprocess.run(["mllm4d", "doctor", "--json"], env=environment, stdout=subprocess.PIPE, text=True)
(folder / "record.json").write_text(run.stdout.splitlines()[-1])
(folder / "code").write_text(str(run.returncode))
cluster.shutdown()
"""


def checks_of(text: str) -> tuple[bool, dict[tuple[str, str, str], dict[str, str]]]:
    record = json.loads(text)
    return record["healthy"], {(check["where"], check["node"], check["name"]): check for check in record["checks"]}


@pytest.fixture(scope="module")
def cluster(run_command, tmp_path_factory) -> tuple[Path, Finished]:
    """The folder with the doctor's record on two nodes."""
    folder = tmp_path_factory.mktemp("nodes")
    other = folder / "other" / "peft-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: peft\nVersion: 0.0.1\n")
    run = run_command(["python", "-c", TWO_NODES, str(folder)], folder)
    return folder, run.check()


@pytest.mark.e2e
def test_driver_vllm_and_two_nodes_are_well_but_for_a_version_that_differs(cluster):
    folder, _ = cluster
    healthy, checks = checks_of((folder / "record.json").read_text())
    assert not healthy
    assert (folder / "code").read_text() == "1"
    (failed,) = [check for check in checks.values() if check["status"] == "failed"]
    assert (failed["where"], failed["node"], failed["name"]) == ("ray actor", "second", "same versions")
    assert failed["detail"].startswith("peft is 0.0.1 on second, ")
    assert ";" not in failed["detail"]  # nothing but peft differs
    assert "every node" in failed["remedy"]
    assert {check["status"] for check in checks.values()} == {"ok", "failed"}
    assert checks["driver", "", "ray nodes"]["detail"].startswith("2 alive: ")
    for where, node in (("driver", ""), ("ray actor", "head"), ("ray actor", "second")):
        for name in ("plugin", "platform", "reward=mllm4d_st", "data=mllm4d"):
            assert (where, node, name) in checks
        effect = checks[where, node, "send_vllm_unexpanded_videos"]["detail"]
        assert effect == "fault reproduced, gone with the adaptation"
    assert ("ray actor", "head", "same versions") in checks
    for node in ("head", "second"):
        effect = checks["vllm engine", node, "let_vllm_keep_video_metadata"]["detail"]
        assert effect == "fault reproduced, gone with the adaptation"
    for arch in ("qwen3_vl", "qwen2_5_vl"):
        assert "tokens agree" in checks["verl and vllm", "", f"prompt tokens, tiny {arch}"]["detail"]


@pytest.mark.e2e
def test_plugin_that_verl_does_not_load(run_command, tmp_path):
    run = run_command(
        ["mllm4d", "doctor", "--json", "--no-ray", "--no-vllm"], tmp_path, env={"VERL_USE_EXTERNAL_PLUGINS": "none"}
    )
    assert run.returncode == 1
    healthy, checks = checks_of(run.output.splitlines()[-1])
    assert not healthy
    assert checks["driver", "", "plugin"]["status"] == "failed"
    assert "VERL_USE_EXTERNAL_PLUGINS" in checks["driver", "", "plugin"]["remedy"]
    assert checks["ray actor", "", "registration"]["status"] == "skipped"


# Read by every Python process that finds it on its path: these packages are neither found nor installed.
WITHOUT_OPTIONAL_PACKAGES = """
import importlib.metadata
from importlib.machinery import PathFinder

ABSENT = {"wandb", "tensorboard", "pylatexenc", "mathruler", "nvtx", "torchcodec", "pybind11"}
find_spec = PathFinder.find_spec
find_distributions = importlib.metadata.MetadataPathFinder.find_distributions


def spec(name, path=None, target=None):
    return None if name.partition(".")[0] in ABSENT else find_spec(name, path, target)


def distributions(*args, **kwargs):
    return (found for found in find_distributions(*args, **kwargs) if found._path.name.split("-")[0] not in ABSENT)


PathFinder.find_spec = staticmethod(spec)
importlib.metadata.MetadataPathFinder.find_distributions = staticmethod(distributions)
"""


@pytest.mark.e2e
def test_table_without_the_optional_packages_in_a_ray_of_its_own(run_command, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_OPTIONAL_PACKAGES)
    run = run_command(
        ["mllm4d", "doctor", "--no-vllm"], tmp_path, env={"COLUMNS": "100", "PYTHONPATH": str(tmp_path)}
    ).check()
    table = run.output[run.output.index("mllm4d doctor") :]
    assert max(map(len, table.splitlines())) <= 100
    words = " ".join(table.replace("│", " ").split())
    assert "optional packages warning mathruler is missing" in words
    assert "wandb is missing" in words
    assert "failed" not in words
    assert "driver; ray actor plugin ok loaded by verl" in words

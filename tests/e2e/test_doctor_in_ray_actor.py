"""`mllm4d doctor` finds a healthy installation healthy, inside a Ray actor too, and says what is wrong with another."""

from __future__ import annotations

import json

import pytest


def checks_of(run):
    record = json.loads(run.output.splitlines()[-1])
    return record["healthy"], {(check["where"], check["name"]): check for check in record["checks"]}


@pytest.mark.e2e
def test_healthy_in_driver_actor_and_vllm(run_command, tmp_path):
    run = run_command(["mllm4d", "doctor", "--json"], tmp_path).check()
    healthy, checks = checks_of(run)
    assert healthy
    assert {check["status"] for check in checks.values()} == {"ok"}
    for where in ("driver", "ray actor"):
        for name in ("plugin", "platform", "reward=mllm4d_st", "data=mllm4d", "send_vllm_unexpanded_videos"):
            assert (where, name) in checks
    for arch in ("qwen3_vl", "qwen2_5_vl"):
        assert "tokens agree" in checks["vllm", f"prompt tokens, tiny {arch}"]["detail"]


@pytest.mark.e2e
def test_plugin_that_verl_does_not_load(run_command, tmp_path):
    run = run_command(
        ["mllm4d", "doctor", "--json", "--no-ray", "--no-vllm"], tmp_path, env={"VERL_USE_EXTERNAL_PLUGINS": "none"}
    )
    assert run.returncode == 1
    healthy, checks = checks_of(run)
    assert not healthy
    assert checks["driver", "plugin"]["status"] == "failed"
    assert "VERL_USE_EXTERNAL_PLUGINS" in checks["driver", "plugin"]["remedy"]
    assert checks["ray actor", "registration"]["status"] == "skipped"


@pytest.mark.e2e
def test_table(run_command, tmp_path):
    run = run_command(["mllm4d", "doctor", "--no-ray", "--no-vllm"], tmp_path, env={"COLUMNS": "160"}).check()
    assert "reward=mllm4d_st" in run.output
    assert "pkg://mllm4d_verl.reward_fn" in run.output

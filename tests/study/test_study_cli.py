"""`mllm4d study`: what it prints, and its exit codes."""

from __future__ import annotations

import json

import pytest
import yaml
from finished_jobs import answers, finish_evaluations, finish_trainings
from typer.testing import CliRunner

from mllm4d_verl.cli.study import app
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.study import load_study, plan_study


@pytest.fixture
def study(content, tmp_path):
    """YAML of a study with one seed, and its folder."""
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(content(seeds=[0]), sort_keys=False))
    return file, tmp_path / "out"


def call(verb: str, study, *arguments: str):
    file, out = study
    return CliRunner().invoke(app, [verb, str(file), "--out", str(out), "--json", *arguments])


def last_line(result) -> dict:
    return json.loads(result.stdout.strip().splitlines()[-1])


def test_plan_says_what_is_done_and_for_whom(study):
    file, out = study
    plan = plan_study(load_study(file), out)
    finish_evaluations(plan, "start", "test", [answers(0.4)])
    result = call("plan", study)
    assert result.exit_code == 0
    jobs = last_line(result)["jobs"]
    assert [(job["kind"], job["done"], job["for"]) for job in jobs] == [
        ("evaluate", True, ["start/0"]),
        ("train", False, ["plain/0"]),
        ("evaluate", False, ["plain/0"]),
        ("train", False, ["paper/0"]),
        ("evaluate", False, ["paper/0"]),
    ]
    assert "5 jobs, 1 done" in result.stdout


def test_a_finished_study_starts_nothing_and_reports(study):
    file, out = study
    plan = plan_study(load_study(file), out)
    for arm, share in (("start", 0.4), ("plain", 0.5), ("paper", 0.8)):
        finish_evaluations(plan, arm, "test", [answers(share)])
    for arm in ("plain", "paper"):
        finish_trainings(plan, arm)
    result = call("run", study)
    assert result.exit_code == 0, result.output
    record = last_line(result)
    assert record["failed"] == {}
    assert record["results"]["unfinished"] == {}
    assert "paper" in result.stdout


def test_an_executor_that_is_not_there(study):
    result = call("run", study, "--executor", "slurm")
    assert isinstance(result.exception, InputError)
    assert "--executor" in str(result.exception)

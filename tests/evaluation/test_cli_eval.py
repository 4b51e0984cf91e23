"""`mllm4d eval` as a user calls it, without vLLM."""

import json
import subprocess
import sys

import pytest

from mllm4d_verl.cli.main import main
from mllm4d_verl.cli.output import key_values
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import QARow, write_qa
from mllm4d_verl.evaluation.responses import read_responses, write_responses


@pytest.fixture
def mllm4d(monkeypatch, capsys):
    """Runs `mllm4d eval ...` here: a process of its own takes a second or two to import what it needs."""

    def run(*arguments, cwd=None):
        if cwd is not None:
            monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["mllm4d", "eval", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return subprocess.CompletedProcess(arguments, end.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def runs(tmp_path, many_records):
    for name, share in (("a", 0.3), ("b", 0.8)):
        (tmp_path / name).mkdir()
        write_responses(tmp_path / name / "responses.jsonl", many_records(share))
    return tmp_path


def test_score_prints_a_table_and_json(mllm4d, runs):
    done = mllm4d("score", runs / "a", "--preset", "official", "--out", runs / "scored.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    assert "mean of tasks" in done.stdout
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["preset"] == "official"
    assert figures["overall"]["questions"] == 120
    assert read_responses(runs / "scored.jsonl")[0].scores["correct"] in (0.0, 1.0)


def test_compare(mllm4d, runs):
    done = mllm4d("compare", runs / "a", runs / "b", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["overall"]["accuracy"]["low"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "nowhere.jsonl"], "no such file"),
        (["score", "a", "--preset", "mllm4d_sd"], "did you mean 'mllm4d_st'"),
        (["compare", "a", "nowhere"], "no such file"),
        (["run", "--model", "./nowhere", "--data", "x.parquet"], "no such model folder"),
        (["run", "--model", "m", "--data", "x.parquet", "--limit", "0"], "--limit: must be at least 1"),
        (["run", "--model", "model", "--data", "nowhere.parquet"], "the file does not exist"),
        (["run", "--model", "model", "--data", "rows.parquet"], "absent.mp4 does not exist"),
        (["run", "--model", "model", "--data", "rows.parquet", "--set", "tasks=chess"], "unknown task"),
        (["run", "--model", "model", "--data", "rows.parquet", "--set", "num_frames=32"], "asked about 8 frames"),
        (["run", "--model", "model", "--data", "x.txt"], "neither .parquet nor"),
        (["run", "--model", "model", "--data", "x.parquet", "--template", "st_cod"], "Did you mean 'st_cot'"),
        (["run", "--model", "model", "--data", "x.parquet", "--set", "max_pixel=9"], "max_pixels"),
        (["run", "--model", "model", "--data", "x.parquet", "--engine", "eager"], "expected KEY=VALUE"),
    ],
)
def test_bad_input_is_a_message_and_exit_code_2(mllm4d, runs, arguments, message):
    (runs / "model").mkdir()
    (runs / "model" / "config.json").write_text("{}")
    (runs / "x.txt").write_text("")
    row = QARow("q0", "c0", "absent.mp4", 8, "camera_relative_direction", 0, 7, "Where to?", ["left", "right"], "A")
    write_qa(runs / "rows.parquet", [row])
    done = mllm4d(*arguments, cwd=runs)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (runs / "outputs").exists()


def test_repeated_ids_are_refused(tmp_path, write_video):
    import pandas as pd

    from mllm4d_verl.evaluation import evaluate

    write_video(tmp_path / "clip.mp4")
    row = QARow("q0", "c0", "clip.mp4", 8, "camera_relative_direction", 0, 7, "Where to?", ["left", "right"], "A")
    file = write_qa(tmp_path / "rows.parquet", [row])
    pd.concat([pd.read_parquet(file)] * 2).to_parquet(file)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="row 1, field id: the id 'q0' occurs twice"):
        evaluate(tmp_path, file)


def test_key_values():
    pairs = ["a=1", "b=true", "c=text", 'd={"image": 0}', "e=x=y", "f=None"]
    assert key_values(pairs, "--engine") == {"a": 1, "b": True, "c": "text", "d": {"image": 0}, "e": "x=y", "f": None}
    unquoted = key_values(["tasks=[one,two]", "d={a: 1}", "t=[broken"], "--set")
    assert unquoted == {"tasks": ["one", "two"], "d": {"a": 1}, "t": "[broken"}
    with pytest.raises(InputError, match="KEY=VALUE"):
        key_values(["=1"], "--engine")

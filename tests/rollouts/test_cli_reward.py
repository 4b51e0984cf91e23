"""`mllm4d reward` as a user calls it."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from mllm4d_verl.cli.reward import app
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.reward import PRESETS, STReward, explain, known_components
from mllm4d_verl.rollouts.report import print_explanation, printable

ANSWER = "<thinking>It goes right.</thinking><answer>B</answer>"


def invoke(*arguments: Any, stdin: str | None = None) -> str:
    """What the command prints, called in this process; raises what it raises."""
    result = CliRunner().invoke(app, list(map(str, arguments)), input=stdin, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def last_line(output: str) -> dict[str, Any]:
    return json.loads(output.splitlines()[-1])


class TestScore:
    def test_means_json_and_file(self, dumps, tmp_path, mllm4d):
        out = tmp_path / "scores.parquet"
        done = mllm4d(
            "reward", "score", dumps, "--preset", "paper", "--component", "trajectory", "--out", out, "--json"
        )
        assert done.returncode == 0, done.stderr
        assert "Preset paper: 72 responses in 18 groups" in done.stdout
        assert str(out) in done.stdout
        figures = last_line(done.stdout)
        written = pd.read_parquet(out)
        assert figures["means"]["score"] == pytest.approx(written["score"].mean())
        assert figures["means"]["trajectory"] == pytest.approx(written["trajectory"].mean())
        assert figures["responses"] == len(written) == 72

    def test_weights_and_components_of_every_form(self, dumps, tmp_path):
        own = tmp_path / "own.py"
        own.write_text("def half(response, truth, *, much=0.5):\n    return much\n")
        output = invoke(
            "score", dumps, "--json", "--component", f"{own}:half", "--weight", "half_weight=0.25", "--weight",
            "st_weight=0", "--component", '{"use": "overlong", "name": "long", "options": {"max_chars": 50}}',
        )  # fmt: skip
        figures = last_line(output)
        assert (figures["weights"]["half_weight"], figures["weights"]["st_weight"]) == (0.25, 0.0)
        assert (figures["means"]["half"], figures["means"]["long"]) == (0.5, 1.0)

    def test_truths_by_id(self, tmp_path, write_lines, qa_file, make_response):
        path = write_lines(tmp_path / "r.jsonl", [{"id": "q1", "response": make_response()}])
        assert last_line(invoke("score", path, "--truth", qa_file, "--json"))["means"]["score"] == 1.0


class TestExplain:
    def test_a_row_of_a_dump(self, dumps, mllm4d):
        done = mllm4d("reward", "explain", dumps / "2.jsonl", "--row", "3", "--preset", "official", "--json")
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout  # no terminal: no colours, and every mark is listed
        assert "final object centre" in done.stdout
        assert "reads the raw text its own way" in done.stdout
        record = json.loads((dumps / "2.jsonl").read_text().splitlines()[3])
        report = last_line(done.stdout)
        assert report["response"] == record["output"]
        assert report["score"] == record["score"] == report["steps"][-1]["after"]

    def test_an_id_of_a_file_with_questions(self, tmp_path, write_lines, qa_file, make_response):
        records = [{"id": "q1", "response": "x"}, {"id": "q2", "response": make_response("C")}]
        output = invoke("explain", write_lines(tmp_path / "r.jsonl", records), "--id", "q2", "--truth", qa_file)
        assert "row 1, id q2" in output
        assert "'C' names C; expected B (right)" in output

    @pytest.mark.parametrize("truth", ["B", '{"answer": "right", "options": ["left", "right"]}'])
    def test_a_text_and_its_truth(self, truth):
        report = last_line(invoke("explain", "--text", ANSWER, "--truth", truth, "--json"))
        assert (report["score"], report["result"]["acc"]) == (0.5, 1.0)
        assert report["marks"][0]["note"] == "tag"

    def test_standard_input_and_a_question(self, qa_file):
        output = invoke("explain", "-", "--truth", qa_file, "--id", "q3", "--json", stdin=ANSWER + "\n")
        report = last_line(output)
        assert (report["truth"]["answer"], report["score"]) == ("B", pytest.approx(0.5 * 0.7))

    def test_colours_where_there_is_a_terminal(self, capsys):
        explanation = explain(STReward(), ANSWER + "</answer>", {"answer": "B"})
        console = Console(force_terminal=True, color_system="standard", width=120, no_color=False)
        print_explanation(explanation, console, "")
        shown = capsys.readouterr().out
        assert "\x1b[32m<thinking>" in shown  # green: counted
        assert "\x1b[1;31m</answer>" in shown  # red: not understood
        assert "left out of account" in shown
        assert "stray </answer>" in shown
        assert "0-10" not in shown  # what counted is coloured, not listed

    def test_what_a_terminal_would_act_upon_is_not_shown(self):
        hostile = ANSWER.replace("right", "\x1b[2J\x07\ud800\r[bold red]right[/]")
        output = invoke("explain", "--truth", "B", "--text", hostile.replace("\ud800", "?"))
        assert "\x1b" not in output
        assert "\ufffd[2J\ufffd?\ufffd[bold red]right[/]" in output
        assert printable("a\ud800\t\n\x85b") == "a\ufffd\t\n\ufffdb"


class TestCompareAndReplay:
    def test_compare(self, dumps, mllm4d):
        done = mllm4d("reward", "compare", dumps, "--a", "official", "--b", "mllm4d_st", "--top", "2", "--json")
        assert done.returncode == 0, done.stderr
        assert "A: official" in done.stdout
        assert f"mllm4d reward explain {dumps}" in done.stdout
        report = last_line(done.stdout)
        assert len(report["disagreements"]) == 2
        assert sum(report["pairs"].values()) == 18 * 6
        assert report["a"]["within_groups"]["same_score"] < report["b"]["within_groups"]["same_score"]

    def test_two_settings_of_one_preset(self, dumps):
        report = last_line(
            invoke(
                "compare",
                dumps,
                "--a",
                "mllm4d_st",
                "--b",
                "mllm4d_st",
                "--b-weight",
                "st_weight=0",
                "--b-component",
                "trajectory",
                "--b-weight",
                "trajectory_weight=0.1",
                "--json",
            )
        )
        assert (report["a"]["weights"]["st_weight"], report["b"]["weights"]["st_weight"]) == (0.3, 0.0)
        assert report["b"]["weights"]["trajectory_weight"] == 0.1

    def test_replay(self, dumps, mllm4d):
        done = mllm4d("reward", "replay", dumps, "--preset", "official", "--json")
        assert done.returncode == 0, done.stderr
        report = last_line(done.stdout)
        assert [step["step"] for step in report["steps"]] == [1, 2, 10]
        assert report["all"]["difference"] == pytest.approx(0.0, abs=1e-12)
        assert report["all"]["responses"] == 72


def test_components_lists_presets_and_components():
    output = invoke("components", "--json")
    listed = last_line(output)
    assert listed["components"] == known_components()
    assert {name: preset["weights"] for name, preset in listed["presets"].items()} == {
        name: dict(preset.weights) for name, preset in PRESETS.items()
    }
    assert all(name in output.rsplit("\n", 2)[0] for name in (*known_components(), *PRESETS))


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["score", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
            (["score", "D", "--preset", "oficial"], "field --preset: .*did you mean 'official'"),
            (["score", "D", "--component", "consistancy"], "field --component: .*did you mean 'consistency'"),
            (["score", "D", "--component", '{"use": '], "field --component: not JSON"),
            (["score", "D", "--component", "trajectory", "--component", "trajectory"], "--component: .*listed twice"),
            (["score", "D", "--weight", "st_weigth=1"], "field --weight: .*did you mean 'st_weight'"),
            (["score", "D", "--weight", "st_weight=much"], "field --weight: st_weight is 'much'"),
            (["score", "D", "--weight", "preset=1"], "field --weight: .*no weight 'preset'"),
            (["score", "D", "--weight", "st_weight"], "field --weight: expected KEY=VALUE"),
            (["score", "D", "--truth", "nowhere.parquet"], "field --truth: no such file"),
            (["score", "D", "--out", "scores.csv"], "field --out: neither"),
            (["replay", "D", "--component", "nowhere.py"], "field --component: there is no file"),
            (["compare", "D", "--a", "official", "--b", "papper"], "field --b: .*did you mean 'paper'"),
            (["compare", "D", "--a", "official", "--b", "paper", "--a-weight", "x=1"], "field --a-weight"),
            (["explain"], "field FILE: no response is given"),
            (["explain", "D", "--text", "x", "--truth", "B"], "FILE, --text, --row: one response"),
            (["explain", "--text", "x"], "field --truth: the truth is missing"),
            (["explain", "--text", "x", "--truth", "nowhere.parquet"], "field --truth: no such file"),
            (["explain", "--text", "x", "--truth", "Q"], "field --id: the question is missing. Name one of the 4"),
            (["explain", "--text", "x", "--truth", "Q", "--id", "q9"], "field --id: there is no question 'q9'"),
            (["explain", "--text", "x", "--truth", "{}"], "field --truth.answer"),
            (["explain", "D", "--truth", "B"], "field --truth: 'B' is no question file"),
            (["explain", "D", "--row", "99"], "no response with row 99"),
        ],
    )  # fmt: skip
    def test_names_the_option(self, dumps, qa_file, arguments, message):
        places = {"D": dumps, "Q": qa_file}
        with pytest.raises(InputError, match=message):
            invoke(*(places.get(argument, argument) for argument in arguments))

    def test_is_a_message_and_exit_code_2(self, dumps, mllm4d):
        (dumps / "2.jsonl").write_text("torn")
        done = mllm4d("reward", "replay", dumps)
        assert done.returncode == 2
        assert "2.jsonl, row 0: not JSON" in done.stderr
        assert "Traceback" not in done.stderr

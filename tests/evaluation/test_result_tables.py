"""`mllm4d eval table`: figures of known responses, and formats that others' readers take back."""

import csv
import io
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from mllm4d_verl.cli.eval import app
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.evaluation.named_runs import NamedRun, read_runs
from mllm4d_verl.evaluation.responses import write_responses
from mllm4d_verl.evaluation.scoring import score_records
from mllm4d_verl.evaluation.tables import MACRO, MICRO, escape_csv, escape_latex, escape_markdown, make_table, render

SHARES = {"base": 0.3, "tuned_50%": 1.0, "no_video": 0.25}


@pytest.fixture
def folder(tmp_path, many_records):
    for name, share in SHARES.items():
        (tmp_path / name).mkdir()
        write_responses(tmp_path / name / "responses.jsonl", many_records(share)[:60])
    return tmp_path


@pytest.fixture(scope="module")
def made():
    return {}


@pytest.fixture
def table(made, many_records):
    if not made:  # once for all tests: intervals take time
        base, tuned, blind = (NamedRun(name, score_records(many_records(SHARES[name])), {}) for name in SHARES)
        made["table"] = make_table([base, tuned], replace(blind, job={"control": "blind"}))
    return made["table"]


def test_figures(table):
    assert table.rows == ("camera_absolute_distance", "object_camera_relative_distance", MICRO, MACRO)
    tuned = table.runs["tuned_50%"]
    first, micro, macro = tuned[table.rows[0]], tuned[MICRO], tuned[MACRO]
    assert (first.questions, first.invalid, first.over_valid, first.chance) == (60, 12, 1.0, 0.25)
    assert first.accuracy.estimate == pytest.approx(48 / 60)
    assert first.accuracy.low < 0.8 < first.accuracy.high
    assert micro.accuracy.estimate == pytest.approx(108 / 120)
    assert macro.accuracy.estimate == pytest.approx((48 / 60 + 1) / 2)
    assert macro.chance == pytest.approx((1 / 4 + 1 / 3) / 2)
    assert table.baseline_name == "blind: no_video"


def test_csv_reads_back(table):
    rows = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    assert [row["task"] for row in rows] == list(table.rows)
    assert float(rows[0]["tuned_50%: accuracy"]) == pytest.approx(80)
    assert float(rows[2]["base: low"]) == pytest.approx(100 * table.runs["base"][MICRO].accuracy.low, abs=1e-5)
    assert float(rows[2]["blind: no_video: accuracy"]) == pytest.approx(
        100 * table.baseline[MICRO].accuracy.estimate, abs=1e-5
    )
    assert rows[3]["base: n"] == ""


def test_markdown(table):
    lines = render(table, "md").splitlines()
    widths = {line.replace("\\|", "").count("|") for line in lines[: 2 + len(table.rows)]}
    assert widths == {1 + 1 + 2 * 5 + 1}
    assert r"tuned\_50%: accuracy (95%)" in lines[0]
    accuracy = table.runs["tuned_50%"][table.rows[0]].accuracy
    cells = [cell.strip() for cell in lines[2].split("|")]
    expected = f"80.0 ({100 * accuracy.low:.1f} to {100 * accuracy.high:.1f})"
    assert cells[1] == "camera absolute distance"
    assert cells[7:12] == ["60", expected, "12", "100.0", "25.0"]


def test_latex(table):
    text = render(table, "latex")
    assert r"\multicolumn{5}{c}{tuned\_50\%}" in text
    assert r"\cmidrule(lr){2-6} \cmidrule(lr){7-11} \cmidrule(lr){12-12}" in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body[1:]} == {11}
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


def test_other_questions_are_told_and_leave_cells_empty(many_records, tmp_path):
    records = many_records(0.5)
    write_responses(tmp_path / "all.jsonl", records)
    write_responses(tmp_path / "half.jsonl", [record for record in records if record.task == records[0].task])
    table = make_table(read_runs([str(tmp_path / "all.jsonl"), f"mine={tmp_path / 'half.jsonl'}"]))
    assert "all 120, mine 60; 60 in common" in table.notes[1]
    assert render(table, "md").splitlines()[3].endswith("| - | - | - | - | - |")


def test_names(folder, many_records):
    (folder / "x" / "base").mkdir(parents=True)
    write_responses(folder / "x" / "base" / "responses.jsonl", many_records(0.5))
    runs = read_runs([str(folder / "base"), str(folder / "x" / "base" / "responses.jsonl")])
    assert [run.name for run in runs] == [f"{folder.name}/base", "x/base"]
    with pytest.raises(InputError, match="two runs are called"):
        read_runs([f"a={folder / 'base'}", f"a={folder / 'no_video'}"])


def test_same_id_with_another_truth_is_an_error(tmp_path, make_record):
    write_responses(tmp_path / "a.jsonl", [make_record(0, "B")])
    write_responses(tmp_path / "b.jsonl", [make_record(0, "B", answer="C")])
    with pytest.raises(InputError, match="different questions"):
        read_runs([str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")])


def test_command(folder):
    out = folder / "tables" / "result.tex"
    command = ["table", str(folder / "base"), "--baseline", str(folder / "no_video")]
    done = CliRunner().invoke(app, [*command, "--format", "latex", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert out.read_text().endswith("\\end{tabular}\n")
    assert "| all (micro) | 60 |" in CliRunner().invoke(app, command).output
    failed = CliRunner().invoke(app, [*command, "--format", "html"])
    assert isinstance(failed.exception, InputError)


@given(st.text())
def test_escaped_latex_has_no_active_character(text):
    escaped = escape_latex(text)
    plain = re.sub(r"\\(textbackslash|textasciitilde|textasciicircum)\{\}|\\[&%$#_{}]", "", escaped)
    assert not set(plain) & set("\\&%$#_{}~^\n\r")


@given(st.text())
def test_escaped_markdown_stays_in_its_cell(text):
    escaped = escape_markdown(text)
    assert "\n" not in escaped
    assert "|" not in re.sub(r"\\.", "", escaped)


@pytest.mark.parametrize("text", ["=1+1", '=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_of_a_csv_is_a_formula(text):
    assert escape_csv([text, 1.5, -2, None, "run = 1"]) == [f"'{text}", 1.5, -2, None, "run = 1"]

"""Every broken row of a set is named; the others are kept."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mllm4d_verl.cli.main import app
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.formats import FORMATS, Options
from mllm4d_verl.data_tools.schema import QA_SCHEMA, QARow, read_qa, write_qa
from mllm4d_verl.data_tools.validation import pieces, validate_set

SUFFIXES = {"qa": "a.parquet", "verl": "a.parquet", "rft": "a.jsonl", "sft": "a.jsonl", "hf": "a"}


def _row(index=0, **changes):
    row = QARow(
        id=f"q{index}",
        clip_id=f"c{index}",
        video=f"c{index}.mp4",
        num_frames=8,
        task="camera_relative_direction",
        start_frame=1,
        end_frame=6,
        question=f"Question {index}?",
        options=["left", "right"],
        answer="B",
        answer_text="right",
        value=None,
        camera_center=[[0.0, 0.0, 0.0], [1.0, 0.0, 0.5]],
    )
    return replace(row, **changes)


def _write(path, changes, count=12):
    """A parquet file with broken rows, behind the back of write_qa."""
    write_qa(path, [_row(index) for index in range(count)])
    records = pq.read_table(path).to_pylist()
    for row, change in changes.items():
        records[row].update(change)
    pq.write_table(pa.Table.from_pylist(records, QA_SCHEMA), path)
    return path


BROKEN = {
    1: ({"answer": "C"}, "answer"),
    2: ({"value": float("nan")}, "value"),
    3: ({"end_frame": 8}, "end_frame"),
    4: ({"options": ["Right ", "right"]}, "options"),
    5: ({"id": "q0"}, "id"),
    6: ({"clip_id": "c0", "question": "Question 0?"}, "question"),
    7: ({"clip_id": "c0", "split": "val"}, "split"),
    8: ({"meta": "{"}, "meta"),
    9: ({"question": None}, "question"),
    10: ({"camera_center": [[0.0, 0.0], None]}, "camera_center"),
}


@pytest.mark.parametrize("piece_rows", [3, 1000])
def test_each_fault_is_named_and_the_rest_is_kept(piece_rows, tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_ROWS", piece_rows)
    path = _write(tmp_path / "a.parquet", {row: change for row, (change, _) in BROKEN.items()})
    rejects, good = tmp_path / "bad.jsonl", tmp_path / "good.parquet"
    report = validate_set(path, media=False, out=good, rejects=rejects)
    assert (report.rows, report.broken) == (12, 10)
    found = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert {entry["row"]: entry["field"] for entry in found} == {row: name for row, (_, name) in BROKEN.items()}
    assert {entry["file"] for entry in found} == {str(path)}
    assert [row.id for row in read_qa(good)] == ["q0", "q11"]
    assert report.shared_clips == 1


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(name, tmp_path):
    path = tmp_path / SUFFIXES[name]
    FORMATS[name].write(path, [_row(index) for index in range(4)], Options())
    report = validate_set(path, media=False)
    assert (report.format, report.rows, report.broken, dict(report.splits)) == (name, 4, 0, {"train": 4})


def test_lines_that_are_no_json_count_as_rows(tmp_path):
    path = tmp_path / "a.jsonl"
    FORMATS["rft"].write(path, [_row(index) for index in range(3)], Options())
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "{", lines[1], lines[1]]) + "\n")
    report = validate_set(path, media=False, out=tmp_path / "good.parquet")
    assert (report.rows, report.broken, dict(report.fields)) == (4, 2, {"row": 1, "id": 1})
    assert [error.row for error in report.shown] == [1, 3]


class TestMedia:
    def test_missing_and_short_videos(self, tmp_path):
        path = _write(tmp_path / "a.parquet", {}, 3)
        for index in (0, 1):
            (tmp_path / f"c{index}.mp4").write_bytes(b"x")
        report = validate_set(path)
        assert (report.broken, report.videos, report.missing_videos) == (1, 3, 1)
        assert "c2.mp4 does not exist" in report.shown[0].problem
        report = validate_set(path, probe=lambda video: 4 if video.endswith("c0.mp4") else 8)
        assert [(error.row, error.field) for error in report.shown] == [(0, "num_frames"), (2, "video")]
        assert "8 frames of a video of 4" in report.shown[0].problem

    def test_good_rows_find_their_videos(self, tmp_path):
        path = _write(tmp_path / "a.parquet", {}, 1)
        (tmp_path / "c0.mp4").write_bytes(b"x")
        validate_set(path, out=tmp_path / "other" / "good.parquet")
        assert read_qa(tmp_path / "other" / "good.parquet")[0].video == "../c0.mp4"


def test_control_tokens_are_problems_of_their_column(tmp_path):
    changes = {
        0: {"question": "Where?<|im_end|>\n<|im_start|>system"},
        1: {"options": ["left", "<|video_pad|>"], "answer": "A", "answer_text": "left"},
        2: {"response": "B</s>"},
    }
    report = validate_set(_write(tmp_path / "a.parquet", changes), media=False)
    found = [(error.row, error.field, error.problem.rpartition(" ")[2]) for error in report.shown]
    assert found == [(0, "question", "<|im_end|>"), (1, "options", "<|video_pad|>"), (2, "response", "</s>")]
    assert "data.special_tokens=plain" in report.shown[0].remedy


def test_a_set_that_cannot_be_read_is_an_error(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_text("no")
    with pytest.raises(InputError, match="not a readable parquet file"):
        validate_set(path)
    pq.write_table(pa.table({"question": ["a"], "task": ["b"]}), path)
    with pytest.raises(InputError, match="field id: the column is missing"):
        validate_set(path)


def test_command(tmp_path):
    path = _write(tmp_path / "a.parquet", {1: {"answer": "C"}})
    run = CliRunner().invoke(app, ["data", "validate", str(path), "--no-media", "--json"])
    assert run.exit_code == 2
    assert "row 1, field answer: answer 'C' is not among the options A, B" in run.output
    assert json.loads(run.stdout.splitlines()[-1])["broken"] == 1
    good = _write(tmp_path / "b.parquet", {})
    assert CliRunner().invoke(app, ["data", "validate", str(good), "--no-media"]).exit_code == 0


def test_a_folder_of_splits_is_checked_without_the_cold_start_that_repeats_train(tmp_path):
    write_qa(tmp_path / "train.parquet", [_row(0), _row(1)])
    write_qa(tmp_path / "test.parquet", [_row(2, split="test")])
    write_qa(tmp_path / "cold_start.parquet", [_row(0, response="because")])
    report = validate_set(tmp_path, media=False)
    assert (report.format, report.rows, report.broken) == ("hf", 3, 0)

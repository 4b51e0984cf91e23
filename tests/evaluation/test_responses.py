"""The responses file: round trip, what a killed run leaves, and errors that name the line."""

import json

import pytest

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.evaluation.responses import drop_torn_line, read_responses, read_unfinished, write_responses

GOOD = {"id": "q0", "task": "camera_absolute_distance", "truth": {"answer": "B"}, "response": "B"}


def test_round_trip(tmp_path, make_record, make_response):
    records = [make_record(0, make_response("B")), make_record(1, "line one\nline two \u2028 end")]
    path = write_responses(tmp_path / "responses.jsonl", records)
    assert read_responses(path) == records
    assert read_responses(tmp_path) == records  # the folder of a run


def test_a_minimal_line_is_its_own_clip(tmp_path):
    (tmp_path / "r.jsonl").write_text(json.dumps(GOOD) + "\n")
    (record,) = read_responses(tmp_path / "r.jsonl")
    assert record.clip_id == "q0"
    assert record.finish_reason is None


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["not json"], "row 0: not JSON"),
        ([json.dumps(GOOD), "[1]"], "row 1: expected a JSON object, got list"),
        ([json.dumps({k: v for k, v in GOOD.items() if k != "truth"})], "row 0, field truth: the field is missing"),
        ([json.dumps(GOOD | {"response": None})], "field response: expected str, got NoneType"),
        ([json.dumps(GOOD | {"truth": {}})], "field truth.answer: the truth has no answer"),
        ([json.dumps(GOOD), json.dumps(GOOD)], "row 1, field id: the id 'q0' occurs twice"),
        ([], "holds no responses"),
    ],
)
def test_bad_lines_are_named(tmp_path, lines, message):
    (tmp_path / "r.jsonl").write_text("".join(line + "\n" for line in lines))
    with pytest.raises(InputError, match=message):
        read_responses(tmp_path / "r.jsonl")


def test_missing_file_and_unfinished_folder(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_responses(tmp_path / "nowhere")
    with pytest.raises(InputError, match="unfinished"):
        read_responses(tmp_path)


def test_a_torn_last_line_is_dropped(tmp_path):
    path = tmp_path / "unfinished.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps(GOOD | {"id": "q1"})[:25])
    assert [record.id for record in read_unfinished(path)] == ["q0"]
    drop_torn_line(path)
    assert path.read_text() == json.dumps(GOOD) + "\n"
    assert list(read_unfinished(tmp_path / "absent")) == []

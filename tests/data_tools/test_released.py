"""Released files become rows and go back; what is wrong with a file is said by row and field."""

import json
from dataclasses import replace

import pytest
from clip_samples import make_clip
from hypothesis import given, settings
from hypothesis import strategies as st

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.questions import QuestionConfig, build_questions, write_st_cot
from mllm4d_verl.data_tools.released import (
    normalise_answer,
    read_rft,
    read_sft,
    rebase_video,
    split_options,
    write_rft,
    write_sft,
)
from mllm4d_verl.data_tools.schema import read_qa, write_qa

QUESTION = "<video>\nBetween frame 14 and frame 28 of 31, where does the camera move?\nOptions:\nA. left\nB. right"


def _rft(**changes):
    item = {
        "messages": [{"role": "system", "content": "Think."}, {"role": "user", "content": QUESTION}],
        "videos": ["a/b.mp4"],
        "solution": [{"answer": "B", "camera_center": [[-0.03, 0.0, 0.1], [1, 2, 3]], "object_center": [None, None]}],
    }
    return {**item, **changes}


def _sft(**changes):
    item = {
        "video": "a/b.mp4",
        "conversations": [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": "B"}],
    }
    return {**item, **changes}


def _lines(path, *items):
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


@pytest.mark.parametrize(
    ("raw", "letter"),
    [
        ("B", "B"),
        (" B. ", "B"),
        ("(B)", "B"),
        ("B: right", "B"),
        ("B. Right.", "B"),
        ("right", "B"),
        ("B: left", None),
        ("C", None),
        ("b", None),
        ("Because", None),
        ("", None),
    ],
)
def test_normalise_answer_with_options(raw, letter):
    assert normalise_answer(raw, ["left", "right"]) == letter


def test_normalise_answer_without_options_takes_a_letter_only():
    assert normalise_answer("C: 1.5 meters", []) == "C"
    assert normalise_answer("1.5 meters", []) is None


def test_split_options():
    assert split_options("Where?\nChoices:\n(A) left\n B: right\nAnswer directly.") == ("Where?", ["left", "right"])
    assert split_options("Where?\nB. right\nA. left") == ("Where?\nB. right\nA. left", [])
    assert split_options("Where?") == ("Where?", [])


class TestRft:
    def test_reads_the_released_shape(self, tmp_path):
        (row,) = read_rft(_lines(tmp_path / "rft.jsonl", _rft()))
        assert row.question == "Between frame 14 and frame 28 of 31, where does the camera move?"
        assert (row.options, row.answer, row.answer_text) == (["left", "right"], "B", "right")
        assert (row.start_frame, row.end_frame, row.num_frames) == (14, 28, 32)
        assert (row.task, row.video, row.split) == ("other", "a/b.mp4", "train")
        assert row.camera_center == [[-0.03, 0.0, 0.1], [1.0, 2.0, 3.0]]
        assert row.object_center is None
        assert row.meta["messages"] == _rft()["messages"]
        assert row.meta["raw_answer"] == "B"

    @pytest.mark.parametrize("answer", ["B.", "B: right", "right"])
    def test_answer_is_normalised_and_its_raw_text_kept(self, tmp_path, answer):
        solution = [{"answer": answer, "camera_center": None, "object_center": None}]
        path = _lines(tmp_path / "rft.jsonl", _rft(solution=solution))
        (row,) = read_rft(path)
        assert (row.answer, row.meta["raw_answer"]) == ("B", answer)
        back = json.loads(write_rft(tmp_path / "back.jsonl", [row]).read_text())
        assert back["solution"][0]["answer"] == answer

    def test_round_trip_of_released_items(self, tmp_path):
        half = [{"answer": "A", "camera_center": [[0.0, 0.0, 0.0], None], "object_center": [None, [1.5, 0.0, 2.0]]}]
        items = [_rft(), _rft(solution=half)]
        rows = read_rft(_lines(tmp_path / "rft.jsonl", *items))
        path = write_rft(tmp_path / "back.jsonl", rows)
        for line, item in zip(path.read_text().splitlines(), items, strict=True):
            back = json.loads(line)
            assert back["messages"] == item["messages"]
            assert back["videos"] == item["videos"]
            assert back["solution"][0]["camera_center"] == item["solution"][0]["camera_center"]
        again = read_rft(path)
        assert again == rows
        assert read_qa(write_qa(tmp_path / "qa.parquet", rows)) == rows

    def test_line_separators_inside_strings_do_not_split_lines(self, tmp_path):
        messages = [{"role": "user", "content": "<video>One\u2028two?\nA. x\nB. y"}]
        path = tmp_path / "rft.jsonl"
        path.write_text(json.dumps(_rft(messages=messages), ensure_ascii=False) + "\n", encoding="utf-8")
        assert len(read_rft(path)) == 1

    @pytest.mark.parametrize(
        ("changes", "field", "words"),
        [
            ({"videos": ["a.mp4", "b.mp4"]}, "videos", "2 videos for 1"),
            ({"videos": []}, "videos", "0 videos for 1"),
            ({"videos": None}, "videos", "missing"),
            ({"images": ["a.png"]}, "image", "not supported"),
            ({"messages": []}, "messages", "non-empty"),
            ({"messages": [{"role": "robot", "content": "<video>"}]}, "messages", "unknown role"),
            ({"messages": [{"role": "user", "content": 3}]}, "messages", "must be text"),
            ({"solution": "{"}, "solution", "not JSON"),
            ({"solution": []}, "solution", "one object"),
            ({"solution": [{"camera_center": None}]}, "solution.answer", "missing"),
            ({"solution": [{"answer": "D"}]}, "solution.answer", "not among the options A, B"),
            ({"solution": [{"answer": "A", "camera_center": [[1, 2], None]}]}, "solution.camera_center", "x, y, z"),
            ({"solution": [{"answer": "A", "camera_center": [["1", 2, 3], None]}]}, "solution.camera_center", "x, y"),
            ({"solution": [{"answer": "A", "object_center": [[1, 2, 3]]}]}, "solution.object_center", "two states"),
            (
                {"solution": [{"answer": "A", "object_center": [None, [1, 10**400, 3]]}]},
                "solution.object_center",
                "large",
            ),
            ({"solution": [{"answer": "A", "camera_center": [[float("nan"), 0, 0], None]}]}, "camera_center", "finite"),
            ({"num_frames": "many"}, "num_frames", "whole number"),
            ({"num_frames": 10**30}, "num_frames", "whole number"),
            ({"value": 10**400}, "value", "float or null"),
        ],
    )
    def test_bad_rows_are_named(self, tmp_path, changes, field, words):
        path = _lines(tmp_path / "rft.jsonl", _rft(), _rft(**changes))
        with pytest.raises(InputError, match=words) as error:
            read_rft(path)
        assert (error.value.file, error.value.row, error.value.field) == (str(path), 1, field)

    def test_bad_rows_may_be_left_out(self, tmp_path):
        path = _lines(tmp_path / "rft.jsonl", _rft(), _rft(videos=[]))
        with path.open("a") as file:
            file.write("{broken\n")
        errors = []
        assert len(read_rft(path, on_error=errors.append)) == 1
        assert [error.row for error in errors] == [1, 2]

    def test_empty_missing_and_broken_files(self, tmp_path):
        for name, text, words in (("a.jsonl", "", "no usable rows"), ("b.jsonl", "[1", "row 0: not JSON")):
            (tmp_path / name).write_text(text)
            with pytest.raises(InputError, match=words):
                read_rft(tmp_path / name)
        with pytest.raises(InputError, match="does not exist"):
            read_rft(tmp_path / "none.jsonl")


class TestSft:
    @pytest.mark.parametrize("roles", [("human", "gpt"), ("user", "assistant")])
    @pytest.mark.parametrize("suffix", [".json", ".jsonl"])
    def test_reads_both_dialects_and_both_files(self, tmp_path, roles, suffix):
        turns = [
            {"from": role, "value": turn["value"]} for role, turn in zip(roles, _sft()["conversations"], strict=True)
        ]
        item = _sft(conversations=[{"from": "system", "value": "See."}, *turns], video=["a/b.mp4"])
        path = tmp_path / f"sft{suffix}"
        path.write_text(json.dumps([item] if suffix == ".json" else item))
        (row,) = read_sft(path)
        assert (row.answer, row.response, row.video) == ("B", None, "a/b.mp4")
        assert [message["role"] for message in row.meta["messages"]] == ["system", "user"]

    def test_cold_start_reply_is_the_response(self, tmp_path):
        reply = "<thinking>I look.</thinking>\n<answer>A</answer>"
        turns = [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": reply}]
        path = tmp_path / "cold.json"
        path.write_text(json.dumps([_sft(conversations=turns)]))
        rows = read_sft(path)
        assert (rows[0].answer, rows[0].response) == ("A", reply)
        back = json.loads(write_sft(tmp_path / "back.json", rows).read_text())
        assert back[0]["conversations"] == turns
        assert read_sft(tmp_path / "back.json") == [replace(rows[0], id=rows[0].id)]

    def test_free_text_without_options_is_kept_as_the_answer(self, tmp_path):
        turns = [{"from": "human", "value": "<video>What moves?"}, {"from": "gpt", "value": "A red car."}]
        path = _lines(tmp_path / "sft.jsonl", _sft(conversations=turns))
        (row,) = read_sft(path)
        assert (row.options, row.answer) == ([], "A red car.")
        assert json.loads(write_sft(tmp_path / "b.jsonl", [row]).read_text())["conversations"] == turns

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"conversations": [{"from": "human", "value": QUESTION}]}, "conversations"),
            ({"conversations": [{"from": "gpt", "value": "<video>"}]}, "messages"),
            ({"conversations": [{"from": "human", "value": "no placeholder"}, {"from": "gpt", "value": "A"}]}, "video"),
            ({"conversations": [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": "D"}]}, "conversations"),
            ({"conversations": [{"from": "bot", "value": QUESTION}]}, "conversations"),
            ({"video": 3}, "video"),
        ],
    )
    def test_bad_rows_are_named(self, tmp_path, changes, field):
        path = _lines(tmp_path / "sft.jsonl", _sft(), _sft(**changes))
        with pytest.raises(InputError) as error:
            read_sft(path)
        assert (error.value.row, error.value.field) == (1, field)

    def test_a_json_object_or_json_lines_under_the_wrong_name(self, tmp_path):
        path = tmp_path / "sft.json"
        path.write_text("{}")
        with pytest.raises(InputError, match="a JSON list is expected"):
            read_sft(path)
        _lines(path, _sft(), _sft())
        with pytest.raises(InputError, match=r"ends in \.jsonl"):
            read_sft(path)


@pytest.mark.parametrize("kind", ["rft", "sft"])
def test_our_rows_keep_their_truth_through_both_formats(tmp_path, kind):
    rows = build_questions([make_clip(seed) for seed in range(6)], QuestionConfig(num_frames=8))
    if kind == "sft":
        rows = [replace(row, response=write_st_cot(row)) for row in rows]
    write, read = (write_rft, read_rft) if kind == "rft" else (write_sft, read_sft)
    back = read(write(tmp_path / "x.jsonl", rows))
    for ours, theirs in zip(rows, back, strict=True):
        assert theirs == replace(ours, meta=theirs.meta)
        assert "<video>" in theirs.meta["messages"][0]["content"]


def test_rebase_video(tmp_path):
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "a.mp4").touch()
    assert rebase_video("media/a.mp4", tmp_path, tmp_path / "qa") == "../media/a.mp4"
    assert rebase_video("media/b.mp4", tmp_path, tmp_path / "qa") == "media/b.mp4"
    assert rebase_video("/x/a.mp4", tmp_path, tmp_path) == "/x/a.mp4"


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_KEYS = ("messages", "videos", "solution", "conversations", "video", "num_frames", "start_frame", "end_frame", "task")
_MORE = ("id", "clip_id", "split", "value", "unit", "object_description", "camera_center", "object_center", "image")


@settings(max_examples=200, deadline=None)
@given(key=st.sampled_from((*_KEYS, *_MORE)), value=_json, kind=st.sampled_from(["rft", "sft"]), nested=st.booleans())
def test_no_json_value_in_any_place_ends_in_anything_but_rows_or_an_input_error(
    tmp_path_factory, key, value, kind, nested
):
    item = _rft() if kind == "rft" else _sft()
    if nested and key in ("camera_center", "object_center", "solution"):
        item["solution"] = [{"answer": "A", key.replace("solution", "answer"): value}]
    else:
        item[key] = value
    path = _lines(tmp_path_factory.mktemp("fuzz") / "x.jsonl", item)
    errors = []
    try:
        rows = (read_rft if kind == "rft" else read_sft)(path)
        write_qa(path.with_suffix(".parquet"), rows)
    except InputError as error:
        errors.append(error)
    assert all(error.file == str(path) for error in errors)
    assert errors or read_qa(path.with_suffix(".parquet")) == rows

"""Rows come back from every format as they went in, and files that are broken are named by row and field."""

import json
from dataclasses import replace

import datasets
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mllm4d_verl.cli.main import app
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.formats import FORMATS, Options, convert, detect, find_format, hf_folder
from mllm4d_verl.data_tools.released import json_items
from mllm4d_verl.data_tools.schema import SPLITS, TASKS, QARow, read_qa, write_qa

NAMES = {"qa": "rows.parquet", "verl": "verl.parquet", "rft": "rft.jsonl", "sft": "sft.json", "hf": "folder"}

_text = st.text(st.characters(codec="utf-8", exclude_characters="<>\0"), min_size=1, max_size=20).filter(str.strip)
_option = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)
_number = st.floats(allow_nan=False, allow_infinity=False)
_center = st.none() | st.lists(_number, min_size=3, max_size=3)
_states = st.none() | st.lists(_center, min_size=2, max_size=2)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _number | _text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_text, inner, max_size=2),
    max_leaves=4,
)


@st.composite
def _rows(draw):
    rows = []
    for index in range(draw(st.integers(1, 4))):
        options = draw(st.lists(_option, min_size=2, max_size=5, unique=True))
        letter = draw(st.integers(0, len(options) - 1))
        frames = 2 * draw(st.integers(1, 20))
        start = draw(st.integers(0, frames - 1))
        rows.append(
            QARow(
                id=f"{draw(_text)}{index}",
                clip_id=draw(_text),
                video=draw(_option) + ".mp4",
                num_frames=frames,
                task=draw(st.sampled_from((*TASKS, "other"))),
                start_frame=start,
                end_frame=draw(st.integers(start, frames - 1)),
                question=draw(_text),
                options=options,
                answer="ABCDE"[letter],
                answer_text=options[letter],
                value=draw(st.none() | _number),
                unit=draw(st.none() | _text),
                camera_center=draw(_states),
                object_center=draw(_states),
                object_description=draw(st.none() | _text),
                split=draw(st.sampled_from(SPLITS)),
                meta=draw(st.dictionaries(_text, _json, max_size=2)),
                response=draw(st.none() | _text | st.just("<thinking>so</thinking>\n<answer>A</answer>")),
            )
        )
    return rows


def _row(index=0, **changes):
    row = QARow(
        id=f"q{index}",
        clip_id=f"c{index // 2}",
        video="a/left.mp4",
        num_frames=8,
        task="camera_relative_direction",
        start_frame=1,
        end_frame=6,
        question="Where does the camera go from frame 1 to frame 6 of 7?",
        options=["left", "right"],
        answer="B",
        answer_text="right",
        camera_center=[[0.0, 0.0, 0.0], [1.0, 0.0, 0.5]],
    )
    return replace(row, **changes)


def _read(path, **options):
    return [row for _, _, row in detect(path).read(path, Options(**options))]


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=_rows())
def test_round_trip_is_lossless(name, rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("round") / NAMES[name]
    FORMATS[name].write(path, rows, Options())
    back = _read(path)
    if name == "hf":
        rows = sorted(rows, key=lambda row: SPLITS.index(row.split))
    assert back == rows
    assert detect(path).name == name


@pytest.mark.parametrize("name", FORMATS)
def test_chain_through_every_format_and_back(name, tmp_path):
    rows = [_row(index, meta={"tau_m": 0.1, "x": [1, None]}) for index in range(5)]
    start = write_qa(tmp_path / "start.parquet", rows)
    convert(start, tmp_path / NAMES[name], name)
    convert(tmp_path / NAMES[name], tmp_path / "end.parquet", "qa")
    assert read_qa(tmp_path / "end.parquet") == rows


def test_video_paths_follow_the_file(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "left.mp4").write_bytes(b"x")
    start = write_qa(tmp_path / "start.parquet", [_row()])
    convert(start, tmp_path / "deep" / "er" / "rft.jsonl", "rft")
    assert _read(tmp_path / "deep" / "er" / "rft.jsonl")[0].video == "../../a/left.mp4"
    convert(start, tmp_path / "folder", "hf")
    assert _read(tmp_path / "folder")[0].video == "../a/left.mp4"


def test_imported_chat_is_kept_and_nothing_is_added_to_it(tmp_path):
    chat = [{"role": "user", "content": "<video>\nWhere?\nA. left\nB. right"}]
    item = {"messages": chat, "videos": ["v.mp4"], "solution": [{"answer": "B. right"}]}
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(item) + "\n")
    convert(path, tmp_path / "out.jsonl", "rft")
    assert "qa_row" not in json.loads((tmp_path / "out.jsonl").read_text())
    assert _read(tmp_path / "out.jsonl")[0].meta == {"messages": chat, "raw_answer": "B. right"}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "meta", [{"messages": [None]}, {"messages": "x", "raw_answer": 3}, {"messages": [{"role": {}}], "raw_answer": "A"}]
)
def test_meta_that_only_looks_like_a_chat(name, meta, tmp_path):
    rows = [_row(meta=meta)]
    FORMATS[name].write(tmp_path / NAMES[name], rows, Options())
    assert _read(tmp_path / NAMES[name]) == rows


class TestVerl:
    def test_columns_as_verl_reads_them(self, tmp_path):
        write_qa(tmp_path / "a.parquet", [_row()])
        convert(tmp_path / "a.parquet", tmp_path / "v.parquet", "verl")
        record = pd.read_parquet(tmp_path / "v.parquet").iloc[0]
        assert record["data_source"] == "mllm4d/camera_relative_direction"
        assert record["prompt"][0]["content"].startswith("<video>")
        assert record["videos"][0] == {"type": "video", "video": "a/left.mp4", "nframes": 8}
        assert json.loads(record["reward_model"]["ground_truth"])["answer"] == "B"
        assert record["extra_info"]["index"] == 0

    def test_rows_that_others_wrote(self, tmp_path):
        path = tmp_path / "theirs.parquet"
        record = {
            "data_source": "x",
            "prompt": [{"role": "user", "content": "<video>Which?\nA. red\nB. blue"}],
            "videos": [{"video": "v.mp4"}],
            "reward_model": {"style": "rule", "ground_truth": "B"},
        }
        pd.DataFrame([record]).to_parquet(path)
        row = _read(path, num_frames=16)[0]
        assert (row.task, row.question, row.options, row.answer) == ("other", "Which?", ["red", "blue"], "B")
        assert (row.id, row.num_frames, row.end_frame) == ("theirs-0", 16, 15)

    def test_what_is_missing_is_named(self, tmp_path):
        path = tmp_path / "bad.parquet"
        pd.DataFrame(
            [
                {
                    "prompt": [{"role": "user", "content": "?"}],
                    "videos": ["a", "b"],
                    "reward_model": {"ground_truth": "B"},
                }
            ]
        ).to_parquet(path)
        with pytest.raises(InputError, match="row 0, field videos: a row carries exactly one video, got 2"):
            _read(path)


class TestFolder:
    def test_loads_with_datasets_and_its_card_is_filled_in(self, tmp_path, monkeypatch):
        monkeypatch.setattr(hf_folder, "ROWS_PER_SHARD", 4)
        rows = [_row(index, split="train" if index < 9 else "val") for index in range(12)]
        rows[0].meta["source"] = "kitti"
        write_qa(tmp_path / "a.parquet", rows)
        options = Options(sources={"c1": ("stereo4d", "CC BY 4.0")}, title="Mine")
        convert(tmp_path / "a.parquet", tmp_path / "set", "hf", options=options)
        assert len(list((tmp_path / "set").glob("train-*-of-00003.parquet"))) == 3
        loaded = datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
        assert {name: len(split) for name, split in loaded.items()} == {"train": 9, "val": 3}
        card = (tmp_path / "set" / "README.md").read_text()
        header = yaml.safe_load(card.split("---")[1])
        assert header["pretty_name"] == "Mine"
        assert header["size_categories"] == ["n<1K"]
        assert "| stereo4d | CC BY 4.0 | 2 | 0 | 0 | 16.7 % |" in card
        assert "For 10 rows source or licence is not recorded" in card
        assert "Splits share clips (train and val: 1)" in card

    def test_a_full_folder_is_left_alone(self, tmp_path):
        write_qa(tmp_path / "set" / "a.parquet", [_row()])
        with pytest.raises(InputError, match="not empty"):
            FORMATS["hf"].write(tmp_path / "set", [_row()], Options())


class TestBroken:
    def test_bad_rows_are_reported_and_left_out(self, tmp_path):
        for name in ("rft", "sft"):
            path = tmp_path / NAMES[name].replace(".json", ".jsonl").replace("lll", "l").replace("jsonll", "jsonl")
            FORMATS[name].write(path, [_row(index) for index in range(3)], Options())
            lines = path.read_text().splitlines()
            path.write_text("\n".join([lines[0], "{", lines[2]]) + "\n")
            errors = []
            rows = _read(path, on_error=errors.append)
            assert [row.id for row in rows] == ["q0", "q2"]
            assert [error.row for error in errors] == [1]

    def test_unknown_format(self, tmp_path):
        with pytest.raises(InputError, match="Did you mean 'verl'"):
            find_format("vrl")
        (tmp_path / "x.txt").write_text("x")
        with pytest.raises(InputError, match="neither of the known formats"):
            detect(tmp_path / "x.txt")
        with pytest.raises(InputError, match="does not exist"):
            detect(tmp_path / "absent.parquet")
        write_qa(tmp_path / "a.parquet", [_row()])
        with pytest.raises(InputError, match=r"end in \.jsonl"):
            convert(tmp_path / "a.parquet", tmp_path / "b.json", "rft")
        with pytest.raises(InputError, match="are the same"):
            convert(tmp_path / "a.parquet", tmp_path / "a.parquet", "qa")

    @given(items=st.lists(_json, max_size=5), indent=st.sampled_from([None, 0, 3]))
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    def test_a_json_list_is_streamed_as_it_would_be_loaded(self, items, indent, tmp_path, monkeypatch):
        monkeypatch.setattr("mllm4d_verl.data_tools.released._CHUNK_BYTES", 3)
        path = tmp_path / "list.json"
        path.write_text(json.dumps(items, indent=indent), encoding="utf-8")
        assert [item for _, item in json_items(path)] == items

    def test_a_number_cut_by_the_end_of_a_piece_is_read_whole(self, tmp_path, monkeypatch):
        path = tmp_path / "list.json"
        path.write_text("[1.5e9,-2.0E-7, 123456789]")
        for size in range(1, 12):
            monkeypatch.setattr("mllm4d_verl.data_tools.released._CHUNK_BYTES", size)
            assert [item for _, item in json_items(path)] == [1.5e9, -2e-7, 123456789]

    @pytest.mark.parametrize("text", ["[1 x]", "[1", "[1,", "[1 2]", "[1] x", "[1,]", "{", "", "[tru]"])
    def test_a_broken_list_is_not_json(self, text, tmp_path):
        path = tmp_path / "list.json"
        path.write_text(text)
        with pytest.raises(InputError, match="not JSON"):
            list(json_items(path))


def test_command(tmp_path):
    write_qa(tmp_path / "a.parquet", [_row(index) for index in range(3)])
    run = CliRunner().invoke(
        app, ["data", "convert", str(tmp_path / "a.parquet"), str(tmp_path / "v.parquet"), "--to", "verl", "--json"]
    )
    assert run.exit_code == 0, run.output
    assert "note: Prompts are rendered once" in run.output
    assert json.loads(run.output.splitlines()[-1])["rows"] == 3
    assert pd.read_parquet(tmp_path / "v.parquet").iloc[0]["prompt"][0]["role"] == "system"

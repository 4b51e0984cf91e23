"""`mllm4d data` from a world to released files, as a user types it."""

import inspect
import json

import pytest
from clip_samples import make_clip
from typer.testing import CliRunner

from mllm4d_verl.cli import data
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.questions import QuestionConfig
from mllm4d_verl.data_tools.schema import iter_clips, read_qa, write_clip, write_clip_index


def _run(*arguments):
    result = CliRunner().invoke(data.app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def _last_json(text):
    return json.loads(text.strip().splitlines()[-1])


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "world"
    for seed in range(8):
        clip = make_clip(seed)
        write_clip(root / "truth", clip)
        (root / clip.video).parent.mkdir()
        (root / clip.video).write_bytes(b"mp4")
    write_clip_index(root / "truth")
    return root


def test_synth_then_questions(tmp_path):
    world, qa = tmp_path / "world", tmp_path / "qa"
    options = ("--clips", 3, "--seed", 5, "--size", "48x32", "--frames", 8, "--workers", 1, "--json")
    assert _last_json(_run("synth", world, *options))["clips"] == 3
    clips = list(iter_clips(world))
    assert [(clip.num_frames, clip.width, clip.height) for clip in clips] == [(8, 48, 32)] * 3
    assert all((world / clip.clip_id / "right.mp4").stat().st_size for clip in clips)
    record = _last_json(_run("questions", world, qa, "--num-frames", 8, "--json"))
    assert record["already_done"] is False
    assert len(read_qa(qa / "train.parquet")) == record["rows"]["train"] > 0


def test_questions_a_second_time_has_nothing_to_do(root, tmp_path):
    command = ("questions", root, tmp_path / "qa", "--num-frames", 8, "--cot-style", "compact", "--json")
    first = _run(*command)
    stamp = (tmp_path / "qa" / "train.parquet").stat().st_mtime_ns
    second = _run(*command)
    assert "nothing to do" in second
    assert _last_json(second) == _last_json(first) | {"already_done": True}
    assert (tmp_path / "qa" / "train.parquet").stat().st_mtime_ns == stamp
    assert "overwriting" in _run(*command, "--seed", 3)
    assert "overwriting" in _run(*command, "--seed", 3, "--overwrite")


def test_questions_about_some_tasks(root, tmp_path):
    _run("questions", root, tmp_path, "--num-frames", 8, "--task", "object_camera_absolute_distance")
    assert {row.task for row in read_qa(tmp_path / "train.parquet")} == {"object_camera_absolute_distance"}


@pytest.mark.parametrize(("format", "name"), [("rft", "x.jsonl"), ("sft", "x.json"), ("sft", "x.jsonl")])
def test_export_and_import(root, tmp_path, format, name):
    qa, released, back = tmp_path / "qa", tmp_path / "out" / name, tmp_path / "back" / "qa.parquet"
    _run("questions", root, qa, "--num-frames", 8)
    _run("export", qa / "train.parquet", released, "--format", format)
    record = _last_json(_run("import", released, back, "--format", format, "--json"))
    ours, theirs = read_qa(qa / "train.parquet"), read_qa(back)
    assert record["rows"] == len(ours) == len(theirs)
    assert [row.answer for row in ours] == [row.answer for row in theirs]
    assert all((back.parent / row.video).is_file() for row in theirs)


def test_import_leaves_bad_rows_out_on_request(tmp_path):
    path = tmp_path / "rft.jsonl"
    good = {
        "messages": [{"role": "user", "content": "<video>Where?\nA. left\nB. right"}],
        "videos": ["a.mp4"],
        "solution": [{"answer": "A"}],
    }
    path.write_text(json.dumps(good) + "\n" + json.dumps({**good, "videos": []}) + "\n")
    with pytest.raises(InputError, match="row 1, field videos"):
        _run("import", path, tmp_path / "qa.parquet", "--format", "rft")
    record = _last_json(_run("import", path, tmp_path / "qa.parquet", "--format", "rft", "--skip-bad", "--json"))
    assert (record["rows"], record["left_out"]) == (1, 1)


def test_stats_of_a_file_and_a_folder(root, tmp_path):
    _run("questions", root, tmp_path / "qa", "--num-frames", 8)
    one = _last_json(_run("stats", tmp_path / "qa" / "train.parquet", "--json"))
    every = _last_json(_run("stats", tmp_path / "qa", "--json"))
    assert one["train"] == every["train"]
    assert every["cold_start"]["responses"] == every["train"]["rows"]


def test_bad_arguments_are_named(root, tmp_path):
    with pytest.raises(InputError, match="WIDTHxHEIGHT"):
        _run("synth", tmp_path / "w", "--size", "64")
    with pytest.raises(InputError, match="JSON lines"):
        _run("export", tmp_path / "qa.parquet", tmp_path / "x.json", "--format", "rft")
    with pytest.raises(InputError, match="no parquet files"):
        _run("stats", tmp_path)
    with pytest.raises(InputError, match="32 frames asked of a video of 16"):
        _run("questions", root, tmp_path / "qa")


def test_options_default_to_the_config():
    config = QuestionConfig()
    for name, parameter in inspect.signature(data.questions).parameters.items():
        if hasattr(config, name) and name != "tasks":  # a list with commas there
            default = parameter.default
            assert getattr(default, "value", default) == getattr(config, name), name

"""A preview shows the frames, times, sizes and prompt that the model gets."""

import json

from PIL import Image
from typer.testing import CliRunner

from mllm4d_verl.cli.main import app
from mllm4d_verl.data_tools.formats.stats import set_stats
from mllm4d_verl.data_tools.schema import QARow, write_qa


def _file(tmp_path, write_video):
    write_video(tmp_path / "c" / "left.mp4", num_frames=12, seed=0)
    row = QARow(
        id="q0",
        clip_id="c",
        video="c/left.mp4",
        num_frames=8,
        task="object_absolute_distance",
        start_frame=1,
        end_frame=6,
        question="How far, for $5?",
        options=["1.0 meters", "2.0 meters"],
        answer="B",
        value=2.0,
        unit="meters",
        meta={"difficulty": "hard"},
    )
    return write_qa(tmp_path / "qa.parquet", [row])


def test_command(tmp_path, write_video):
    path = _file(tmp_path, write_video)
    out = tmp_path / "q0.png"
    run = CliRunner().invoke(app, ["data", "preview", str(path), "--out", str(out), "--min-pixels", "784", "--json"])
    assert run.exit_code == 0, run.output
    assert "[truth] B (2.0 meters), value 2 meters" in run.output
    assert "How far, for $5?" in run.output
    made = json.loads(run.stdout.splitlines()[-1])
    assert made["frame_indices"] == [0, 2, 3, 5, 6, 8, 9, 11]
    assert made["width"] % 32 == made["height"] % 32 == 0
    assert Image.open(out).size[0] > 400


def test_a_row_that_is_not_there(tmp_path, write_video):
    path = _file(tmp_path, write_video)
    run = CliRunner().invoke(app, ["data", "preview", str(path), "--id", "zzz"])
    assert "there is no id 'zzz'" in str(run.exception)


def test_stats_and_their_plot(tmp_path, write_video):
    path = _file(tmp_path, write_video)
    run = CliRunner().invoke(app, ["data", "stats", str(path), "--plot", str(tmp_path / "s.png"), "--json"])
    assert run.exit_code == 0, run.output
    assert "difficulty: hard 100.0 %" in run.output
    figures = json.loads(run.stdout.splitlines()[-1])["qa"]
    assert figures["tasks"] == {"object_absolute_distance": {"number": 1}}
    assert figures["letters"] == {"B": 1}
    assert figures["distances"]["object_absolute_distance (meters)"]["median"] == 2.0
    assert (tmp_path / "s.png").stat().st_size > 1000
    assert set_stats([]).to_dict()["rows"] == 0

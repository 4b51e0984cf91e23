"""`mllm4d data annotate` and `stats` of clips, as a user types them."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from mllm4d_verl.cli import data
from mllm4d_verl.data_tools.annotation.config import AnnotateConfig, load_config
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.synthetic import write_world


def run(*arguments, code=0):
    result = CliRunner().invoke(data.app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


def last_json(text):
    return json.loads(text.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A good clip, a clip of three frames, and a broken one."""
    folder = tmp_path_factory.mktemp("recordings")
    write_world(folder, 1, seed=4, width=96, height=96, num_frames=8, dense=False)
    shutil.rmtree(folder / "truth")
    write_world(folder / "more", 1, seed=5, width=96, height=96, num_frames=3, dense=False)
    (folder / "more" / "clip_00000").rename(folder / "short")
    shutil.rmtree(folder / "more")
    shutil.copytree(folder / "clip_00000", folder / "torn")
    (folder / "torn" / "right.mp4").write_bytes(b"no video at all")
    return folder


LOOSE = ("quality.min_matches=5", "quality.min_valid_depth=0.01", "quality.allow_static=true",
         "quality.max_reprojection_px=9", "quality.max_camera_noise_m=9", "quality.min_track_coverage=0")  # fmt: skip
OPTIONS = [part for change in LOOSE for part in ("--set", change)]


def test_a_folder_of_three_fates(recordings, tmp_path):
    out = tmp_path / "clips"
    text = run("annotate", recordings, out, *OPTIONS, "--workers", 1, "--json", code=2)
    assert "reader pair (left.mp4 and right.mp4 in clip_00000), 3 clips" in text
    assert "kept out: too short 1" in text
    assert "failed: bad input 1" in text
    record = last_json(text)
    assert (record["kept"], record["rejected"], record["quarantined"]) == (1, {"too short": 1}, {"bad input": 1})

    text = run("stats", out, "--plot", tmp_path / "figures.png", "--json")
    assert "vertical_error_px" in text
    assert "1 kept out: too short 1" in text
    assert "1 clips failed: bad input 1" in text
    assert last_json(text)["figures"]["num_frames"] == {"min": 8, "median": 8, "max": 8, "clips": 1}
    assert (tmp_path / "figures.png").stat().st_size > 1000

    shutil.copy(recordings / "clip_00000" / "right.mp4", recordings / "torn" / "right.mp4")
    again = run("annotate", recordings, out, *OPTIONS, "--workers", 1, code=2)
    assert "3 clips were finished by an earlier run" in again
    mended = last_json(run("annotate", recordings, out, *OPTIONS, "--workers", 1, "--retry-quarantine", "--json"))
    assert (mended["kept"], mended["quarantined"], mended["skipped"]) == (2, {}, 2)


def test_settings_are_printed_as_a_file_takes_them(tmp_path):
    text = run("annotate", "--print-config", "--set", "frames.stride=3", "--masks")
    (tmp_path / "settings.yaml").write_text(text)
    config = load_config(tmp_path / "settings.yaml")
    assert (config.frames.stride, config.write_masks) == (3, True)
    assert config.quality == AnnotateConfig().quality


def test_readers_are_listed():
    record = last_json(run("annotate", "--list-readers", "--json"))
    assert {"pair", "kitti_odometry", "zed"} <= set(record)
    assert record["pair"]["options"]["fps"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("{in}",), "OUT: is missing"),
        (("{in}/nothing", "{out}"), "does not exist"),
        (("{in}", "{out}", "--reader", "pear"), "Did you mean 'pair'"),
        (("{in}", "{out}", "-o", "fsp=3"), "Did you mean .fps"),
        (("{in}", "{out}", "--set", "quality.min_match=3"), "Did you mean 'quality.min_matches'"),
        (("{in}", "{out}", "--set", "quality.min_matches"), "KEY=VALUE"),
        (("{in}", "{out}", "--config", "{in}/none.yaml"), "cannot be read"),
    ],
)
def test_slips_are_answered(recordings, tmp_path, arguments, problem):
    filled = [part.replace("{in}", str(recordings)).replace("{out}", str(tmp_path / "out")) for part in arguments]
    with pytest.raises(InputError, match=problem):
        run("annotate", *filled)
    assert not (tmp_path / "out").exists()


def test_statistics_need_clips_or_questions(tmp_path):
    with pytest.raises(InputError, match="the folder holds no parquet files"):
        run("stats", tmp_path, "--plot", tmp_path / "a.png")

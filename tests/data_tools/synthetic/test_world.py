"""The folder that `write_world` leaves behind."""

import hashlib
import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import iter_clips, read_clip, read_clip_index
from mllm4d_verl.data_tools.synthetic import clip_scene, world_preset, write_world
from mllm4d_verl.data_tools.synthetic.render import render_stereo

SMALL = {"seed": 3, "width": 64, "height": 48, "num_frames": 4, "config": "tiny"}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, 3, **SMALL)
    return folder


def test_layout(world):
    expected = {"truth/clips.parquet", "truth/world.json"}
    for clip in ("clip_00000", "clip_00001", "clip_00002"):
        expected |= {f"{clip}/{name}" for name in ("left.mp4", "right.mp4", "calibration.json")}
        expected |= {f"truth/{clip}.npz", f"truth/dense/{clip}.npz"}
    assert set(digests(world)) == expected
    assert [row["clip_id"] for row in read_clip_index(world)] == ["clip_00000", "clip_00001", "clip_00002"]


def test_reruns_are_identical_whatever_the_workers(world, tmp_path):
    write_world(tmp_path / "again", 3, workers=2, **SMALL)
    assert digests(tmp_path / "again") == digests(world)


def test_more_clips_keep_the_first_ones(world, tmp_path):
    write_world(tmp_path, 2, **SMALL)
    assert write_world(tmp_path, 3, **SMALL) == ["clip_00000", "clip_00001", "clip_00002"]
    assert digests(tmp_path) == digests(world)


def test_another_seed_gives_other_clips(world, tmp_path):
    write_world(tmp_path, 1, **{**SMALL, "seed": 4})
    assert digests(tmp_path)["clip_00000/left.mp4"] != digests(world)["clip_00000/left.mp4"]


def test_a_killed_run_is_completed(world, tmp_path):
    def kill(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_world(tmp_path, 3, progress=kill, **SMALL)
    # What a kill within a clip can leave: its user files, without the record.
    (tmp_path / "truth" / "clip_00001.npz").unlink()
    (tmp_path / ".clip_00002.partial").mkdir()
    seen = []
    write_world(tmp_path, 3, progress=lambda done, total: seen.append((done, total)), **SMALL)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert digests(tmp_path) == digests(world)


def test_a_finished_world_is_left_alone(world):
    before = {path: path.stat().st_mtime_ns for path in world.rglob("*")}
    write_world(world, 3, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in world.rglob("*")} == before


def test_records_match_what_was_rendered(world):
    config = world_preset("tiny")
    for number, clip in enumerate(iter_clips(world)):
        render = render_stereo(clip_scene(3, number, 4, 48 / 64, config), config, 64, 48)
        np.testing.assert_array_equal(clip.cam_to_world, render.cam_to_world)
        with np.load(world / "truth" / "dense" / f"{clip.clip_id}.npz") as dense:
            np.testing.assert_array_equal(dense["depth"], render.depth)
            np.testing.assert_array_equal(dense["mask"], render.mask)
        calibration = json.loads((world / clip.clip_id / "calibration.json").read_text())
        assert calibration["baseline_m"] == clip.baseline
        np.testing.assert_array_equal(calibration["intrinsics"], clip.intrinsics)
        assert (calibration["width"], calibration["height"], calibration["fps"]) == (64, 48, 8.0)
        assert (world / clip.video).is_file()


def decoded(path: Path, reader: str) -> np.ndarray:
    """Frames (T,H,W,3) RGB of a video, by one of two readers."""
    if reader == "opencv":
        capture, frames = cv2.VideoCapture(str(path)), []
        while (read := capture.read())[0]:
            frames.append(read[1][..., ::-1])
        return np.stack(frames)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 8
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize("reader", ["opencv", "pyav"])
@pytest.mark.parametrize("eye", ["left", "right"])
def test_videos_show_the_render(world, eye, reader):
    config = world_preset("tiny")
    for number in range(3):
        render = render_stereo(clip_scene(3, number, 4, 48 / 64, config), config, 64, 48)
        frames = decoded(world / f"clip_{number:05d}" / f"{eye}.mp4", reader)
        truth = getattr(render, eye).astype(np.float64)
        assert frames.shape == truth.shape
        # Brightness survives; the colour edges of 4:2:0 are what is lost.
        luma = np.array([0.299, 0.587, 0.114])
        assert np.abs((frames - truth) @ luma).mean() < 2.0
        assert 10 * np.log10(255**2 / ((frames - truth) ** 2).mean()) > 29


def test_a_folder_of_another_world_is_refused(world):
    with pytest.raises(InputError, match="another num_frames, seed"):
        write_world(world, 3, **{**SMALL, "seed": 9, "num_frames": 6})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"width": 33}, "width"),
        ({"height": 8}, "height"),
        ({"num_frames": 1}, "num_frames"),
        ({"fps": 0.0}, "fps"),
        ({"seed": -1}, "seed"),
        ({"config": "huge"}, "preset"),
    ],
)
def test_bad_numbers_name_their_field(tmp_path, change, field):
    with pytest.raises(InputError) as error:
        write_world(tmp_path, 1, **{**SMALL, **change})
    assert error.value.field == field


def test_bad_world_settings_name_their_field():
    for change, field in (
        ({"camera_motions": {"sideways": 1.0}}, "camera_motions"),
        ({"object_motions": {"left": 0.0}}, "object_motions"),
        ({"num_objects": (0, 2)}, "num_objects"),
        ({"object_travel_m": (2.0, 1.0)}, "object_travel_m"),
        ({"camera_height_m": (0.5, 1.0)}, "camera_height_m"),
        ({"shapes": ()}, "shapes"),
        ({"one_mover": True, "min_moving": 1}, "min_moving"),
        ({"gravity": 9.8}, "gravity"),
    ):
        with pytest.raises(InputError) as error:
            world_preset("default").replace(**change)
        assert error.value.field == field


def test_a_clip_record_is_readable_alone(world):
    clip = read_clip(world / "truth" / "clip_00000.npz")
    assert clip.source == "synthetic"
    assert clip.num_frames == 4
    assert all(track.description == f"the {track.description.split()[1]} {track.category}" for track in clip.objects)

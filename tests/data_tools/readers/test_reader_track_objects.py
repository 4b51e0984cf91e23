"""Objects of Stereo4D's tracks: what moves together is one, noise and what is still are none."""

import numpy as np
import pytest

from mllm4d_verl.data_tools.annotation.clip import annotate_clip
from mllm4d_verl.data_tools.annotation.config import load_config
from mllm4d_verl.data_tools.readers import open_clip
from mllm4d_verl.data_tools.readers.stereo4d import Stereo4dReader
from mllm4d_verl.data_tools.readers.track_objects import moving_objects
from mllm4d_verl.data_tools.schema import read_clip

FRAMES = 30
NAME = "someVideo_1000000"


def camera_poses():
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    poses[:, 0, 3] = np.linspace(0, 0.5, FRAMES)
    return poses


def scene(seed, movers=True, times=1):
    """400 still tracks (`times` so many) and two things that move: (N, T, 3); and whose each track is, 0 for nobody."""
    rng = np.random.default_rng(seed)
    still = rng.uniform([-3, -2, 3], [3, 2, 10], (400 * times, 3))
    tracks, owner = [np.repeat(still[:, None], FRAMES, axis=1)], [np.zeros(400 * times, int)]
    if movers:
        way = np.linspace(0, 1, FRAMES)[:, None]
        for number, (count, center, motion) in enumerate(
            ((40, [0.5, 0.0, 5.0], [1.0, 0, 0.2]), (30, [-1.0, 0.3, 4.0], [0, 0, 0.9])), start=1
        ):
            points = center + rng.uniform(-0.25, 0.25, (count * times, 3))
            tracks.append(points[:, None] + way * np.array(motion))
            owner.append(np.full(count * times, number))
    tracks = np.concatenate(tracks)
    rays = tracks - camera_poses()[None, :, :3, 3]
    # disparity errs by as much everywhere: depth by Z^2, along the ray
    tracks += rays * (0.003 * rays[..., 2:] * rng.normal(size=(*tracks.shape[:2], 1)))
    tracks[rng.random(tracks.shape[:2]) < 0.2] = np.nan
    return tracks.astype(np.float32), np.concatenate(owner)


@pytest.mark.parametrize("seed", range(4))
def test_two_things_that_move(seed):
    tracks, owner = scene(seed)
    found = moving_objects(tracks, camera_poses())
    assert [item.id for item in found] == [1, 2]
    for item in found:
        assert item.is_moving
        assert item.category == "object"
        for frame in (3, 20):
            gaps = [np.abs(tracks[:, frame] - point).max(axis=1) for point in item.points[frame]]
            assert {int(owner[np.nanargmin(gap)]) for gap in gaps} == {item.id}
            assert len(item.points[frame]) > 0.6 * (owner == item.id).sum()
            np.testing.assert_allclose(item.centers[frame], item.points[frame].mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_a_still_world_has_none(seed):
    assert moving_objects(scene(seed, movers=False)[0], camera_poses()) == []


def test_things_that_part_are_two():
    """Side by side at first, then each its own way."""
    rng = np.random.default_rng(0)
    tracks, _ = scene(0, movers=False)
    way = np.linspace(0, 1, FRAMES)[:, None]
    halves = [
        (np.array([side * 0.15, 0, 4]) + rng.uniform(-0.1, 0.1, (20, 3)))[:, None] + way * [side, 0.0, 0.0]
        for side in (-1, 1)
    ]
    found = moving_objects(np.concatenate([tracks, *halves]).astype(np.float32), camera_poses())
    assert sorted(round(float(item.centers[-1, 0]), 1) for item in found) == pytest.approx([-1.15, 1.15], abs=0.1)


def test_few_frames_many_tracks_and_none():
    tracks, _ = scene(0)
    assert moving_objects(tracks[:0], camera_poses()) == []
    assert moving_objects(np.full_like(tracks, np.nan), camera_poses()) == []
    assert moving_objects(tracks[:, :1], camera_poses()[:1]) == []
    many, _ = scene(0, times=40)  # more moving ones than are looked at
    assert len(moving_objects(many, camera_poses())) == 2


def write_npz(folder, tracks):
    seen = np.isfinite(tracks[..., 0])
    np.savez(
        folder / f"{NAME}.npz",
        timestamps=(1_000_000 + np.arange(FRAMES) * 33_333),
        camera2world=camera_poses()[:, :3],
        track_lengths=seen.sum(axis=1),
        track_indices=np.nonzero(seen)[1],
        track_coordinates=tracks[seen],
        rectified2rig=np.tile(np.eye(3), (2, 1, 1)),
        fov_bounds=np.array([-90.0, 90.0, -90.0, 90.0]),
    )


@pytest.mark.parametrize("movers", [True, False])
def test_a_clip_without_video_becomes_a_record(tmp_path, movers):
    write_npz(tmp_path, scene(1, movers)[0])
    (ref,) = Stereo4dReader().find(tmp_path)
    (outcome,) = annotate_clip(open_clip(ref), load_config(), tmp_path / "out")
    assert outcome.is_kept, outcome.reasons
    record = read_clip(tmp_path / "out" / "clip4d" / f"{NAME}.npz")
    assert len(record.objects) == 2 * movers
    assert all(track.is_moving for track in record.objects)
    assert (record.video, record.quality["video"]) == (f"videos/{NAME}.mp4", "absent")
    np.testing.assert_allclose(record.cam_to_world, camera_poses(), atol=1e-9)

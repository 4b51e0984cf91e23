"""Stretches of a clip: where they begin and end, and the world they are in."""

from pathlib import Path

import numpy as np
import pytest

from mllm4d_verl.data_tools.annotation.config import FrameConfig
from mllm4d_verl.data_tools.annotation.stretch import Stretch, checked_poses, find_shots
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.geometry import transform_points
from mllm4d_verl.data_tools.stereo.camera import StereoCamera
from mllm4d_verl.data_tools.stereo.clip import SourceObject, StereoClip, StereoPair

CAMERA = StereoCamera(64, 48, np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]]), 0.1)


class Frames(StereoClip):
    """Images in memory; both eyes see the same."""

    def __init__(self, images, poses=None, objects=None):
        self.clip_id, self.source, self.license, self.path = "clip", "test", "", Path("clip")
        self.fps, self.num_frames, self.camera, self.notes = 10.0, len(images), CAMERA, {}
        self.images, self.cam_to_world, self.objects = images, poses, objects
        self.timestamps_s = np.arange(len(images)) / 10

    def pairs(self, start=0, stop=None):
        for frame in range(*slice(start, stop).indices(self.num_frames)):
            yield StereoPair(frame, self.images[frame], self.images[frame])

    def depth(self, frame):
        return np.full((48, 64), float(frame), np.float32)


def textured(seed, count):
    rng = np.random.default_rng(seed)
    still = rng.integers(0, 255, (12, 40, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    return [still[:, 2 * t : 2 * t + 64] for t in range(count)]


BLACK = np.zeros((48, 64, 3), np.uint8)


def spans(images, **config):
    return [shot.frames for shot in find_shots(Frames(images), FrameConfig(**config))]


def test_a_whole_clip_is_one_shot():
    (shot,) = find_shots(Frames(textured(0, 9)), FrameConfig())
    assert (shot.frames, shot.is_only, shot.is_whole) == (range(9), True, True)
    assert shot.left.shape == (9, 48, 64, 3)
    assert [pair.frame for pair in shot.pairs(3)] == [0, 4, 8]


def test_cuts_split():
    images = textured(0, 9) + textured(1, 12) + textured(2, 3)
    assert spans(images) == [range(9), range(9, 21), range(21, 24)]
    assert spans(images, split_cuts=False) == [range(24)]
    assert not any(shot.is_only or shot.is_whole for shot in find_shots(Frames(images), FrameConfig()))


def test_long_shots_become_even_pieces():
    assert spans(textured(0, 21), max_frames=10) == [range(7), range(7, 14), range(14, 21)]


def test_stride():
    (shot,) = find_shots(Frames(textured(0, 10)), FrameConfig(stride=3))
    assert (shot.frames, shot.is_whole, len(shot.left)) == (range(0, 10, 3), False, 4)


def test_black_frames_at_the_ends_are_left_out():
    images = [BLACK, BLACK, *textured(0, 9), BLACK]
    (shot,) = find_shots(Frames(images), FrameConfig())
    assert (shot.frames, shot.is_only, shot.is_whole) == (range(2, 11), True, False)
    np.testing.assert_array_equal(shot.left[0], images[2])
    assert spans([BLACK] * 5) == [range(5)]


def test_a_stretch_is_in_the_world_of_its_first_camera():
    poses = np.tile(np.eye(4), (6, 1, 1))
    poses[:, 0, 3] = np.arange(6)
    poses[3:, :3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    point = np.array([[0.5, 0.2, 4.0]])
    centers = np.tile(point, (6, 1))
    item = SourceObject(1, "car", centers, points=[point.astype(np.float32)] * 6, boxes=np.zeros((6, 4)))
    clip = Frames(textured(0, 6), poses, [item])
    view = Stretch(clip, range(3, 6, 2), "clip_s1")
    np.testing.assert_allclose(view.cam_to_world[0], np.eye(4), atol=1e-12)
    np.testing.assert_allclose(poses[3] @ view.cam_to_world[1], poses[5], atol=1e-12)
    np.testing.assert_allclose(transform_points(poses[3], view.objects[0].centers), centers[:2])
    np.testing.assert_allclose(transform_points(poses[3], view.objects[0].points[1]), point, atol=1e-6)
    assert (view.num_frames, view.fps, view.clip_id) == (2, 5.0, "clip_s1")
    assert view.depth(1)[0, 0] == 5
    assert view.timestamps_s.tolist() == pytest.approx([0, 0.2])
    frames = [
        (pair.frame, int(np.abs(pair.left.astype(int) - clip.images[3 + 2 * pair.frame]).max()))
        for pair in view.pairs()
    ]
    assert frames == [(0, 0), (1, 0)]


def test_objects_without_poses_stay_with_the_first_stretch():
    clip = Frames(textured(0, 6), None, [SourceObject(1, "car", np.zeros((6, 3)))])
    assert Stretch(clip, range(6), "a").objects is not None
    assert Stretch(clip, range(2, 6), "b").objects is None


@pytest.mark.parametrize(("frame", "value", "problem"), [(4, np.nan, "NaN"), (2, 7.0, "no rotation")])
def test_bad_poses_are_named_with_their_frame(frame, value, problem):
    poses = np.tile(np.eye(4), (6, 1, 1))
    poses[frame, 0, 0] = value
    with pytest.raises(InputError, match=f"frame {frame}.*{problem}.*origin.poses=estimate"):
        checked_poses(Frames(textured(0, 6), poses))

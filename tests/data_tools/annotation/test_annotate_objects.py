"""Objects of the source as tracks: points, identities, words, motion."""

from pathlib import Path

import numpy as np
import pytest

from mllm4d_verl.data_tools.annotation.objects import SourceObjects, moves, second_difference_noise
from mllm4d_verl.data_tools.estimation.disparity import Disparity
from mllm4d_verl.data_tools.estimation.odometry import Trajectory
from mllm4d_verl.data_tools.stereo.camera import StereoCamera
from mllm4d_verl.data_tools.stereo.clip import SourceObject, StereoClip

CAMERA = StereoCamera(64, 48, np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]]), 0.1)
FRAMES = 4
POSES = np.tile(np.eye(4), (FRAMES, 1, 1))


class Labelled(StereoClip):
    def __init__(self, objects):
        self.clip_id, self.source, self.license, self.path = "clip", "test", "", Path("clip")
        self.fps, self.num_frames, self.camera, self.notes = 10.0, FRAMES, CAMERA, {}
        self.cam_to_world, self.objects, self.has_frames = POSES, objects, False
        self.masks = None

    def pairs(self, start=0, stop=None):
        return iter(())

    def instance_mask(self, frame):
        return self.masks


def trajectory():
    zeros = np.zeros(FRAMES)
    return Trajectory(POSES, zeros, zeros.astype(int), zeros.astype(int), zeros, zeros.astype(bool))


def finish(*objects):
    return SourceObjects(Labelled(list(objects)), list(objects), keep_masks=False).finish(trajectory())


def centers(*xs):
    return np.array([[x, 0.0, 4.0] for x in xs])


def test_points_of_the_source_are_thinned():
    many = [np.random.default_rng(0).normal(size=(900, 3)).astype(np.float32)] * FRAMES
    found = finish(SourceObject(7, "car", centers(0, 0, 0, 0), points=many))
    (track,) = found.tracks
    assert (track.id, track.category, track.is_moving, found.noise_m) == (7, "car", False, 0)
    assert {len(points) for points in track.points} == {256}


def test_centres_alone_are_a_point_each():
    found = finish(SourceObject(1, "car", centers(0, 1, np.nan, 3)), SourceObject(2, "van", centers(*[np.nan] * 4)))
    (track,) = found.tracks  # what is never there is left out
    assert [len(points) for points in track.points] == [1, 1, 0, 1]
    assert track.is_moving


def test_the_source_has_the_last_word_on_motion():
    assert not finish(SourceObject(1, "car", centers(0, 1, 2, 3), is_moving=False)).tracks[0].is_moving


def test_ids_that_no_mask_can_hold_are_numbered_anew():
    found = finish(SourceObject(1000, "car", centers(0, 0, 0, 0)), SourceObject(3, "van", centers(1, 1, 1, 1)))
    assert [track.id for track in found.tracks] == [1, 2]


def test_noise_of_a_track_is_measured():
    rng = np.random.default_rng(1)
    line = np.outer(np.arange(400), [0.1, 0, 0.05])
    assert second_difference_noise(line) < 1e-9
    assert second_difference_noise(line + rng.normal(0, 0.02, line.shape)) == pytest.approx(0.02, rel=0.1)
    assert not moves(np.full((400, 3), np.nan), rng.normal(0, 0.03, (400, 3)), 0.05)


def test_words_without_pictures_go_by_place():
    found = finish(SourceObject(1, "car", centers(1, 1, 1, 1)), SourceObject(2, "car", centers(-1, -1, -1, -1)))
    assert [track.description for track in found.tracks] == ["the car on the right", "the car on the left"]


@pytest.mark.parametrize(("rgb", "words"), [((240, 20, 20), "the red car"), ((90, 90, 90), "the car")])
@pytest.mark.parametrize("by_mask", [True, False])
def test_colours_come_from_masks_or_boxes(rgb, words, by_mask):
    image = np.full((48, 64, 3), 128, np.uint8)
    image[10:30, 20:50] = rgb
    boxes = np.tile([20.0, 10.0, 49.0, 29.0], (FRAMES, 1))
    item = SourceObject(3, "car", centers(0, 0, 0, 0), boxes=None if by_mask else boxes)
    clip = Labelled([item])
    if by_mask:
        clip.masks = np.zeros((48, 64), np.int32)
        clip.masks[10:30, 20:50] = 3
    part = SourceObjects(clip, [item], keep_masks=by_mask)
    disparity = Disparity(np.full((48, 64), 1.5, np.float32), None, 0.1)  # 4 m
    for frame in range(FRAMES):
        part.add(frame, image, disparity)
    found = part.finish(trajectory())
    (track,) = found.tracks
    assert track.description == words
    if by_mask:
        assert track.points[2][:, 2] == pytest.approx(4.0, rel=1e-5)
        assert (found.masks == clip.masks).all()

"""Objects of the source as tracks, and words for objects."""

from pathlib import Path

import numpy as np
import pytest

from mllm4d_verl.data_tools.annotation.descriptions import ColourVotes, Described, describe
from mllm4d_verl.data_tools.annotation.objects import SourceObjects, moves, second_difference_noise
from mllm4d_verl.data_tools.estimation.odometry import Trajectory
from mllm4d_verl.data_tools.stereo.camera import StereoCamera
from mllm4d_verl.data_tools.stereo.clip import SourceObject, StereoClip

CAMERA = StereoCamera(64, 48, np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]]), 0.1)
FRAMES = 4
POSES = np.tile(np.eye(4), (FRAMES, 1, 1))


def cloud(x, z=4.0, size=0.2):
    grid = np.linspace(-size, size, 5)
    points = np.stack(np.meshgrid(grid, grid, [0.0]), axis=-1).reshape(-1, 3)
    return (points + np.array([x, 0, z])).astype(np.float32)


def thing(x, colour="red", category="object", **where):
    return Described(category, colour, [cloud(x, **where)] * FRAMES)


def words(*things):
    return describe(things, CAMERA, POSES)


class TestWords:
    def test_one_of_its_kind(self):
        assert words(thing(0), thing(1, "blue"), thing(2, None, "car")) == [
            "the red object",
            "the blue object",
            "the car",
        ]

    def test_two_alike_are_told_by_size_then_place_then_distance(self):
        assert words(thing(0), thing(1, size=0.5)) == ["the smaller red object", "the larger red object"]
        assert words(thing(1), thing(-1)) == ["the red object on the right", "the red object on the left"]
        assert words(thing(0, z=2.0), thing(0, z=4.0)) == ["the nearer red object", "the farther red object"]

    def test_three_alike(self):
        assert words(thing(1), thing(-1), thing(0)) == [
            "the third red object from the left",
            "the first red object from the left",
            "the second red object from the left",
        ]

    def test_what_cannot_be_told_apart_keeps_the_same_words(self):
        assert words(thing(0), thing(0.05)) == ["the red object"] * 2
        unseen = Described("object", "red", [np.zeros((0, 3), np.float32)] * FRAMES)
        assert words(thing(0), unseen) == ["the red object"] * 2

    @pytest.mark.parametrize(
        ("rgb", "name"),
        [
            ((230, 30, 30), "red"),
            ((60, 10, 10), "red"),
            ((250, 140, 20), "orange"),
            ((120, 70, 30), "brown"),
            ((240, 230, 20), "yellow"),
            ((30, 200, 40), "green"),
            ((20, 220, 230), "cyan"),
            ((30, 40, 220), "blue"),
            ((230, 40, 210), "pink"),
            ((250, 250, 245), "white"),
            ((120, 122, 119), "grey"),
            ((20, 22, 21), "black"),
        ],
    )
    def test_colours(self, rgb, name):
        votes = ColourVotes()
        votes.add(np.tile(np.array(rgb, np.uint8), (10, 1)))
        assert votes.winner == name

    def test_no_colour_prevails(self):
        votes = ColourVotes()
        votes.add(np.array([[230, 30, 30], [30, 200, 40], [30, 40, 220]], np.uint8))
        assert votes.winner is None
        assert ColourVotes().winner is None

    def test_grey_cameras_tell_no_colour(self):
        votes = ColourVotes()
        votes.add(np.full((10, 3), 20, np.uint8))
        assert votes.winner is None


class Labelled(StereoClip):
    def __init__(self, objects):
        self.clip_id, self.source, self.license, self.path = "clip", "test", "", Path("clip")
        self.fps, self.num_frames, self.camera, self.notes = 10.0, FRAMES, CAMERA, {}
        self.cam_to_world, self.objects, self.has_frames = POSES, objects, False

    def pairs(self, start=0, stop=None):
        return iter(())


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

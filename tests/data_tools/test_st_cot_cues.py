"""Visual cues: the same as a slow reference that looks at one frame and one point at a time."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from clip_samples import make_clip, rotation_about
from hypothesis import given, settings
from hypothesis import strategies as st

from mllm4d_verl.data_tools.sampling import sample_frame_indices
from mllm4d_verl.data_tools.st_cot import ClipCues, find_cues
from mllm4d_verl.data_tools.st_cot.cues import cue_texts, find_codes
from mllm4d_verl.data_tools.st_cot.sights import Sights, sights_of

AXES = (("left", "right"), ("up", "down"), ("backward", "forward"))
THIRDS = (("left", "middle", "right"), ("top", "middle", "bottom"))


def reference(clip, start, end, track):
    """The cues of a pair of clip frames by plain formulas."""
    pose, later = clip.cam_to_world[start], clip.cam_to_world[end]
    shift = pose[:3, :3].T @ (later[:3, 3] - pose[:3, 3])
    main = int(np.abs(shift).argmax())
    found = {"camera_shift": AXES[main][int(shift[main] > 0)] if np.linalg.norm(shift) >= 0.1 else "still"}
    for name, frame in (("start", start), ("end", end)):
        x, y, z = clip.cam_to_world[frame][:3, :3].T @ (
            track.points[frame].astype(float).mean(axis=0) - clip.cam_to_world[frame][:3, 3]
        )
        shares = [(86.4 * x / z + 48) / clip.width, (86.4 * y / z + 48) / clip.height]
        inside = z > 0 and all(0 <= share <= 1 for share in shares)
        for part, share, words in zip(("place", "level"), shares, THIRDS, strict=True):
            found[f"{name}_{part}"] = words[min(2, int(share * 3))] if inside else "outside"
    before, after = (
        min(np.linalg.norm(point - clip.cam_to_world[frame][:3, 3]) for point in track.points[frame].astype(float))
        for frame in (start, end)
    )
    tau = max(0.1, 0.02 * before)
    found["distance"] = "same" if abs(after - before) <= tau else "closer" if after < before else "farther"
    ratio = before / after
    large = "larger" if ratio > 1.1 else "smaller" if ratio < 1 / 1.1 else "same"
    found["size"] = "same" if found["distance"] == "same" else large
    moved = pose[:3, :3].T @ (track.points[end].astype(float).mean(0) - track.points[start].astype(float).mean(0))
    signs = [0 if abs(part) <= tau else int(np.sign(part)) for part in moved]
    found["own_motion"] = signs if track.is_moving else [0, 0, 0]
    found["moving"] = track.is_moving and bool(np.linalg.norm(moved) >= 0.1 or any(signs))
    return found


@pytest.mark.parametrize("seed", range(25))
def test_cues_agree_with_the_reference(seed):
    clip = make_clip(seed, turn=0.6)
    cues = ClipCues(clip)
    for start, end in ((0, 15), (3, 9), (5, 6)):
        for index, track in enumerate(clip.objects):
            found = cues.pair(start, end, index)
            for name, value in reference(clip, start, end, track).items():
                assert found[name] == value, (name, start, end, index)


def test_positions_count_in_the_frames_that_are_given():
    clip = make_clip(3)
    frames = sample_frame_indices(16, 8)
    assert ClipCues(clip, frames).pair(1, 6, 2) == ClipCues(clip).pair(frames[1], frames[6], 2)
    assert find_cues(clip, frames[1:7], clip.objects[2]) == ClipCues(clip, frames).pair(1, 6, 2)
    assert ClipCues(clip).pair(0, 5).keys() == {"camera_shift", "camera_drift", "camera_turn", "parallax"}


def test_what_a_solver_knows_already_gives_the_same():
    clip = make_clip(4)
    centers = np.array([[cloud.astype(float).mean(0) for cloud in track.points] for track in clip.objects])
    nearest = np.array(
        [
            [
                np.linalg.norm(cloud.astype(float) - clip.camera_centers[k], axis=1).min()
                for k, cloud in enumerate(track.points)
            ]
            for track in clip.objects
        ]
    )
    known = ClipCues(clip, nearest_m=nearest, centers_m=centers)
    for index in range(3):
        assert known.pair(2, 13, index) == ClipCues(clip).pair(2, 13, index)


@given(seed=st.integers(0, 50), angle=st.floats(-3, 3), shift=st.tuples(*[st.floats(-50, 50)] * 3))
@settings(max_examples=15, deadline=None)
def test_the_choice_of_the_world_does_not_matter(seed, angle, shift):
    clip = make_clip(seed, num_frames=6)
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = rotation_about((1, 2, 3), angle), shift
    moved = replace(
        clip,
        cam_to_world=world @ clip.cam_to_world,
        objects=[
            replace(track, points=[cloud.astype(float) @ world[:3, :3].T + shift for cloud in track.points])
            for track in clip.objects
        ],
    )
    for index in range(3):
        assert ClipCues(moved).pair(0, 5, index) == ClipCues(clip).pair(0, 5, index)


def one_object(centers, cam_to_world=None, is_moving=True):
    """A clip of one ball of 0.2 m whose middle is at `centers`, None where it is not seen; the camera stays."""
    clip = make_clip(0, num_frames=len(centers), num_objects=1)
    shape = np.random.default_rng(0).uniform(-0.1, 0.1, (60, 3))
    clouds = [np.zeros((0, 3), np.float32) if c is None else (shape + c).astype(np.float32) for c in centers]
    poses = np.tile(np.eye(4), (len(centers), 1, 1)) if cam_to_world is None else cam_to_world
    return replace(clip, cam_to_world=poses, objects=[replace(clip.objects[0], points=clouds, is_moving=is_moving)])


def shifted(*camera_centers):
    poses = np.tile(np.eye(4), (len(camera_centers), 1, 1))
    poses[:, :3, 3] = camera_centers
    return poses


class TestObject:
    def pair(self, *centers, poses=None, **options):
        return ClipCues(one_object(centers, poses, **options)).pair(0, len(centers) - 1, 0)

    def test_it_comes_nearer(self):
        cues = self.pair((0, 0, 6), (0, 0, 3))
        assert (cues["distance"], cues["size"], cues["outline"]) == ("closer", "larger", "larger")
        assert (cues["own_motion"], cues["image_shift"], cues["camera_shift"]) == ([0, 0, -1], "none", "still")

    def test_it_crosses_the_image(self):
        cues = self.pair((-1.5, 0, 4), (1.5, 0, 4))
        assert (cues["start_place"], cues["end_place"], cues["image_shift"]) == ("left", "right", "right")
        assert (cues["size"], cues["edge"], cues["gap"]) == ("same", "none", "none")

    def test_only_the_camera_moves(self):
        cues = self.pair((0, 0, 4), (0, 0, 4), poses=shifted((0, 0, 0), (1, 0, 0)), is_moving=False)
        assert (cues["image_shift"], cues["own_motion"], cues["moving"]) == ("left", [0, 0, 0], False)
        assert (cues["camera_shift"], cues["parallax"]) == ("right", "clear")

    def test_a_small_motion_is_one(self):
        cues = self.pair((0, 0, 10), (0.15, 0, 10))
        assert (cues["own_motion"], cues["moving"]) == ([0, 0, 0], True)

    @pytest.mark.parametrize(("end", "edge"), [((2.2, 0, 4), "leaves"), ((0.5, 0, 4), "none")])
    def test_it_leaves_and_enters(self, end, edge):
        assert self.pair((0, 0, 4), end)["edge"] == edge
        assert self.pair(end, (0, 0, 4))["edge"] == edge.replace("leaves", "enters")

    def test_out_of_sight_within_the_image_it_is_covered(self):
        assert self.pair((0, 0, 4), None, None, (1, 0, 4))["gap"] == "covered"

    def test_out_of_sight_beyond_the_image_it_is_away(self):
        aside = shifted((0, 0, 0), (9, 0, 0), (9, 0, 0), (0, 0, 0))
        assert self.pair((0, 0, 4), None, None, (0, 0, 4), poses=aside)["gap"] == "away"

    def test_behind_the_camera_it_is_outside(self):
        cues = self.pair((0, 0, 4), (0, 0, 4), poses=shifted((0, 0, 0), (0, 0, 8)), is_moving=False)
        assert (cues["end_place"], cues["end_level"]) == ("outside", "outside")

    def test_an_unseen_end_is_refused(self):
        with pytest.raises(ValueError, match="not seen at both"):
            self.pair((0, 0, 4), None)


class TestCamera:
    def test_near_things_shift_more_than_far_ones(self):
        for depth, strength in ((4, "clear"), (25, "slight"), (400, "none")):
            clip = one_object([(0, 0, depth)] * 2, shifted((0, 0, 0), (0.5, 0, 0)))
            assert ClipCues(clip).pair(0, 1)["parallax"] == strength

    def test_approach(self):
        clip = one_object([(0, 0, 10)] * 2, shifted((0, 0, 0), (0, 0, 0.5)))
        assert ClipCues(clip).pair(0, 1)["parallax"] == "slight"

    def test_without_objects_nothing_is_known_of_near_and_far(self):
        clip = replace(one_object([(0, 0, 10)] * 2, shifted((0, 0, 0), (0, 0, 1))), objects=[])
        assert ClipCues(clip).pair(0, 1)["parallax"] is None

    def test_a_lesser_motion_is_told_apart(self):
        clip = one_object([(0, 0, 10)] * 2, shifted((0, 0, 0), (0.1, -0.5, 1)))
        cues = ClipCues(clip).pair(0, 1)
        assert (cues["camera_shift"], cues["camera_drift"]) == ("forward", "up")

    @pytest.mark.parametrize(
        ("axis", "turn"),
        [((0, 1, 0), "right"), ((0, -1, 0), "left"), ((1, 0, 0), "up"), ((-1, 0, 0), "down"), ((0, 0, 1), "none")],
    )
    def test_turns(self, axis, turn):
        poses = shifted((0, 0, 0), (0, 0, 0))
        poses[1, :3, :3] = rotation_about(axis, 0.3)
        assert ClipCues(one_object([(0, 0, 10)] * 2, poses)).pair(0, 1)["camera_turn"] == turn


def test_many_pairs_at_once_are_the_pairs_one_by_one():
    clip = make_clip(1, num_frames=8)
    clip.objects[2].points[3] = np.zeros((0, 3), np.float32)
    cues, sights = ClipCues(clip), sights_of(clip, range(8))
    asked = [
        (start, end, index)
        for start in range(8)
        for end in range(8)
        for index in (-1, 0, 1, 2)
        if index < 2 or 3 not in (start, end)
    ]
    start, end, index = np.array(asked).T
    texts = cue_texts(find_codes(sights, np.zeros(len(asked), int), start, end, index)).to_pylist()
    assert texts == [
        json.dumps(cues.pair(i, j, None if number < 0 else number), sort_keys=True) for i, j, number in asked
    ]


def test_clips_joined_keep_their_cues():
    clips = [make_clip(seed, num_frames=6, num_objects=number) for seed, number in ((1, 2), (2, 0), (3, 3))]
    joined = Sights.join([sights_of(clip, range(6)) for clip in clips])
    codes = find_codes(joined, np.array([2, 0, 1]), np.array([0, 1, 2]), np.array([5, 4, 3]), np.array([4, 1, -1]))
    texts = [json.loads(text) for text in cue_texts(codes).to_pylist()]
    assert texts == [
        ClipCues(clips[2]).pair(0, 5, 2),
        ClipCues(clips[0]).pair(1, 4, 1),
        ClipCues(clips[1]).pair(2, 3),
    ]


def test_ten_thousand_pairs_take_less_than_a_second():
    """Question making has 50 microseconds a row in all."""
    clip = make_clip(1, num_frames=32)
    start, end = np.random.default_rng(0).integers(0, 32, (2, 10_000))
    sights = sights_of(clip, range(32))
    began = time.process_time()
    codes = find_codes(sights, np.zeros(len(start), int), start, end, np.arange(len(start)) % 3)
    assert len(cue_texts(codes)) == 10_000
    assert time.process_time() - began < 1  # 0.03 on a quiet machine

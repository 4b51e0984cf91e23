"""The seven solvers against slow references written for clarity, and what must not change their answers."""

import numpy as np
import pytest
from clip_samples import make_clip, rotation_about
from hypothesis import given, settings
from hypothesis import strategies as st

from mllm4d_verl.data_tools.questions import Thresholds, solvers
from mllm4d_verl.data_tools.questions.applicability import CAMERA_TASKS, DISTANCE_TASKS, solve
from mllm4d_verl.data_tools.schema import TASKS, Clip4D, ObjectTrack

LIMITS = Thresholds()


def _reference(task, clip, i, j, track):
    """The formulas of the design with loops and world-to-camera matrices."""

    def center(k):
        return [clip.cam_to_world[k][row][3] for row in range(3)]

    def distance(a, b):
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5

    def mean(points):
        return [sum(float(p[axis]) for p in points) / len(points) for axis in range(3)]

    def in_start_camera(point):
        return (np.linalg.inv(clip.cam_to_world[i]) @ np.array([*point, 1.0]))[:3]

    def nearest(points, camera):
        return min(distance([float(x) for x in p], camera) for p in points)

    if task == "camera_absolute_distance":
        return distance(center(i), center(j))
    if task == "camera_relative_direction":
        moved = in_start_camera(center(j)) - in_start_camera(center(i))
        axis = max(range(3), key=lambda a: abs(moved[a]))
        return (("left", "right"), ("up", "down"), ("backward", "forward"))[axis][int(moved[axis] > 0)]
    if task == "object_absolute_distance":
        return distance(mean(track.points[i]), mean(track.points[j]))
    if task == "object_camera_absolute_distance":
        return nearest(track.points[j], center(i))
    if task == "object_camera_relative_distance":
        return nearest(track.points[j], center(j)) - nearest(track.points[i], center(i))
    moved = mean([in_start_camera(p) for p in track.points[j]])[0 if "lateral" in task else 2]
    start = mean([in_start_camera(p) for p in track.points[i]])[0 if "lateral" in task else 2]
    return moved - start


@pytest.mark.parametrize("task", TASKS)
def test_agrees_with_the_reference(task):
    asked = 0
    for seed in range(40):
        clip = make_clip(seed, num_frames=8)
        for track in [None] if task in CAMERA_TASKS else clip.objects:
            solution = solve(task, clip, 1, 6, track, LIMITS)
            if isinstance(solution, str):
                continue
            asked += 1
            expected = _reference(task, clip, 1, 6, track)
            if task == "camera_relative_direction":
                assert solution.label == expected
            else:
                assert solution.measure == pytest.approx(expected, abs=1e-5)
    assert asked >= 8


def _moved(clip, rotation, shift, scale=1.0):
    """The same scene in another world frame."""
    poses = clip.cam_to_world.copy()
    poses[:, :3, :3] = rotation @ poses[:, :3, :3]
    poses[:, :3, 3] = scale * poses[:, :3, 3] @ rotation.T + shift
    objects = [
        ObjectTrack(
            t.id,
            t.category,
            t.description,
            t.is_moving,
            [scale * p.astype(np.float64) @ rotation.T + shift for p in t.points],
        )
        for t in clip.objects
    ]
    return Clip4D(**{**vars(clip), "cam_to_world": poses, "objects": objects})


def _mirrored(clip):
    """The scene as seen in a mirror: x changes sign, in the world and in the camera's own axes."""
    flip = np.diag([-1.0, 1, 1])
    poses = clip.cam_to_world.copy()
    poses[:, :3, :3] = flip @ poses[:, :3, :3] @ flip
    poses[:, :3, 3] = poses[:, :3, 3] @ flip
    objects = [
        ObjectTrack(t.id, t.category, t.description, t.is_moving, [p.astype(np.float64) @ flip for p in t.points])
        for t in clip.objects
    ]
    return Clip4D(**{**vars(clip), "cam_to_world": poses, "objects": objects})


def _measures(clip, i, j):
    """Everything the solvers say about a clip, independent of thresholds."""
    numbers = [solvers.camera_absolute_distance(clip, i, j), *solvers.camera_displacement(clip, i, j)]
    for track in clip.objects:
        numbers += [
            solvers.object_absolute_distance(track, i, j),
            solvers.object_camera_absolute_distance(clip, track, i, j),
            solvers.object_camera_relative_distance(clip, track, i, j),
            *solvers.object_displacement(clip, track, i, j),
        ]
    return np.array(numbers)


_vectors = st.tuples(*[st.floats(-5, 5)] * 3).map(np.array)
_axes = _vectors.filter(lambda v: np.linalg.norm(v) > 0.1)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 500), axis=_axes, angle=st.floats(-3, 3), shift=_vectors)
def test_the_choice_of_world_frame_changes_nothing(seed, axis, angle, shift):
    clip = make_clip(seed, num_frames=6)
    other = _moved(clip, rotation_about(axis, angle), shift)
    np.testing.assert_allclose(_measures(other, 1, 4), _measures(clip, 1, 4), atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 500), scale=st.floats(0.1, 10))
def test_scale_scales_every_measure(seed, scale):
    clip = make_clip(seed, num_frames=6)
    other = _moved(clip, np.eye(3), np.zeros(3), scale)
    np.testing.assert_allclose(_measures(other, 0, 5), scale * _measures(clip, 0, 5), atol=1e-5 * max(1, scale))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 500))
def test_a_mirror_swaps_left_and_right_and_nothing_else(seed):
    swap = {"left": "right", "right": "left"}
    clip = make_clip(seed, num_frames=6)
    mirror = _mirrored(clip)
    for task in TASKS:
        pairs = [(None, None)] if task in CAMERA_TASKS else zip(clip.objects, mirror.objects, strict=True)
        for track, reflected in pairs:
            ours, theirs = solve(task, clip, 0, 5, track, LIMITS), solve(task, mirror, 0, 5, reflected, LIMITS)
            if isinstance(ours, str):
                assert theirs == ours
            else:
                assert theirs.label == swap.get(ours.label, ours.label)
                assert abs(theirs.measure) == pytest.approx(abs(ours.measure), abs=1e-5)


def test_direction_is_that_of_the_start_camera_not_of_the_world():
    clip = make_clip(num_frames=2, num_objects=0)
    clip.cam_to_world[0, :3, :3] = rotation_about([0, 1, 0], np.pi / 2)  # looks along world +X
    clip.cam_to_world[1, :3, 3] = [1.0, 0, 0]
    assert solve("camera_relative_direction", clip, 0, 1, None, LIMITS).label == "forward"
    # the published mixture, R_i (c_j - c_i) with R_i camera-to-world, would say "backward"
    wrong = clip.cam_to_world[0, :3, :3] @ [1.0, 0, 0]
    assert solvers.direction_label(wrong) == "backward"


@pytest.mark.parametrize(
    ("velocity", "label"),
    [
        ([-1, 0, 0], "left"),
        ([1, 0, 0], "right"),
        ([0, -1, 0], "up"),
        ([0, 1, 0], "down"),
        ([0, 0, 1], "forward"),
        ([0, 0, -1], "backward"),
    ],
)
def test_six_directions_by_hand(velocity, label):
    assert solvers.direction_label(np.array(velocity, float)) == label


class TestNotAsked:
    """Each rule that keeps a question from being asked, by the reason it gives."""

    def _clip(self):
        clip = make_clip(num_frames=2, num_objects=2)
        clip.cam_to_world[:] = np.eye(4)
        for track in clip.objects:
            track.is_moving = True
            track.points[1] = track.points[0].copy()
        return clip

    def test_camera_that_hardly_moves(self):
        clip = self._clip()
        clip.cam_to_world[1, 0, 3] = 0.05
        assert solve("camera_relative_direction", clip, 0, 1, None, LIMITS) == "camera motion too small"

    def test_camera_motion_within_the_measured_noise(self):
        clip = self._clip()
        clip.cam_to_world[1, 0, 3] = 0.5
        assert not isinstance(solve("camera_absolute_distance", clip, 0, 1, None, LIMITS), str)
        clip.quality["camera_noise_m"] = 0.2
        assert solve("camera_absolute_distance", clip, 0, 1, None, LIMITS) == "camera motion too small"

    def test_camera_noise_that_could_carry_a_distance_to_the_next_option(self):
        clip = self._clip()
        clip.cam_to_world[1, 0, 3] = 0.5
        clip.quality["camera_noise_m"] = 0.04
        assert solve("camera_absolute_distance", clip, 0, 1, None, LIMITS) == "clip too noisy to tell the distance"
        assert solve("camera_relative_direction", clip, 0, 1, None, LIMITS).label == "right"
        clip.quality["camera_noise_m"] = 0.03
        assert not isinstance(solve("camera_absolute_distance", clip, 0, 1, None, LIMITS), str)

    def test_the_noise_of_the_object_itself_counts_before_that_of_all(self):
        clip = self._clip()
        noisy, calm = clip.objects
        for track in clip.objects:
            track.points[1] = track.points[0] + np.array([0.5, 0, 0], np.float32)
        clip.quality |= {"object_noise_m": 0.01, "object_noises_m": {str(noisy.id): 0.04}}
        task = "object_absolute_distance"
        assert solve(task, clip, 0, 1, noisy, LIMITS) == "object too noisy to tell the distance"
        assert solve(task, clip, 0, 1, calm, LIMITS).measure == pytest.approx(0.5, abs=1e-5)
        clip.quality["object_noises_m"][str(noisy.id)] = 0.2
        assert solve(task, clip, 0, 1, noisy, LIMITS) == "object motion too small"

    def test_diagonal_camera_motion(self):
        clip = self._clip()
        clip.cam_to_world[1, :3, 3] = [1.0, 0, 0.9]
        assert "dominant axis" in solve("camera_relative_direction", clip, 0, 1, None, LIMITS)
        assert not isinstance(solve("camera_absolute_distance", clip, 0, 1, None, LIMITS), str)

    def test_object_unseen_at_one_end(self):
        clip = self._clip()
        clip.objects[0].points[1] = np.zeros((0, 3), np.float32)
        for task in TASKS[2:]:
            assert solve(task, clip, 0, 1, clip.objects[0], LIMITS) == "object has too few points"

    def test_two_objects_of_one_description(self):
        clip = self._clip()
        clip.objects[1].description = "The red ball "
        for task in TASKS[2:]:
            assert solve(task, clip, 0, 1, clip.objects[0], LIMITS) == "object description not unique"

    def test_change_near_the_threshold(self):
        clip = self._clip()
        track = clip.objects[0]
        track.points[1] = track.points[0] + np.array([LIMITS.tau_m, 0, 0], np.float32)
        task = "object_camera_relative_direction_lateral"
        assert solve(task, clip, 0, 1, track, LIMITS) == "change too close to the threshold"
        track.points[1] = track.points[0] + np.array([0.01, 0, 0], np.float32)
        assert solve(task, clip, 0, 1, track, LIMITS).label == "not moving"
        track.points[1] = track.points[0] + np.array([0.5, 0, 0], np.float32)
        assert solve(task, clip, 0, 1, track, LIMITS).label == "right"

    def test_still_object_whose_visible_side_changes(self):
        clip = self._clip()
        track = clip.objects[0]
        track.is_moving = False
        track.points[1] = track.points[0] + np.array([0.3, 0, 0], np.float32)
        assert "visible side" in solve("object_camera_relative_direction_lateral", clip, 0, 1, track, LIMITS)
        assert solve("object_absolute_distance", clip, 0, 1, track, LIMITS) == "object motion too small"


def test_states_that_a_question_does_not_need_are_null():
    needed = {
        "camera_absolute_distance": ((1, 1), (0, 0)),
        "camera_relative_direction": ((1, 1), (0, 0)),
        "object_absolute_distance": ((0, 0), (1, 1)),
        "object_camera_absolute_distance": ((1, 0), (0, 1)),
        "object_camera_relative_distance": ((1, 1), (1, 1)),
        "object_camera_relative_direction_lateral": ((1, 0), (1, 1)),
        "object_camera_relative_direction_longitudinal": ((1, 0), (1, 1)),
    }
    seen = set()
    for seed in range(30):
        clip = make_clip(seed)
        for task in TASKS:
            track = None if task in CAMERA_TASKS else clip.objects[0]
            solution = solve(task, clip, 0, 15, track, LIMITS)
            if not isinstance(solution, str):
                seen.add(task)
                states = [s or [None, None] for s in (solution.camera_center, solution.object_center)]
                assert tuple(tuple(int(c is not None) for c in s) for s in states) == needed[task]
                assert (solution.label is None) == (task in DISTANCE_TASKS)
    assert seen == set(TASKS)

"""The solvers against slow references written for clarity, and why questions are not asked."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from clip_samples import make_clip, make_wild_clip, rotation_about
from solver_references import ALL_TASKS, Tally, compare

from mllm4d_verl.data_tools.questions import Thresholds
from mllm4d_verl.data_tools.questions.applicability import CAMERA_TASKS, DISTANCE_TASKS, solve
from mllm4d_verl.data_tools.questions.solvers import DIRECTIONS, direction_codes
from mllm4d_verl.data_tools.schema import TASKS

LIMITS = Thresholds()


@pytest.mark.parametrize("make", [make_clip, make_wild_clip])
def test_every_task_agrees_with_the_references(make):
    """A few clips of what benchmarks/questions_proof.py does with ten thousand."""
    tallies = defaultdict(Tally)
    limits = replace(LIMITS, min_motion_m=0.02, axis_margin=1.01, dead_zone=0.01)
    for seed in range(30):
        for task, tally in compare(make(seed, num_frames=6), range(6), [(0, 5), (1, 4)], limits).items():
            tallies[task].add(tally)
    for task in ALL_TASKS:
        assert tallies[task].asked
        assert tallies[task].worst < 1e-6, task
        assert not tallies[task].wrong_words, task


def test_direction_is_that_of_the_start_camera_not_of_the_world():
    clip = make_clip(num_frames=2, num_objects=0)
    clip.cam_to_world[0, :3, :3] = rotation_about([0, 1, 0], np.pi / 2)  # looks along world +X
    clip.cam_to_world[1, :3, 3] = [1.0, 0, 0]
    assert solve("camera_relative_direction", clip, 0, 1, None, LIMITS).label == "forward"
    # the published mixture, R_i (c_j - c_i) with R_i camera-to-world, would say "backward"
    wrong = clip.cam_to_world[0, :3, :3] @ [1.0, 0, 0]
    assert DIRECTIONS[direction_codes(wrong)] == "backward"


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
    assert DIRECTIONS[direction_codes(np.array(velocity, float))] == label


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

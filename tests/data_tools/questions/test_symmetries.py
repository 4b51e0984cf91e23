"""What must not change an answer of any task, and what must change it in a known way."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from clip_samples import make_clip, make_wild_clip, rotation_about
from hypothesis import given, settings
from hypothesis import strategies as st
from solver_references import ALL_TASKS, every_question

from mllm4d_verl.data_tools.questions import Thresholds
from mllm4d_verl.data_tools.questions.geometry import ClipGeometry
from mllm4d_verl.data_tools.questions.tasks import solve_all, task_of
from mllm4d_verl.data_tools.schema import ObjectTrack

FRAMES = 6
PAIRS = ((0, 5), (1, 4), (0, 3))
LIMITS = Thresholds(min_motion_m=0.03, tau_m=0.05, dead_zone=0.1, axis_margin=1.1)
#: Without a threshold that grows with the distance at the start, which is another when time runs backwards.
ABSOLUTE = replace(LIMITS, tau_relative=0.0)
_TURNS = ("camera_rotation_yaw", "camera_rotation_pitch")
_METRIC = [task for task in ALL_TASKS if task not in (*_TURNS, "time_of_closest_approach", "moving_object_count")]
_LEFT_RIGHT = {"left": "right", "right": "left"}
_OPPOSITE = {
    **_LEFT_RIGHT,
    "up": "down",
    "down": "up",
    "forward": "backward",
    "backward": "forward",
    "closer": "farther",
    "farther": "closer",
    "closer together": "farther apart",
    "farther apart": "closer together",
}

_seeds = st.integers(0, 10_000)
_vectors = st.tuples(*[st.floats(-5, 5)] * 3).map(np.array)
_axes = _vectors.filter(lambda v: np.linalg.norm(v) > 0.1)
_few = settings(max_examples=12, deadline=None)


def _clip(seed, **arguments):
    """Mild and wild clips in turn; points in double precision, so that a turned clip is the same clip."""
    clip = make_wild_clip(seed, FRAMES) if seed % 2 and not arguments else make_clip(seed, FRAMES, **arguments)
    return _mapped(clip, lambda points: points)


def _mapped(clip, move, poses=None, order=slice(None)):
    """The clip with every point moved, other poses, and frames in another order."""
    tracks = [
        ObjectTrack(t.id, t.category, t.description, t.is_moving, [move(p.astype(float)) for p in t.points[order]])
        for t in clip.objects
    ]
    return replace(clip, cam_to_world=(clip.cam_to_world if poses is None else poses)[order].copy(), objects=tracks)


def _backwards(clip):
    return _mapped(clip, lambda points: points, order=slice(None, None, -1))


def _view(clip):
    return ClipGeometry(clip, range(clip.num_frames))


def _answers(task, view, limits=LIMITS, pairs=PAIRS):
    """(measures, words, reasons) of all questions of a task; measures of refused ones are left at 0."""
    asked = every_question(task, view.clip, pairs)
    solved, refused = solve_all(task_of(task), view, asked, limits)
    is_asked = refused.codes == 0
    labels = task_of(task).labels
    words = [labels[k] if labels and ok else None for k, ok in zip(solved.label, is_asked, strict=True)]
    return np.where(is_asked, solved.measure, 0.0), words, [refused.words[code] for code in refused.codes]


def _same(found, expected, atol=1e-9):
    """Answers are equal, in words and reasons exactly."""
    assert found[1:] == expected[1:]
    assert (np.abs(found[0] - expected[0]) <= atol * (1 + np.abs(expected[0]))).all()


def _turned(answers, swap, sign):
    return sign * answers[0], [swap.get(word, word) for word in answers[1]], answers[2]


@_few
@given(seed=_seeds, axis=_axes, angle=st.floats(-3, 3), shift=_vectors)
def test_the_choice_of_world_frame_changes_nothing(seed, axis, angle, shift):
    clip, turn = _clip(seed), rotation_about(axis, angle)
    poses = clip.cam_to_world.copy()
    poses[:, :3, :3] = turn @ poses[:, :3, :3]
    poses[:, :3, 3] = poses[:, :3, 3] @ turn.T + shift
    here, there = _view(clip), _view(_mapped(clip, lambda points: points @ turn.T + shift, poses))
    for task in ALL_TASKS:
        _same(_answers(task, there), _answers(task, here))


@_few
@given(seed=_seeds)
def test_a_mirror_swaps_left_and_right_and_nothing_else(seed):
    clip, flip = _clip(seed), np.diag([-1.0, 1, 1])
    poses = clip.cam_to_world.copy()
    poses[:, :3, :3] = flip @ poses[:, :3, :3] @ flip  # the camera's own x changes sign too
    poses[:, :3, 3] = poses[:, :3, 3] @ flip
    here, mirror = _view(clip), _view(_mapped(clip, lambda points: points @ flip, poses))
    for task in ALL_TASKS:
        sign = -1 if task.endswith("lateral") else 1
        _same(_answers(task, mirror), _turned(_answers(task, here), _LEFT_RIGHT, sign))


@_few
@given(seed=_seeds, scale=st.floats(0.05, 20))
def test_scale_scales_distances_and_speeds_and_nothing_else(seed, scale):
    clip = _clip(seed)
    clip.quality = {"camera_noise_m": 0.004, "object_noise_m": 0.005}
    poses = clip.cam_to_world.copy()
    poses[:, :3, 3] *= scale
    other = _mapped(clip, lambda points: points * scale, poses)
    other.quality = {name: scale * noise for name, noise in clip.quality.items()}
    lengths = ("min_motion_m", "tau_m", "min_distance_m")
    limits = replace(LIMITS, **{name: scale * getattr(LIMITS, name) for name in lengths})
    here, there = _view(clip), _view(other)
    for task in ALL_TASKS:
        measures, *rest = _answers(task, here)
        _same(_answers(task, there, limits), (measures * (scale if task in _METRIC else 1), *rest))


class TestTimeReversal:
    """Frame k becomes frame T - 1 - k."""

    #: Whatever the direction of time.
    KEPT = (
        "camera_absolute_distance",
        "object_absolute_distance",
        "object_speed",
        "camera_speed",
        "moving_object_count",
    )
    #: Change of sign, and of the word.
    REVERSED = ("object_camera_relative_distance", "object_object_relative_distance")
    #: The same where the camera does not turn: they are measured in the axes of the start camera.
    REVERSED_UNTURNED = (
        "camera_relative_direction",
        "object_camera_relative_direction_lateral",
        "object_camera_relative_direction_longitudinal",
    )
    #: About what is there at one end only, or goes on from there: the end of one is the start of the other.
    ENDS_SWAP = (
        "object_camera_absolute_distance",
        "object_object_distance",
        "nearer_object",
        "occlusion_order",
        "will_they_meet",
        *_TURNS,
    )

    def _both(self, tasks, clip, pairs=PAIRS):
        """Task by task, answers about the clip, and about the reversed one between the same two moments."""
        last = clip.num_frames - 1
        forwards, backwards = _view(clip), _view(_backwards(clip))
        for task in tasks:
            there = _answers(task, forwards, ABSOLUTE, pairs)
            yield there, _answers(task, backwards, ABSOLUTE, [(last - j, last - i) for i, j in pairs])

    def test_every_task_is_spoken_of(self):
        spoken = (*self.KEPT, *self.REVERSED, *self.REVERSED_UNTURNED, *self.ENDS_SWAP, "time_of_closest_approach")
        assert sorted(spoken) == sorted(ALL_TASKS)

    @_few
    @given(seed=_seeds)
    def test_distances_speeds_and_counts_stay_and_changes_turn_round(self, seed):
        clip = _clip(seed)
        for there, back in self._both(self.KEPT, clip):
            _same(back, there)
        for there, back in self._both(self.REVERSED, clip):
            _same(back, _turned(there, _OPPOSITE, -1))

    @_few
    @given(seed=_seeds)
    def test_directions_turn_round_where_the_camera_does_not_turn(self, seed):
        clip = _clip(seed, turn=0.0)
        for task, (there, back) in zip(self.REVERSED_UNTURNED, self._both(self.REVERSED_UNTURNED, clip), strict=True):
            sign = 1 if task.startswith("camera") else -1  # the camera's measure is the size of the component
            _same(back, _turned(there, _OPPOSITE, sign))

    @_few
    @given(seed=_seeds)
    def test_what_is_asked_of_the_end_is_asked_of_the_start(self, seed):
        clip = _clip(seed)
        view, swapped = _view(clip), [(j, i) for i, j in PAIRS]
        for task, (_, back) in zip(self.ENDS_SWAP, self._both(self.ENDS_SWAP, clip), strict=True):
            _same(back, _answers(task, view, ABSOLUTE, swapped))

    @_few
    @given(seed=_seeds)
    def test_the_closest_moment_is_as_long_before_the_end(self, seed):
        clip = _clip(seed)
        ((times, _, reasons), (backwards, _, others)) = next(self._both(["time_of_closest_approach"], clip))
        assert others == reasons
        asked = np.array(reasons) == ""
        duration = np.repeat([(j - i) / clip.fps for i, j in PAIRS], len(clip.objects))
        np.testing.assert_allclose(backwards[asked], (duration - times)[asked], atol=1e-9)

    def test_objects_that_will_meet_came_apart_in_reverse(self):
        clip = make_clip(0, num_frames=2, num_objects=2)
        clip.cam_to_world[:] = np.eye(4)
        for track, side in zip(clip.objects, (-1, 1), strict=True):
            shape = track.points[0] - track.points[0].mean(axis=0)
            track.points = [shape + np.array([side * x, 0, 5]) for x in (4.0, 2.0)]
            track.is_moving = True
        there, back = next(self._both(["will_they_meet"], clip, [(0, 1)]))
        assert (there[1], back[1]) == (["yes"], ["no"])

    @pytest.mark.parametrize(
        ("task", "axis"), [("camera_rotation_yaw", [0, 1, 0]), ("camera_rotation_pitch", [1, 0, 0])]
    )
    def test_a_turn_about_one_axis_is_as_large_in_reverse(self, task, axis):
        clip = make_clip(0, num_frames=2, num_objects=0)
        clip.cam_to_world[:, :3, :3] = [np.eye(3), rotation_about(axis, 0.4)]
        there, back = next(self._both([task], clip, [(0, 1)]))
        _same(back, there)
        assert there[0][0] == pytest.approx(np.degrees(0.4))


def test_every_task_is_asked_of_these_clips():
    """Or the properties above would say nothing about it."""
    asked = Counter()
    for seed in range(30):
        view = _view(_clip(seed))
        asked.update({task: _answers(task, view)[2].count("") for task in ALL_TASKS})
    assert min(asked[task] for task in ALL_TASKS) >= 3

"""The tasks beside the seven: values against plain formulas, rows that keep the contract."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from clip_samples import make_clip

from mllm4d_verl.data_tools.geometry import viewing_turn_degrees
from mllm4d_verl.data_tools.questions import QuestionConfig, Thresholds, build_questions
from mllm4d_verl.data_tools.schema import EXTRA_TASKS, check_row

CLIPS = {f"clip_{seed:05d}": make_clip(seed) for seed in range(40)}
#: Where the plain way searches: metres, seconds.
TOLERANCES = {"will_they_meet": 1e-4, "time_of_closest_approach": 1e-5}


@pytest.fixture(scope="module")
def rows():
    return build_questions(CLIPS.values(), QuestionConfig(num_frames=8, tasks=EXTRA_TASKS, max_per_clip=40))


def _valley(ahead, after):
    """Share of the way from `ahead` to `after` at which it is nearest to the origin, and that distance, by search."""
    low, high = 0.0, 1.0
    for _ in range(50):
        third = (high - low) / 3
        left, right = (math.dist((0, 0, 0), ahead + s * (after - ahead)) for s in (low + third, high - third))
        low, high = (low, high - third) if left < right else (low + third, high)
    return low, math.dist((0, 0, 0), ahead + low * (after - ahead))


def _plain(row):
    """The measure by the formula in the task's first line."""
    clip, (i, j) = CLIPS[row.clip_id], row.meta["clip_frames"]
    one, two = (
        next((t for t in clip.objects if t.id == row.meta.get(k)), None) for k in ("object_id", "other_object_id")
    )
    seconds = (j - i) / clip.fps
    centers = clip.camera_centers

    def middle(track, frame):
        return sum(point.astype(float) for point in track.points[frame]) / len(track.points[frame])

    def near(track):
        return min(np.linalg.norm(point - centers[j]) for point in track.points[j].astype(float))

    def apart(frame):
        return np.linalg.norm(middle(one, frame) - middle(two, frame))

    def closest_time():
        frames = np.round(np.linspace(0, clip.num_frames - 1, 8)).astype(int)
        frames = [f for f in frames if i <= f <= j]
        best = (np.inf, None)
        for a, b in itertools.pairwise(frames):
            ahead, after = middle(one, a) - centers[a], middle(one, b) - centers[b]
            low, least = _valley(ahead, after)
            best = min(best, (least, (a + low * (b - a) - i) / clip.fps))
        return best[1]

    def least_gap():
        before, now = middle(two, i) - middle(one, i), middle(two, j) - middle(one, j)
        return _valley(now, 2 * now - before)[1]

    def moving():
        seen = [t for t in clip.objects if t.is_moving and len(t.points[i]) and len(t.points[j])]
        return sum(np.linalg.norm(middle(t, j) - middle(t, i)) >= Thresholds().min_motion_m for t in seen)

    plain = {
        "time_of_closest_approach": closest_time,
        "will_they_meet": least_gap,
        "moving_object_count": moving,
        "object_object_distance": lambda: apart(j),
        "object_object_relative_distance": lambda: apart(j) - apart(i),
        "object_speed": lambda: np.linalg.norm(middle(one, j) - middle(one, i)) / seconds,
        "camera_speed": lambda: np.linalg.norm(centers[j] - centers[i]) / seconds,
        "nearer_object": lambda: near(one) - near(two),
        "occlusion_order": lambda: near(one) - near(two),
        "camera_rotation_yaw": lambda: abs(viewing_turn_degrees(clip.cam_to_world[i], clip.cam_to_world[j])[0]),
        "camera_rotation_pitch": lambda: abs(viewing_turn_degrees(clip.cam_to_world[i], clip.cam_to_world[j])[1]),
    }
    return plain[row.task]()


def test_values_agree_with_plain_formulas(rows):
    checked = Counter()
    for row in rows:
        check_row(row)
        expected = _plain(row)
        assert row.meta["measure"] == pytest.approx(expected, abs=TOLERANCES.get(row.task, 2e-6)), row.task
        checked[row.task] += 1
        if row.task in ("nearer_object", "occlusion_order"):
            track = next(t for t in CLIPS[row.clip_id].objects if t.description == row.answer_text)
            assert (track.id == row.meta["object_id"]) == (row.meta["measure"] < 0)
        if row.value is not None:
            assert row.unit in row.answer_text or row.unit in row.question
    assert len(checked) == 11


def test_every_task_is_asked_with_balanced_letters(rows):
    assert {row.task for row in rows} == set(EXTRA_TASKS)
    for task in EXTRA_TASKS:
        letters = Counter(row.answer for row in rows if row.task == task and row.split == "train")
        assert max(letters.values()) - min(letters.values()) <= 1

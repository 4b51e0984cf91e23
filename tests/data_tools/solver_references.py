"""Every question's answer by loops over plain numbers, written for clarity: what the solvers must agree with.

Nothing of the solvers is used here. Frames are places among the sampled ones, objects places in `clip.objects`.
"""

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from mllm4d_verl.data_tools.questions.geometry import ClipGeometry
from mllm4d_verl.data_tools.questions.tasks import Asked, solve_all, task_of
from mllm4d_verl.data_tools.schema import EXTRA_TASKS, TASKS

ALL_TASKS = (*TASKS, *EXTRA_TASKS)
_HALVINGS = 60  # of the time between two frames: more than a float can tell apart


class Scene:
    """A clip at the sampled frames, as lists of numbers."""

    def __init__(self, clip, frames):
        self.seconds = [frame / clip.fps for frame in frames]
        poses = [clip.cam_to_world[frame].tolist() for frame in frames]
        self.cameras = [[row[3] for row in pose[:3]] for pose in poses]
        self.axes = [[[row[axis] for row in pose[:3]] for axis in range(3)] for pose in poses]  # x, y, z in the world
        self.objects = [[track.points[f].astype(float).tolist() for f in frames] for track in clip.objects]
        self.middles = [[_middle(points) for points in frames_of] for frames_of in self.objects]
        self.moving = [track.is_moving for track in clip.objects]
        self.intrinsics = clip.intrinsics.tolist()

    def in_camera(self, frame, direction):
        """A world direction in the axes of the camera."""
        return [_dot(axis, direction) for axis in self.axes[frame]]

    def nearest(self, number, object_frame, camera_frame):
        """From the camera to the nearest point of the object."""
        return min(math.dist(point, self.cameras[camera_frame]) for point in self.objects[number][object_frame])

    def moved(self, number, i, j):
        return math.dist(self.middles[number][i], self.middles[number][j])

    def apart(self, one, two, frame):
        return math.dist(self.middles[one][frame], self.middles[two][frame])

    def radius(self, number, frame):
        """Root mean square distance of the points from their middle."""
        points, middle = self.objects[number][frame], self.middles[number][frame]
        return math.sqrt(sum(math.dist(point, middle) ** 2 for point in points) / len(points))

    def box(self, number, frame):
        """left, top, right, bottom of the projected points, pixels."""
        pixels = []
        for point in self.objects[number][frame]:
            x, y, z = self.in_camera(frame, _minus(point, self.cameras[frame]))
            (fx, skew, cx), (_, fy, cy), _ = self.intrinsics
            pixels.append(((fx * x + skew * y) / z + cx, fy * y / z + cy))
        across, down = zip(*pixels, strict=True)
        return min(across), min(down), max(across), max(down)


def _middle(points):
    return [sum(point[axis] for point in points) / len(points) for axis in range(3)] if points else None


def _dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def _minus(a, b):
    return [x - y for x, y in zip(a, b, strict=True)]


def _between(a, b, share):
    return [x + share * (y - x) for x, y in zip(a, b, strict=True)]


def _nearest_share(a, b):
    """Share of the straight way from `a` to `b` at which it is nearest to the origin, by halving the way."""
    step, low, high = _minus(b, a), 0.0, 1.0
    for _ in range(_HALVINGS):
        half = (low + high) / 2
        comes_nearer = _dot(_between(a, b, half), step) < 0
        low, high = (half, high) if comes_nearer else (low, half)
    return (low + high) / 2


def _time_of_closest_approach(scene, i, j, one):
    def squared(frame):
        return sum(x * x for x in _minus(scene.middles[one][frame], scene.cameras[frame]))

    nearest = min(range(i, j + 1), key=squared)
    frames = (nearest - 1, nearest, nearest + 1)
    # The parabola by Cramer's rule, its origin at the nearest frame.
    (a, u), (_, v), (b, w) = ((scene.seconds[f] - scene.seconds[nearest], squared(f)) for f in frames)
    determinant = a * a * b - a * b * b
    bend = ((u - v) * b - (w - v) * a) / determinant
    slope = (a * a * (w - v) - b * b * (u - v)) / determinant
    return scene.seconds[nearest] - slope / (2 * bend) - scene.seconds[i]


def _least_gap(scene, i, j, one, two):
    """Least distance of the middles if both go on in a straight line for the same time again."""
    before, now = (_minus(scene.middles[two][f], scene.middles[one][f]) for f in (i, j))
    later = _between(before, now, 2)
    return math.hypot(*_between(now, later, _nearest_share(now, later)))


def _motion(scene, i, j, number, axis):
    """Mean of the points' own coordinate in camera i, at j less at i."""
    at = [
        [scene.in_camera(i, _minus(point, scene.cameras[i]))[axis] for point in scene.objects[number][f]]
        for f in (i, j)
    ]
    return sum(at[1]) / len(at[1]) - sum(at[0]) / len(at[0])


def _camera_motion(scene, i, j):
    return scene.in_camera(i, _minus(scene.cameras[j], scene.cameras[i]))


def _turns(scene, i, j):
    """Yaw and pitch of the end's viewing axis in the start camera, degrees."""
    x, y, z = scene.in_camera(i, scene.axes[j][2])
    return math.degrees(math.atan2(x, z)), math.degrees(math.atan2(-y, math.hypot(x, z)))


def _seen(scene, i, j, limits):
    """Objects with enough points at both frames."""
    return [n for n, own in enumerate(scene.objects) if min(len(own[i]), len(own[j])) >= limits.min_points]


def measure(task, scene, i, j, one, two, limits):
    """The quantity behind a question, in the task's unit, or metres where the answer is a word."""
    seconds = scene.seconds[j] - scene.seconds[i]
    camera_moved = math.dist(scene.cameras[i], scene.cameras[j])
    formulas = {
        "camera_absolute_distance": lambda: camera_moved,
        "camera_relative_direction": lambda: max(abs(part) for part in _camera_motion(scene, i, j)),
        "object_absolute_distance": lambda: scene.moved(one, i, j),
        "object_camera_absolute_distance": lambda: scene.nearest(one, j, i),
        "object_camera_relative_distance": lambda: scene.nearest(one, j, j) - scene.nearest(one, i, i),
        "object_camera_relative_direction_lateral": lambda: _motion(scene, i, j, one, 0),
        "object_camera_relative_direction_longitudinal": lambda: _motion(scene, i, j, one, 2),
        "object_object_distance": lambda: scene.apart(one, two, j),
        "object_object_relative_distance": lambda: scene.apart(one, two, j) - scene.apart(one, two, i),
        "object_speed": lambda: scene.moved(one, i, j) / seconds,
        "camera_speed": lambda: camera_moved / seconds,
        "time_of_closest_approach": lambda: _time_of_closest_approach(scene, i, j, one),
        "nearer_object": lambda: scene.nearest(one, j, j) - scene.nearest(two, j, j),
        "occlusion_order": lambda: scene.nearest(one, j, j) - scene.nearest(two, j, j),
        "camera_rotation_yaw": lambda: abs(_turns(scene, i, j)[0]),
        "camera_rotation_pitch": lambda: abs(_turns(scene, i, j)[1]),
        "will_they_meet": lambda: _least_gap(scene, i, j, one, two),
        "moving_object_count": lambda: sum(
            scene.moving[n] and scene.moved(n, i, j) >= limits.min_motion_m for n in _seen(scene, i, j, limits)
        ),
    }
    return formulas[task]()


def word(task, scene, i, j, one, two, limits):
    """The answer of a question whose options are words; None for numbers."""
    value = measure(task, scene, i, j, one, two, limits)
    if task == "camera_relative_direction":
        moved = _camera_motion(scene, i, j)
        axis = max(range(3), key=lambda a: abs(moved[a]))
        return (("left", "right"), ("up", "down"), ("backward", "forward"))[axis][int(moved[axis] > 0)]
    if task in ("nearer_object", "occlusion_order"):
        return "first" if value < 0 else "second"
    if task == "will_they_meet":
        return "yes" if value <= scene.radius(one, j) + scene.radius(two, j) else "no"
    if task == "moving_object_count":
        return ("0", "1", "2", "3 or more")[min(3, value)]
    words = {
        "object_camera_relative_distance": ("closer", "farther", "not moving"),
        "object_camera_relative_direction_lateral": ("left", "right", "not moving"),
        "object_camera_relative_direction_longitudinal": ("closer", "farther", "not moving"),
        "object_object_relative_distance": ("closer together", "farther apart", "unchanged"),
    }.get(task)
    if words is None:
        return None
    threshold = max(limits.tau_m, limits.tau_relative * scene.nearest(one, i, i))
    if abs(value) <= threshold:
        return words[2]
    return words[0] if value < 0 else words[1]


def overlap(scene, frame, one, two):
    """Share of the smaller of two objects' image boxes that the other covers."""
    a, b = scene.box(one, frame), scene.box(two, frame)
    width, height = (min(a[k + 2], b[k + 2]) - max(a[k], b[k]) for k in (0, 1))
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return max(0.0, width) * max(0.0, height) / smaller


@dataclass
class Tally:
    """What a comparison found about one task.

    Attributes:
        asked, refused: questions.
        worst: largest difference of a measure from the reference's, in its unit.
        wrong_words: questions whose answer is another word than the reference's.
    """

    asked: int = 0
    refused: int = 0
    worst: float = 0.0
    wrong_words: int = 0

    def add(self, other):
        self.asked += other.asked
        self.refused += other.refused
        self.worst = max(self.worst, other.worst)
        self.wrong_words += other.wrong_words


def every_subject(task, clip):
    """(first, second) objects that a task can be asked about, -1 for none."""
    number = len(clip.objects)
    return {
        "camera": [(-1, -1)],
        "object": [(m, -1) for m in range(number)],
        "pair": [(m, n) for m in range(number) for n in range(m + 1, number)],
    }[task_of(task).about]


def every_question(task, clip, pairs):
    """All questions of a task about a clip between pairs of frames."""
    rows = [(i, j, *who) for i, j in pairs for who in every_subject(task, clip)]
    return Asked(*np.array(rows, np.int64).reshape(-1, 4).T)


def compare(clip, frames, pairs, limits, tasks=ALL_TASKS):
    """Task -> Tally of the solvers' answers to all questions against the references."""
    geometry, scene = ClipGeometry(clip, frames), Scene(clip, frames)
    tallies = defaultdict(Tally)
    for task in tasks:
        asked = every_question(task, clip, pairs)
        if not len(asked.start):
            continue
        labels, tally = task_of(task).labels, tallies[task]
        solved, refused = solve_all(task_of(task), geometry, asked, limits)
        for k, question in enumerate(zip(*(part.tolist() for part in asked), strict=True)):
            if refused.codes[k]:
                tally.refused += 1
                continue
            tally.asked += 1
            deviation = abs(solved.measure[k] - measure(task, scene, *question, limits))
            tally.worst = max(tally.worst, float(deviation) if math.isfinite(deviation) else math.inf)
            tally.wrong_words += bool(labels) and labels[solved.label[k]] != word(task, scene, *question, limits)
            if task == "occlusion_order" and overlap(scene, question[1], *question[2:]) < 0.1 - 1e-9:
                tally.wrong_words += 1
    return tallies

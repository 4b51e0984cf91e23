"""Does the stated geometry entail the chosen option? A reward component that asks the solver which made the question.

It stands here and not in `reward/` because the solvers belong to the data tools, which the reward knows nothing of; the
reward finds it as it finds a component of any other package, by the entry-point group `mllm4d_verl.reward`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mllm4d_verl.data_tools.questions.config import Thresholds
from mllm4d_verl.data_tools.questions.geometry import ClipGeometry
from mllm4d_verl.data_tools.questions.tasks import Asked, Refusals, Solved, Task, task_of
from mllm4d_verl.data_tools.questions.tasks.base import changes
from mllm4d_verl.data_tools.schema import Clip4D, ObjectTrack
from mllm4d_verl.reward import Response, Truth, Vector, chosen_option, reward_component
from mllm4d_verl.reward.accuracy import stated_number
from mllm4d_verl.reward.response import Point

# Slots that a task is solved from: (camera at the start, camera at the end), the same of the object.
_NEEDED = {
    "camera_absolute_distance": ((True, True), (False, False)),
    "camera_relative_direction": ((True, True), (False, False)),
    "object_absolute_distance": ((False, False), (True, True)),
    "object_camera_absolute_distance": ((True, False), (False, True)),
    "object_camera_relative_distance": ((True, True), (True, True)),
    "object_camera_relative_direction_lateral": ((False, False), (True, True)),  # the camera at the start cancels out
    "object_camera_relative_direction_longitudinal": ((False, False), (True, True)),
}
_ASKED = Asked(*(np.array([place]) for place in (0, 1, 0, -1)))  # from frame 0 to frame 1, of object 0
_Slots = tuple[Point | None, Point | None]


@reward_component("consistency", weight=0.2)
def consistency_reward(response: Response, truth: Truth) -> float | None:
    """1 if the option that the response chooses is the one its own centres entail, else 0, right or wrong.

    The question's solver (`data_tools/questions/tasks/`) is run on the stated centres: the object as one point, the
    start camera's rotation and the threshold tau from the truth. Where the true measure is known, what the solver makes
    of the true centres is corrected to it, so that distances to an object's nearest point are not taken to its middle.

    Does not apply where the true centres, solved like this, do not entail the right option (imported rows without
    centres, a rotation that is not known), or where the options are not listed. A centre that was not stated, or an
    answer that names no option, earns 0.
    """
    needed = _NEEDED.get(truth.task or "")
    if needed is None or not truth.options or truth.letter is None:
        return None
    true = _take(truth.camera_center, needed[0]), _take(truth.object_center, needed[1])
    if true[0] is None or true[1] is None:
        return None
    task, solved = _solve(truth, true[0], true[1])
    known = truth.fields.get("measure")
    correction = known - float(solved.measure[0]) if isinstance(known, float) else 0.0
    if _entailed(truth, task, solved, correction) != truth.letter:
        return None
    stated = _take(_points(response.camera_center), needed[0]), _take(_points(response.object_center), needed[1])
    chosen = chosen_option(response.answer, truth)
    if stated[0] is None or stated[1] is None or chosen is None:
        return 0.0
    return 1.0 if _entailed(truth, *_solve(truth, stated[0], stated[1]), correction) == chosen else 0.0


def _points(slots: tuple[Any, Any]) -> _Slots:
    start, end = slots
    return start.xyz if isinstance(start, Vector) else None, end.xyz if isinstance(end, Vector) else None


def _take(points: _Slots, needed: tuple[bool, bool]) -> tuple[Point, Point] | None:
    """The points, with zeros where none is needed; None if a needed one is missing."""
    if any(is_needed and point is None for point, is_needed in zip(points, needed, strict=True)):
        return None
    start, end = (
        point if is_needed and point is not None else (0.0, 0.0, 0.0)
        for point, is_needed in zip(points, needed, strict=True)
    )
    return start, end


def _entailed(truth: Truth, task: Task, solved: Solved, correction: float) -> str | None:
    """Letter of the option that an answer, its measure corrected, stands for; None if it is not among the options."""
    if truth.task == "camera_relative_direction":
        return _letter_of(task.labels[solved.label[0]], truth)
    measure = float(solved.measure[0]) + correction
    if task.labels:
        tau = truth.fields.get("tau_m")
        tau = tau if isinstance(tau, float) else Thresholds().tau_m
        label = changes(np.array([measure]), np.array([tau]), 0.0, Refusals(1)).label[0]
        return _letter_of(task.labels[label], truth)
    numbers = [stated_number(option) for option in truth.options]
    distances = [np.inf if number is None else abs(number - measure) for number in numbers]
    nearest = int(np.argmin(distances))
    return _letter(nearest) if np.isfinite(distances[nearest]) else None


def _solve(truth: Truth, camera: tuple[Point, Point], object_: tuple[Point, Point]) -> tuple[Task, Solved]:
    """The question's task, and what its solver says of a clip of two frames with these centres."""
    cam_to_world = np.tile(np.eye(4), (2, 1, 1))
    cam_to_world[:, :3, :3] = _rotation(truth.fields.get("start_rotation"))
    cam_to_world[:, :3, 3] = camera
    track = ObjectTrack(0, "object", "the object", True, [np.array([point]) for point in object_])
    clip = Clip4D("stated", "", "", "", 1.0, 2, 1, 1, np.eye(3), 1.0, cam_to_world, [track])
    task = task_of(truth.task or "")
    with np.errstate(all="ignore"):  # a response may state any numbers
        return task, task.solve(ClipGeometry(clip, (0, 1)), _ASKED, Thresholds(), Refusals(1))


def _rotation(value: Any) -> np.ndarray:
    """(3, 3) camera to world; the identity where it is not known, as it is at the first frame of a clip."""
    try:
        rotation = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        return np.eye(3)
    return rotation if rotation.shape == (3, 3) and np.isfinite(rotation).all() else np.eye(3)


def _letter_of(label: str, truth: Truth) -> str | None:
    folded = [option.casefold() for option in truth.options]
    return _letter(folded.index(label)) if label in folded else None


def _letter(index: int) -> str:
    return chr(ord("A") + index)

"""Whether a clip supports a question, and its answer if so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..schema import Clip4D, ObjectTrack, States
from . import solvers
from .config import Thresholds

CAMERA_TASKS = frozenset({"camera_absolute_distance", "camera_relative_direction"})
DISTANCE_TASKS = frozenset({"camera_absolute_distance", "object_absolute_distance", "object_camera_absolute_distance"})
UNIT = "meters"

#: Numeric options lie about this share of the answer apart, see options.py: noise must not carry the answer from one
#: to the next.
_OPTION_STEP = 0.2


@dataclass(frozen=True)
class Solution:
    """What the geometry says.

    Attributes:
        measure: metres; signed change or component where the answer is a label.
        label: the answer's word, None for distance tasks.
        camera_center, object_center: the states that the question needs, None elsewhere.
        tau_m: change that still counts as "not moving", metres; None where no option says so.
    """

    measure: float
    label: str | None
    camera_center: States | None
    object_center: States | None
    tau_m: float | None = None


def solve(task: str, clip: Clip4D, i: int, j: int, track: ObjectTrack | None, limits: Thresholds) -> Solution | str:
    """Answer `task` between clip frames i and j, or say in a few words why it is not asked."""
    if task in CAMERA_TASKS:
        return _solve_camera(task, clip, i, j, limits)
    assert track is not None, f"{task} is about an object"
    if min(len(track.points[i]), len(track.points[j])) < limits.min_points:
        return "object has too few points"
    if _ambiguous(clip, track):
        return "object description not unique"
    if task == "object_absolute_distance":
        return _solve_object_distance(clip, track, i, j, limits)
    if task == "object_camera_absolute_distance":
        return _solve_object_camera_distance(clip, track, i, j, limits)
    return _solve_change(task, clip, track, i, j, limits)


def _solve_camera(task: str, clip: Clip4D, i: int, j: int, limits: Thresholds) -> Solution | str:
    distance = solvers.camera_absolute_distance(clip, i, j)
    if distance < max(limits.min_motion_m, limits.noise_factor * _noise(clip, "camera")):
        return "camera motion too small"
    centers: States = [_vector(clip.camera_centers[i]), _vector(clip.camera_centers[j])]
    if task == "camera_absolute_distance":
        if _noise(clip, "camera") * limits.noise_factor > _OPTION_STEP * distance:
            return "clip too noisy to tell the distance"
        return Solution(distance, None, centers, None)
    displacement = solvers.camera_displacement(clip, i, j)
    if solvers.axis_dominance(displacement) < limits.axis_margin:
        return "camera direction has no dominant axis"
    label = solvers.direction_label(displacement)
    return Solution(float(np.abs(displacement).max()), label, centers, None)


def _solve_object_distance(clip: Clip4D, track: ObjectTrack, i: int, j: int, limits: Thresholds) -> Solution | str:
    distance = solvers.object_absolute_distance(track, i, j)
    if not track.is_moving or distance < max(limits.min_motion_m, limits.noise_factor * _object_noise(clip, track)):
        return "object motion too small"
    if limits.noise_factor * _object_noise(clip, track) > _OPTION_STEP * distance:
        return "object too noisy to tell the distance"
    return Solution(distance, None, None, _object_states(track, i, j))


def _solve_object_camera_distance(
    clip: Clip4D, track: ObjectTrack, i: int, j: int, limits: Thresholds
) -> Solution | str:
    distance = solvers.object_camera_absolute_distance(clip, track, i, j)
    if distance < max(limits.min_distance_m, limits.noise_factor * _object_noise(clip, track)):
        return "object too near the camera"
    # The camera at the end and the object at the start play no part: their slots stay null.
    return Solution(distance, None, [_vector(clip.camera_centers[i]), None], [None, _object_states(track, i, j)[1]])


def _solve_change(task: str, clip: Clip4D, track: ObjectTrack, i: int, j: int, limits: Thresholds) -> Solution | str:
    tau = max(limits.tau_m, limits.tau_relative * solvers.object_camera_distance(clip, track, i, i))
    if limits.noise_factor * max(_object_noise(clip, track), _noise(clip, "camera")) > tau:
        return "clip too noisy to tell motion"
    cameras: States = [_vector(clip.camera_centers[i]), None]
    if task == "object_camera_relative_distance":
        change = solvers.object_camera_relative_distance(clip, track, i, j)
        labels = solvers.DISTANCE_CHANGES
        cameras[1] = _vector(clip.camera_centers[j])
    else:
        displacement = solvers.object_displacement(clip, track, i, j)
        if not track.is_moving and np.abs(displacement).max() > tau * (1 - limits.dead_zone):
            # a still object whose visible side changed: its points moved, it did not
            return "visible side of a still object changes"
        if task.endswith("_lateral"):
            change, labels = float(displacement[0]), solvers.LATERAL_CHANGES
        else:
            change, labels = float(displacement[2]), solvers.DISTANCE_CHANGES
    if tau * (1 - limits.dead_zone) < abs(change) < tau * (1 + limits.dead_zone):
        return "change too close to the threshold"
    return Solution(change, solvers.change_label(change, tau, labels), cameras, _object_states(track, i, j), tau)


def _noise(clip: Clip4D, of: str) -> float:
    return float(clip.quality.get(f"{of}_noise_m", 0.0))


def _object_noise(clip: Clip4D, track: ObjectTrack) -> float:
    """Of the object's own centre, metres, where it was measured; else that of the clip's objects."""
    own = clip.quality.get("object_noises_m", {}).get(str(track.id))
    return _noise(clip, "object") if own is None else float(own)


def _ambiguous(clip: Clip4D, track: ObjectTrack) -> bool:
    name = track.description.strip().lower()
    return not name or sum(other.description.strip().lower() == name for other in clip.objects) > 1


def _object_states(track: ObjectTrack, i: int, j: int) -> States:
    return [_vector(solvers.object_center(track, i)), _vector(solvers.object_center(track, j))]


def _vector(values: np.ndarray) -> list[float]:
    # a micrometre is far below any estimate, and it keeps files readable; + 0.0 turns -0.0 into 0.0
    return [round(float(value), 6) + 0.0 for value in values]

"""Whether a clip supports a question, and its answer if so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..schema import EXTRA_TASKS, Clip4D, ObjectTrack, States
from .config import Thresholds
from .geometry import ClipGeometry
from .tasks import Asked, solve_all, task_of

CAMERA_TASKS = frozenset({"camera_absolute_distance", "camera_relative_direction"})
DISTANCE_TASKS = frozenset({"camera_absolute_distance", "object_absolute_distance", "object_camera_absolute_distance"})
UNIT = "meters"


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


def solve(
    task: str,
    clip: Clip4D,
    i: int,
    j: int,
    track: ObjectTrack | None,
    limits: Thresholds,
    other: ObjectTrack | None = None,
) -> Solution | str:
    """Answer `task` between clip frames i and j, or say in a few words why it is not asked.

    The engine asks about all frame pairs and objects of a clip at once (tasks/base.py); this asks one question.
    """
    kind = task_of(task)
    assert kind.about == "camera" or track is not None, f"{task} is about an object"
    geometry = ClipGeometry(clip, range(clip.num_frames) if task in EXTRA_TASKS else [i, j])
    start, end = (i, j) if task in EXTRA_TASKS else (0, 1)
    places = [-1 if item is None else _place(clip, item) for item in (track, other)]
    asked = Asked(*(np.array([value]) for value in (start, end, *places)))
    solved, refused = solve_all(kind, geometry, asked, limits)
    if refused.codes[0]:
        return refused.words[refused.codes[0]]
    centers: dict[str, States | None] = {"camera": None, "object": None}
    for name, flags in (("camera", kind.camera), ("object", kind.object)):
        if any(flags):
            own = geometry.centers if name == "camera" else geometry.object_centers[places[0]]
            centers[name] = [_vector(own[f]) if needed else None for f, needed in zip((start, end), flags, strict=True)]
    tau = float(solved.tau_m[0])
    return Solution(
        float(solved.measure[0]),
        kind.labels[solved.label[0]] if kind.labels else None,
        centers["camera"],
        centers["object"],
        None if np.isnan(tau) else tau,
    )


def _place(clip: Clip4D, track: ObjectTrack) -> int:
    return next(place for place, item in enumerate(clip.objects) if item is track)


def _vector(values: np.ndarray) -> list[float]:
    # a micrometre is far below any estimate, and it keeps files readable; + 0.0 turns -0.0 into 0.0
    return [round(float(value), 6) + 0.0 for value in values]

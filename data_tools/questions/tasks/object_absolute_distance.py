"""How far an object has moved in the world: |mean P_j - mean P_i|."""

from __future__ import annotations

import numpy as np

from ..config import Thresholds
from ..geometry import ClipGeometry
from .base import Asked, Refusals, Solved, Task, refuse_small_object_motion


def _solve(geometry: ClipGeometry, asked: Asked, limits: Thresholds, refused: Refusals) -> Solved:
    centers = geometry.object_centers
    distance = np.linalg.norm(centers[asked.first, asked.end] - centers[asked.first, asked.start], axis=1)
    return Solved.numbers(distance, refuse_small_object_motion(geometry, asked.first, distance, limits, refused))


TASK = Task(
    name="object_absolute_distance",
    about="object",
    templates=(
        "How far is {object} at frame {end} from its own position at frame {start} of {last}?",
        "Counting frames from 0 to {last}, what straight-line distance does {object} cover between frames "
        "{start} and {end}?",
        "By how many meters has {object} moved in space from frame {start} to frame {end} of {last}?",
        "Ignore the camera's motion. How large is the displacement of {object} in meters between frame "
        "{start} and frame {end} (frames run from 0 to {last})?",
    ),
    solve=_solve,
    unit="meters",
    object=(True, True),
)

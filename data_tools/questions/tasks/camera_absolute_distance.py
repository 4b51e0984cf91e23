"""How far the camera is from where it was: |c_j - c_i|."""

from __future__ import annotations

import numpy as np

from ..config import Thresholds
from ..geometry import ClipGeometry
from .base import Asked, Refusals, Solved, Task, refuse_small_camera_motion


def _solve(geometry: ClipGeometry, asked: Asked, limits: Thresholds, refused: Refusals) -> Solved:
    distance = np.linalg.norm(geometry.centers[asked.end] - geometry.centers[asked.start], axis=1)
    margin = refuse_small_camera_motion(geometry, distance, limits, refused, number=True)
    return Solved.numbers(distance, margin)


TASK = Task(
    name="camera_absolute_distance",
    about="camera",
    templates=(
        "How far is the camera at frame {end} from where it was at frame {start} of {last}?",
        "Counting frames from 0 to {last}, what straight-line distance separates the camera's positions at "
        "frames {start} and {end}?",
        "Between frame {start} and frame {end} of {last}, by how many meters does the camera's position "
        "change in a straight line?",
        "Compare frame {start} with frame {end} (frames run from 0 to {last}). How large is the camera's "
        "displacement in meters?",
    ),
    solve=_solve,
    unit="meters",
    camera=(True, True),
)

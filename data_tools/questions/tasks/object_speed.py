"""How fast an object moves in the world, in a straight line from start to end: |mean P_j - mean P_i| / (t_j - t_i)."""

from __future__ import annotations

import numpy as np

from ..config import Thresholds
from ..geometry import ClipGeometry
from .base import Asked, Refusals, Solved, Task, refuse_small_object_motion


def _solve(geometry: ClipGeometry, asked: Asked, limits: Thresholds, refused: Refusals) -> Solved:
    centers, times = geometry.object_centers, geometry.times_s
    distance = np.linalg.norm(centers[asked.first, asked.end] - centers[asked.first, asked.start], axis=1)
    margin = refuse_small_object_motion(geometry, asked.first, distance, limits, refused)
    return Solved.numbers(distance / (times[asked.end] - times[asked.start]), margin)


TASK = Task(
    name="object_speed",
    about="object",
    templates=(
        "How fast does {object} move on average from frame {start} to frame {end} of {last}, in a straight line?",
        "What is the mean speed in meters per second of {object} between frames {start} and {end}, with frames counted "
        "from 0 to {last} and the path taken as straight?",
        "Ignore the camera's motion. At what average speed does {object} travel from where it is at frame {start} of "
        "{last} to where it is at frame {end}?",
        "From frame {start} to frame {end} of {last}, by how many meters per second does {object} move on average?",
    ),
    solve=_solve,
    unit="meters per second",
    object=(True, True),
)

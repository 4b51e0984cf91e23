"""How fast the camera moves, in a straight line from start to end: |c_j - c_i| / (t_j - t_i)."""

from __future__ import annotations

import numpy as np

from ..config import Thresholds
from ..geometry import ClipGeometry
from .base import Asked, Refusals, Solved, Task, refuse_small_camera_motion


def _solve(geometry: ClipGeometry, asked: Asked, limits: Thresholds, refused: Refusals) -> Solved:
    distance = np.linalg.norm(geometry.centers[asked.end] - geometry.centers[asked.start], axis=1)
    margin = refuse_small_camera_motion(geometry, distance, limits, refused, number=True)
    return Solved.numbers(distance / (geometry.times_s[asked.end] - geometry.times_s[asked.start]), margin)


TASK = Task(
    name="camera_speed",
    about="camera",
    templates=(
        "How fast does the camera move on average from frame {start} to frame {end} of {last}, in a straight line?",
        "What is the camera's mean speed in meters per second between frames {start} and {end}, with frames counted "
        "from 0 to {last} and its path taken as straight?",
        "At what average speed does the camera go from its place at frame {start} of {last} to that at frame {end}?",
        "By how many meters per second does the camera move on average from frame {start} to frame {end} of {last}?",
    ),
    solve=_solve,
    unit="meters per second",
    camera=(True, True),
)

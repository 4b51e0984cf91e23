"""By how many degrees the camera has turned sideways: |atan2(x, z)| of the end's viewing axis in the start camera."""

from __future__ import annotations

import numpy as np

from ..config import Thresholds
from ..geometry import ClipGeometry
from .base import Asked, Refusals, Solved, Task

_LEAST_DEGREES = 5.0  # smaller turns are hard to see, and rotations have no measured noise


def _solve(geometry: ClipGeometry, asked: Asked, limits: Thresholds, refused: Refusals) -> Solved:
    axis = geometry.in_camera(asked.start, geometry.rotations[asked.end][:, :, 2])
    turn = np.abs(np.degrees(np.arctan2(axis[:, 0], axis[:, 2])))
    refused.where(turn < _LEAST_DEGREES, "camera hardly turns")
    return Solved.numbers(turn, turn / _LEAST_DEGREES)


TASK = Task(
    name="camera_rotation_yaw",
    about="camera",
    templates=(
        "By what angle has the camera turned sideways from frame {start} to frame {end} of {last}?",
        "How many degrees left or right does the camera's view turn between frames {start} and {end}, with frames "
        "counted from 0 to {last}?",
        "Compare the viewing directions at frames {start} and {end} of {last}. How large is the turn sideways?",
        "Between frame {start} and frame {end} of {last}, how many degrees left or right has the camera rotated?",
    ),
    solve=_solve,
    unit="degrees",
)

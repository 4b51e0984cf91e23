"""From where the camera was at the start to where the object is at the end: min |P_j - c_i|."""

from __future__ import annotations

import numpy as np

from ..config import Thresholds
from ..geometry import ClipGeometry
from .base import Asked, Refusals, Solved, Task


def _solve(geometry: ClipGeometry, asked: Asked, limits: Thresholds, refused: Refusals) -> Solved:
    distance = geometry.nearest(asked.first, asked.end, asked.start)
    least = np.maximum(limits.min_distance_m, limits.noise_factor * geometry.object_noise_m[asked.first])
    refused.where(distance < least, "object too near the camera")
    # The camera at the end and the object at the start play no part: their slots stay null.
    return Solved.numbers(distance, distance / np.maximum(least, 1e-9))


TASK = Task(
    name="object_camera_absolute_distance",
    about="object",
    templates=(
        "How far is {object} at frame {end} from the camera's position at frame {start} of {last}?",
        "Counting frames from 0 to {last}, what is the distance from the camera as placed at frame {start} "
        "to the nearest part of {object} as placed at frame {end}?",
        "Had the camera stayed where it was at frame {start} of {last}, how many meters away would {object} "
        "be at frame {end}?",
        "What distance in meters separates {object} at frame {end} from the spot the camera had at frame "
        "{start} (frames run from 0 to {last})?",
    ),
    solve=_solve,
    unit="meters",
    camera=(True, False),
    object=(False, True),
)

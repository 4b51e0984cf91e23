"""How far two objects are apart at the end frame: |mean A_j - mean B_j|."""

from __future__ import annotations

import numpy as np

from ..config import Thresholds
from ..geometry import ClipGeometry
from .base import OPTION_STEP, Asked, Refusals, Solved, Task


def _solve(geometry: ClipGeometry, asked: Asked, limits: Thresholds, refused: Refusals) -> Solved:
    centers = geometry.object_centers
    distance = np.linalg.norm(centers[asked.first, asked.end] - centers[asked.second, asked.end], axis=1)
    noise = limits.noise_factor * np.hypot(geometry.object_noise_m[asked.first], geometry.object_noise_m[asked.second])
    refused.where(distance < limits.min_distance_m, "objects too near each other")
    refused.where(noise > OPTION_STEP * distance, "objects too noisy to tell the distance")
    return Solved.numbers(distance, distance / np.maximum(limits.min_distance_m, noise))


TASK = Task(
    name="object_object_distance",
    about="pair",
    templates=(
        "How far is {object} from {other} at frame {end} of {last}, from middle to middle?",
        "At frame {end} of {last}, how many meters lie between the middles of {object} and {other}?",
        "Frames run from 0 to {last}. What distance separates {object} and {other} at frame {end}, middle to middle?",
        "Look at frame {end} of {last}. How far apart in meters are the middles of {object} and {other}?",
    ),
    solve=_solve,
    unit="meters",
)

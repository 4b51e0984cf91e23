"""Which of two objects is nearer to the camera at the end frame: shared by the tasks that ask for it."""

from __future__ import annotations

import numpy as np

from ..config import Thresholds
from ..geometry import ClipGeometry
from .base import Asked, Refusals, Solved


def solve_order(geometry: ClipGeometry, asked: Asked, limits: Thresholds, refused: Refusals) -> Solved:
    """Label 0 where the first is nearer, 1 where the second is; measure is the difference of distances, metres."""
    first = geometry.nearest(asked.first, asked.end, asked.end)
    second = geometry.nearest(asked.second, asked.end, asked.end)
    noise = np.hypot(geometry.object_noise_m[asked.first], geometry.object_noise_m[asked.second])
    tau_m = np.maximum(limits.tau_m, limits.tau_relative * np.minimum(first, second))
    tau_m = np.maximum(tau_m, limits.noise_factor * noise)
    gap = np.abs(first - second)
    refused.where(~(gap >= tau_m * (1 + limits.dead_zone)), "objects about equally far")
    return Solved.words(first - second, (first > second).astype(np.int64), gap / tau_m)


def name_both(label: int, first: str, second: str, chance: int) -> tuple[str, ...]:
    """Options are the two objects, the truth first."""
    return (second, first) if label else (first, second)

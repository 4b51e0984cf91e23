"""Whether two objects meet if they go on as they moved: closest approach of straight lines over the same time again."""

from __future__ import annotations

import numpy as np

from ..config import Thresholds
from ..geometry import ClipGeometry
from .base import Asked, Refusals, Solved, Task

_CLEAR = 2.0  # objects miss each other where their middles stay apart by so many times the distance of touching


def _solve(geometry: ClipGeometry, asked: Asked, limits: Thresholds, refused: Refusals) -> Solved:
    centers = geometry.object_centers
    gap = centers[asked.second] - centers[asked.first]  # (K, F, 3)
    rows = np.arange(len(asked.start))
    now, before = gap[rows, asked.end], gap[rows, asked.start]
    moved = now - before  # over the time asked about, and once more over the time to come
    share = np.clip(-(now * moved).sum(axis=1) / np.maximum((moved**2).sum(axis=1), 1e-12), 0, 1)
    closest = np.linalg.norm(now + share[:, None] * moved, axis=1)
    touching = geometry.radii_m[asked.first, asked.end] + geometry.radii_m[asked.second, asked.end]
    noise = limits.noise_factor * np.hypot(geometry.object_noise_m[asked.first], geometry.object_noise_m[asked.second])
    still = ~geometry.is_moving[asked.first] & ~geometry.is_moving[asked.second]
    refused.where(still | (np.linalg.norm(moved, axis=1) < limits.min_motion_m), "neither object moves")
    refused.where(np.linalg.norm(now, axis=1) <= _CLEAR * touching, "objects have met already")
    # What was measured over the time asked about is doubled by going on.
    refused.where((closest > touching - 2 * noise) & (closest < _CLEAR * touching + 2 * noise), "too close to call")
    meets = closest <= touching
    margin = np.where(meets, touching / np.maximum(closest, 0.1 * touching), closest / (_CLEAR * touching))
    return Solved.words(closest, np.where(meets, 0, 1), margin)


TASK = Task(
    name="will_they_meet",
    about="pair",
    templates=(
        "If {object} and {other} go on as they moved from frame {start} to frame {end} of {last}, will they meet "
        "within as much time again?",
        "Frames run from 0 to {last}. Continue the motion between frames {start} and {end} for the same time. Do "
        "{object} and {other} run into each other?",
        "Judging by frames {start} to {end} of {last}, are {object} and {other} about to collide if neither changes "
        "its speed or direction?",
        "Take the motion from frame {start} to frame {end} of {last} to go on for as long again. Will {object} hit "
        "{other}?",
    ),
    solve=_solve,
    labels=("yes", "no"),
)

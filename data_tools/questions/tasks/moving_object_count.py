"""How many objects move in the world between start and end, among those seen at both."""

from __future__ import annotations

import numpy as np

from ..config import Thresholds
from ..geometry import ClipGeometry
from .base import Asked, Refusals, Solved, Task


def _solve(geometry: ClipGeometry, asked: Asked, limits: Thresholds, refused: Refusals) -> Solved:
    seen = geometry.counts >= limits.min_points
    both = seen[:, asked.start] & seen[:, asked.end]  # (M, K)
    centers = geometry.object_centers
    moved = np.linalg.norm(centers[:, asked.end] - centers[:, asked.start], axis=2)
    least = np.maximum(limits.min_motion_m, limits.noise_factor * geometry.object_noise_m)[:, None]
    moves = both & geometry.is_moving[:, None] & (moved >= least)
    unclear = both & geometry.is_moving[:, None] & (moved > least / 2) & (moved < least * 2)
    refused.where(unclear.any(axis=0), "an object hardly moves")
    refused.where((seen[:, asked.start] != seen[:, asked.end]).any(axis=0), "an object comes or goes")
    refused.where(np.asarray(~both.any(axis=0)), "no object is seen")
    count = moves.sum(axis=0)
    return Solved.words(count.astype(np.float64), np.minimum(count, 3), 1.0 + both.sum(axis=0))


TASK = Task(
    name="moving_object_count",
    about="camera",
    templates=(
        "How many objects move by themselves from frame {start} to frame {end} of {last}?",
        "Frames run from 0 to {last}. Ignoring the camera's motion, how many objects change their place between frames "
        "{start} and {end}?",
        "Count the objects that are somewhere else in the world at frame {end} of {last} than at frame {start}.",
        "Between frame {start} and frame {end} of {last}, what number of objects is in motion, the camera aside?",
    ),
    solve=_solve,
    labels=("0", "1", "2", "3 or more"),
)

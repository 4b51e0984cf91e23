"""Which of two objects that overlap in the image at the end frame is in front of the other."""

from __future__ import annotations

import numpy as np

from ..config import Thresholds
from ..geometry import ClipGeometry
from .base import Asked, Refusals, Solved, Task
from .order import name_both, solve_order

_OVERLAP_SHARE = 0.1  # of the smaller box; less is a touch


def _solve(geometry: ClipGeometry, asked: Asked, limits: Thresholds, refused: Refusals) -> Solved:
    one, two = geometry.image_boxes(asked.first, asked.end), geometry.image_boxes(asked.second, asked.end)
    sides = np.minimum(one[:, 2:], two[:, 2:]) - np.maximum(one[:, :2], two[:, :2])
    area = np.maximum(sides, 0).prod(axis=1)
    smaller = np.minimum((one[:, 2:] - one[:, :2]).prod(axis=1), (two[:, 2:] - two[:, :2]).prod(axis=1))
    refused.where(~(area > _OVERLAP_SHARE * smaller), "objects do not overlap in the image")
    return solve_order(geometry, asked, limits, refused)


TASK = Task(
    name="occlusion_order",
    about="pair",
    templates=(
        "At frame {end} of {last}, {object} and {other} overlap in the image. Which is in front?",
        "Where {object} and {other} overlap at frame {end} of {last}, which one covers the other?",
        "Frames run from 0 to {last}. At frame {end}, which lies in front of the other, {object} or {other}?",
        "In the image of frame {end} of {last}, is {object} or {other} in front where the two overlap?",
    ),
    solve=_solve,
    labels=("first", "second"),
    options=name_both,
    options_are_objects=True,
)

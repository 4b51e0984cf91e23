"""Where the camera has gone, as seen from its start: the dominant axis of R_i^T (c_j - c_i)."""

from __future__ import annotations

import numpy as np

from ..config import Thresholds
from ..geometry import ClipGeometry
from ..options import direction_texts
from ..solvers import DIRECTIONS, direction_codes
from .base import Asked, Refusals, Solved, Task, refuse_small_camera_motion


def _solve(geometry: ClipGeometry, asked: Asked, limits: Thresholds, refused: Refusals) -> Solved:
    displacement = geometry.camera_displacement(asked.start, asked.end)
    margin = refuse_small_camera_motion(geometry, np.linalg.norm(displacement, axis=1), limits, refused, number=False)
    sizes = np.sort(np.abs(displacement), axis=1)
    dominance = sizes[:, 2] / np.maximum(sizes[:, 1], 1e-300)
    refused.where(dominance < limits.axis_margin, "camera direction has no dominant axis")
    margin = np.minimum(margin, dominance / max(limits.axis_margin, 1e-9))
    return Solved.words(sizes[:, 2], direction_codes(displacement), margin)


def _options(label: int, first: str, second: str, chance: int) -> tuple[str, ...]:
    return direction_texts(label, chance)


TASK = Task(
    name="camera_relative_direction",
    about="camera",
    templates=(
        "Seen from its own view at frame {start} of {last}, which way has the camera mainly moved by frame {end}?",
        "In what main direction does the camera travel from frame {start} to frame {end}, with frames "
        "counted from 0 to {last} and directions as in the view at frame {start}?",
        "Take the camera's orientation at frame {start} of {last}. Where does its position at frame {end} lie?",
        "From frame {start} to frame {end} of {last}, the camera mostly shifts in one direction of its "
        "frame-{start} view. Which one?",
    ),
    solve=_solve,
    labels=DIRECTIONS,
    camera=(True, True),
    options=_options,
)

"""How an object itself moves in depth: change of mean z of R_i^T (P - c_i), against a threshold."""

from __future__ import annotations

from ..config import Thresholds
from ..geometry import ClipGeometry
from ..solvers import DISTANCE_CHANGES
from .base import Asked, Refusals, Solved, Task
from .motion import solve_motion


def _solve(geometry: ClipGeometry, asked: Asked, limits: Thresholds, refused: Refusals) -> Solved:
    return solve_motion(2, geometry, asked, limits, refused)


TASK = Task(
    name="object_camera_relative_direction_longitudinal",
    about="object",
    templates=(
        "With the camera fixed as at frame {start} of {last}, does {object} come closer or go farther along "
        "the viewing direction by frame {end}?",
        "Counting frames from 0 to {last}, how does {object} itself move in depth between frames {start} and "
        "{end}, judged from the camera's pose at frame {start}?",
        "Take the view at frame {start} of {last} as the reference. What is the motion in depth of {object} "
        "up to frame {end}?",
        "Ignore the camera's own motion after frame {start} of {last}. Has {object} moved closer in depth, "
        "farther, or not at all by frame {end}?",
    ),
    solve=_solve,
    labels=DISTANCE_CHANGES,
    camera=(True, False),
    object=(True, True),
)

"""How an object itself moves sideways: change of mean x of R_i^T (P - c_i), against a threshold."""

from __future__ import annotations

from ..config import Thresholds
from ..geometry import ClipGeometry
from ..solvers import LATERAL_CHANGES
from .base import Asked, Refusals, Solved, Task
from .motion import solve_motion


def _solve(geometry: ClipGeometry, asked: Asked, limits: Thresholds, refused: Refusals) -> Solved:
    return solve_motion(0, geometry, asked, limits, refused)


TASK = Task(
    name="object_camera_relative_direction_lateral",
    about="object",
    templates=(
        "With the camera fixed as at frame {start} of {last}, which way sideways has {object} moved by frame {end}?",
        "Counting frames from 0 to {last}, does {object} itself move left or right between frames {start} "
        "and {end}, judged from the camera's pose at frame {start}?",
        "Take the view at frame {start} of {last} as the reference. What is the sideways motion of {object} "
        "up to frame {end}?",
        "Ignore the camera's own motion after frame {start} of {last}. Has {object} shifted left, right or "
        "not at all by frame {end}?",
    ),
    solve=_solve,
    labels=LATERAL_CHANGES,
    camera=(True, False),
    object=(True, True),
)

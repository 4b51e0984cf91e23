"""Whether an object gets closer: d_j - d_i with d_k = min |P_k - c_k|, against a threshold."""

from __future__ import annotations

from ..config import Thresholds
from ..geometry import ClipGeometry
from ..solvers import DISTANCE_CHANGES
from .base import Asked, Refusals, Solved, Task, change_tau, changes, refuse_noisy_change


def _solve(geometry: ClipGeometry, asked: Asked, limits: Thresholds, refused: Refusals) -> Solved:
    tau_m = change_tau(geometry, asked, limits)
    refuse_noisy_change(geometry, asked, tau_m, limits, refused)
    after = geometry.nearest(asked.first, asked.end, asked.end)
    before = geometry.nearest(asked.first, asked.start, asked.start)
    return changes(after - before, tau_m, limits.dead_zone, refused)


TASK = Task(
    name="object_camera_relative_distance",
    about="object",
    templates=(
        "From frame {start} to frame {end} of {last}, does {object} get closer to the camera or farther from it?",
        "Counting frames from 0 to {last}, how does the distance between the camera and {object} change "
        "between frames {start} and {end}?",
        "Relative to the camera, where is {object} at frame {end} compared with frame {start} of {last}?",
        "Compare frame {start} with frame {end} (frames run from 0 to {last}). Has {object} come closer to "
        "the camera, gone farther, or not moved relative to it?",
    ),
    solve=_solve,
    labels=DISTANCE_CHANGES,
    camera=(True, True),
    object=(True, True),
)

"""Whether two objects come closer to each other: change of |mean A - mean B|, against a threshold."""

from __future__ import annotations

import numpy as np

from ..config import Thresholds
from ..geometry import ClipGeometry, Floats, Ints
from .base import Asked, Refusals, Solved, Task, change_tau, changes


def _solve(geometry: ClipGeometry, asked: Asked, limits: Thresholds, refused: Refusals) -> Solved:
    def apart(frames: Ints) -> Floats:
        centers = geometry.object_centers
        return np.asarray(np.linalg.norm(centers[asked.first, frames] - centers[asked.second, frames], axis=1))

    noise = np.hypot(geometry.object_noise_m[asked.first], geometry.object_noise_m[asked.second])
    tau_m = change_tau(geometry, asked, limits)
    refused.where(limits.noise_factor * noise > tau_m, "clip too noisy to tell motion")
    change = apart(asked.end) - apart(asked.start)
    still = ~geometry.is_moving[asked.first] & ~geometry.is_moving[asked.second]
    # still objects whose visible sides changed: their points moved, they did not
    refused.where(still & (np.abs(change) > tau_m * (1 - limits.dead_zone)), "visible side of a still object changes")
    return changes(change, tau_m, limits.dead_zone, refused)


TASK = Task(
    name="object_object_relative_distance",
    about="pair",
    templates=(
        "From frame {start} to frame {end} of {last}, do {object} and {other} come closer together or move apart?",
        "Frames run from 0 to {last}. How does the distance between {object} and {other} change between frames {start} "
        "and {end}?",
        "Compare frame {start} with frame {end} of {last}. Is {object} closer to {other}, farther from it, or as far?",
        "Ignore the camera. How has the gap between {object} and {other} changed from frame {start} to frame {end} of "
        "{last}?",
    ),
    solve=_solve,
    labels=("closer together", "farther apart", "unchanged"),
)

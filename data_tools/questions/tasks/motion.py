"""An object's own motion along one axis of the start camera."""

from __future__ import annotations

import numpy as np

from ..config import Thresholds
from ..geometry import ClipGeometry
from .base import Asked, Refusals, Solved, change_tau, changes, refuse_noisy_change


def solve_motion(axis: int, geometry: ClipGeometry, asked: Asked, limits: Thresholds, refused: Refusals) -> Solved:
    """Component `axis` of the displacement in the start camera, against the threshold of "not moving"."""
    tau_m = change_tau(geometry, asked, limits)
    refuse_noisy_change(geometry, asked, tau_m, limits, refused)
    displacement = geometry.object_displacement(asked.first, asked.start, asked.end)
    # a still object whose visible side changed: its points moved, it did not
    seems = np.abs(displacement).max(axis=1) > tau_m * (1 - limits.dead_zone)
    refused.where(~geometry.is_moving[asked.first] & seems, "visible side of a still object changes")
    return changes(displacement[:, axis], tau_m, limits.dead_zone, refused)

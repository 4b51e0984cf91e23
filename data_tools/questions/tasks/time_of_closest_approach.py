"""When an object's middle is nearest to the camera, in seconds after the start.

The least of the parabola through the squared distances at the nearest sampled frame and its neighbours: exact for a
straight, even motion. Straight lines from frame to frame would bend at frames, where on curved paths the least then
lies: a time that is a multiple of the frame interval was the true one.
"""

from __future__ import annotations

import numpy as np

from ..config import Thresholds
from ..geometry import ClipGeometry
from .base import Asked, Refusals, Solved, Task, change_tau, refuse_noisy_change


def _solve(geometry: ClipGeometry, asked: Asked, limits: Thresholds, refused: Refusals) -> Solved:
    times, rows = geometry.times_s, np.arange(len(asked.start))
    gap = geometry.object_centers[asked.first] - geometry.centers  # (K, F, 3)
    squared = (gap**2).sum(axis=2)
    frames = np.arange(len(times))
    within = (frames >= asked.start[:, None]) & (frames <= asked.end[:, None])
    refused.where((within & ~np.isfinite(squared)).any(axis=1), "object is not seen all the time")
    nearest = np.where(within & np.isfinite(squared), squared, np.inf).argmin(axis=1)
    refused.where((nearest == asked.start) | (nearest == asked.end), "nearest at the start or the end")
    middle = np.clip(nearest, 1, max(1, len(times) - 2))
    before, after = middle - 1, np.minimum(middle + 1, len(times) - 1)
    to_middle, from_middle = times[middle] - times[before], times[after] - times[middle]
    falls = (squared[rows, middle] - squared[rows, before]) / to_middle
    rises = (squared[rows, after] - squared[rows, middle]) / from_middle
    slope = (falls * from_middle + rises * to_middle) / (to_middle + from_middle)
    bend = (rises - falls) / (to_middle + from_middle)
    moment = times[middle] - slope / (2 * bend) - times[asked.start]
    near = np.sqrt(np.maximum(squared[rows, middle] - slope**2 / (4 * bend), 0))
    least = np.sqrt(np.minimum(squared[rows, asked.start], squared[rows, asked.end])) - near
    tau_m = change_tau(geometry, asked, limits)
    refuse_noisy_change(geometry, asked, tau_m, limits, refused)
    refused.where(~(least > tau_m), "no clear moment of closest approach")
    return Solved.numbers(moment, least / tau_m)


TASK = Task(
    name="time_of_closest_approach",
    about="object",
    templates=(
        "Between frames {start} and {end} of {last}, how long after frame {start} is {object} nearest to the camera?",
        "How many seconds after frame {start} does {object} come closest to the camera, up to frame {end} of {last}?",
        "Frames run from 0 to {last}. Counted from frame {start}, when up to frame {end} is the distance between the "
        "camera and {object} smallest?",
        "From frame {start} to frame {end} of {last}, {object} passes the camera. After what time is it nearest?",
    ),
    solve=_solve,
    unit="seconds",
)

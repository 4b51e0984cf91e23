"""When an object's middle is nearest to the camera, in seconds after the start; straight motion between frames."""

from __future__ import annotations

import numpy as np

from ..config import Thresholds
from ..geometry import ClipGeometry
from .base import Asked, Refusals, Solved, Task, change_tau, refuse_noisy_change


def _solve(geometry: ClipGeometry, asked: Asked, limits: Thresholds, refused: Refusals) -> Solved:
    # Between sampled frames, or all times would be multiples of the frame interval, which the other options are not.
    gap = geometry.object_centers[asked.first] - geometry.centers  # (K, F, 3)
    step = np.diff(gap, axis=1)
    share = -(gap[:, :-1] * step).sum(axis=2) / np.maximum((step**2).sum(axis=2), 1e-12)
    share = np.clip(share, 0, 1)  # (K, F - 1) of a step between frames
    near = np.linalg.norm(gap[:, :-1] + share[..., None] * step, axis=2)
    own = np.arange(near.shape[1])
    within = (own >= asked.start[:, None]) & (own < asked.end[:, None])
    refused.where((within & ~np.isfinite(near)).any(axis=1), "object is not seen all the time")
    near = np.where(within & np.isfinite(near), near, np.inf)
    rows = np.arange(len(near))
    segment = near.argmin(axis=1)
    times = geometry.times_s
    moment = times[segment] + share[rows, segment] * np.diff(times)[segment] - times[asked.start]
    ends = np.linalg.norm(gap[rows[:, None], np.stack([asked.start, asked.end], axis=1)], axis=2)
    least = ends.min(axis=1) - near[rows, segment]
    tau_m = change_tau(geometry, asked, limits)
    refuse_noisy_change(geometry, asked, tau_m, limits, refused)
    duration = times[asked.end] - times[asked.start]
    refused.where((moment <= 0) | (moment >= duration), "nearest at the start or the end")
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

"""When an object is nearest to the camera: seconds after the start frame, over the sampled frames up to the end."""

from __future__ import annotations

import numpy as np

from ..config import Thresholds
from ..geometry import ClipGeometry
from .base import Asked, Refusals, Solved, Task, change_tau, refuse_noisy_change


def _solve(geometry: ClipGeometry, asked: Asked, limits: Thresholds, refused: Refusals) -> Solved:
    objects, count = geometry.counts.shape
    everyone, frames = np.divmod(np.arange(objects * count), count)
    near = geometry.nearest(everyone, frames, frames).reshape(objects, count)[asked.first]
    own = np.arange(count)
    within = (own >= asked.start[:, None]) & (own <= asked.end[:, None])
    refused.where((within & ~np.isfinite(near)).any(axis=1), "object is not seen all the time")
    near = np.where(within, near, np.inf)
    moment = near.argmin(axis=1)
    rows = np.arange(len(moment))
    least = np.minimum(near[rows, asked.start], near[rows, asked.end]) - near[rows, moment]
    tau_m = change_tau(geometry, asked, limits)
    refuse_noisy_change(geometry, asked, tau_m, limits, refused)
    refused.where((moment == asked.start) | (moment == asked.end), "nearest at the start or the end")
    refused.where(~(least > tau_m), "no clear moment of closest approach")
    return Solved.numbers(geometry.times_s[moment] - geometry.times_s[asked.start], least / tau_m)


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

"""Cues under their first name; they live in `data_tools.st_cot`."""

from __future__ import annotations

from typing import Any

from .. import st_cot
from ..schema import Clip4D, ObjectTrack
from .config import Thresholds


def find_cues(clip: Clip4D, clip_frames: list[int], track: ObjectTrack | None, limits: Thresholds) -> dict[str, Any]:
    """`st_cot.find_cues` with the thresholds of questions."""
    return st_cot.find_cues(
        clip,
        clip_frames,
        track,
        min_motion_m=limits.min_motion_m,
        tau_m=limits.tau_m,
        tau_relative=limits.tau_relative,
    )

"""Cues under their first name; they live in `data_tools.st_cot`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ..schema import Clip4D, ObjectTrack
from ..st_cot import ClipCues
from .config import Thresholds


def find_cues(clip: Clip4D, clip_frames: list[int], track: ObjectTrack | None, limits: Thresholds) -> dict[str, Any]:
    """`ClipCues.pair` between the first and the last of the sampled `clip_frames`, with the thresholds of questions."""
    index = None if track is None else next(place for place, own in enumerate(clip.objects) if own is track)
    cues = _of_clip(clip, limits.min_motion_m, limits.tau_m, limits.tau_relative).pair(
        clip_frames[0], clip_frames[-1], index
    )
    if track is not None and all(track.seen(frame) for frame in clip_frames):
        cues["gap"] = "none"  # only between sampled frames, where the model does not look
    return cues


@lru_cache(maxsize=1)  # clips are compared by identity, and come one after the other
def _of_clip(clip: Clip4D, min_motion_m: float, tau_m: float, tau_relative: float) -> ClipCues:
    return ClipCues(clip, min_motion_m=min_motion_m, tau_m=tau_m, tau_relative=tau_relative)

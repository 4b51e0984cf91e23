"""What a viewer could notice between two frames, worked out from the metadata: the raw material of ST-CoT texts."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..geometry import project_points, viewing_turn_degrees, world_to_camera_points
from ..schema import Clip4D, ObjectTrack
from . import solvers
from .config import Thresholds

TURN_DEGREES = 5.0  # smaller turns of the view are not mentioned
SIZE_CHANGE = 1.1  # apparent size must change by a tenth to be noticed
PLACES = ("left", "middle", "right", "outside")  # thirds of the image, and out of it


def find_cues(clip: Clip4D, clip_frames: list[int], track: ObjectTrack | None, limits: Thresholds) -> dict[str, Any]:
    """Cues between the first and the last of `clip_frames` (the sampled frames from start to end).

    Returns a dict of JSON values:
        camera_shift: one of the six directions, or "still".
        camera_turn: "left", "right", "up", "down" or "none".
        and for an object: start_place, end_place (one of PLACES),
        size ("larger", "smaller", "same"), moving (bool), hidden (out of sight in between).
    """
    start, end = clip_frames[0], clip_frames[-1]
    displacement = solvers.camera_displacement(clip, start, end)
    cues: dict[str, Any] = {
        "camera_shift": "still"
        if np.linalg.norm(displacement) < limits.min_motion_m
        else solvers.direction_label(displacement),
        "camera_turn": _turn(clip, start, end),
    }
    if track is not None:
        ratio = solvers.object_camera_distance(clip, track, start, start) / max(
            solvers.object_camera_distance(clip, track, end, end), 1e-6
        )
        cues |= {
            "start_place": _place(clip, track, start),
            "end_place": _place(clip, track, end),
            "size": "larger" if ratio > SIZE_CHANGE else "smaller" if ratio < 1 / SIZE_CHANGE else "same",
            "moving": track.is_moving,
            "hidden": not all(track.seen(frame) for frame in clip_frames),
        }
    return cues


def _turn(clip: Clip4D, start: int, end: int) -> str:
    yaw, pitch = viewing_turn_degrees(clip.cam_to_world[start], clip.cam_to_world[end])
    if max(abs(yaw), abs(pitch)) < TURN_DEGREES:
        return "none"
    if abs(yaw) >= abs(pitch):
        return "right" if yaw > 0 else "left"
    return "up" if pitch > 0 else "down"


def _place(clip: Clip4D, track: ObjectTrack, frame: int) -> str:
    center = world_to_camera_points(clip.cam_to_world[frame], solvers.object_center(track, frame))
    if center[2] <= 0:
        return "outside"
    share = project_points(clip.intrinsics, center)[0] / clip.width
    if not 0 <= share <= 1:
        return "outside"
    return "left" if share < 1 / 3 else "middle" if share < 2 / 3 else "right"

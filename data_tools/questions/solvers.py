"""The physical quantity behind each of the seven questions, from poses and object points.

c_k is the camera centre, R_k the camera-to-world rotation and P_k the object's points (world metres) at clip frame k;
i is the start frame, j the end frame. The published paper mixes world-to-camera and camera-to-world in its camera
direction; here it is R_i^T (c_j - c_i) throughout.
"""

from __future__ import annotations

import numpy as np

from ..geometry import world_to_camera_direction
from ..schema import Clip4D, ObjectTrack

DIRECTIONS: tuple[str, ...] = ("left", "right", "up", "down", "forward", "backward")
STILL = "not moving"
DISTANCE_CHANGES: tuple[str, ...] = ("closer", "farther", STILL)
LATERAL_CHANGES: tuple[str, ...] = ("left", "right", STILL)

_NEGATIVE = ("left", "up", "backward")  # by axis: -X, -Y, -Z
_POSITIVE = ("right", "down", "forward")
_CODES = np.array([[DIRECTIONS.index(_NEGATIVE[axis]), DIRECTIONS.index(_POSITIVE[axis])] for axis in range(3)])


def camera_absolute_distance(clip: Clip4D, i: int, j: int) -> float:
    """|c_j - c_i|, metres."""
    centers = clip.camera_centers
    return float(np.linalg.norm(centers[j] - centers[i]))


def camera_displacement(clip: Clip4D, i: int, j: int) -> np.ndarray:
    """R_i^T (c_j - c_i), (3,) metres in the axes of camera i."""
    centers = clip.camera_centers
    return world_to_camera_direction(clip.cam_to_world[i], centers[j] - centers[i])


def object_center(track: ObjectTrack, frame: int) -> np.ndarray:
    """mean P_k, (3,) world metres."""
    return track.points[frame].astype(np.float64).mean(axis=0)


def object_absolute_distance(track: ObjectTrack, i: int, j: int) -> float:
    """|mean P_j - mean P_i|, metres."""
    return float(np.linalg.norm(object_center(track, j) - object_center(track, i)))


def object_camera_distance(clip: Clip4D, track: ObjectTrack, object_frame: int, camera_frame: int) -> float:
    """min over points p of P_object_frame of |p - c_camera_frame|, metres."""
    offsets = track.points[object_frame].astype(np.float64) - clip.camera_centers[camera_frame]
    return float(np.linalg.norm(offsets, axis=1).min())


def object_camera_absolute_distance(clip: Clip4D, track: ObjectTrack, i: int, j: int) -> float:
    """min |P_j - c_i|, metres: from where the camera was at i to where the object is at j."""
    return object_camera_distance(clip, track, j, i)


def object_camera_relative_distance(clip: Clip4D, track: ObjectTrack, i: int, j: int) -> float:
    """d_j - d_i with d_k = min |P_k - c_k|, metres; negative means closer."""
    return object_camera_distance(clip, track, j, j) - object_camera_distance(clip, track, i, i)


def object_displacement(clip: Clip4D, track: ObjectTrack, i: int, j: int) -> np.ndarray:
    """mean R_i^T (P_j - c_i) - mean R_i^T (P_i - c_i), (3,) metres in the axes of camera i."""
    return world_to_camera_direction(clip.cam_to_world[i], object_center(track, j) - object_center(track, i))


def direction_codes(displacements: np.ndarray) -> np.ndarray:
    """Places in DIRECTIONS of the dominant axes of displacements (..., 3) in camera axes."""
    axis = np.abs(displacements).argmax(axis=-1)
    positive = np.take_along_axis(displacements, axis[..., None], axis=-1)[..., 0] >= 0
    return np.asarray(_CODES[axis, positive.astype(int)])


def direction_label(displacement: np.ndarray) -> str:
    """Name of the dominant axis of a displacement (3,) in camera axes: left/right, up/down, forward/backward."""
    return DIRECTIONS[int(direction_codes(displacement))]


def axis_dominance(displacement: np.ndarray) -> float:
    """Largest over second largest absolute component; infinite for motion along one axis."""
    second, first = np.sort(np.abs(displacement))[1:]
    return float(first / second) if second > 0 else float("inf")


def change_label(change: float, tau: float, labels: tuple[str, ...]) -> str:
    """labels = (for a negative change, for a positive one, for |change| <= tau)."""
    if abs(change) <= tau:
        return labels[2]
    return labels[0] if change < 0 else labels[1]

"""The words that answers are made of, an object's middle, and which of the six directions a displacement is.

Each task's solver is in its file (tasks/). There c_k is the camera centre, R_k the camera-to-world rotation and P_k the
object's points (world metres) at frame k; i is the start frame, j the end frame. The published paper mixes
world-to-camera and camera-to-world in its camera direction; here it is R_i^T (c_j - c_i) throughout.
"""

from __future__ import annotations

import numpy as np

from ..schema import ObjectTrack

DIRECTIONS: tuple[str, ...] = ("left", "right", "up", "down", "forward", "backward")
STILL = "not moving"
DISTANCE_CHANGES: tuple[str, ...] = ("closer", "farther", STILL)
LATERAL_CHANGES: tuple[str, ...] = ("left", "right", STILL)

_NEGATIVE = ("left", "up", "backward")  # by axis: -X, -Y, -Z
_POSITIVE = ("right", "down", "forward")
_CODES = np.array([[DIRECTIONS.index(_NEGATIVE[axis]), DIRECTIONS.index(_POSITIVE[axis])] for axis in range(3)])


def object_center(track: ObjectTrack, frame: int) -> np.ndarray:
    """mean P_k, (3,) world metres."""
    return track.points[frame].astype(np.float64).mean(axis=0)


def direction_codes(displacements: np.ndarray) -> np.ndarray:
    """Places in DIRECTIONS of the dominant axes of displacements (..., 3) in camera axes."""
    axis = np.abs(displacements).argmax(axis=-1)
    positive = np.take_along_axis(displacements, axis[..., None], axis=-1)[..., 0] >= 0
    return np.asarray(_CODES[axis, positive.astype(int)])

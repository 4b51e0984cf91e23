"""Scripted camera motions: the path of the left camera through a level world."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .config import VERTICAL_TRAVEL_SHARE, WorldConfig

Poses = NDArray[np.float64]

#: OpenCV axes: +X right, +Y down, +Z forward.
_TRAVEL_AXIS: dict[str, tuple[float, float, float]] = {
    "left": (-1, 0, 0),
    "right": (1, 0, 0),
    "up": (0, -1, 0),
    "down": (0, 1, 0),
    "forward": (0, 0, 1),
    "backward": (0, 0, -1),
}


def camera_path(motion: str, num_frames: int, config: WorldConfig, rng: np.random.Generator) -> Poses:
    """Camera-to-level poses (T,4,4) of one scripted motion.

    The level frame has +Y along gravity and its origin at the camera of frame 0, which looks along +Z apart from its
    pitch. Travel runs along the camera's own axes at frame 0.
    """
    progress = np.linspace(0.0, 1.0, num_frames) if num_frames > 1 else np.zeros(1)
    start = rotation_x(np.deg2rad(-rng.uniform(*config.camera_pitch_deg)))
    travel_m = rng.uniform(*config.camera_travel_m)
    turn = np.deg2rad(rng.uniform(*config.camera_turn_deg))
    pivot_m = rng.uniform(*config.object_distance_m)
    handheld = rng.random() < config.handheld

    yaw = np.zeros(num_frames)
    centre = np.zeros((num_frames, 3))
    if motion in _TRAVEL_AXIS:
        axis = np.array(_TRAVEL_AXIS[motion], dtype=np.float64)
        share = VERTICAL_TRAVEL_SHARE if axis[1] else 1.0
        centre = progress[:, None] * (start @ axis) * (travel_m * share)
    elif motion in ("turn_left", "turn_right"):
        yaw = progress * (turn if motion == "turn_right" else -turn)
    elif motion in ("orbit_left", "orbit_right"):
        # Moving to the right on a circle around the pivot, the camera has to turn left to keep looking at it.
        yaw = progress * (turn if motion == "orbit_left" else -turn)
        centre = np.stack([-pivot_m * np.sin(yaw), np.zeros(num_frames), pivot_m * (1 - np.cos(yaw))], axis=-1)

    rotation = rotation_y(yaw) @ start
    if motion == "shake" or (handheld and motion != "still"):
        rotation, centre = _shaken(rotation, centre, progress, rng)
    poses = np.tile(np.eye(4), (num_frames, 1, 1))
    poses[:, :3, :3] = rotation
    poses[:, :3, 3] = centre
    return poses


def _shaken(
    rotation: NDArray[np.float64], centre: NDArray[np.float64], progress: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Add a hand's tremor: two slow sines per degree of freedom, zero at frame 0; 1 cm and a third of a degree."""
    cycles = rng.uniform(0.7, 3.0, (6, 2, 1))
    phase = rng.uniform(0.0, 2 * np.pi, (6, 2, 1))
    wave = np.sin(2 * np.pi * cycles * progress + phase) - np.sin(phase)
    tremor = wave.sum(axis=1).T * rng.uniform(0.5, 1.0, 6)
    angles = np.deg2rad(0.3) * tremor[:, 3:]
    wobble = rotation_y(angles[:, 1]) @ rotation_x(angles[:, 0]) @ rotation_z(angles[:, 2])
    return rotation @ wobble, centre + 0.01 * tremor[:, :3]


def rotation_x(angle: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation (...,3,3) about +X by `angle` radians (...); positive tips the view up."""
    return _rotation(angle, 1, 2)


def rotation_y(angle: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation (...,3,3) about +Y (down) by `angle` radians (...); positive turns the view right."""
    return _rotation(angle, 2, 0)


def rotation_z(angle: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation (...,3,3) about +Z by `angle` radians (...); positive rolls the camera clockwise."""
    return _rotation(angle, 0, 1)


def _rotation(angle: float | NDArray[np.float64], a: int, b: int) -> NDArray[np.float64]:
    """Right-handed rotation in the plane that takes axis a towards axis b."""
    angle = np.asarray(angle, dtype=np.float64)
    out = np.zeros((*angle.shape, 3, 3))
    rest = 3 - a - b
    out[..., rest, rest] = 1.0
    out[..., a, a] = out[..., b, b] = np.cos(angle)
    out[..., b, a] = np.sin(angle)
    out[..., a, b] = -np.sin(angle)
    return out

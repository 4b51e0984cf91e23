"""Small pose helpers. OpenCV axes (+X right, +Y down, +Z forward), metres, camera-to-world poses."""

from __future__ import annotations

import numpy as np


def invert_pose(pose: np.ndarray) -> np.ndarray:
    """Inverse of rigid transforms [..., 4, 4], by transposing the rotation."""
    rotation = np.swapaxes(pose[..., :3, :3], -1, -2)
    inverse = np.zeros_like(pose)
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3] = -(rotation @ pose[..., :3, 3:])[..., 0]
    inverse[..., 3, 3] = 1.0
    return inverse


def transform_points(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply one pose (4, 4) to points (..., 3)."""
    return points @ pose[:3, :3].T + pose[:3, 3]


def world_to_camera_points(cam_to_world: np.ndarray, points: np.ndarray) -> np.ndarray:
    """World points (..., 3) in the camera's own axes: R^T (p - c), with R, c from `cam_to_world` (4, 4)."""
    return (points - cam_to_world[:3, 3]) @ cam_to_world[:3, :3]


def world_to_camera_direction(cam_to_world: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """A world displacement (..., 3) in the camera's own axes: R^T d."""
    return direction @ cam_to_world[:3, :3]


def project_points(intrinsics: np.ndarray, camera_points: np.ndarray) -> np.ndarray:
    """Pixels (..., 2) of camera-frame points (..., 3) with positive depth, by a pinhole (3, 3)."""
    homogeneous = camera_points @ intrinsics.T
    return homogeneous[..., :2] / homogeneous[..., 2:]


def viewing_turn_degrees(start_cam_to_world: np.ndarray, end_cam_to_world: np.ndarray) -> tuple[float, float]:
    """(yaw, pitch) of the end camera's viewing axis in the start camera, degrees; right and up are positive."""
    axis = world_to_camera_direction(start_cam_to_world, end_cam_to_world[:3, 2])
    yaw = np.degrees(np.arctan2(axis[0], axis[2]))
    pitch = np.degrees(np.arcsin(np.clip(-axis[1], -1.0, 1.0)))
    return float(yaw), float(pitch)

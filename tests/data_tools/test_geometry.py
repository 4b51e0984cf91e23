"""Pose helpers against examples by hand."""

import numpy as np
import pytest
from clip_samples import rotation_about

from mllm4d_verl.data_tools.geometry import (
    invert_pose,
    project_points,
    transform_points,
    viewing_turn_degrees,
    world_to_camera_direction,
    world_to_camera_points,
)


def _pose(rotation, center):
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, center
    return pose


def test_inverse_undoes_a_batch_of_poses():
    rng = np.random.default_rng(0)
    poses = np.stack([_pose(rotation_about(rng.normal(size=3), a), rng.normal(size=3)) for a in (0.0, 0.4, 2.0)])
    np.testing.assert_allclose(invert_pose(poses) @ poses, np.tile(np.eye(4), (3, 1, 1)), atol=1e-12)


def test_camera_points_are_the_inverse_transform():
    pose = _pose(rotation_about([0, 1, 0], 0.7), [1.0, 2.0, 3.0])
    points = np.random.default_rng(1).normal(size=(5, 3))
    np.testing.assert_allclose(world_to_camera_points(pose, points), transform_points(invert_pose(pose), points))


def test_direction_in_a_camera_that_looks_right():
    # turned by +90 degrees about +Y (down), the camera looks along world +X
    pose = _pose(rotation_about([0, 1, 0], np.pi / 2), [5.0, 0.0, 0.0])
    np.testing.assert_allclose(world_to_camera_direction(pose, np.array([1.0, 0, 0])), [0, 0, 1], atol=1e-12)
    assert viewing_turn_degrees(np.eye(4), pose)[0] == pytest.approx(90)


def test_looking_up_is_a_positive_pitch():
    # positive rotation about +X takes +Z to -Y, which is up
    yaw, pitch = viewing_turn_degrees(np.eye(4), _pose(rotation_about([1, 0, 0], 0.1), np.zeros(3)))
    assert pitch == pytest.approx(np.degrees(0.1))
    assert yaw == pytest.approx(0)


def test_projection_puts_the_axis_on_the_principal_point():
    intrinsics = np.array([[100.0, 0, 48], [0, 100, 32], [0, 0, 1]])
    np.testing.assert_allclose(project_points(intrinsics, np.array([[0, 0, 2.0], [1, 0, 2]])), [[48, 32], [98, 32]])

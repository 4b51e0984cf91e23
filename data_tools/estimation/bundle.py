"""Bundle adjustment of a window: camera poses and landmarks that explain stereo observations best.

Residuals per observation, each over its standard deviation: u, v and disparity of a landmark in a view,

    (u, v) = pinhole(R^T (X - c)),   d = f b / z + offset

minimised with Huber's loss by Levenberg-Marquardt on an analytic sparse Jacobian, solved by scipy's sparse LU. Poses
move by a rotation vector on the right of R (camera axes) and by the centre c.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import splu
from scipy.spatial.transform import Rotation

from ..stereo.camera import StereoCamera

FloatArray = NDArray[np.float64]

PIXEL_STD = 0.2  # of a tracked corner; only its ratio to that of the disparity matters
HUBER_STDS = 2.0


class Observations(NamedTuple):
    """Landmark `point` (M,) seen in `view` (M,) at `pixels` (M, 2) with `disparity_px` (M,), NaN where unknown."""

    view: NDArray[np.int64]
    point: NDArray[np.int64]
    pixels: FloatArray
    disparity_px: FloatArray


def refine_window(
    camera: StereoCamera,
    cam_to_world: FloatArray,
    landmarks: FloatArray,
    observations: Observations,
    num_fixed: int,
    disparity_std_px: float,
    max_iterations: int = 10,
) -> tuple[FloatArray, FloatArray]:
    """Refined poses (V, 4, 4) and landmarks (N, 3), world metres.

    Args:
        cam_to_world: (V, 4, 4); the first `num_fixed` stay as they are.
        landmarks: (N, 3).
        observations: at least one per landmark.
        disparity_std_px: of a stereo match.
        max_iterations: a window is near its minimum after a few.
    """
    problem = _Window(camera, cam_to_world, observations, len(landmarks), num_fixed, disparity_std_px)
    start = np.concatenate([np.zeros(6 * problem.num_free), landmarks.ravel()])
    solution = _minimise(problem, start, max_iterations)
    return problem.poses(solution), solution[6 * problem.num_free :].reshape(-1, 3)


def _minimise(problem: _Window, parameters: FloatArray, max_iterations: int) -> FloatArray:
    """Levenberg-Marquardt on the Huber cost, each step a sparse LU of the damped normal equations.

    Landmarks do not see each other, so the factor stays as sparse as the matrix but for the block of the poses.
    """
    residuals = problem.residuals(parameters)
    cost, weights = _huber(residuals)
    damping = 1e-4
    for _ in range(max_iterations):
        jacobian = problem.jacobian(parameters)
        weighted = jacobian.multiply(weights[:, None]).tocsr()
        normal = (weighted.T @ jacobian).tocsc()
        gradient = weighted.T @ residuals
        before = cost
        while damping < 1e6:
            # A landmark without parallax has a direction that no residual sees: the floor keeps its step finite.
            diagonal = diags(damping * normal.diagonal() + 1e-9)
            step = splu((normal + diagonal).tocsc()).solve(-gradient)
            moved = parameters + step
            moved_residuals = problem.residuals(moved)
            moved_cost, moved_weights = _huber(moved_residuals)
            if moved_cost < cost:
                parameters, residuals, cost, weights = moved, moved_residuals, moved_cost, moved_weights
                damping = max(damping / 10, 1e-8)
                break
            damping *= 10
        if before - cost < 1e-3 * before:
            break
    return parameters


def _huber(residuals: FloatArray) -> tuple[float, FloatArray]:
    """Huber cost of residuals (M,) and the weights (M,) with which squares have the same gradient."""
    size = np.abs(residuals)
    beyond = size > HUBER_STDS
    cost = np.where(beyond, HUBER_STDS * (2 * size - HUBER_STDS), residuals * residuals)
    weights = np.where(beyond, HUBER_STDS / np.maximum(size, HUBER_STDS), 1.0)
    return 0.5 * float(cost.sum()), weights


class _Window:
    def __init__(
        self,
        camera: StereoCamera,
        cam_to_world: FloatArray,
        observations: Observations,
        num_points: int,
        num_fixed: int,
        disparity_std_px: float,
    ) -> None:
        self.camera = camera
        self.start = cam_to_world
        self.observations = observations
        self.num_points = num_points
        self.num_free = len(cam_to_world) - num_fixed
        self.num_fixed = num_fixed
        self.has_disparity = np.isfinite(observations.disparity_px)
        self.scale = np.array([1 / PIXEL_STD, 1 / PIXEL_STD, 1 / disparity_std_px])
        self._structure()

    def poses(self, parameters: FloatArray) -> FloatArray:
        """cam_to_world (V, 4, 4) of a parameter vector."""
        poses = self.start.copy()
        moves = parameters[: 6 * self.num_free].reshape(-1, 6)
        free = slice(self.num_fixed, None)
        poses[free, :3, :3] = poses[free, :3, :3] @ Rotation.from_rotvec(moves[:, :3]).as_matrix()
        poses[free, :3, 3] += moves[:, 3:]
        return poses

    def residuals(self, parameters: FloatArray) -> FloatArray:
        """(3 M,) residuals over their standard deviations."""
        local, _ = self._local_points(parameters)
        matrix = self.camera.intrinsics
        depth = np.maximum(local[:, 2], 1e-3)
        u = matrix[0, 0] * local[:, 0] / depth + matrix[0, 2]
        v = matrix[1, 1] * local[:, 1] / depth + matrix[1, 2]
        d = self.camera.focal_px * self.camera.baseline / depth + self.camera.disparity_offset_px
        observed = self.observations
        offsets = np.stack([u - observed.pixels[:, 0], v - observed.pixels[:, 1], d - observed.disparity_px], axis=1)
        offsets[~self.has_disparity, 2] = 0.0
        return (offsets * self.scale).ravel()

    def jacobian(self, parameters: FloatArray) -> csr_matrix:
        """(3 M, 6 V_free + 3 N) sparse."""
        local, rotation = self._local_points(parameters)
        matrix = self.camera.intrinsics
        x, y = local[:, 0], local[:, 1]
        depth = np.maximum(local[:, 2], 1e-3)
        by_local = np.zeros((len(local), 3, 3))  # d (u, v, d) / d local point
        by_local[:, 0, 0] = matrix[0, 0] / depth
        by_local[:, 0, 2] = -matrix[0, 0] * x / depth**2
        by_local[:, 1, 1] = matrix[1, 1] / depth
        by_local[:, 1, 2] = -matrix[1, 1] * y / depth**2
        by_local[:, 2, 2] = -self.camera.focal_px * self.camera.baseline / depth**2
        by_local[~self.has_disparity, 2] = 0.0
        by_local *= self.scale[:, None]
        by_point = by_local @ rotation.transpose(0, 2, 1)  # local = R^T (X - c)
        # R exp(w): local = exp(-w) local0, so d local / d w = [local]_x
        cross = np.zeros((len(local), 3, 3))
        cross[:, 0, 1], cross[:, 0, 2] = -local[:, 2], y
        cross[:, 1, 0], cross[:, 1, 2] = local[:, 2], -x
        cross[:, 2, 0], cross[:, 2, 1] = -y, x
        by_pose = np.concatenate([by_local @ cross, -by_point], axis=2)
        data = np.concatenate([by_pose[self._free].ravel(), by_point.ravel()])
        jacobian = csr_matrix((data[self._order], self._columns, self._row_starts), shape=self._shape)
        return jacobian

    def _local_points(self, parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
        poses = self.poses(parameters)[self.observations.view]
        points = parameters[6 * self.num_free :].reshape(-1, 3)[self.observations.point]
        offset = points - poses[:, :3, 3]
        rotation = poses[:, :3, :3]
        return np.einsum("mji,mj->mi", rotation, offset), rotation

    def _structure(self) -> None:
        """Where the entries of the Jacobian go; the same at every evaluation."""
        view, point = self.observations.view, self.observations.point
        num = len(view)
        self._free = view >= self.num_fixed
        rows = np.arange(3 * num).reshape(num, 3)
        pose_columns = 6 * (view - self.num_fixed)[:, None] + np.arange(6)
        point_columns = 6 * self.num_free + 3 * point[:, None] + np.arange(3)
        all_rows = np.concatenate(
            [
                np.repeat(rows[self._free][:, :, None], 6, axis=2).ravel(),
                np.repeat(rows[:, :, None], 3, axis=2).ravel(),
            ]
        )
        all_columns = np.concatenate(
            [
                np.repeat(pose_columns[self._free][:, None, :], 3, axis=1).ravel(),
                np.repeat(point_columns[:, None, :], 3, axis=1).ravel(),
            ]
        )
        self._order = np.lexsort((all_columns, all_rows))
        self._columns = all_columns[self._order].astype(np.int32)
        counts = np.bincount(all_rows, minlength=3 * num)
        self._row_starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        self._shape = (3 * num, 6 * self.num_free + 3 * self.num_points)

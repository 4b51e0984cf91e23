"""Bundle adjustment of a window: camera poses and landmarks that explain stereo observations best.

Residuals per observation, each over its standard deviation: u, v and disparity of a landmark in a view,

    (u, v) = pinhole(R^T (X - c)),   d = f b / z + offset

minimised with Huber's loss by Levenberg-Marquardt. Landmarks do not see each other, so they are eliminated from the
normal equations three by three (Schur complement; Triggs et al., Bundle Adjustment - A Modern Synthesis, 2000) and what
is solved is as small as the poses. Poses move by a rotation vector on the right of R (camera axes) and by the centre c.

The offset may be fitted with them. Depths that are all wrong by one disparity bend the paths that their points take
through the image, near ones less than far ones, and no motion of the camera does the same, unless it is small or
sideways before a flat wall.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ..stereo.camera import StereoCamera

FloatArray = NDArray[np.float64]

PIXEL_STD = 0.2  # of a tracked corner; only its ratio to that of the disparity matters
HUBER_STDS = 2.0
#: Added to the diagonal of normal equations.
_FLOOR = 1e-9
#: Groups of landmarks that standard deviations are measured with.
_LEAST_GROUPS = 4


class Observations(NamedTuple):
    """Landmark `point` (M,) seen in `view` (M,) at `pixels` (M, 2) with `disparity_px` (M,), NaN where unknown.

    At most one per landmark and view.
    """

    view: NDArray[np.int64]
    point: NDArray[np.int64]
    pixels: FloatArray
    disparity_px: FloatArray

    def rows(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Observations:
        """Some of them, by place or mask."""
        return Observations(self.view[chosen], self.point[chosen], self.pixels[chosen], self.disparity_px[chosen])


class Refined(NamedTuple):
    """What a window was refined to.

    Attributes:
        cam_to_world: (V, 4, 4).
        landmarks: (N, 3) world metres.
        disparity_offset_px: of the camera; as it was given unless it was fitted.
        center_std_m: (V,) standard deviations of the camera centres against the fixed views, metres; NaN where groups
            of landmarks are wanting.
        offset_std_px: of the offset; NaN where it was not fitted or groups are wanting.
    """

    cam_to_world: FloatArray
    landmarks: FloatArray
    disparity_offset_px: float
    center_std_m: FloatArray
    offset_std_px: float


def refine_window(
    camera: StereoCamera,
    cam_to_world: FloatArray,
    landmarks: FloatArray,
    observations: Observations,
    num_fixed: int,
    disparity_std_px: float,
    max_iterations: int = 10,
    groups: NDArray[np.int64] | None = None,
    fit_offset: bool = False,
) -> Refined:
    """Refined poses and landmarks, and how far to trust them.

    Args:
        cam_to_world: (V, 4, 4); the first `num_fixed` stay as they are.
        landmarks: (N, 3).
        observations: at least one per landmark.
        disparity_std_px: of a stereo match.
        max_iterations: a window is near its minimum after a few.
        groups: (N,) of each landmark, which standard deviations are measured with, see `_jackknife`; without them there
            are none.
        fit_offset: whether `camera.disparity_offset_px` is where the search for it starts, or is so.
    """
    window = _Window(camera, observations, len(cam_to_world), num_fixed, disparity_std_px, fit_offset)
    state = _minimise(window, _State(cam_to_world, landmarks, camera.disparity_offset_px), max_iterations)
    stds = np.full(window.size, np.nan) if groups is None else _jackknife(window, state, groups)
    center_std_m = np.zeros(len(cam_to_world))
    center_std_m[num_fixed:] = np.linalg.norm(stds[: 6 * window.num_free].reshape(-1, 6)[:, 3:], axis=1)
    offset_std_px = float(stds[-1]) if fit_offset else float("nan")
    return Refined(*state, center_std_m, offset_std_px)


class _State(NamedTuple):
    """The unknowns."""

    poses: FloatArray
    points: FloatArray
    offset_px: float


class _Normal(NamedTuple):
    """Normal equations: of the poses and the offset (P, P), (P,); of points (N, 3, 3), (N, 3); mixed (N, P, 3)."""

    cameras: FloatArray
    camera_gradient: FloatArray
    points: FloatArray
    point_gradient: FloatArray
    mixed: FloatArray


def _minimise(window: _Window, state: _State, max_iterations: int) -> _State:
    """Levenberg-Marquardt on the Huber cost."""
    cost, weights = _huber(window.residuals(state))
    damping = 1e-4
    for _ in range(max_iterations):
        normal = window.normal(state, weights)
        before = cost
        while damping < 1e6:
            moved = window.moved(state, *_step(_damped(normal, damping)))
            moved_cost, moved_weights = _huber(window.residuals(moved))
            if moved_cost < cost:
                state, cost, weights = moved, moved_cost, moved_weights
                damping = max(damping / 10, 1e-8)
                break
            damping *= 10
        if before - cost < 1e-3 * before:
            break
    return state


def _damped(normal: _Normal, damping: float) -> _Normal:
    # A landmark without parallax has a direction that no residual sees: the floor keeps its step finite.
    cameras, points = normal.cameras.copy(), normal.points.copy()
    for matrix in (cameras, points):
        diagonal = np.einsum("...ii->...i", matrix)  # a view
        diagonal += damping * diagonal + _FLOOR
    return normal._replace(cameras=cameras, points=points)


def _step(normal: _Normal) -> tuple[FloatArray, FloatArray]:
    """The step of the cameras (P,) and of the points (N, 3)."""
    matrix, gradient, inverse = _eliminate(normal)
    step = np.asarray(np.linalg.solve(matrix, -gradient), np.float64)
    pull = normal.point_gradient + np.einsum("npi,p->ni", normal.mixed, step)
    point_step: FloatArray = -np.einsum("nij,nj->ni", inverse, pull)
    return step, point_step


def _eliminate(normal: _Normal) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Normal matrix (P, P) and gradient (P,) of the cameras once points follow them; inverses (N, 3, 3) of points."""
    inverse = np.asarray(np.linalg.inv(normal.points), np.float64)
    count = len(normal.cameras)
    follow, mixed = (
        np.ascontiguousarray(part.transpose(1, 0, 2)).reshape(count, -1)
        for part in (normal.mixed @ inverse, normal.mixed)
    )
    matrix: FloatArray = normal.cameras - follow @ mixed.T
    gradient: FloatArray = normal.camera_gradient - follow @ normal.point_gradient.ravel()
    return matrix, gradient, inverse


def _jackknife(window: _Window, state: _State, groups: NDArray[np.int64]) -> FloatArray:
    """Standard deviations (P,) of the camera parameters at the minimum, from leaving out one group of landmarks after
    the other (Efron 1982): (G - 1) / G times the sum of squares of what that changes, by one Newton step each.

    Errors of landmarks that lie together are alike, since one surface and one part of the lens made them. What
    residuals alone say, as if each were independent, is several times too small.
    """
    names = np.unique(groups)
    if len(names) < _LEAST_GROUPS:
        return np.full(window.size, np.nan)
    matrices, gradients = [], []
    for name in names:
        part, part_state = window.part(state, groups == name)
        normal = part.normal(part_state, _huber(part.residuals(part_state))[1])
        matrix, gradient, _ = _eliminate(_damped(normal, 0.0))
        matrices.append(matrix)
        gradients.append(gradient)
    matrix, gradient = np.sum(matrices, axis=0), np.sum(gradients, axis=0)
    changes = np.stack(
        [
            np.linalg.solve(matrix - without, gradient_without - gradient)
            for without, gradient_without in zip(matrices, gradients, strict=True)
        ]
    )
    count = len(names)
    stds: FloatArray = np.sqrt((count - 1) / count * ((changes - changes.mean(axis=0)) ** 2).sum(axis=0))
    return stds


def _huber(residuals: FloatArray) -> tuple[float, FloatArray]:
    """Huber cost of residuals of any shape, and the weights with which squares have the same gradient."""
    size = np.abs(residuals)
    beyond = size > HUBER_STDS
    cost = np.where(beyond, HUBER_STDS * (2 * size - HUBER_STDS), residuals * residuals)
    weights = np.where(beyond, HUBER_STDS / np.maximum(size, HUBER_STDS), 1.0)
    return 0.5 * float(cost.sum()), weights


class _Window:
    """The problem: what was seen, sorted by landmark."""

    def __init__(
        self,
        camera: StereoCamera,
        observations: Observations,
        num_views: int,
        num_fixed: int,
        disparity_std_px: float,
        fit_offset: bool,
    ) -> None:
        self.camera, self.disparity_std_px = camera, disparity_std_px
        self.num_views, self.num_fixed, self.fit_offset = num_views, num_fixed, fit_offset
        order = np.argsort(observations.point, kind="stable")
        self.observations = observations.rows(order)
        self.num_free = num_views - num_fixed
        self.size = 6 * self.num_free + int(fit_offset)
        self.has_disparity = np.isfinite(self.observations.disparity_px)
        self.scale = np.array([1 / PIXEL_STD, 1 / PIXEL_STD, 1 / disparity_std_px])
        self._starts = np.flatnonzero(np.diff(self.observations.point, prepend=-1))
        self._of_view = [np.flatnonzero(self.observations.view == view) for view in range(num_fixed, num_views)]

    def part(self, state: _State, chosen: NDArray[np.bool_]) -> tuple[_Window, _State]:
        """The problem of some of the landmarks (N,) alone."""
        kept = self.observations.rows(chosen[self.observations.point])
        kept = kept._replace(point=np.cumsum(chosen)[kept.point] - 1)
        part = _Window(self.camera, kept, self.num_views, self.num_fixed, self.disparity_std_px, self.fit_offset)
        return part, state._replace(points=state.points[chosen])

    def moved(self, state: _State, step: FloatArray, point_step: FloatArray) -> _State:
        """The state after a step of the cameras (P,) and the points (N, 3)."""
        poses = state.poses.copy()
        moves = step[: 6 * self.num_free].reshape(-1, 6)
        free = slice(self.num_fixed, None)
        poses[free, :3, :3] = poses[free, :3, :3] @ Rotation.from_rotvec(moves[:, :3]).as_matrix()
        poses[free, :3, 3] += moves[:, 3:]
        offset_px = state.offset_px + float(step[-1]) if self.fit_offset else state.offset_px
        return _State(poses, state.points + point_step, offset_px)

    def residuals(self, state: _State) -> FloatArray:
        """(M, 3) over their standard deviations, observations in the order of `self.observations`."""
        local, _ = self._local_points(state)
        matrix = self.camera.intrinsics
        depth = np.maximum(local[:, 2], 1e-3)
        u = matrix[0, 0] * local[:, 0] / depth + matrix[0, 2]
        v = matrix[1, 1] * local[:, 1] / depth + matrix[1, 2]
        d = self.camera.focal_px * self.camera.baseline / depth + state.offset_px
        observed = self.observations
        offsets = np.stack([u - observed.pixels[:, 0], v - observed.pixels[:, 1], d - observed.disparity_px], axis=1)
        offsets[~self.has_disparity, 2] = 0.0
        scaled: FloatArray = offsets * self.scale
        return scaled

    def derivatives(self, state: _State) -> tuple[FloatArray, FloatArray]:
        """Of the residuals by the pose of their view (M, 3, 6) and by their point (M, 3, 3)."""
        local, rotation = self._local_points(state)
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
        return np.concatenate([by_local @ cross, -by_point], axis=2), by_point

    def normal(self, state: _State, weights: FloatArray) -> _Normal:
        """Normal equations of the residuals with weights (M, 3)."""
        residuals = self.residuals(state)
        by_pose, by_point = self.derivatives(state)
        pull = weights * residuals
        heavy = weights[:, :, None] * by_point  # (M, 3, 3)
        points = np.add.reduceat(by_point.transpose(0, 2, 1) @ heavy, self._starts)
        point_gradient = np.add.reduceat(np.einsum("mki,mk->mi", by_point, pull), self._starts)
        cameras, camera_gradient = np.zeros((self.size, self.size)), np.zeros(self.size)
        mixed = np.zeros((len(points), self.size, 3))
        for number, rows in enumerate(self._of_view):
            place = slice(6 * number, 6 * number + 6)
            mine = by_pose[rows].reshape(-1, 6)
            cameras[place, place] = mine.T @ (mine * weights[rows].reshape(-1, 1))
            camera_gradient[place] = mine.T @ pull[rows].ravel()
            block = by_pose[rows].transpose(0, 2, 1) @ heavy[rows]
            mixed[self.observations.point[rows], place] = block
        if self.fit_offset:
            by_offset = self.has_disparity * self.scale[2]
            for number, rows in enumerate(self._of_view):
                place = slice(6 * number, 6 * number + 6)
                coupling = by_pose[rows, 2].T @ (weights[rows, 2] * by_offset[rows])
                cameras[-1, place] = cameras[place, -1] = coupling
            cameras[-1, -1] = (weights[:, 2] * by_offset**2).sum()
            camera_gradient[-1] = by_offset @ pull[:, 2]
            mixed[:, -1] = np.add.reduceat(heavy[:, 2] * by_offset[:, None], self._starts)
        return _Normal(cameras, camera_gradient, points, point_gradient, mixed)

    def _local_points(self, state: _State) -> tuple[FloatArray, FloatArray]:
        poses = state.poses[self.observations.view]
        rotation = poses[:, :3, :3]
        offset = state.points[self.observations.point] - poses[:, :3, 3]
        return np.einsum("mji,mj->mi", rotation, offset), rotation

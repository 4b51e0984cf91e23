"""Bundle adjustment on synthetic stereo problems whose answer is known."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mllm4d_verl.data_tools.estimation.bundle import Observations, _Window, refine_window
from mllm4d_verl.data_tools.geometry import project_points, world_to_camera_points
from mllm4d_verl.data_tools.stereo.camera import StereoCamera

CAMERA = StereoCamera(
    400, 300, np.array([[350.0, 0, 199.5], [0, 360.0, 149.5], [0, 0, 1]]), baseline=0.2, disparity_offset_px=3.0
)
STD_PX = 0.3  # of a disparity


@dataclass
class Problem:
    """The truth, what is seen of it, and a start that is wrong by a few centimetres and a degree."""

    poses: np.ndarray
    points: np.ndarray
    seen: Observations
    start_poses: np.ndarray
    start_points: np.ndarray

    def solve(self, num_fixed: int = 1, most_steps: int = 50) -> tuple[np.ndarray, np.ndarray]:
        return refine_window(CAMERA, self.start_poses, self.start_points, self.seen, num_fixed, STD_PX, most_steps)


def make_problem(num_views: int = 5, num_points: int = 80, noise_px: float = 0.0, num_fixed: int = 1) -> Problem:
    rng = np.random.default_rng(4)
    poses = np.tile(np.eye(4), (num_views, 1, 1))
    for number in range(num_views):
        poses[number, :3, :3] = Rotation.from_rotvec(0.04 * number * np.array([0.3, 1.0, -0.2])).as_matrix()
        poses[number, :3, 3] = 0.15 * number * np.array([1.0, 0.1, 0.6])
    points = rng.uniform([-1.2, -0.9, 3.0], [1.6, 0.9, 8.0], (num_points, 3))
    view, point = (grid.ravel() for grid in np.meshgrid(np.arange(num_views), np.arange(num_points), indexing="ij"))
    local = np.stack([world_to_camera_points(poses[v], points[p]) for v, p in zip(view, point, strict=True)])
    pixels = project_points(CAMERA.intrinsics, local) + rng.normal(0, noise_px, (len(local), 2))
    # In double precision, unlike `StereoCamera.disparity`: the answer is looked for to 1e-6.
    disparity = CAMERA.focal_px * CAMERA.baseline / local[:, 2] + CAMERA.disparity_offset_px
    disparity += rng.normal(0, 1.5 * noise_px, len(local))
    start_poses = poses.copy()
    for number in range(num_fixed, num_views):
        turn = Rotation.from_rotvec(np.radians(1) * rng.normal(size=3)).as_matrix()
        start_poses[number, :3, :3] = poses[number, :3, :3] @ turn
        start_poses[number, :3, 3] += rng.normal(0, 0.03, 3)
    start_points = points + rng.normal(0, 0.05, points.shape)
    return Problem(poses, points, Observations(view, point, pixels, disparity), start_poses, start_points)


def center_errors(poses: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.linalg.norm(poses[:, :3, 3] - truth[:, :3, 3], axis=1)


class TestRefineWindow:
    def test_exact_observations_give_the_exact_answer(self):
        problem = make_problem()
        poses, points = problem.solve()
        np.testing.assert_allclose(points, problem.points, atol=1e-6 * 8)
        np.testing.assert_allclose(poses, problem.poses, atol=1e-6)

    def test_the_usual_number_of_steps_comes_near_it(self):
        problem = make_problem()
        poses, _ = refine_window(CAMERA, problem.start_poses, problem.start_points, problem.seen, 1, STD_PX)
        assert center_errors(poses, problem.poses).max() < 1e-3

    def test_noise_leaves_a_fraction_of_the_error(self):
        problem = make_problem(noise_px=0.2)
        poses, points = problem.solve()
        before, after = (center_errors(item, problem.poses)[1:].mean() for item in (problem.start_poses, poses))
        assert after < 0.15 * before
        errors = [np.linalg.norm(item - problem.points, axis=1).mean() for item in (problem.start_points, points)]
        assert errors[1] < 0.7 * errors[0]

    def test_one_gross_error_in_twenty_does_little(self):
        problem = make_problem(noise_px=0.1)
        clean, _ = problem.solve()
        rng = np.random.default_rng(7)
        wrong = rng.random(len(problem.seen.view)) < 0.05
        problem.seen.pixels[wrong] += rng.choice([-1, 1], (wrong.sum(), 2)) * rng.uniform(10, 40, (wrong.sum(), 2))
        problem.seen.disparity_px[wrong] += rng.uniform(-5, 5, wrong.sum())
        poses, _ = problem.solve()
        before = center_errors(problem.start_poses, problem.poses)[1:].mean()
        assert center_errors(poses, problem.poses)[1:].mean() < 0.3 * before
        assert center_errors(clean, problem.poses)[1:].mean() < 0.1 * before

    @pytest.mark.parametrize("num_fixed", [1, 3])
    def test_fixed_poses_stay_to_the_bit(self, num_fixed):
        problem = make_problem(noise_px=0.2, num_fixed=num_fixed)
        start = problem.start_poses.copy()
        poses, _ = problem.solve(num_fixed)
        assert poses[:num_fixed].tobytes() == start[:num_fixed].tobytes()
        assert (np.abs(poses[num_fixed:] - start[num_fixed:]).max(axis=(1, 2)) > 1e-4).all()

    def test_what_is_given_is_not_changed(self):
        problem = make_problem(noise_px=0.2)
        poses, points = problem.start_poses.copy(), problem.start_points.copy()
        problem.solve()
        np.testing.assert_array_equal(problem.start_poses, poses)
        np.testing.assert_array_equal(problem.start_points, points)

    def test_unknown_disparities_are_left_out(self):
        problem = make_problem()
        problem.seen.disparity_px[::3] = np.nan
        poses, points = problem.solve()
        np.testing.assert_allclose(poses, problem.poses, atol=1e-5)
        np.testing.assert_allclose(points, problem.points, atol=1e-4)

    def test_an_unknown_disparity_weighs_nothing_whatever_the_others_say(self):
        problem = make_problem(noise_px=0.2)
        without = np.isfinite(problem.seen.disparity_px) & (problem.seen.view != 2)
        problem.seen.disparity_px[~without] = np.nan
        first, _ = problem.solve()
        assert np.isfinite(first).all()
        assert center_errors(first, problem.poses).max() < 0.02

    def test_a_turn_is_recovered_as_a_rotation(self):
        problem = make_problem(noise_px=0.1)
        poses, _ = problem.solve()
        rotation = poses[:, :3, :3]
        np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.tile(np.eye(3), (5, 1, 1)), atol=1e-9)


class TestJacobian:
    @pytest.mark.parametrize("num_fixed", [1, 2])
    def test_equals_finite_differences(self, num_fixed):
        problem = make_problem(num_views=4, num_points=6, noise_px=0.5)
        problem.seen.disparity_px[::4] = np.nan
        window = _Window(CAMERA, problem.start_poses, problem.seen, 6, num_fixed, STD_PX)
        # Rotations are moves from the start, whose derivative is taken where they are none.
        parameters = np.concatenate([np.zeros(6 * (4 - num_fixed)), problem.start_points.ravel()])
        analytic = window.jacobian(parameters).toarray()
        step = 1e-6
        numeric = np.empty_like(analytic)
        for column in range(len(parameters)):
            move = np.zeros_like(parameters)
            move[column] = step
            numeric[:, column] = (window.residuals(parameters + move) - window.residuals(parameters - move)) / (
                2 * step
            )
        assert analytic.shape == (3 * 24, 6 * (4 - num_fixed) + 18)
        np.testing.assert_allclose(analytic, numeric, rtol=1e-5, atol=1e-5 * np.abs(numeric).max())

    def test_residuals_are_none_at_the_truth(self):
        problem = make_problem()
        window = _Window(CAMERA, problem.poses, problem.seen, len(problem.points), 1, STD_PX)
        parameters = np.concatenate([np.zeros(6 * 4), problem.points.ravel()])
        np.testing.assert_allclose(window.residuals(parameters), 0, atol=1e-8)

"""Bundle adjustment on synthetic stereo problems whose answer is known."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mllm4d_verl.data_tools.estimation.bundle import Observations, Refined, _huber, _State, _Window, refine_window
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
        return refine_window(CAMERA, self.start_poses, self.start_points, self.seen, num_fixed, STD_PX, most_steps)[:2]

    def solve_all(self, camera: StereoCamera = CAMERA, fit_offset: bool = True) -> Refined:
        """With standard deviations from landmarks in six groups."""
        groups = np.arange(len(self.points)) % 6
        start = self.start_poses, self.start_points, self.seen
        return refine_window(camera, *start, 1, STD_PX, 50, groups=groups, fit_offset=fit_offset)


def make_problem(
    num_views: int = 5, num_points: int = 80, noise_px: float = 0.0, num_fixed: int = 1, seed: int = 4
) -> Problem:
    rng = np.random.default_rng(seed)
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
        poses = refine_window(CAMERA, problem.start_poses, problem.start_points, problem.seen, 1, STD_PX).cam_to_world
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


class TestOffset:
    def test_a_wrong_offset_is_found_with_the_poses(self):
        problem = make_problem()
        wrong = replace(CAMERA, disparity_offset_px=CAMERA.disparity_offset_px + 0.8)
        refined = problem.solve_all(wrong)
        assert refined.disparity_offset_px == pytest.approx(CAMERA.disparity_offset_px, abs=1e-4)
        np.testing.assert_allclose(refined.cam_to_world, problem.poses, atol=1e-4)

    def test_its_standard_deviation_covers_its_error(self):
        errors = []
        for seed in range(8):
            refined = make_problem(noise_px=0.2, seed=seed).solve_all()
            errors.append((refined.disparity_offset_px - CAMERA.disparity_offset_px) / refined.offset_std_px)
        assert 0.4 < np.sqrt(np.mean(np.square(errors))) < 2

    def test_where_it_is_not_asked_for_it_stays(self):
        refined = make_problem(noise_px=0.2).solve_all(fit_offset=False)
        assert refined.disparity_offset_px == CAMERA.disparity_offset_px
        assert np.isnan(refined.offset_std_px)


class TestStandardDeviations:
    def test_centres_err_as_much_as_is_said(self):
        errors, stds = [], []
        for seed in range(8):
            problem = make_problem(noise_px=0.2, seed=seed)
            refined = problem.solve_all(fit_offset=False)
            errors.append(center_errors(refined.cam_to_world, problem.poses))
            stds.append(refined.center_std_m)
        assert not np.array(stds)[:, 0].any()
        ratio = np.sqrt(np.mean(np.square(errors), axis=0))[1:] / np.sqrt(np.mean(np.square(stds), axis=0))[1:]
        assert ((ratio > 0.5) & (ratio < 2)).all()

    def test_errors_that_neighbours_share_are_seen(self):
        problem = make_problem(noise_px=0.02)
        groups = (problem.points[:, 0] // 0.5).astype(np.int64)
        together = np.random.default_rng(3).normal(0, 0.5, groups.max() - groups.min() + 1)
        problem.seen.disparity_px[:] += together[groups[problem.seen.point] - groups.min()]
        stds = [
            refine_window(
                CAMERA, problem.start_poses, problem.start_points, problem.seen, 1, STD_PX, groups=chosen
            ).center_std_m[-1]
            for chosen in (groups, np.arange(len(groups)))
        ]
        assert stds[0] > 1.5 * stds[1]

    def test_none_without_groups(self):
        problem = make_problem(noise_px=0.2)
        start = problem.start_poses, problem.start_points, problem.seen
        for groups in (None, np.arange(len(problem.points)) % 2):
            refined = refine_window(CAMERA, *start, 1, STD_PX, groups=groups)
            assert np.isnan(refined.center_std_m[1:]).all()


class TestDerivatives:
    @pytest.mark.parametrize("num_fixed", [1, 2])
    def test_gradient_equals_finite_differences(self, num_fixed):
        problem = make_problem(num_views=4, num_points=6, noise_px=0.5)
        problem.seen.disparity_px[::4] = np.nan
        window = _Window(CAMERA, problem.seen, 4, num_fixed, STD_PX, fit_offset=True)
        state = _State(problem.start_poses, problem.start_points, 2.5)
        normal = window.normal(state, np.ones((24, 3)))
        assert normal.camera_gradient.shape == (6 * (4 - num_fixed) + 1,)

        def cost(step: np.ndarray) -> float:
            moved = window.moved(state, step[: window.size], step[window.size :].reshape(-1, 3))
            return 0.5 * float((window.residuals(moved) ** 2).sum())

        numeric = np.empty(window.size + 18)
        for place in range(len(numeric)):
            move = np.zeros(len(numeric))
            move[place] = 1e-6
            numeric[place] = (cost(move) - cost(-move)) / 2e-6
        analytic = np.concatenate([normal.camera_gradient, normal.point_gradient.ravel()])
        np.testing.assert_allclose(analytic, numeric, rtol=1e-4, atol=1e-5 * np.abs(numeric).max())

    def test_normal_matrix_is_that_of_the_dense_jacobian(self):
        problem = make_problem(num_views=3, num_points=5, noise_px=0.5)
        problem.seen.disparity_px[::4] = np.nan
        window = _Window(CAMERA, problem.seen, 3, 1, STD_PX, fit_offset=True)
        state = _State(problem.start_poses, problem.start_points, 2.5)
        weights = _huber(window.residuals(state))[1]
        jacobian = np.empty((45, window.size + 15))
        for place in range(jacobian.shape[1]):
            move = np.zeros(jacobian.shape[1])
            move[place] = 1e-6
            ahead, behind = (
                window.residuals(window.moved(state, step[: window.size], step[window.size :].reshape(-1, 3)))
                for step in (move, -move)
            )
            jacobian[:, place] = (ahead - behind).ravel() / 2e-6
        dense = jacobian.T @ (weights.reshape(-1, 1) * jacobian)
        normal = window.normal(state, weights)
        cameras = slice(0, window.size)
        scale = np.abs(dense).max()
        np.testing.assert_allclose(normal.cameras, dense[cameras, cameras], atol=1e-6 * scale)
        mixed = normal.mixed.transpose(1, 0, 2).reshape(window.size, 15)
        np.testing.assert_allclose(mixed, dense[cameras, window.size :], atol=1e-6 * scale)
        for number in range(5):
            place = slice(window.size + 3 * number, window.size + 3 * number + 3)
            np.testing.assert_allclose(normal.points[number], dense[place, place], atol=1e-6 * scale)

    def test_residuals_are_none_at_the_truth(self):
        problem = make_problem()
        window = _Window(CAMERA, problem.seen, 5, 1, STD_PX, fit_offset=False)
        state = _State(problem.poses, problem.points, CAMERA.disparity_offset_px)
        np.testing.assert_allclose(window.residuals(state), 0, atol=1e-8)

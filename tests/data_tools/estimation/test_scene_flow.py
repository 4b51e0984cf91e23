"""Where a static world would go, against a slow reference; and what is told of pixels that go elsewhere."""

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rendered_clips import RenderedClip, one_mover, still_things
from scipy.spatial.transform import Rotation

from mllm4d_verl.data_tools.estimation.scene_flow import (
    Evidence,
    StaticFlow,
    fill_from_behind,
    join_evidence,
    motion_evidence,
    static_flow,
    warp_static,
)
from mllm4d_verl.data_tools.geometry import transform_points, world_to_camera_points
from mllm4d_verl.data_tools.stereo.camera import StereoCamera

CAMERA = StereoCamera(12, 9, np.array([[10.0, 0, 5.5], [0, 11.0, 4.2], [0, 0, 1]]), 0.2, disparity_offset_px=-0.7)


def pose(turn: tuple[float, float, float], center: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    matrix[:3, 3] = center
    return matrix


def disparities(seed: int, camera: StereoCamera = CAMERA) -> np.ndarray:
    """Of depths from 1 to 10 metres, with a few unknown."""
    rng = np.random.default_rng(seed)
    disparity = camera.disparity(rng.uniform(1.0, 10.0, (camera.height, camera.width)))
    disparity[rng.random(disparity.shape) < 0.1] = np.nan
    return disparity


def slow_flow(camera, disparity, start, end) -> np.ndarray:
    """(H, W, 3) u, v, disparity by lifting, moving and projecting one pixel after the other."""
    out = np.full((*disparity.shape, 3), np.nan)
    fb = camera.focal_px * camera.baseline
    for v, u in np.ndindex(disparity.shape):
        if not np.isfinite(disparity[v, u]):
            continue
        depth = fb / (float(disparity[v, u]) - camera.disparity_offset_px)
        world = transform_points(start, camera.lift(np.array([[u, v]]), np.array([depth])))
        x, y, z = world_to_camera_points(end, world)[0]
        matrix = camera.intrinsics
        out[v, u] = (
            matrix[0, 0] * x / z + matrix[0, 2],
            matrix[1, 1] * y / z + matrix[1, 2],
            fb / z + camera.disparity_offset_px,
        )
    return out


turns = st.tuples(*[st.floats(-0.2, 0.2)] * 3)
centers = st.tuples(*[st.floats(-0.4, 0.4)] * 3)


class TestStaticFlow:
    @settings(max_examples=25, deadline=None)
    @given(first_turn=turns, first=centers, second_turn=turns, second=centers, seed=st.integers(0, 99))
    def test_equals_the_slow_reference(self, first_turn, first, second_turn, second, seed):
        start, end = pose(first_turn, first), pose(second_turn, second)
        disparity = disparities(seed)
        expected = slow_flow(CAMERA, disparity, start, end)
        depth = 1 / np.maximum(expected[..., 2] - CAMERA.disparity_offset_px, 1e-9)
        assume(np.nanmin(depth) > 0.0)
        still = static_flow(CAMERA, disparity, start, end)
        in_front = np.isfinite(disparity) & (expected[..., 2] > CAMERA.disparity_offset_px + 0.1)
        in_front &= expected[..., 2] < 10  # nearer than 20 cm a rounding error is pixels wide
        for found, wanted in zip((still.u, still.v, still.disparity_px), np.moveaxis(expected, -1, 0), strict=True):
            np.testing.assert_allclose(found[in_front], wanted[in_front], rtol=1e-3, atol=5e-3)
            assert found.dtype == np.float32
            np.testing.assert_array_equal(np.isnan(found), np.isnan(disparity))

    @settings(max_examples=15, deadline=None)
    @given(turn=turns, center=centers, seed=st.integers(0, 99))
    def test_derivatives_equal_finite_differences(self, turn, center, seed):
        start, end = np.eye(4), pose(turn, center)
        disparity = disparities(seed)
        step = 1e-3
        lower, upper = (slow_flow(CAMERA, disparity.astype(np.float64) + s, start, end) for s in (-step, step))
        still = static_flow(CAMERA, disparity, start, end)
        ahead = np.isfinite(disparity) & (upper[..., 2] > CAMERA.disparity_offset_px + 0.1) & (upper[..., 2] < 10)
        for found, index in ((still.du, 0), (still.dv, 1)):
            numeric = (upper[..., index] - lower[..., index]) / (2 * step)
            np.testing.assert_allclose(found[ahead], numeric[ahead], rtol=5e-3, atol=5e-3)
            np.testing.assert_array_equal(np.isnan(found), np.isnan(disparity))

    def test_a_camera_that_stays_leaves_everything_in_place(self):
        disparity = disparities(3)
        where = pose((0.1, -0.3, 0.2), (1.0, 2.0, 3.0))
        still = static_flow(CAMERA, disparity, where, where)
        rows, columns = np.mgrid[: CAMERA.height, : CAMERA.width]
        known = np.isfinite(disparity)
        np.testing.assert_allclose(still.u[known], columns[known], atol=1e-4)
        np.testing.assert_allclose(still.v[known], rows[known], atol=1e-4)
        np.testing.assert_allclose(still.disparity_px[known], disparity[known], atol=1e-4)

    def test_a_turn_moves_pixels_whatever_their_depth(self):
        still = static_flow(CAMERA, disparities(3), np.eye(4), pose((0, 0.1, 0), (0, 0, 0)))
        np.testing.assert_allclose(np.nan_to_num(still.du), 0, atol=1e-6)
        np.testing.assert_allclose(np.nan_to_num(still.dv), 0, atol=1e-6)


def slow_fill(disparity: np.ndarray) -> np.ndarray:
    out = disparity.copy()
    for row in range(len(disparity)):
        for column in range(disparity.shape[1]):
            if np.isfinite(disparity[row, column]):
                continue
            before = [value for value in disparity[row, :column] if np.isfinite(value)][-1:]
            after = [value for value in disparity[row, column + 1 :] if np.isfinite(value)][:1]
            out[row, column] = min(before + after, default=np.nan)
    return out


class TestFillFromBehind:
    @settings(max_examples=80, deadline=None)
    @given(
        arrays(
            np.float32,
            st.tuples(st.integers(1, 4), st.integers(1, 12)),
            elements=st.one_of(st.just(float("nan")), st.floats(0.5, 60, width=32)),
        )
    )
    def test_equals_the_slow_reference(self, disparity):
        given_values = disparity.copy()
        np.testing.assert_array_equal(fill_from_behind(disparity), slow_fill(disparity))
        np.testing.assert_array_equal(disparity, given_values)

    def test_a_hole_beside_a_near_thing_is_filled_with_what_is_behind(self):
        nan = np.nan
        row = np.array([[nan, 2.0, nan, nan, 9.0, 9.0, nan]], np.float32)
        np.testing.assert_array_equal(fill_from_behind(row), [[2.0, 2.0, 2.0, 2.0, 9.0, 9.0, 9.0]])


def gray(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def still_world(clip: RenderedClip, frame: int, other: int) -> StaticFlow:
    return static_flow(clip.camera, clip.disparity[frame], clip.cam_to_world[frame], clip.cam_to_world[other])


def visible(clip: RenderedClip, still: StaticFlow, other: int) -> np.ndarray:
    """(H, W) whether the surface of a pixel shows in the other frame, by the exact depths of both."""
    height, width = still.u.shape
    inside = (still.u >= 0) & (still.v >= 0) & (still.u <= width - 1) & (still.v <= height - 1)
    columns = np.where(inside, still.u, 0).round().astype(int)
    rows = np.where(inside, still.v, 0).round().astype(int)
    return inside & (np.abs(clip.disparity[other][rows, columns] - still.disparity_px) < 0.5)


class TestWarpStatic:
    @pytest.mark.parametrize(("motion", "other"), [("right", 6), ("forward", 4), ("turn_left", 5)])
    def test_a_still_world_looks_as_from_here(self, motion, other):
        clip = still_things(motion)
        here, there = gray(clip.left[0]), gray(clip.left[other])
        still = still_world(clip, 0, other)
        warped = warp_static(there, still, here)
        seen = visible(clip, still, other)
        assert seen.mean() > 0.6
        before, after = cv2.absdiff(there, here)[seen].mean(), cv2.absdiff(warped, here)[seen].mean()
        assert after < 2.5
        assert after < 0.25 * before

    def test_what_is_out_of_sight_or_unknown_is_the_image_itself(self):
        clip = still_things("turn_left")
        here, there = gray(clip.left[0]), gray(clip.left[6])
        disparity = clip.disparity[0].copy()
        disparity[50:60] = np.nan
        still = static_flow(clip.camera, disparity, clip.cam_to_world[0], clip.cam_to_world[6])
        warped = warp_static(there, still, here)
        np.testing.assert_array_equal(warped[50:60], here[50:60])
        gone = (still.u < 0) | (still.u > clip.camera.width - 1)
        assert gone.any()
        np.testing.assert_array_equal(warped[gone], here[gone])
        assert warped.dtype == np.uint8


def evidence(clip: RenderedClip, frame: int, other: int, disparity: np.ndarray | None = None) -> Evidence:
    disparity = clip.disparity[frame] if disparity is None else disparity
    poses = clip.cam_to_world
    still = static_flow(clip.camera, fill_from_behind(disparity), poses[frame], poses[other])
    here = gray(clip.left[frame])
    warped = warp_static(gray(clip.left[other]), still, here)
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(here, warped, None)
    known = np.isfinite(disparity)
    return motion_evidence(still, known, here, warped, clip.disparity[other], flow, 0.35, 0.3)


class TestMotionEvidence:
    @pytest.mark.parametrize(("frame", "other"), [(4, 6), (6, 4)])
    def test_what_moves_stands_out(self, frame, other):
        clip = one_mover()
        seen = evidence(clip, frame, other)
        moving = clip.mask[frame] == 1
        mover, rest = np.nanmedian(seen.sigmas[moving]), np.nanmedian(seen.sigmas[~moving])
        assert mover > 3
        assert mover > 4 * rest
        # A still thing is no more than the room.
        assert np.nanmedian(seen.sigmas[clip.mask[frame] == 2]) < 0.4 * mover
        assert np.median(seen.gain[moving]) > np.median(seen.gain[~moving])

    def test_what_the_mover_hides_in_the_other_frame_tells_nothing(self):
        clip = one_mover()
        frame, other = 3, 8
        seen = evidence(clip, frame, other)
        still = still_world(clip, frame, other)
        room = clip.mask[frame] == 0
        hidden = room & ~visible(clip, still, other) & (still.u >= 1) & (still.u <= clip.camera.width - 2)
        hidden &= (still.v >= 1) & (still.v <= clip.camera.height - 2)
        hidden = cv2.erode(hidden.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        assert hidden.sum() > 100
        shown = room & visible(clip, still, other)
        assert np.isnan(seen.sigmas[hidden]).mean() > 0.5
        assert np.isnan(seen.sigmas[shown]).mean() < 0.2

    def test_nothing_is_said_of_pixels_without_a_disparity_or_out_of_sight(self):
        clip = still_things("turn_left")
        disparity = clip.disparity[0].copy()
        disparity[30:40, 50:80] = np.nan
        seen = evidence(clip, 0, 6, disparity)
        assert np.isnan(seen.sigmas[30:40, 50:80]).all()
        np.testing.assert_array_equal(seen.gain[30:40, 50:80], 0)
        still = still_world(clip, 0, 6)
        gone = (still.u < 0) | (still.u >= clip.camera.width - 1)
        assert np.isnan(seen.sigmas[gone]).all()

    def test_it_is_measured_in_the_other_frame(self):
        clip = one_mover()
        seen = evidence(clip, 4, 6)
        still = still_world(clip, 4, 6)
        told = np.isfinite(seen.sigmas) & (clip.mask[4] == 0)
        np.testing.assert_allclose(np.median(seen.other_pixels[told][:, 0] - still.u[told]), 0, atol=0.2)
        known = told & np.isfinite(seen.other_disparity_px)
        assert np.median(np.abs(seen.other_disparity_px - still.disparity_px)[known]) < 0.2
        # The box goes 14 cm to the right between the two, about 7 pixels.
        residual = np.median(seen.residual_px[clip.mask[4] == 1], axis=0)
        assert 4 < residual[0] < 10
        assert abs(residual[1]) < 1.5

    def test_the_least_evidence_of_several_frames_counts(self):
        empty = np.zeros((1, 3, 2), np.float32)

        def of(*sigmas: float) -> Evidence:
            values = np.array([sigmas], np.float32)
            return Evidence(values, empty, np.zeros_like(values), empty, np.zeros_like(values), np.isnan(values))

        nan = float("nan")
        np.testing.assert_array_equal(join_evidence([of(5, nan, nan), of(2, 7, nan)]), [[2, 7, nan]])

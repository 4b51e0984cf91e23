"""Poses of rendered clips with exact disparities against the truth, and what becomes of frames that show nothing."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rendered_clips import RenderedClip, large_mover, still_things

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.estimation.odometry import (
    OdometryConfig,
    StereoOdometry,
    Trajectory,
    pose_from_vectors,
    sample_disparity,
    vectors_from_pose,
)
from mllm4d_verl.data_tools.geometry import invert_pose


def estimate(clip: RenderedClip, left=None, disparity=None, config: OdometryConfig | None = None) -> Trajectory:
    odometry = StereoOdometry(clip.camera, config or OdometryConfig())
    left = clip.left if left is None else left
    disparity = clip.disparity if disparity is None else disparity
    for image, disparity_px in zip(left, disparity, strict=True):
        odometry.add(image, disparity_px)
    return odometry.finish()


def errors(estimated: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Metres between two centres and degrees between two rotations, of poses (4, 4)."""
    turn = cv2.Rodrigues(estimated[:3, :3].T @ true[:3, :3])[0]
    return float(np.linalg.norm(estimated[:3, 3] - true[:3, 3])), float(np.degrees(np.linalg.norm(turn)))


class TestPoses:
    @pytest.mark.parametrize("motion", ["right", "forward", "turn_left", "still"])
    def test_the_last_frame_is_where_the_camera_is(self, motion):
        clip = still_things(motion)
        found = estimate(clip)
        assert found.cam_to_world.shape == (len(clip.left), 4, 4)
        np.testing.assert_array_equal(found.cam_to_world[0], np.eye(4))
        center_m, turn_deg = errors(found.cam_to_world[-1], clip.cam_to_world[-1])
        path_m = np.linalg.norm(np.diff(clip.cam_to_world[:, :3, 3], axis=0), axis=1).sum()
        assert center_m < max(0.02, 0.02 * path_m)
        assert turn_deg < 0.2
        assert found.path_m == pytest.approx(path_m, abs=0.03)
        assert not found.lost.any()

    def test_poses_are_rigid(self):
        poses = estimate(still_things("forward")).cam_to_world
        rotation = poses[:, :3, :3]
        np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.tile(np.eye(3), (12, 1, 1)), atol=1e-9)
        np.testing.assert_array_equal(poses[:, 3], np.tile([0.0, 0, 0, 1], (12, 1)))

    def test_without_refinement_it_is_close_too(self):
        clip = still_things("right")
        found = estimate(clip, config=OdometryConfig(window=0))
        center_m, turn_deg = errors(found.cam_to_world[-1], clip.cam_to_world[-1])
        assert center_m < 0.04
        assert turn_deg < 0.4

    def test_the_same_clip_gives_the_same_bytes(self):
        clip = still_things("right")
        first, second = estimate(clip), estimate(clip)
        for name in ("cam_to_world", "reprojection_px", "num_inliers", "num_matches", "center_std_m", "lost"):
            assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), name

    def test_a_grey_image_is_its_own_grey_rgb(self):
        clip = still_things("forward")
        gray = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in clip.left[:5]]
        flat = estimate(clip, gray, clip.disparity[:5])
        deep = estimate(clip, [np.repeat(image[..., None], 3, axis=2) for image in gray], clip.disparity[:5])
        assert flat.cam_to_world.tobytes() == deep.cam_to_world.tobytes()

    @pytest.mark.parametrize(
        ("half_size_m", "share"),
        [
            (0.4, 0.08),
            (0.6, 0.2),
            pytest.param(
                0.7,
                0.3,
                marks=pytest.mark.xfail(
                    strict=True,
                    reason="a pose that fits the object and the far wall alike, both to within 1.5 pixels, has more "
                    "inliers in the first frames than the true one: the camera ends 0.9 m off",
                ),
            ),
        ],
    )
    def test_a_moving_object_does_not_drag_the_camera(self, half_size_m, share):
        clip = large_mover(half_size_m)
        assert (clip.mask[5] == 1).mean() == pytest.approx(share, abs=0.03)
        center_m, turn_deg = errors(estimate(clip).cam_to_world[-1], clip.cam_to_world[-1])
        # It goes 66 cm; a camera that followed it would be off by a good part of that.
        assert center_m < 0.05
        assert turn_deg < 0.5


class TestFigures:
    def test_noise_is_finite_and_small_where_matches_are_plenty(self):
        found = estimate(still_things("right"))
        assert np.isfinite(found.center_std_m).all()
        assert found.center_std_m[0] == 0
        assert found.center_std_m.max() < 0.02
        assert (found.num_matches[1:] > 100).all()
        assert (found.num_inliers[1:] > 100).all()

    def test_reprojection_is_a_fraction_of_a_pixel(self):
        found = estimate(still_things("forward"))
        assert found.reprojection_px[0] == 0
        assert (found.reprojection_px[1:] < 0.7).all()


class TestNothingToSee:
    def test_blank_frames_are_lost_and_later_ones_go_on(self):
        clip = still_things("right")
        left = clip.left.copy()
        left[4:6] = 128
        found = estimate(clip, left)
        assert np.isfinite(found.cam_to_world).all()
        assert found.lost[4:6].all()
        assert np.isnan(found.reprojection_px[found.lost]).all()
        assert not found.lost[:4].any()
        assert not found.lost[7:].any()
        # Where the camera went meanwhile is a guess; how it moves since then is not.
        since = invert_pose(found.cam_to_world[7]) @ found.cam_to_world[-1]
        truth = invert_pose(clip.cam_to_world[7]) @ clip.cam_to_world[-1]
        assert errors(since, truth)[0] < 0.02

    def test_a_clip_that_starts_blank_goes_on_from_what_comes_into_sight(self):
        clip = still_things("still")
        left = clip.left[:6].copy()
        left[:2] = 0
        found = estimate(clip, left, clip.disparity[:6])
        np.testing.assert_array_equal(found.lost, [False, True, True, False, False, False])
        np.testing.assert_allclose(found.cam_to_world, np.tile(np.eye(4), (6, 1, 1)), atol=1e-3)

    def test_without_any_depth_every_frame_is_lost(self):
        clip = still_things("right")
        found = estimate(clip, clip.left[:3], np.full_like(clip.disparity[:3], np.nan))
        assert found.lost[1:].all()
        np.testing.assert_array_equal(found.cam_to_world, np.tile(np.eye(4), (3, 1, 1)))

    def test_holes_in_the_disparity_do_no_harm(self):
        clip = still_things("right")
        disparity = clip.disparity.copy()
        disparity[:, :, ::40] = np.nan
        disparity[:, 60:90] = np.nan
        found = estimate(clip, disparity=disparity)
        assert not found.lost.any()
        assert errors(found.cam_to_world[-1], clip.cam_to_world[-1])[0] < 0.03

    def test_one_frame_is_the_identity(self):
        clip = still_things("right")
        found = estimate(clip, clip.left[:1], clip.disparity[:1])
        np.testing.assert_array_equal(found.cam_to_world, np.eye(4)[None])
        assert found.path_m == 0
        assert not found.lost.any()

    def test_no_frame_is_refused(self):
        with pytest.raises(InputError, match="frames"):
            StereoOdometry(still_things("right").camera).finish()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_corners", 0),
        ("window_px", 0),
        ("min_inliers", 0),
        ("keyframe_gap", 0),
        ("back_tolerance_px", 0.0),
        ("ransac_px", -1.0),
        ("max_depth", float("nan")),
        ("disparity_std_px", 0.0),
        ("ransac_px", float("inf")),
        ("pyramid_levels", -1),
        ("pyramid_levels", 9),
        ("min_corner_distance", -0.1),
        ("min_corner_distance", 1.0),
        ("keyframe_overlap", 1.5),
        ("keyframe_overlap", float("nan")),
        ("window", 1),
        ("window", -2),
    ],
)
def test_a_config_that_cannot_be_names_its_field(field, value):
    with pytest.raises(InputError) as caught:
        OdometryConfig(**{field: value})
    assert caught.value.field == f"odometry.{field}"
    assert str(value) in caught.value.problem


def plane(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return (3 + 0.1 * columns + 0.2 * rows).astype(np.float32)


class TestSampleDisparity:
    @settings(max_examples=50, deadline=None)
    @given(u=st.floats(0, 39, width=32), v=st.floats(0, 19, width=32))
    def test_bilinear_on_a_plane(self, u, v):
        found = sample_disparity(plane(20, 40), np.array([[u, v]], np.float32))
        assert found[0] == pytest.approx(3 + 0.1 * u + 0.2 * v, abs=1e-3)

    def test_no_mean_of_two_surfaces(self):
        disparity = np.full((10, 20), 4.0, np.float32)
        disparity[:, 10:] = 9.0
        found = sample_disparity(disparity, np.array([[8.5, 4.0], [9.5, 4.0], [9.01, 4.0], [10.5, 4.0]], np.float32))
        np.testing.assert_array_equal(found, [4.0, np.nan, np.nan, 9.0])

    def test_nothing_beside_the_unknown(self):
        disparity = plane(10, 20)
        disparity[5, 10] = np.nan
        pixels = np.array([[9.5, 4.5], [10.5, 5.5], [9.2, 5.8], [8.5, 4.5], [11.5, 5.0]], np.float32)
        np.testing.assert_array_equal(np.isnan(sample_disparity(disparity, pixels)), [True, True, True, False, False])

    def test_corners_of_the_image(self):
        disparity = plane(10, 20)
        pixels = np.array([[0, 0], [19, 0], [0, 9], [19, 9]], np.float32)
        expected = [disparity[0, 0], disparity[0, 19], disparity[9, 0], disparity[9, 19]]
        np.testing.assert_allclose(sample_disparity(disparity, pixels), expected, atol=1e-3)

    def test_no_pixels_no_values(self):
        assert sample_disparity(plane(10, 20), np.zeros((0, 2), np.float32)).shape == (0,)


unit = st.floats(-1, 1)


class TestVectors:
    @settings(max_examples=80, deadline=None)
    @given(
        axis=st.tuples(unit, unit, unit).filter(lambda axis: np.linalg.norm(axis) > 0.1),
        angle=st.floats(0, np.pi - 0.01),
        translation=st.tuples(*[st.floats(-50, 50)] * 3),
    )
    def test_round_trip(self, axis, angle, translation):
        rotation = np.array(axis) / np.linalg.norm(axis) * angle
        pose = pose_from_vectors(rotation, np.array(translation))
        back_rotation, back_translation = vectors_from_pose(pose)
        # OpenCV takes turns of less than 1e-5 radians for none, and comes back from near half a turn as coarsely.
        np.testing.assert_allclose(back_rotation.ravel(), rotation, atol=3e-5)
        np.testing.assert_allclose(back_translation.ravel(), translation, atol=1e-9 + 1e-12 * np.abs(translation).max())
        np.testing.assert_allclose(pose_from_vectors(back_rotation, back_translation), pose, atol=3e-5 * 90)

    def test_the_centre_of_a_camera_is_what_maps_to_its_origin(self):
        rotation, translation = np.array([0.1, -0.4, 0.2]), np.array([1.0, -2.0, 3.0])
        center = pose_from_vectors(rotation, translation)[:3, 3]
        np.testing.assert_allclose(cv2.Rodrigues(rotation)[0] @ center + translation, 0, atol=1e-12)

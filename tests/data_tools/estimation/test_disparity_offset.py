"""A wrong disparity offset is found and applied, a right one is left alone; on rendered and on real clips."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from rendered_clips import RenderedClip, still_things

from mllm4d_verl.data_tools.estimation.disparity import DisparityConfig, make_disparity_estimator
from mllm4d_verl.data_tools.estimation.disparity_offset import OFFSET_FRAMES, DisparityOffset, settle_offset
from mllm4d_verl.data_tools.estimation.odometry import OdometryConfig, StereoOdometry
from mllm4d_verl.data_tools.readers import open_clip
from mllm4d_verl.data_tools.readers.kitti_odometry import KittiOdometryReader

REAL = Path(__file__).parents[4] / "shared" / "data" / "kitti_odom_gray_seq2"


def settled(clip: RenderedClip, added_px: float) -> tuple[StereoOdometry, StereoOdometry, DisparityOffset]:
    """The odometry that was given, the one that came back, and what was found, with disparities that are off."""
    odometry = StereoOdometry(clip.camera, OdometryConfig())
    frames = list(zip(clip.left, clip.disparity + np.float32(added_px), strict=True))
    for left, disparity in frames:
        odometry.add(left, disparity)
    return odometry, *settle_offset(odometry, frames)


@pytest.mark.parametrize("motion", ["forward", "turn_left", "still"])
def test_a_camera_that_fits_is_left_alone(motion):
    given, back, found = settled(still_things(motion), 0.0)
    assert back is given
    assert found.applied_px == 0


@pytest.mark.parametrize("added_px", [-0.6, 0.8])
def test_what_was_added_to_all_disparities_is_found(added_px):
    clip = still_things("forward")
    given, back, found = settled(clip, added_px)
    assert found.applied_px == pytest.approx(added_px, abs=0.15)
    assert abs(found.applied_px - added_px) < 4 * found.std_px
    assert back.camera.disparity_offset_px == found.applied_px
    true = clip.cam_to_world[-1, :3, 3]
    wrong, right = (np.linalg.norm(item.finish().cam_to_world[-1, :3, 3] - true) for item in (given, back))
    assert right < 0.02
    assert right < wrong


def test_a_camera_that_stands_still_tells_nothing():
    given, back, found = settled(still_things("still"), 0.8)
    assert back is given
    assert found.applied_px == 0


def test_nothing_seen_is_no_doubt():
    clip = still_things("forward")
    odometry = StereoOdometry(clip.camera, OdometryConfig())
    frames = [(left, np.full_like(clip.disparity[0], np.nan)) for left in clip.left[:4]]
    for left, disparity in frames:
        odometry.add(left, disparity)
    back, found = settle_offset(odometry, frames)
    assert back is odometry
    assert found.applied_px == 0
    assert np.isnan(found.std_px)


@pytest.mark.skipif(not REAL.is_dir(), reason="KITTI frames are not here")
def test_kitti_frames_need_most_of_a_pixel_and_end_within_two_percent():
    reader = KittiOdometryReader()
    clip = open_clip(reader.find(REAL)[0])
    pairs = list(clip.pairs(0, 21))
    # Half the size is a third of the time, and moves the offset by a tenth of a pixel.
    estimator = make_disparity_estimator(DisparityConfig(halve=True), clip, pairs[::5], with_confidence=False)
    odometry = StereoOdometry(clip.camera)
    frames = []
    for pair in pairs:
        gray = cv2.cvtColor(pair.left, cv2.COLOR_RGB2GRAY)
        frames.append((gray, estimator.compute(pair.left, pair.right, pair.frame).pixels))
        odometry.add(*frames[-1])
    assert len(frames) <= OFFSET_FRAMES
    back, found = settle_offset(odometry, frames)
    assert -1.3 < found.applied_px < -0.5
    centers, true = back.finish().cam_to_world[:, :3, 3], clip.cam_to_world[:21, :3, 3]
    path_m = np.linalg.norm(np.diff(true, axis=0), axis=1).sum()
    assert np.linalg.norm(centers[20] - true[20]) < 0.02 * path_m

"""Disparity of rendered pairs against the exact depth, and of a real pair against its ground truth."""

import pickle
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.estimation.disparity import (
    DisparityConfig,
    DisparityRange,
    MatchedDisparity,
    find_disparity_range,
    make_disparity_estimator,
)
from mllm4d_verl.data_tools.stereo.camera import StereoCamera
from mllm4d_verl.data_tools.stereo.clip import StereoPair
from mllm4d_verl.data_tools.synthetic import clip_scene, world_preset
from mllm4d_verl.data_tools.synthetic.render import render_stereo

ALOE = Path(__file__).parents[4] / "shared" / "data" / "opencv_aloe"
SIZE = 320


@pytest.fixture(scope="module")
def world() -> SimpleNamespace:
    config = world_preset("default")
    render = render_stereo(clip_scene(4242, 1, 2, 1.0, config), config, SIZE, SIZE)
    camera = StereoCamera(SIZE, SIZE, render.intrinsics, config.baseline_m)
    pair = StereoPair(0, render.left[0], render.right[0])
    return SimpleNamespace(camera=camera, pair=pair, depth=render.depth[0], clip=SimpleNamespace(camera=camera))


def estimate(world, pair=None, **config):
    pair = pair or world.pair
    return make_disparity_estimator(DisparityConfig(**config), world.clip, [pair]).compute(pair.left, pair.right, 0)


def relative_error(world, disparity):
    """Relative depth errors at 2 to 8 m, and the share of those pixels that have an answer."""
    depth = world.camera.depth(disparity.pixels)
    wanted = (world.depth >= 2) & (world.depth <= 8)
    known = wanted & np.isfinite(depth)
    return np.abs(depth - world.depth)[known] / world.depth[known], known.sum() / wanted.sum()


@pytest.mark.parametrize(
    ("config", "error", "share"),
    [
        ({}, 0.015, 0.93),
        ({"halve": True}, 0.015, 0.93),
        ({"halve_rows": True}, 0.015, 0.93),
        ({"method": "bm"}, 0.015, 0.7),
        ({"paths": 8}, 0.015, 0.93),
        ({"refine": False}, 0.03, 0.93),
    ],
    ids=str,
)
def test_depth_of_the_world(world, config, error, share):
    errors, known = relative_error(world, estimate(world, **config))
    assert np.median(errors) < error
    assert known > share


def test_refinement_lowers_the_error_by_a_third(world):
    refined, _ = relative_error(world, estimate(world))
    raw, _ = relative_error(world, estimate(world, refine=False))
    assert np.median(refined) < 0.67 * np.median(raw)


def test_the_stated_deviation_is_that_of_the_errors(world):
    disparity = estimate(world)
    errors = np.abs(disparity.pixels - world.camera.disparity(world.depth))
    measured = 1.4826 * np.nanmedian(errors)
    assert 0.5 * measured < disparity.std_px < 3 * measured


def test_confidence_tells_good_from_bad(world):
    disparity = estimate(world)
    assert disparity.confidence.min() >= 0
    assert disparity.confidence.max() <= 1
    assert (disparity.confidence[np.isnan(disparity.pixels)] == 0).all()
    wrong = np.abs(disparity.pixels - world.camera.disparity(world.depth)) > 1
    known = np.isfinite(disparity.pixels)
    sure, unsure = known & (disparity.confidence > 0.6), known & (disparity.confidence < 0.3)
    assert wrong[unsure].mean() > 5 * wrong[sure].mean()


def test_holes_stay_holes(world):
    """A bright square that only the right eye sees hides the wall from it; the left eye has no match there."""
    right = world.pair.right.copy()
    right[100:160, 100:180] = np.random.default_rng(0).integers(0, 255, (60, 80, 3))
    disparity = estimate(world, StereoPair(0, world.pair.left, right))
    hidden = np.s_[115:145, 140:170]  # away from the square's edges, for any disparity of the scene
    assert np.isnan(disparity.pixels[hidden]).mean() > 0.5


def test_no_match_outside_the_right_image(world):
    pixels = estimate(world).pixels
    assert not (pixels > np.arange(SIZE)).any()
    assert np.isfinite(pixels[:, 8:40]).mean() > 0.5  # nearer the border than the range of disparities is wide


def test_flat_images_have_no_disparity(world):
    flat = np.full((SIZE, SIZE, 3), 90, np.uint8)
    disparity = estimate(world, StereoPair(0, flat, flat))
    assert np.isnan(disparity.pixels).all()
    assert (disparity.confidence == 0).all()


def test_eyes_of_other_exposure(world):
    darker = np.clip(world.pair.right * 0.8 + 10, 0, 255).astype(np.uint8)
    errors, known = relative_error(world, estimate(world, StereoPair(0, world.pair.left, darker)))
    assert np.median(errors) < 0.015
    assert known > 0.9


def test_grey_images_are_taken(world):
    gray = StereoPair(0, *(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in world.pair[1:]))
    np.testing.assert_array_equal(estimate(world, gray).pixels, estimate(world).pixels)


def test_the_same_answer_again_after_pickling_and_with_any_threads(world):
    estimator = make_disparity_estimator(DisparityConfig(), world.clip, [world.pair])
    expected = estimator.compute(*world.pair[1:], 0)
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        again = pickle.loads(pickle.dumps(estimator)).compute(*world.pair[1:], 0)
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(again.pixels, expected.pixels)
    assert again.std_px == expected.std_px


def test_earlier_answers_are_not_written_over(world):
    estimator = make_disparity_estimator(DisparityConfig(), world.clip, [world.pair])
    first = estimator.compute(*world.pair[1:], 0)
    copies = first.pixels.copy(), first.confidence.copy()
    estimator.compute(world.pair.left[::-1].copy(), world.pair.right[::-1].copy(), 1)
    np.testing.assert_array_equal(first.pixels, copies[0])
    np.testing.assert_array_equal(first.confidence, copies[1])


class TestRange:
    def test_found_from_the_pairs(self, world):
        found = find_disparity_range(DisparityConfig(), world.clip, [world.pair])
        nearest = world.camera.disparity(world.depth).max()
        assert found.minimum == 0
        assert found.length % 16 == 0
        assert nearest < found.length <= 2 * nearest + 16

    def test_a_near_scene_leaves_infinity_out(self, world):
        # 60 columns cut from the left of the left image and the right of the right one: 60 px more disparity.
        pair = StereoPair(0, world.pair.left[:, :-60], world.pair.right[:, 60:])
        camera = StereoCamera(SIZE - 60, SIZE, world.camera.intrinsics, 1.0)
        clip = SimpleNamespace(camera=camera)
        found = find_disparity_range(DisparityConfig(), clip, [pair])
        truth = world.camera.disparity(world.depth[:, :-60]) + 60
        assert 16 <= found.minimum < truth.min()
        assert found.minimum + found.length > truth.max()
        pixels = make_disparity_estimator(DisparityConfig(), clip, [pair]).compute(*pair[1:], 0).pixels
        assert np.nanmedian(np.abs(pixels - truth)) < 0.2

    def test_an_offset_of_the_camera_moves_it(self, world):
        # 30 columns cut the other way: disparities become negative, which the offset explains.
        pair = StereoPair(0, world.pair.left[:, 30:], world.pair.right[:, :-30])
        camera = StereoCamera(SIZE - 30, SIZE, world.camera.intrinsics, world.camera.baseline, -30.0)
        clip = SimpleNamespace(camera=camera)
        assert find_disparity_range(DisparityConfig(), clip, [pair]).minimum == -30
        pixels = make_disparity_estimator(DisparityConfig(), clip, [pair]).compute(*pair[1:], 0).pixels
        truth = world.depth[:, 30:]
        assert np.nanmedian(np.abs(camera.depth(pixels) - truth) / truth) < 0.015

    def test_given_by_the_user(self, world):
        by_depth = find_disparity_range(DisparityConfig(min_depth_m=0.5), world.clip, [world.pair])
        nearest = world.camera.disparity(np.array([0.5]))[0]
        assert nearest < by_depth.minimum + by_depth.length <= nearest + 17
        by_pixels = find_disparity_range(DisparityConfig(max_disparity_px=60), world.clip, [world.pair])
        assert by_pixels == DisparityRange(0, 64)

    def test_without_matches_an_eighth_of_the_width(self, world):
        assert find_disparity_range(DisparityConfig(), world.clip, []) == DisparityRange(0, 48)


class TestSource:
    def clip(self, world, disparity=None, depth=None):
        return SimpleNamespace(
            camera=world.camera, path=Path("clip"), disparity=lambda frame: disparity, depth=lambda frame: depth
        )

    def test_its_disparity_is_passed_on(self, world):
        given = world.camera.disparity(world.depth)
        estimator = make_disparity_estimator(DisparityConfig(method="source"), self.clip(world, given), [])
        assert estimator.compute(*world.pair[1:], 0).pixels is given

    def test_its_depth_becomes_disparity(self, world):
        estimator = make_disparity_estimator(DisparityConfig(method="source"), self.clip(world, None, world.depth), [])
        disparity = estimator.compute(*world.pair[1:], 0)
        np.testing.assert_allclose(world.camera.depth(disparity.pixels), world.depth, rtol=1e-4)

    def test_neither(self, world):
        estimator = make_disparity_estimator(DisparityConfig(method="source"), self.clip(world), [])
        with pytest.raises(InputError, match="row frame 3: the source has neither"):
            estimator.compute(*world.pair[1:], 3)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"method": "sgm"}, "disparity.method"),
        ({"block_px": 4}, "disparity.block_px"),
        ({"block_px": 31}, "disparity.block_px"),
        ({"paths": 4}, "disparity.paths"),
        ({"min_depth_m": 0.0}, "disparity.min_depth_m"),
        ({"max_disparity_px": -5.0}, "disparity.max_disparity_px"),
        ({"min_depth_m": 1.0, "max_disparity_px": 64.0}, "disparity.max_disparity_px"),
        ({"left_right_max_diff_px": -1}, "disparity.left_right_max_diff_px"),
        ({"uniqueness_percent": 100}, "disparity.uniqueness_percent"),
    ],
    ids=str,
)
def test_wrong_settings(config, field):
    with pytest.raises(InputError) as caught:
        DisparityConfig(**config)
    assert caught.value.field == field


@pytest.mark.parametrize("size", [(97, 131), (48, 64)])
@pytest.mark.parametrize("halve", [False, True])
def test_odd_and_small_sizes(world, size, halve):
    height, width = size
    estimator = MatchedDisparity(DisparityConfig(halve=halve), DisparityRange(0, 32))
    pixels = estimator.compute(world.pair.left[:height, :width], world.pair.right[:height, :width], 0).pixels
    assert pixels.shape == size
    truth = world.camera.disparity(world.depth[:height, :width])
    assert np.nanmedian(np.abs(pixels - truth)) < 0.3


@pytest.mark.skipif(not ALOE.is_dir(), reason="the Aloe pair is not here")
def test_aloe_is_within_two_pixels():
    left, right = (cv2.imread(str(ALOE / name)) for name in ("aloeL.jpg", "aloeR.jpg"))
    truth = cv2.imread(str(ALOE / "aloeGT.png"), cv2.IMREAD_GRAYSCALE).astype(np.float32)
    height, width = truth.shape
    intrinsics = np.array([[3740.0, 0, width / 2], [0, 3740.0, height / 2], [0, 0, 1]])
    clip = SimpleNamespace(camera=StereoCamera(width, height, intrinsics, 0.16))
    pair = StereoPair(0, left, right)
    pixels = make_disparity_estimator(DisparityConfig(), clip, [pair]).compute(left, right, 0).pixels
    known = (truth > 0) & np.isfinite(pixels)
    assert (np.abs(pixels - truth)[known] < 2).mean() > 0.96
    assert known.sum() / (truth > 0).sum() > 0.8

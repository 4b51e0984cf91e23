"""Whether two eyes fit together, on rendered pairs that were spoilt in known ways."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mllm4d_verl.data_tools.stereo.alignment import AlignmentLimits, alignment_fault, find_matches, measure_alignment
from mllm4d_verl.data_tools.stereo.clip import StereoPair
from mllm4d_verl.data_tools.synthetic import clip_scene, world_preset
from mllm4d_verl.data_tools.synthetic.render import render_stereo

DATA = Path(__file__).parents[4] / "shared" / "data"
SIZE = 256


@pytest.fixture(scope="module")
def pairs() -> list[StereoPair]:
    config = world_preset("default")
    render = render_stereo(clip_scene(77, 0, 3, 1.0, config), config, SIZE, SIZE)
    return [StereoPair(frame, render.left[frame], render.right[frame]) for frame in (0, 2)]


def changed(pairs, change) -> list[StereoPair]:
    return [StereoPair(pair.frame, *change(pair.left, pair.right)) for pair in pairs]


def warped(image, matrix):
    return cv2.warpAffine(image, np.float32(matrix), (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT)


def test_a_rectified_pair_passes_with_figures(pairs):
    alignment = measure_alignment(pairs)
    assert alignment_fault(alignment) is None
    assert alignment.num_pairs == 2
    assert alignment.num_matches > 150
    assert alignment.vertical_error_px < 0.1
    assert alignment.negative_disparity_share < 0.02
    low, high = alignment.disparity_range_px
    assert 1 < low < alignment.disparity_px < high < 40


@pytest.mark.parametrize("shift", [-12.0, 1.5, 4.0])
def test_rows_that_are_off_are_measured_and_named(pairs, shift):
    alignment = measure_alignment(changed(pairs, lambda left, right: (left, warped(right, [[1, 0, 0], [0, 1, shift]]))))
    assert alignment.vertical_bias_px == pytest.approx(shift, abs=0.15)
    assert alignment.vertical_error_px == pytest.approx(abs(shift), abs=0.15)
    assert alignment_fault(alignment).startswith("bad rectification: ")


def test_a_turned_eye_is_seen_though_its_bias_is_nought(pairs):
    turn = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), 2.0, 1.0)
    alignment = measure_alignment(changed(pairs, lambda left, right: (left, warped(right, turn))))
    assert abs(alignment.vertical_bias_px) < alignment.vertical_error_px
    assert alignment_fault(alignment).startswith("bad rectification: ")


def test_half_a_pixel_is_allowed_and_the_limit_can_be_set(pairs):
    alignment = measure_alignment(changed(pairs, lambda left, right: (left, warped(right, [[1, 0, 0], [0, 1, 0.5]]))))
    assert alignment_fault(alignment) is None
    assert alignment_fault(alignment, AlignmentLimits(max_vertical_error_px=0.3)).startswith("bad rectification")


def test_swapped_eyes_are_called_so(pairs):
    alignment = measure_alignment(changed(pairs, lambda left, right: (right, left)))
    assert alignment.negative_disparity_share > 0.9
    assert alignment_fault(alignment).startswith("swapped eyes: ")


def test_swapped_eyes_with_rows_off_are_called_both(pairs):
    alignment = measure_alignment(changed(pairs, lambda left, right: (warped(right, [[1, 0, 0], [0, 1, 3]]), left)))
    assert "swapped eyes" in alignment_fault(alignment)
    assert "rows are off by 3.0 px" in alignment_fault(alignment)


def test_one_video_twice_is_called_so(pairs):
    def noisy_copy(left, right):
        noise = np.random.default_rng(0).normal(0, 2, left.shape)
        return left, np.clip(left + noise, 0, 255).astype(np.uint8)

    alignment = measure_alignment(changed(pairs, noisy_copy))
    assert alignment_fault(alignment).startswith("identical eyes: ")


def test_eyes_shifted_against_each_other(pairs):
    # Cropped apart, so that the middle of the scene has disparity 0, as in films for the cinema.
    shift = measure_alignment(pairs).disparity_px
    alignment = measure_alignment(
        changed(pairs, lambda left, right: (left, warped(right, [[1, 0, shift + 2], [0, 1, 0]])))
    )
    assert alignment_fault(alignment).partition(":")[0] in ("negative disparity", "swapped eyes")
    known = measure_alignment(
        changed(pairs, lambda left, right: (left, warped(right, [[1, 0, shift + 2], [0, 1, 0]]))), -shift - 2
    )
    assert alignment_fault(known) is None


@pytest.mark.parametrize("level", [0, 128])
def test_flat_images_have_too_few_matches(level):
    flat = np.full((SIZE, SIZE, 3), level, np.uint8)
    alignment = measure_alignment([StereoPair(0, flat, flat)])
    assert alignment.num_matches == 0
    assert np.isnan(alignment.vertical_error_px)
    assert alignment_fault(alignment).startswith("too few matches: 0 points")


def test_independent_noise_does_not_match():
    rng = np.random.default_rng(1)
    left, right = (rng.integers(0, 255, (SIZE, SIZE), np.uint8) for _ in range(2))
    assert alignment_fault(measure_alignment([StereoPair(0, left, right)])).startswith("too few matches")


def test_no_pairs():
    assert alignment_fault(measure_alignment([])).startswith("too few matches")


def test_large_images_are_measured_in_their_own_pixels(pairs):
    big = [cv2.resize(image, (1200, 1200), interpolation=cv2.INTER_CUBIC) for image in (pairs[0].left, pairs[0].right)]
    small, large = find_matches(pairs[0].left, pairs[0].right), find_matches(*big)
    ratio = np.median((large.left - large.right)[:, 0]) / np.median((small.left - small.right)[:, 0])
    assert ratio == pytest.approx(1200 / SIZE, rel=0.1)
    assert np.median(np.abs((large.left - large.right)[:, 1])) < 0.3


@pytest.mark.skipif(not (DATA / "kitti_odom_gray_seq2").is_dir(), reason="KITTI frames are not here")
def test_real_frames_pass_and_fail_when_swapped():
    eyes = [
        [cv2.imread(str(DATA / "kitti_odom_gray_seq2" / eye / f"{frame:06d}.png")) for eye in ("image_l", "image_r")]
        for frame in (0, 10)
    ]
    alignment = measure_alignment([StereoPair(0, left, right) for left, right in eyes])
    assert alignment_fault(alignment) is None
    assert alignment.vertical_error_px < 0.7
    swapped = measure_alignment([StereoPair(0, right, left) for left, right in eyes])
    assert alignment_fault(swapped).startswith("swapped eyes: ")

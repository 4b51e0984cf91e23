"""Regions of evidence made into segments of one surface each."""

import numpy as np
import pytest

from mllm4d_verl.data_tools.estimation.segmentation import Segment, find_segments

SIZE = 64
THING = np.s_[20:44, 12:52]


def segments(disparity_px: np.ndarray, min_pixels: int = 40) -> list[Segment]:
    """Of a thing that moves by two pixels, of one colour, before a still background."""
    inside = np.zeros((SIZE, SIZE), bool)
    inside[THING] = True
    noise = np.random.default_rng(0).integers(0, 20, (SIZE, SIZE, 3))
    image = np.where(inside[..., None], np.array([200, 40, 40]), np.array([60, 60, 60])) + noise
    return find_segments(
        np.where(inside, 8, 0.3).astype(np.float32),
        disparity_px.astype(np.float32),
        np.where(inside[..., None], [2.0, 0.0], 0.0).astype(np.float32),
        np.where(inside, 30, 0).astype(np.float32),
        image.astype(np.uint8),
        seed_sigmas=3.0,
        grow_sigmas=2.0,
        min_pixels=min_pixels,
    )


def disparities(*columns: tuple[slice, float]) -> np.ndarray:
    """(SIZE, SIZE) 3 px of the background, and of the columns of the thing."""
    found = np.full((SIZE, SIZE), 3.0)
    for where, value in columns:
        found[THING[0], where] = value
    return found


def ramp(first: float, last: float, columns: int) -> np.ndarray:
    """Disparities of the thing that go from one value to the other over so many columns around the middle."""
    found = disparities((THING[1], first))
    start = 32 - columns // 2
    found[THING[0], start : start + columns] = np.linspace(first, last, columns)
    found[THING[0], start + columns : 52] = last
    return found


def test_one_surface_is_one_segment():
    (segment,) = segments(disparities((THING[1], 8.0)))
    truth = np.zeros((SIZE, SIZE), bool)
    truth[THING] = True
    assert (segment.mask & truth).sum() / (segment.mask | truth).sum() > 0.85
    assert segment.sigmas == pytest.approx(8, abs=0.1)


def test_less_than_the_least_area_is_none():
    assert segments(disparities((THING[1], 8.0)), min_pixels=2000) == []


@pytest.mark.parametrize("columns", [2, 6, 10])
def test_things_before_each_other_are_two_however_soft_the_jump_between_them(columns):
    near, far = sorted(segments(ramp(8.0, 5.0, columns)), key=lambda one: np.argwhere(one.mask)[:, 1].mean())
    assert np.argwhere(near.mask)[:, 1].max() < 40
    assert np.argwhere(far.mask)[:, 1].min() > 24
    assert not (near.mask & far.mask).any()


def test_a_side_that_recedes_is_the_same_thing():
    # From 8 to 6 px over the whole width: no jump anywhere.
    assert len(segments(ramp(8.0, 6.0, 40))) == 1


def test_a_speck_at_another_depth_makes_no_thing_of_its_own():
    found = disparities((THING[1], 8.0), (slice(30, 32), 5.0))
    assert all(np.count_nonzero(one.mask) > 100 for one in segments(found))

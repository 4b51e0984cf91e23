"""Rectification of a known raw pair: geometry against direct projection, wrong placements by name."""

import pickle

import cv2
import numpy as np
import pytest

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.stereo.rectify import RawStereoCalibration

WIDTH, HEIGHT = 320, 240
LEFT = np.array([[260.0, 0, 163], [0, 262.0, 117], [0, 0, 1]])
RIGHT = np.array([[255.0, 0, 158], [0, 256.0, 122], [0, 0, 1]])
TURN = cv2.Rodrigues(np.radians([0.8, -1.5, 1.0]))[0]


def calibration(**changes) -> RawStereoCalibration:
    values = {
        "width": WIDTH,
        "height": HEIGHT,
        "left_matrix": LEFT,
        "left_distortion": [-0.25, 0.08, 0.001, -0.0005, 0.0],
        "right_matrix": RIGHT,
        "right_distortion": [-0.22, 0.05, 0.0, 0.0008, 0.0],
        "rotation": TURN,
        "translation": [-0.12, 0.002, 0.003],
    }
    return RawStereoCalibration(**{**values, **changes})


def blob(pixel) -> np.ndarray:
    """A raw image with one bright Gaussian at a sub-pixel place."""
    u, v = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    return (255 * np.exp(-((u - pixel[0]) ** 2 + (v - pixel[1]) ** 2) / 18)).astype(np.uint8)


def center(image) -> np.ndarray:
    v, u = np.indices(image.shape)
    weights = image.astype(float)
    return np.array([(u * weights).sum(), (v * weights).sum()]) / weights.sum()


@pytest.mark.parametrize("point", [(0.1, -0.2, 2.0), (-0.8, 0.5, 2.5), (1.2, 0.7, 3.5)])
def test_a_point_of_space_lands_on_one_row_at_its_depth(point):
    raw = calibration()
    left_pixel = cv2.projectPoints(np.array([point]), np.zeros(3), np.zeros(3), LEFT, raw.left_distortion)[0].ravel()
    right_pixel = cv2.projectPoints(
        np.array([point]), cv2.Rodrigues(TURN)[0], raw.translation, RIGHT, raw.right_distortion
    )[0].ravel()
    rectification = raw.rectify()
    left, right = map(center, rectification.apply(blob(left_pixel), blob(right_pixel)))
    assert left[1] == pytest.approx(right[1], abs=0.15)
    rectified_point = rectification.left_rotation @ point
    camera = rectification.camera
    depth = camera.depth(np.array([left[0] - right[0]]))
    assert depth[0] == pytest.approx(rectified_point[2], rel=0.02)
    assert camera.lift(left[None], rectified_point[2:])[0] == pytest.approx(rectified_point, abs=0.01)


def test_camera_of_the_pair():
    camera = calibration().rectify().camera
    assert camera.baseline == pytest.approx(np.linalg.norm([-0.12, 0.002, 0.003]))
    assert (camera.width, camera.height, camera.disparity_offset_px) == (WIDTH, HEIGHT, 0.0)


def test_alpha_zero_shows_no_border_and_one_keeps_all():
    raw = calibration()
    white = np.full((HEIGHT, WIDTH), 255, np.uint8)
    assert min(image.min() for image in raw.rectify().apply(white, white)) > 200  # a quarter pixel of border at most
    assert raw.rectify(alpha=1.0).apply(white, white)[0].min() == 0
    assert raw.rectify(alpha=1.0).camera.focal_px < raw.rectify().camera.focal_px


def test_pickles_without_maps_and_gives_the_same_images():
    rectification = calibration().rectify()
    left, right = blob((100, 80)), blob((90, 80))
    expected = rectification.apply(left, right)
    assert rectification._maps is not None
    data = pickle.dumps(rectification)
    assert len(data) < 10_000
    for one, other in zip(pickle.loads(data).apply(left, right), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_colour_images_keep_their_channels():
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 2] = 200
    left, _ = calibration().rectify().apply(image, image)
    assert left.shape == (HEIGHT, WIDTH, 3)
    assert left[HEIGHT // 2, WIDTH // 2].tolist() == [0, 0, 200]


def test_rotation_vector_is_taken():
    vector = cv2.Rodrigues(TURN)[0].ravel()
    np.testing.assert_allclose(calibration(rotation=vector).rotation, TURN, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"translation": [0.002, -0.12, 0.0]}, "translation", "vertical rig"),
        ({"translation": [0.0, 0.0, -0.2]}, "translation", "more above or behind"),
        ({"translation": [0.12, 0.0, 0.0]}, "translation", "eyes swapped"),
        ({"translation": [-120.0, 0.0, 0.0]}, "translation", "millimetres"),
        ({"translation": [0.0, 0.0, 0.0]}, "translation", "one place"),
        ({"translation": [-0.1, 0.0]}, "translation", "three finite numbers"),
        ({"rotation": np.eye(3) * 2}, "rotation", "no rotation"),
        ({"rotation": np.diag([1.0, 1.0, -1.0])}, "rotation", "mirrors"),
        ({"left_distortion": [0.1] * 6}, "left_distortion", "Fisheye"),
        ({"right_distortion": [0.1, np.nan, 0, 0]}, "right_distortion", "finite"),
        ({"right_matrix": np.eye(4)}, "right_matrix", "3x3"),
        ({"left_matrix": np.diag([-1.0, 1.0, 1.0])}, "left_matrix", "positive"),
        ({"left_matrix": LEFT.T}, "left_matrix", "last row"),
        ({"width": 0}, "width", "positive"),
    ],
)
def test_wrong_calibrations_are_named(changes, field, words):
    with pytest.raises(InputError, match=words) as caught:
        calibration(**changes)
    assert caught.value.field == field


def test_alpha_outside_its_range():
    with pytest.raises(InputError, match="within 0 and 1"):
        calibration().rectify(alpha=-1)


def test_images_of_another_size_are_refused():
    small = np.zeros((120, 160), np.uint8)
    with pytest.raises(InputError, match="160x120 pixels, the calibration 320x240"):
        calibration().rectify().apply(small, small)


def test_maps_are_built_once():
    rectification = calibration().rectify()
    image = blob((100, 80))
    rectification.apply(image, image)
    maps = rectification._maps
    rectification.apply(image, image)
    assert rectification._maps is maps

"""VR180 crops against a pinhole: where points of known place land, and what their disparity is."""

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_scene import turn

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.readers.vr180 import Vr180Clip, Vr180Reader, Vr180View
from mllm4d_verl.data_tools.synthetic.mp4 import write_mp4
from mllm4d_verl.data_tools.video import FrameSource

EYE_WIDTH, EYE_HEIGHT = 640, 600
BOUNDS = (-90.0, 90.0, -90.0, 90.0)
BASELINE = 0.063
#: The eyes of a rig that is not well aligned, rig axes of rays in rectified axes.
ROTATIONS = np.stack([turn("z", 0.8) @ turn("x", -0.5), turn("z", -0.6) @ turn("x", 0.7) @ turn("y", 0.4)])
POINTS = np.array([[0.0, 0.0, 1.0], [-0.4, 0.3, 1.2], [0.9, -0.7, 2.5], [-1.6, -1.1, 4.0], [0.5, 0.8, 1.8]])


def equirectangular_pixels(rays, bounds=BOUNDS, at_centers=False):
    """Pixels (N, 2) of rays (N, 3) in rig axes; longitude and latitude run linearly between the bounds."""
    longitude = np.degrees(np.arctan2(rays[:, 0], rays[:, 2]))
    latitude = np.degrees(np.arcsin(rays[:, 1] / np.linalg.norm(rays, axis=1)))
    u = (longitude - bounds[0]) / (bounds[1] - bounds[0])
    v = (latitude - bounds[2]) / (bounds[3] - bounds[2])
    if at_centers:
        return np.stack([u * (EYE_WIDTH - 1), v * (EYE_HEIGHT - 1)], axis=1)
    return np.stack([u * EYE_WIDTH - 0.5, v * EYE_HEIGHT - 0.5], axis=1)


def equirectangular_rays(bounds, at_centers):
    """Rays (H, W, 3) in rig axes of all pixels."""
    inset = (0.0, 1.0) if at_centers else (0.5, 0.0)
    columns = (np.arange(EYE_WIDTH) + inset[0]) / (EYE_WIDTH - inset[1])
    rows = (np.arange(EYE_HEIGHT) + inset[0]) / (EYE_HEIGHT - inset[1])
    longitude = np.radians(bounds[0] + columns * (bounds[1] - bounds[0]))
    latitude = np.radians(bounds[2] + rows * (bounds[3] - bounds[2]))[:, None]
    parts = (
        np.cos(latitude) * np.sin(longitude),
        np.sin(latitude) + 0 * longitude,
        np.cos(latitude) * np.cos(longitude),
    )
    return np.stack(parts, axis=-1)


def dots(pixels):
    """(H, W) uint8 image of an eye with a soft dot at every sub-pixel place."""
    rows, columns = np.mgrid[:EYE_HEIGHT, :EYE_WIDTH]
    image = np.zeros((EYE_HEIGHT, EYE_WIDTH))
    for u, v in pixels:
        image += 250 * np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / (2 * 1.6**2))
    return np.rint(np.minimum(image, 255)).astype(np.uint8)


def centroid(image, near):
    """Centre of brightness (2,) around a place."""
    radius = 9
    left, top = (round(value) - radius for value in near)
    patch = image[top : top + 2 * radius + 1, left : left + 2 * radius + 1].astype(np.float64).mean(axis=-1)
    patch = np.maximum(patch - 12, 0)
    rows, columns = np.mgrid[: patch.shape[0], : patch.shape[1]]
    return np.array([left + (columns * patch).sum() / patch.sum(), top + (rows * patch).sum() / patch.sum()])


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Two frames of dots: the second 0.1 m further away."""
    frames = []
    for away in (0.0, 0.1):
        points = POINTS + np.array([0, 0, away])
        eyes = []
        for eye in (0, 1):
            in_eye = points - [BASELINE * eye, 0, 0]
            eyes.append(dots(equirectangular_pixels(in_eye @ ROTATIONS[eye].T)))
        frames.append(np.repeat(np.concatenate(eyes, axis=1)[..., None], 3, axis=2))
    folder = tmp_path_factory.mktemp("vr180")
    write_mp4(folder / "garden_180_LR.mp4", np.stack(frames), 30.0)
    calibration = {"rectified2rig": ROTATIONS.tolist(), "fov_bounds": list(BOUNDS)}
    (folder / "rig.json").write_text(json.dumps(calibration))
    return folder / "garden_180_LR.mp4"


def open_clip(video, **options):
    reader = Vr180Reader()
    (ref,) = reader.find(video, **options)
    return reader.open(ref)


class TestPoints:
    def test_land_where_a_pinhole_puts_them(self, video):
        clip = open_clip(video, size="320x320", calibration=video.parent / "rig.json")
        camera = clip.camera
        assert camera.focal_px == pytest.approx(160 / np.tan(np.radians(30)))
        assert camera.intrinsics[:2, 2].tolist() == [159.5, 159.5]
        for pair in clip.pairs():
            points = POINTS + np.array([0, 0, 0.1 * pair.frame])
            for eye, image in enumerate((pair.left, pair.right)):
                in_eye = points - [BASELINE * eye, 0, 0]
                expected = in_eye[:, :2] / in_eye[:, 2:] * camera.focal_px + 159.5
                found = np.array([centroid(image, place) for place in expected])
                assert np.abs(found - expected).max() < 0.1

    def test_disparity_is_focal_length_times_baseline_over_depth(self, video):
        clip = open_clip(video, size="320x320", calibration=video.parent / "rig.json")
        pair = next(clip.pairs())
        disparities = clip.camera.focal_px * BASELINE / POINTS[:, 2]
        for point, disparity in zip(POINTS, disparities, strict=True):
            place = point[:2] / point[2] * clip.camera.focal_px + 159.5
            left, right = centroid(pair.left, place), centroid(pair.right, place - [disparity, 0])
            assert left[0] - right[0] == pytest.approx(disparity, abs=0.1)
            assert left[1] == pytest.approx(right[1], abs=0.1)
            assert clip.camera.depth(np.float32(disparity)) == pytest.approx(point[2], rel=1e-5)

    def test_rows_do_not_correspond_without_the_rotations(self, video):
        clip = open_clip(video, size="320x320")
        pair = next(clip.pairs())
        rows = [centroid(image, (159.5 - shift, 159.5))[1] for image, shift in ((pair.left, 0), (pair.right, 17))]
        assert abs(rows[0] - rows[1]) > 2


@pytest.mark.parametrize("at_centers", [False, True])
@pytest.mark.parametrize(("yaw", "pitch", "oversampling"), [(0, 0, 1), (20, 0, 2), (0, -15, 1), (-12, 25, 3)])
@pytest.mark.parametrize("bounds", [BOUNDS, (-70.0, 80.0, -60.0, 75.0)])
def test_every_pixel_of_the_crop_is_a_pinhole_ray(bounds, yaw, pitch, oversampling, at_centers):
    """An image that holds at each ray its own place in the crop: sampled, it must give the places."""
    view = Vr180View(96, 64, 50, yaw, pitch, bounds, ROTATIONS, at_centers)
    intrinsics = view.camera(BASELINE).intrinsics
    rays = equirectangular_rays(bounds, at_centers) @ ROTATIONS[1]  # rig to rectified is the transpose
    rays = rays @ turn("x", pitch)  # looking up is a turn about +X; rays turn the other way
    places = np.where(rays[..., 2:] > 0.2, rays[..., :2] / np.maximum(rays[..., 2:], 0.2), 0) * view.focal_px
    places = (places + intrinsics[:2, 2]).astype(np.float32)
    sampled = cv2.remap(places, *view.maps(1, EYE_WIDTH, EYE_HEIGHT, oversampling), cv2.INTER_LINEAR)
    rows, columns = np.mgrid[: 64 * oversampling, : 96 * oversampling]
    expected = (np.stack([columns, rows], axis=-1) + 0.5) / oversampling - 0.5
    assert np.abs(sampled - expected).max() < 0.1


class TestDirection:
    def test_pitch_looks_up(self):
        view = Vr180View(65, 65, 60, 0, 10)
        x, y = (table[32, 32] for table in view.maps(0, 1800, 1800))
        assert (x, y) == pytest.approx((899.5, 899.5 - 100), abs=1e-3)

    def test_yaw_looks_right_and_leaves_the_pair_rectified(self):
        view = Vr180View(65, 65, 60, 10, 0)
        x, y = (table[32, 32] for table in view.maps(0, 1800, 1800))
        assert (x, y) == pytest.approx((899.5 + 100, 899.5), abs=1e-3)
        assert np.allclose(view.crop_to_rectified, np.eye(3))


class TestReader:
    def test_knows_names_of_vr180_files(self, video, tmp_path):
        assert "garden_180_LR.mp4" in Vr180Reader().recognises(video)
        assert Vr180Reader().recognises(video.parent)
        other = tmp_path / "left_1180_lrx.mp4"
        other.write_bytes(video.read_bytes())
        assert Vr180Reader().recognises(other) is None
        assert Vr180Reader().recognises(tmp_path) is None

    def test_clip(self, video):
        clip = open_clip(video, size=64, baseline=0.06)
        assert (clip.clip_id, clip.num_frames, clip.fps) == ("garden_180_LR", 2, 30.0)
        assert (clip.camera.width, clip.camera.height, clip.camera.baseline) == (64, 64, 0.06)
        assert clip.cam_to_world is None
        assert [pair.frame for pair in clip.pairs(1)] == [1]
        assert list(clip.pairs(2)) == []

    def test_travels_to_another_process_without_its_tables(self, video):
        clip = open_clip(video, size=256)
        first = next(clip.pairs())
        data = pickle.dumps(clip)
        assert len(data) < 20_000
        assert np.array_equal(next(pickle.loads(data).pairs()).left, first.left)

    @pytest.mark.parametrize(
        ("options", "field", "words"),
        [
            ({"size": "big"}, "size", "512x512"),
            ({"hfov": "wide"}, "hfov", "not a number"),
            ({"hfov": 150, "pitch": 60}, "hfov", "outside the field of view"),
            ({"baseline": -1}, "baseline", "not between"),
            ({"hfow": 60}, "hfow", "Did you mean 'hfov'"),
        ],
    )
    def test_bad_options_are_named(self, video, options, field, words):
        with pytest.raises(InputError, match=words) as caught:
            open_clip(video, **options)
        assert caught.value.field == field

    @pytest.mark.parametrize(
        ("calibration", "field"),
        [
            ({"rectified2rig": np.eye(3).tolist()}, "rectified2rig"),
            ({"rectified2rig": (2 * ROTATIONS).tolist()}, "rectified2rig"),
            ({"rectified2rig": np.full((2, 3, 3), np.nan).tolist()}, "rectified2rig"),
            ({"fov_bounds": [90, -90, -90, 90]}, "fov_bounds"),
            ({"fov_bounds": [-90, 90]}, "fov_bounds"),
        ],
    )
    def test_bad_calibration_is_named(self, video, tmp_path, calibration, field):
        path = tmp_path / "rig.json"
        path.write_text(json.dumps(calibration))
        with pytest.raises(InputError) as caught:
            open_clip(video, calibration=path)
        assert (caught.value.field, caught.value.file) == (field, str(path))

    def test_no_video(self, tmp_path):
        with pytest.raises(InputError, match="no video"):
            Vr180Reader().find(tmp_path)


def test_a_fine_image_does_not_alias():
    """Stripes of one pixel, far finer than the crop's, come out grey."""
    stripes = np.zeros((1600, 3200, 3), np.uint8)
    stripes[:, ::2] = 255
    view = Vr180View(192, 192, 60)
    assert view.oversampling(1600) == 3
    clip = Vr180Clip(
        clip_id="stripes", source="user", path=Path("stripes"), frames=Still(stripes), view=view, baseline=BASELINE
    )
    left, _ = clip.crop(stripes)
    assert left.std() < 30
    plain = cv2.remap(stripes[:, :1600], *view.maps(0, 1600, 1600), cv2.INTER_LINEAR)
    assert plain.std() > 70


class Still(FrameSource):
    """One image as a video."""

    def __init__(self, image):
        self.image, self.path, self.num_frames, self.fps = image, Path("still"), 1, 30.0

    @property
    def width(self):
        return self.image.shape[1]

    @property
    def height(self):
        return self.image.shape[0]

    def frames(self, start=0, stop=None):
        yield self.image

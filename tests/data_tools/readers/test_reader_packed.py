"""Both eyes in one video: side by side, over under, halved, swapped, from a ZED."""

import json
import pickle

import cv2
import numpy as np
import pytest
from stereo_files import CALIBRATION, HEIGHT, WIDTH, dot_image, dot_place, frame_numbers, moving_frames

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.geometry import project_points
from mllm4d_verl.data_tools.readers import recognise
from mllm4d_verl.data_tools.readers.calibration_file import ImageSize
from mllm4d_verl.data_tools.readers.packed import PackedReader
from mllm4d_verl.data_tools.readers.zed import ZedReader, read_conf
from mllm4d_verl.data_tools.synthetic.mp4 import write_mp4

LEFT = moving_frames(4)
RIGHT = moving_frames(4, seed=1)


def write_packed(path, axis, frames=(LEFT, RIGHT), calibration=CALIBRATION):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mp4(path, np.concatenate(frames, axis=axis), 10.0)
    if calibration is not None:
        path.with_suffix(".json").write_text(json.dumps(calibration))
    return path


def open_one(path, reader=None, **options):
    reader = reader or PackedReader()
    (ref,) = reader.find(path, **options)
    return reader.open(pickle.loads(pickle.dumps(ref)))


def close(image, truth, tolerance=6):
    return np.abs(image.astype(int) - truth.astype(int)).mean() < tolerance


class TestPacked:
    @pytest.mark.parametrize(("layout", "axis"), [("sbs", 2), ("ou", 1)])
    def test_layouts(self, tmp_path, layout, axis):
        clip = pickle.loads(pickle.dumps(open_one(write_packed(tmp_path / "a.mp4", axis), layout=layout)))
        assert (clip.clip_id, clip.num_frames, clip.fps, clip.video) == ("a", 4, 10.0, None)
        pairs = list(clip.pairs())
        assert frame_numbers(pair.left for pair in pairs) == [0, 1, 2, 3]
        assert pairs[2].left.shape == (HEIGHT, WIDTH, 3)
        assert close(pairs[2].left, LEFT[2])
        assert close(pairs[2].right, RIGHT[2])
        assert [pair.frame for pair in clip.pairs(2)] == [2, 3]

    def test_swapped(self, tmp_path):
        pair = next(open_one(write_packed(tmp_path / "a.mp4", 2, (RIGHT, LEFT)), layout="sbs", swap="true").pairs())
        assert close(pair.left, LEFT[0])
        assert close(pair.right, RIGHT[0])

    @pytest.mark.parametrize(("layout", "axis"), [("sbs", 2), ("ou", 1)])
    def test_half_packings_are_stretched_back(self, tmp_path, layout, axis):
        """A dot keeps its place in the unsqueezed eye, for which the calibration is."""
        dot = dot_image((30.0, 25.0), WIDTH, HEIGHT)
        size = (WIDTH // 2, HEIGHT) if layout == "sbs" else (WIDTH, HEIGHT // 2)
        squeezed = np.stack([cv2.resize(dot, size, interpolation=cv2.INTER_AREA)] * 2)
        path = write_packed(tmp_path / "a.mp4", axis, (squeezed, squeezed))
        pair = next(open_one(path, layout=layout, half=True).pairs())
        assert pair.left.shape == (HEIGHT, WIDTH, 3)
        np.testing.assert_allclose(dot_place(np.clip(pair.left, 8, None) - 8), (30.0, 25.0), atol=0.3)

    @pytest.mark.parametrize("name", ["walk_hsbs", "Walk Half-SBS", "walk.h-sbs.2", "walk_half_side_by_side"])
    def test_a_name_tells_half_packings(self, tmp_path, name):
        squeezed = LEFT[:, :, ::2]
        path = write_packed(tmp_path / f"{name}.mp4", 2, (squeezed, squeezed))
        assert open_one(path).camera.width == WIDTH
        assert next(open_one(path).pairs()).left.shape == (HEIGHT, WIDTH, 3)

    @pytest.mark.parametrize("name", ["walk_sbs", "sbs", "halfpipe_sbs", "ash sbs"])
    def test_other_names_do_not(self, tmp_path, name):
        assert open_one(write_packed(tmp_path / f"{name}.mp4", 2)).camera.width == WIDTH

    def test_field_of_view_in_place_of_a_calibration(self, tmp_path):
        path = write_packed(tmp_path / "a.mp4", 2, calibration=None)
        with pytest.raises(InputError, match="no calibration beside the video"):
            open_one(path, layout="sbs")
        with pytest.raises(InputError, match="baseline: is missing"):
            open_one(path, layout="sbs", hfov=90)
        camera = open_one(path, layout="sbs", hfov=90, baseline=0.065).camera
        assert camera.focal_px == pytest.approx(48.0)
        assert camera.intrinsics[0, 2] == 47.5
        assert camera.baseline == 0.065

    def test_raw_eyes_are_rectified(self, tmp_path):
        focal = np.array([[90.0, 0, 47.5], [0, 90.0, 31.5], [0, 0, 1]])
        rotation, translation = cv2.Rodrigues(np.array([0.02, 0.01, 0.05]))[0], np.array([-0.1, 0.0, 0.0])
        point = np.array([0.1, 0.05, 1.2])
        places = project_points(focal, point), project_points(focal, rotation @ point + translation)
        eyes = [np.stack([dot_image(place, WIDTH, HEIGHT)] * 2) for place in places]
        values = {"K1": focal, "K2": focal, "R": rotation, "T": translation}
        path = write_packed(tmp_path / "a.mp4", 2, eyes, {name: value.tolist() for name, value in values.items()})
        clip = open_one(path, layout="sbs")
        left, right = (dot_place(np.clip(eye, 8, None) - 8) for eye in next(clip.pairs())[1:])
        assert left[1] == pytest.approx(right[1], abs=0.15)
        depth = clip.camera.depth(np.array(left[0] - right[0]))
        assert depth == pytest.approx(1.2, rel=0.05)


class TestLayout:
    def test_the_calibration_tells(self, tmp_path):
        path = write_packed(tmp_path / "a.mp4", 1, calibration={**CALIBRATION, "layout": "ou"})
        assert PackedReader().recognises(tmp_path) == "a.mp4, ou by its calibration"
        assert open_one(path).notes["packing"] == "ou"

    @pytest.mark.parametrize(
        ("name", "axis", "layout"),
        [
            ("walk_sbs", 2, "sbs"),
            ("walk-LR", 2, "sbs"),
            ("Side_by_Side walk", 2, "sbs"),
            ("walk.TB", 1, "ou"),
            ("walk_OU_2", 1, "ou"),
        ],
    )
    def test_the_name_tells(self, tmp_path, name, axis, layout):
        path = write_packed(tmp_path / f"{name}.mp4", axis)
        found = recognise(path)
        assert (found.reader.name, found.reason) == ("packed", f"{name}.mp4, {layout} by its name")
        assert open_one(path).notes["packing"] == layout

    def test_words_inside_words_do_not_count(self, tmp_path):
        assert PackedReader().recognises(write_packed(tmp_path / "house.mp4", 2)) is None
        assert PackedReader().recognises(write_packed(tmp_path / "color.mp4", 2)) is None

    def test_the_shape_tells_where_it_is_safe(self, tmp_path):
        assert open_one(write_packed(tmp_path / "wide" / "a.mp4", 2)).notes["packing"] == "sbs"  # 192x64
        assert open_one(write_packed(tmp_path / "high" / "a.mp4", 1)).notes["packing"] == "ou"  # 96x128
        square = [frames[:, :, :64] for frames in (LEFT, RIGHT)]
        with pytest.raises(InputError, match="128x64 pixels do not tell"):
            open_one(write_packed(tmp_path / "square" / "a.mp4", 2, square))

    def test_odd_sizes_and_bad_options(self, tmp_path):
        path = write_packed(tmp_path / "a.mp4", 2)
        with pytest.raises(InputError, match="'diagonal' is none of auto, sbs, ou"):
            open_one(path, layout="diagonal")
        with pytest.raises(InputError, match="'perhaps' is neither true nor false"):
            open_one(path, half="perhaps")
        with pytest.raises(InputError, match="the calibration is for 96x64 pixels, the frames of an eye have 192x32"):
            open_one(path, layout="ou")

    def test_a_folder_of_videos(self, tmp_path):
        for name in ("b_sbs", "a_sbs"):
            write_packed(tmp_path / f"{name}.mp4", 2, calibration=None)
        (tmp_path / "calibration.json").write_text(json.dumps(CALIBRATION))
        refs = PackedReader().find(tmp_path)
        assert [ref.clip_id for ref in refs] == ["a_sbs", "b_sbs"]
        assert PackedReader().open(refs[1]).camera.baseline == 0.12

    def test_left_and_right_files_are_not_packed(self, tmp_path):
        write_packed(tmp_path / "left.mp4", 2)
        write_packed(tmp_path / "right.mp4", 2)
        with pytest.raises(InputError, match="no videos"):
            PackedReader().find(tmp_path)


CONF = """
[LEFT_CAM_VGA]
fx=350.5
fy=350.25
cx=335.0
cy=187.5
k1=-0.17
k2=0.02
p1=0.0001
p2=-0.0002
k3=0.0

[RIGHT_CAM_VGA]
fx=351
fy=351
cx=336
cy=188
k1=-0.171
k2=0.021

[LEFT_CAM_HD]
fx=1

[STEREO]
Baseline=119.9
TY=0.3
TZ=-0.8
CV_VGA=0.012
RX_VGA=0.003
RZ_VGA=-0.0015
CV_HD=9
"""


class TestZed:
    def test_the_conf(self, tmp_path):
        (tmp_path / "SN123.conf").write_text(CONF)
        raw = read_conf(tmp_path / "SN123.conf", ImageSize(672, 376)).rectification.calibration
        assert raw.left_matrix.tolist() == [[350.5, 0, 335.0], [0, 350.25, 187.5], [0, 0, 1]]
        assert raw.left_distortion.tolist() == [-0.17, 0.02, 0.0001, -0.0002, 0.0]
        assert raw.right_distortion.tolist() == [-0.171, 0.021, 0.0, 0.0, 0.0]
        np.testing.assert_allclose(raw.translation, [-0.1199, -0.0003, 0.0008])  # metres, the right eye on the right
        np.testing.assert_allclose(cv2.Rodrigues(raw.rotation)[0].ravel(), [0.003, 0.012, -0.0015], atol=1e-12)

    def test_a_recording(self, tmp_path):
        frames = np.zeros((2, 376, 1344, 3), np.uint8)
        frames[:, :, :672] = 200  # the left eye is bright
        write_mp4(tmp_path / "VGA_SN123_10-20-30.mp4", frames, 15.0)
        (tmp_path / "SN123.conf").write_text(CONF)
        found = recognise(tmp_path)
        assert (found.reader.name, found.reason) == ("zed", "SN123.conf beside a video")
        clip = open_one(tmp_path, ZedReader())
        assert clip.camera.baseline == pytest.approx(np.linalg.norm([0.1199, 0.0003, 0.0008]))
        assert (clip.camera.width, clip.camera.height) == (672, 376)
        pair = next(clip.pairs())
        assert pair.left[150:200, 300:400].min() > 180
        assert pair.right.max() < 20

    def test_which_conf(self, tmp_path):
        write_mp4(tmp_path / "SN2_a.mp4", np.zeros((2, 376, 1344, 3), np.uint8), 15.0)
        for serial in (1, 2):
            (tmp_path / f"SN{serial}.conf").write_text(CONF.replace("119.9", f"{serial}00"))
        assert open_one(tmp_path, ZedReader()).camera.baseline == pytest.approx(0.2, abs=1e-4)
        assert open_one(tmp_path, ZedReader(), conf="SN1.conf").camera.baseline == pytest.approx(0.1, abs=1e-4)
        (tmp_path / "SN2_a.mp4").rename(tmp_path / "a.mp4")
        with pytest.raises(InputError, match=r"not clear, there are: SN1\.conf, SN2\.conf"):
            open_one(tmp_path, ZedReader())

    @pytest.mark.parametrize(
        ("size", "change", "match"),
        [
            ((640, 376), ("", ""), "640x376 pixels are no resolution of a ZED"),
            ((1280, 720), ("", ""), r"\[LEFT_CAM_HD\] fy: is missing"),
            ((2208, 1242), ("", ""), r"\[LEFT_CAM_2K\]: the section is missing"),
            ((672, 376), ("Baseline=119.9", "Baseline=0.12"), r"0\.12 mm.*millimetres"),
            ((672, 376), ("fx=350.5", "fx=wide"), r"\[LEFT_CAM_VGA\] fx: 'wide' is not a number"),
            ((672, 376), ("[LEFT_CAM_VGA]", "fx=3"), "not an INI file"),
        ],
    )
    def test_what_is_wrong_is_named(self, tmp_path, size, change, match):
        path = tmp_path / "SN123.conf"
        path.write_text(CONF.replace(*change) if change[0] else CONF)
        with pytest.raises(InputError, match=match):
            read_conf(path, ImageSize(*size))

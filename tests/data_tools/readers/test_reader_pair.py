"""Folders with an eye in a video or folder each."""

import json
import pickle

import cv2
import numpy as np
import pytest
from stereo_files import (
    CALIBRATION,
    DATA,
    HEIGHT,
    WIDTH,
    dot_image,
    dot_place,
    frame_numbers,
    moving_frames,
    write_images,
    write_pair,
)

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.geometry import project_points
from mllm4d_verl.data_tools.readers import recognise
from mllm4d_verl.data_tools.readers.pair import EYES, PairReader
from mllm4d_verl.data_tools.synthetic import write_world


def open_one(path, **options):
    (ref,) = PairReader().find(path, **options)
    return PairReader().open(pickle.loads(pickle.dumps(ref)))


class TestVideos:
    def test_a_clip_folder(self, tmp_path):
        clip = pickle.loads(pickle.dumps(open_one(write_pair(tmp_path / "garden"))))
        assert (clip.clip_id, clip.source, clip.license, clip.num_frames, clip.fps) == ("garden", "user", "", 6, 10.0)
        assert clip.video == tmp_path / "garden" / "left.mp4"
        assert clip.camera.baseline == 0.12
        assert clip.cam_to_world is None
        pairs = list(clip.pairs())
        assert frame_numbers(pair.left for pair in pairs) == list(range(6))
        # The right eye is the left one shifted to the left: a positive disparity.
        middle = pairs[3].left[:, 40:60].astype(int)
        assert np.abs(pairs[3].right[:, 34:54].astype(int) - middle).mean() < 4

    def test_a_folder_of_clips(self, tmp_path):
        for name in ("b", "a", "deep/er"):
            write_pair(tmp_path / name)
        (tmp_path / ".c.partial").mkdir()
        refs = PairReader().find(tmp_path, license="CC0")
        assert [ref.clip_id for ref in refs] == ["a", "b", "deep_er"]
        assert PairReader().open(refs[0]).license == "CC0"

    def test_a_synthetic_world(self, tmp_path):
        write_world(tmp_path, 2, width=32, height=32, num_frames=2, config="tiny")
        found = recognise(tmp_path)
        assert (found.reader.name, found.reason) == ("pair", "left.mp4 and right.mp4 in clip_00000")
        refs = found.reader.find(tmp_path)
        assert [ref.clip_id for ref in refs] == ["clip_00000", "clip_00001"]  # and nothing of truth/
        clip = found.reader.open(refs[1])
        assert clip.video == tmp_path / "clip_00001" / "left.mp4"
        assert clip.fps == 8.0

    def test_one_calibration_for_all(self, tmp_path):
        write_pair(tmp_path / "a", calibration=None)
        (tmp_path / "calibration.json").write_text(json.dumps(CALIBRATION))
        assert open_one(tmp_path).camera.baseline == 0.12

    def test_a_named_calibration(self, tmp_path):
        write_pair(tmp_path / "clips" / "a", calibration=None)
        (tmp_path / "clips" / "rig.json").write_text(json.dumps({**CALIBRATION, "baseline_m": 0.3}))
        assert open_one(tmp_path / "clips", calibration="rig.json").camera.baseline == 0.3
        assert open_one(tmp_path / "clips", calibration=str(tmp_path / "clips/rig.json")).camera.baseline == 0.3
        with pytest.raises(InputError, match="no such calibration"):
            open_one(tmp_path / "clips", calibration="other.json")

    def test_unequal_counts(self, tmp_path):
        write_pair(tmp_path / "a", count=6)
        write_pair(tmp_path / "b", count=5)
        (tmp_path / "b" / "left.mp4").rename(tmp_path / "a" / "left.mp4")
        with pytest.raises(InputError, match="the left eye has 5 frames, the right one 6"):
            open_one(tmp_path / "a")

    def test_a_video_that_is_cut_off(self, tmp_path):
        right = write_pair(tmp_path / "a") / "right.mp4"
        right.write_bytes(right.read_bytes()[:-500])
        with pytest.raises(InputError, match=r"right\.mp4"):
            open_one(tmp_path / "a")

    def test_no_calibration(self, tmp_path):
        with pytest.raises(InputError, match="no calibration file"):
            open_one(write_pair(tmp_path / "a", calibration=None))

    def test_calibration_of_another_size(self, tmp_path):
        with pytest.raises(InputError, match=r"calibration\.json, field width: the calibration is for 192x64"):
            open_one(write_pair(tmp_path / "a", calibration={**CALIBRATION, "width": 192}))


class TestImages:
    @pytest.mark.parametrize("eyes", EYES, ids="-".join)
    def test_names_of_eyes(self, tmp_path, eyes):
        for eye in eyes:
            write_images(tmp_path / eye, moving_frames(3))
        (tmp_path / "calibration.json").write_text(json.dumps(CALIBRATION))
        assert PairReader().recognises(tmp_path) == f"{eyes[0]} and {eyes[1]}"
        clip = open_one(tmp_path, fps=5)
        assert (clip.num_frames, clip.fps, clip.video) == (3, 5.0, None)

    def test_names_given(self, tmp_path):
        for eye in ("port", "starboard"):
            write_images(tmp_path / eye, moving_frames(3))
        (tmp_path / "calibration.json").write_text(json.dumps(CALIBRATION))
        assert PairReader().recognises(tmp_path) is None
        assert open_one(tmp_path, left="port", right="starboard", fps="5").num_frames == 3
        with pytest.raises(InputError, match="only one eye is named"):
            open_one(tmp_path, left="port")

    def test_kitti_calibration_by_the_eyes_names(self, tmp_path):
        rows = [f"P{n}: 90 0 47.5 {x} 0 90 31.5 0 0 0 1 0" for n, x in enumerate((0, -45, 5, -49))]
        for eyes, baseline in ((("image_0", "image_1"), 0.5), (("image_2", "image_3"), 0.6)):
            folder = tmp_path / eyes[0]
            for eye in eyes:
                write_images(folder / eye, moving_frames(2))
            (folder / "calib.txt").write_text("\n".join(rows))
            assert open_one(folder, fps=10).camera.baseline == pytest.approx(baseline)

    def test_times_and_poses(self, tmp_path):
        folder = write_pair(tmp_path / "a", count=3)
        (folder / "times.txt").write_text("100.0\n100.1\n100.3\n")
        turned = np.hstack([cv2.Rodrigues(np.array([0, 0.5, 0]))[0], [[1.0], [0], [0]]])
        ahead = turned.copy()
        ahead[:, 3] += turned[:, 2] * 2.0  # two metres along its own optical axis
        rows = [turned, ahead, ahead]
        (folder / "poses.txt").write_text("\n".join(" ".join(map(str, row.ravel())) for row in rows))
        clip = open_one(folder)
        np.testing.assert_allclose(clip.timestamps_s, [0, 0.1, 0.3], atol=1e-9)
        assert clip.fps == pytest.approx(2 / 0.3)
        np.testing.assert_allclose(clip.cam_to_world[0], np.eye(4), atol=1e-12)
        np.testing.assert_allclose(clip.cam_to_world[1][:3, 3], [0, 0, 2], atol=1e-9)

    @pytest.mark.parametrize("per_second", [1, 10**3, 10**6, 10**9])
    def test_times_since_1970_in_any_unit(self, tmp_path, per_second):
        folder = write_pair(tmp_path / "a", count=3)
        start = 1_403_715_273 * per_second + 262 * per_second // 1000
        times = [start, start + per_second // 10 or 1, start + 3 * per_second // 10 or 2]
        if per_second == 1:
            times = [1403715273.262, 1403715273.362, 1403715273.562]
        (folder / "timestamps.txt").write_text("\n".join(map(str, times)))
        clip = open_one(folder)
        np.testing.assert_allclose(clip.timestamps_s, [0, 0.1, 0.3], atol=1e-6)
        assert clip.fps == pytest.approx(2 / 0.3, rel=1e-4)

    @pytest.mark.parametrize(
        ("name", "text", "match"),
        [
            ("times.txt", "0\n0.1\n", r"times\.txt, row 2: 2 times for 3 frames"),
            ("times.txt", "0\n0.2\n0.1\n", r"row 2, field seconds: time 0\.1 does not come after"),
            ("times.txt", "0\n100000000\n200000000\n", r"field seconds: the times give 1e-08 frames per second"),
            ("timestamps.txt", "0\n1e-5\n2e-5\n", "1e[+]05 frames per second"),
            ("poses.txt", "1 0 0 0 0 1 0 0 0 0 1 0\n" * 2, r"poses\.txt, row 2: 2 poses for 3 frames"),
            ("poses.txt", "1 0 0 0 0 1 0 0 0 0 1\n" * 3, "row 0: 11 numbers in the line, expected 12"),
            ("poses.txt", "1 0 0 0 0 1 0 nan 0 0 1 0\n" * 3, "row 0, field pose: .*NaN"),
            ("poses.txt", "1 0 0 0 0 2 0 0 0 0 1 0\n" * 3, "not a rotation"),
        ],
    )
    def test_bad_rows_are_named(self, tmp_path, name, text, match):
        folder = write_pair(tmp_path / "a", count=3)
        (folder / name).write_text(text)
        with pytest.raises(InputError, match=match):
            open_one(folder)

    def test_an_eye_that_lags(self, tmp_path):
        write_images(tmp_path / "left", moving_frames(3))
        write_images(tmp_path / "right", moving_frames(4))
        (tmp_path / "right" / "000001.png").unlink()
        (tmp_path / "calibration.json").write_text(json.dumps(CALIBRATION))
        with pytest.raises(InputError, match=r"the left eye has 000001\.png, the right one 000002\.png"):
            open_one(tmp_path, fps=5)

    def test_no_rate(self, tmp_path):
        for eye in ("left", "right"):
            write_images(tmp_path / eye, moving_frames(3))
        (tmp_path / "calibration.json").write_text(json.dumps(CALIBRATION))
        with pytest.raises(InputError, match="fps: the frame rate is not known"):
            open_one(tmp_path)


class TestRawCalibration:
    def test_a_point_is_found_where_it_is(self, tmp_path):
        """A dot drawn through both raw cameras comes out on one row, at the disparity of its depth."""
        point = np.array([0.1, -0.05, 1.5])  # metres, raw left camera
        focal = np.array([[90.0, 0, 47.5], [0, 90.0, 31.5], [0, 0, 1]])
        rotation = cv2.Rodrigues(np.array([0.02, -0.03, 0.04]))[0]
        translation = np.array([-0.12, 0.004, 0.002])
        places = project_points(focal, point), project_points(focal, rotation @ point + translation)
        for eye, place in zip(("left", "right"), places, strict=True):
            write_images(tmp_path / eye, [dot_image(place, WIDTH, HEIGHT)] * 2)
        values = {"K1": focal, "K2": focal, "D1": np.zeros(5), "D2": np.zeros(5), "R": rotation, "T": translation}
        (tmp_path / "calibration.json").write_text(json.dumps({name: v.tolist() for name, v in values.items()}))
        clip = open_one(tmp_path, fps=5)
        pair = next(pickle.loads(pickle.dumps(clip)).pairs())
        left, right = dot_place(pair.left), dot_place(pair.right)
        assert left[1] == pytest.approx(right[1], abs=0.1)
        depth = clip.camera.depth(np.array(left[0] - right[0]))
        found = clip.camera.lift(left[None], depth[None])[0]
        assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(point), rel=0.02)
        assert clip.video is None  # the left.mp4 to train on has to be written from rectified frames
        assert clip.notes["rectified_here"] is True

    @pytest.mark.skipif(not (DATA / "opencv_stereo_chessboard").is_dir(), reason="no shared data")
    def test_real_chessboards_come_out_on_rows(self):
        clip = open_one(
            DATA / "opencv_stereo_chessboard",
            left="left0[1-4].jpg",
            right="right0[1-4].jpg",
            calibration="derived_calibration_and_board_poses.json",
            unit_m=0.025,
            fps=1,
        )
        assert clip.camera.baseline == pytest.approx(3.3282 * 0.025, rel=1e-3)
        errors, spacing = [], []
        for pair in clip.pairs():
            eyes = [cv2.cvtColor(eye, cv2.COLOR_RGB2GRAY) for eye in (pair.left, pair.right)]
            corners = [cv2.findChessboardCorners(eye, (9, 6))[1] for eye in eyes]
            left, right = (
                cv2.cornerSubPix(eye, c, (5, 5), (-1, -1), (1, 30, 0.01)).reshape(-1, 2)
                for eye, c in zip(eyes, corners, strict=True)
            )
            errors.append(np.abs(left[:, 1] - right[:, 1]).mean())
            points = clip.camera.lift(left, clip.camera.depth(left[:, 0] - right[:, 0])).reshape(6, 9, 3)
            spacing.append(np.median(np.linalg.norm(np.diff(points, axis=1), axis=-1)))
        assert max(errors) < 0.5
        assert np.median(spacing) == pytest.approx(0.025, rel=0.02)


class TestFind:
    def test_nothing_there(self, tmp_path):
        with pytest.raises(InputError, match="no folder with a left and a right eye"):
            PairReader().find(tmp_path)

    def test_ids_that_meet(self, tmp_path):
        for name in ("a/b_c", "a_b/c"):
            write_pair(tmp_path / name)
        with pytest.raises(InputError, match="the same clip id 'a_b_c'"):
            PairReader().find(tmp_path)

    def test_unknown_option(self, tmp_path):
        with pytest.raises(InputError, match="no option 'rate'"):
            PairReader().find(write_pair(tmp_path / "a"), rate=5)

    def test_recognising_decodes_nothing(self, tmp_path):
        (tmp_path / "left.mp4").write_text("not a video")
        (tmp_path / "right.mp4").write_text("not a video")
        assert PairReader().recognises(tmp_path) == "left.mp4 and right.mp4"

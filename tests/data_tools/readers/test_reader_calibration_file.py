"""Calibration files: each format gives the same camera, and what is wrong is named."""

import json

import cv2
import numpy as np
import pytest
from stereo_files import CALIBRATION

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.readers.calibration_file import (
    ImageSize,
    camera_shift,
    find_calibration,
    kitti_camera,
    read_calibration,
    read_projections,
)
from mllm4d_verl.data_tools.stereo.calibrate import write_calibration
from mllm4d_verl.data_tools.stereo.rectify import RawStereoCalibration

SIZE = ImageSize(96, 64)
K1 = np.array([[90.0, 0, 47.0], [0, 91.0, 31.0], [0, 0, 1]])
K2 = np.array([[92.0, 0, 48.0], [0, 90.5, 32.0], [0, 0, 1]])
D1 = np.array([-0.1, 0.01, 0.001, -0.001, 0.0])
D2 = np.array([-0.08, 0.02, 0.0, 0.0005, 0.0])
R = cv2.Rodrigues(np.array([0.01, -0.02, 0.005]))[0]
T = np.array([-0.12, 0.001, 0.002])
RAW = {"K1": K1, "D1": D1, "K2": K2, "D2": D2, "R": R, "T": T}


def write_json(path, values):
    path.write_text(
        json.dumps({name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()})
    )
    return path


def write_storage(path, values):
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    for name, value in values.items():
        storage.write(name, value)
    storage.release()
    return path


def same_camera(one, other):
    np.testing.assert_allclose(one.intrinsics, other.intrinsics, rtol=1e-9)
    assert one.baseline == pytest.approx(other.baseline, rel=1e-9)
    assert (one.width, one.height) == (other.width, other.height)


@pytest.fixture
def raw(tmp_path):
    """The raw calibration by JSON, which the other formats are compared with."""
    return read_calibration(write_json(tmp_path / "raw.json", {**RAW, "image_size": list(SIZE)}), SIZE)


class TestJson:
    def test_rectified(self, tmp_path):
        found = read_calibration(write_json(tmp_path / "a.json", {**CALIBRATION, "fps": 12.0}), SIZE)
        assert found.rectification is None
        assert (found.camera.baseline, found.camera.focal_px, found.fps) == (0.12, 90.0, 12.0)

    def test_focal_length_and_centre(self, tmp_path):
        values = {"fx": 90, "cx": 47.5, "cy": 31.5, "baseline": 120, "unit": "mm"}
        camera = read_calibration(write_json(tmp_path / "a.json", values), SIZE).camera
        assert camera.baseline == pytest.approx(0.12)
        assert camera.intrinsics.tolist() == CALIBRATION["intrinsics"]

    def test_raw(self, raw):
        rectification = raw.rectification
        np.testing.assert_array_equal(rectification.calibration.right_matrix, K2)
        np.testing.assert_array_equal(rectification.calibration.left_distortion, D1)
        assert raw.camera.baseline == pytest.approx(np.linalg.norm(T))

    def test_units(self, tmp_path, raw):
        millimetres = write_json(tmp_path / "a.json", {**RAW, "T": T * 1000, "unit": "mm"})
        same_camera(read_calibration(millimetres, SIZE).camera, raw.camera)
        squares = write_json(tmp_path / "b.json", {**RAW, "T": T / 0.025, "unit": "chessboard square"})
        same_camera(read_calibration(squares, SIZE, unit_m=0.025).camera, raw.camera)
        with pytest.raises(InputError, match=r"lengths in 'chessboard square'.*unit_m"):
            read_calibration(squares, SIZE)

    def test_size_of_the_file_alone(self, tmp_path):
        assert read_calibration(write_json(tmp_path / "a.json", CALIBRATION)).camera.width == 96
        with pytest.raises(InputError, match="image size is missing"):
            read_calibration(write_json(tmp_path / "b.json", RAW))

    @pytest.mark.parametrize(
        ("values", "field"),
        [
            ({k: v for k, v in CALIBRATION.items() if k != "baseline_m"}, "baseline_m"),
            ({k: v for k, v in CALIBRATION.items() if k != "intrinsics"}, "intrinsics"),
            ({**CALIBRATION, "baseline_m": "wide"}, "baseline_m"),
            ({**CALIBRATION, "baseline_m": -0.12}, "baseline"),
            ({**CALIBRATION, "intrinsics": [[1, 2], [3, 4]]}, "intrinsics"),
            ({**CALIBRATION, "intrinsics": [[float("nan"), 0, 1], [0, 1, 1], [0, 0, 1]]}, "intrinsics"),
            ({**CALIBRATION, "width": 97}, "width"),
            ({**CALIBRATION, "layout": "diagonal"}, "layout"),
            ({k: v for k, v in RAW.items() if k != "R"}, "R"),
            ({k: v for k, v in RAW.items() if k != "K2"}, "K2"),
            ({**RAW, "T": -T}, "translation"),
            ({**RAW, "T": T * 1000}, "translation"),
            ({**RAW, "K1": "none"}, "K1"),
        ],
    )
    def test_what_is_wrong_is_named(self, tmp_path, values, field):
        with pytest.raises(InputError) as error:
            read_calibration(write_json(tmp_path / "a.json", values), SIZE)
        assert error.value.field == field
        assert error.value.file == str(tmp_path / "a.json")

    def test_not_json(self, tmp_path):
        (tmp_path / "a.json").write_text("{")
        with pytest.raises(InputError, match="does not parse"):
            read_calibration(tmp_path / "a.json", SIZE)
        (tmp_path / "a.json").write_text("[1]")
        with pytest.raises(InputError, match="no names with values"):
            read_calibration(tmp_path / "a.json", SIZE)


class TestOpenCv:
    @pytest.mark.parametrize("suffix", [".yml", ".xml"])
    def test_one_file(self, tmp_path, raw, suffix):
        values = {"imageSize_width": 96, "imageSize_height": 64, "cameraMatrix1": K1, "distCoeffs1": D1,
                  "cameraMatrix2": K2, "distCoeffs2": D2, "R": R, "T": T.reshape(3, 1)}  # fmt: skip
        same_camera(read_calibration(write_storage(tmp_path / f"stereo{suffix}", values), SIZE).camera, raw.camera)

    def test_the_two_files_of_the_samples(self, tmp_path, raw):
        path = write_storage(tmp_path / "intrinsics.yml", {"M1": K1, "D1": D1[None], "M2": K2, "D2": D2[None]})
        with pytest.raises(InputError, match=r"holds no R and T.*extrinsics\.yml"):
            read_calibration(path, SIZE)
        write_storage(tmp_path / "extrinsics.yml", {"R": R, "T": T.reshape(3, 1), "Q": np.eye(4)})
        same_camera(read_calibration(path, SIZE).camera, raw.camera)

    def test_rectified_projections_alone(self, tmp_path):
        left, right = np.hstack([K1, np.zeros((3, 1))]), np.hstack([K1, [[-90 * 0.3], [0], [0]]])
        camera = read_calibration(write_storage(tmp_path / "a.yml", {"P1": left, "P2": right}), SIZE).camera
        assert camera.baseline == pytest.approx(0.3)

    def test_not_a_storage(self, tmp_path):
        (tmp_path / "a.xml").write_text("<?xml version='1.0'?><opencv_storage><K1>")
        with pytest.raises(InputError, match=r"a\.xml"):
            read_calibration(tmp_path / "a.xml", SIZE)


class TestRos:
    def write(self, folder, left_shift=0.0):
        """What ROS writes for the rectification that OpenCV makes of the raw calibration."""
        r1, r2, p1, p2, *_ = cv2.stereoRectify(K1, D1, K2, D2, SIZE, R, T.reshape(3, 1), alpha=0)
        for name, k, d, r, p in (("left", K1, D1, r1, p1), ("right", K2, D2, r2, p2)):
            matrices = {
                "camera_matrix": k,
                "distortion_coefficients": d[None],
                "rectification_matrix": r,
                "projection_matrix": p,
            }
            text = f"image_width: 96\nimage_height: 64\ncamera_name: {name}\ndistortion_model: plumb_bob\n"
            for key, value in matrices.items():
                rows, cols = value.shape
                text += f"{key}:\n  rows: {rows}\n  cols: {cols}\n  data: {value.ravel().tolist()}\n"
            (folder / f"{name}.yaml").write_text(text)
        return folder / "left.yaml"

    def test_two_files_make_the_raw_calibration(self, tmp_path, raw):
        found = read_calibration(self.write(tmp_path), SIZE)
        np.testing.assert_allclose(found.rectification.calibration.rotation, R, atol=1e-9)
        np.testing.assert_allclose(found.rectification.calibration.translation, T, atol=1e-9)
        same_camera(found.camera, raw.camera)

    def test_one_eye_only(self, tmp_path):
        path = self.write(tmp_path)
        (tmp_path / "right.yaml").unlink()
        with pytest.raises(InputError, match="for one camera only"):
            read_calibration(path, SIZE)


class TestKitti:
    ROWS = (
        "P0: 700 0 600 0 0 700 180 0 0 0 1 0\n"
        "P1: 700 0 600 -378 0 700 180 0 0 0 1 0\n"
        "P2: 700 0 600 45 0 700 180 0.2 0 0 1 0.003\n"
        "P3: 700 0 600 -335 0 700 180 2 0 0 1 0.003\n"
        "Tr: 1 0 0 0 0 1 0 0 0 0 1 0\n"
    )

    def test_baselines(self, tmp_path):
        path = tmp_path / "calib.txt"
        path.write_text(self.ROWS)
        size = ImageSize(1242, 375)
        assert read_calibration(path, size).camera.baseline == pytest.approx(0.54)
        colour = read_calibration(path, size, projections=("P2", "P3"))
        assert colour.camera.baseline == pytest.approx(380 / 700)

    def test_shift_takes_camera_0_points_to_the_camera(self, tmp_path):
        """A point projects the same by P2 as by K after the shift."""
        path = tmp_path / "calib.txt"
        path.write_text(self.ROWS)
        projection = read_projections(path)["P2"]
        point = np.array([1.0, -2.0, 10.0])
        by_matrix = projection @ [*point, 1]
        by_shift = projection[:, :3] @ (point + camera_shift(projection))
        np.testing.assert_allclose(by_matrix, by_shift)
        assert camera_shift(projection)[0] > 0  # the left colour camera stands left of camera 0

    def test_lines_without_names(self, tmp_path):
        path = tmp_path / "calib.txt"
        path.write_text("\n".join(line.split(":")[1] for line in self.ROWS.splitlines()[:2]))
        assert sorted(read_projections(path)) == ["P0", "P1"]

    @pytest.mark.parametrize(
        ("text", "match"),
        [
            ("P0: 1 2 3\n", "3 numbers, a 3x4 matrix has 12"),
            ("P0: 700 0 600 0 0 700 180 0 0 0 1 nan\n", "row 0, field P0: holds NaN"),
            ("calib_time: 09-Jan-2012 13:57:47\n", "no projection matrices"),
            ("P0: 700 0 600 0 0 700 180 0 0 0 1 0\n", "field P1: is missing"),
        ],
    )
    def test_what_is_wrong_is_named(self, tmp_path, text, match):
        (tmp_path / "calib.txt").write_text(text)
        with pytest.raises(InputError, match=match):
            read_calibration(tmp_path / "calib.txt", SIZE)

    def test_swapped_eyes(self, tmp_path):
        (tmp_path / "calib.txt").write_text(self.ROWS)
        matrices = read_projections(tmp_path / "calib.txt")
        with pytest.raises(InputError, match="are the eyes swapped"):
            kitti_camera(matrices, "P1", "P0", SIZE, tmp_path / "calib.txt")


def test_what_lies_in_a_folder(tmp_path):
    assert find_calibration(tmp_path) is None
    (tmp_path / "calib.txt").write_text("")
    (tmp_path / "calibration.json").write_text("")
    assert find_calibration(tmp_path) == tmp_path / "calibration.json"


def test_no_such_file_and_no_such_format(tmp_path):
    with pytest.raises(InputError, match="no such calibration file"):
        read_calibration(tmp_path / "a.json", SIZE)
    (tmp_path / "a.toml").write_text("")
    with pytest.raises(InputError, match=r"calibration in a \.toml file"):
        read_calibration(tmp_path / "a.toml", SIZE)


def test_what_calibrate_writes(tmp_path):
    raw = RawStereoCalibration(96, 64, K1, D1, K2, D2, R, T)
    write_calibration(tmp_path / "calibration.json", raw)
    # The file says that it is in metres: another unit is not for it.
    for unit_m in (None, 0.001):
        read = read_calibration(tmp_path / "calibration.json", SIZE, unit_m)
        assert read.camera.baseline == pytest.approx(raw.rectify().camera.baseline)
        np.testing.assert_allclose(read.camera.intrinsics, raw.rectify().camera.intrinsics)

"""MPI Sintel written byte for byte as its README and I/O code say."""

import struct

import cv2
import numpy as np
import pytest
from tiny_scene import HEIGHT, WIDTH, drive, from_first, measured_disparity, plane_pair, write_rgb

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.geometry import project_points, world_to_camera_points
from mllm4d_verl.data_tools.readers.sintel import SintelReader

NUM_FRAMES = 3
M = np.array([[60.0, 0, 31.5], [0, 60.0, 20.0], [0, 0, 1]])
DISPARITY = 6


def cam_bytes(intrinsics: np.ndarray, world_to_cam: np.ndarray) -> bytes:
    return b"PIEH" + struct.pack("<9d", *intrinsics.reshape(-1)) + struct.pack("<12d", *world_to_cam[:3].reshape(-1))


def disparity_rgb(disparity: np.ndarray) -> np.ndarray:
    """R = floor(d / 4), G = floor(d 2^6 mod 256), B = floor(d 2^14 mod 256)."""
    parts = (np.floor(disparity / 4), np.floor(disparity * 2**6) % 256, np.floor(disparity * 2**14) % 256)
    return np.stack(parts, axis=-1).astype(np.uint8)


def truth(t: int) -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    disparity = DISPARITY + t + 0.013 * columns + 0.0071 * rows
    disparity[:4] = 0
    return disparity


@pytest.fixture
def dataset(tmp_path):
    training = tmp_path / "sintel" / "training"
    for t in range(NUM_FRAMES):
        name = f"frame_{t + 1:04d}"
        for rendering in ("clean", "final"):
            for eye, image in zip(("left", "right"), plane_pair(DISPARITY, seed=t), strict=True):
                image = image // 2 if rendering == "final" else image
                write_rgb(training / f"{rendering}_{eye}" / "alley_1" / f"{name}.png", image)
        write_rgb(training / "disparities" / "alley_1" / f"{name}.png", disparity_rgb(truth(t)))
        for kind, columns in (("occlusions", slice(30, 33)), ("outofframe", slice(0, 6))):
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            mask[:, columns] = 255
            path = training / kind / "alley_1" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), mask, [cv2.IMWRITE_PNG_BILEVEL, 1])  # single channel, one bit
        path = training / "camdata_left" / "alley_1" / f"{name}.cam"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cam_bytes(M, np.linalg.inv(drive(NUM_FRAMES)[t])))
    return tmp_path / "sintel"


def open_clip(path, **options):
    reader = SintelReader()
    (ref,) = reader.find(path, **options)
    return reader.open(ref)


def camera_file(dataset, t):
    return dataset / "training" / "camdata_left" / "alley_1" / f"frame_{t + 1:04d}.cam"


class TestGeometry:
    def test_the_tag(self):
        assert struct.unpack("<f", b"PIEH")[0] == 202021.25

    def test_one_metre_forward_in_the_files_is_one_metre_along_z(self, dataset):
        for t in range(NUM_FRAMES):
            pose = np.eye(4)
            pose[2, 3] = -t
            camera_file(dataset, t).write_bytes(cam_bytes(M, pose))
        assert open_clip(dataset).cam_to_world[1, :3, 3].tolist() == [0, 0, 1]

    def test_poses_and_camera(self, dataset):
        clip = open_clip(dataset)
        assert np.allclose(clip.cam_to_world, from_first(drive(NUM_FRAMES)))
        assert np.array_equal(clip.camera.intrinsics, M)
        assert (clip.camera.baseline, clip.fps, clip.clip_id) == (0.1, 24, "alley_1_clean")

    def test_a_point_hits_the_pixel_of_the_data_sets_own_formula(self, dataset):
        clip = open_clip(dataset)
        point = np.array([9.0, 0.0, 10.0, 1.0])
        own = M @ np.linalg.inv(drive(NUM_FRAMES)[2])[:3] @ point
        ours = np.linalg.inv(drive(NUM_FRAMES)[0]) @ point
        pixel = project_points(clip.camera.intrinsics, world_to_camera_points(clip.cam_to_world[2], ours[:3]))
        assert pixel == pytest.approx(own[:2] / own[2])

    def test_a_zoom_ends_a_clip(self, dataset):
        wide = M.copy()
        wide[[0, 1], [0, 1]] = 50
        camera_file(dataset, 0).write_bytes(cam_bytes(wide, np.linalg.inv(drive(NUM_FRAMES)[0])))
        clip = open_clip(dataset)
        assert (clip.clip_id, clip.num_frames, clip.camera.focal_px) == ("alley_1_clean_0001", 2, 60)
        assert np.allclose(clip.cam_to_world, from_first(drive(NUM_FRAMES)[1:]))
        assert clip.disparity(0)[20, 20] == pytest.approx(truth(1)[20, 20], abs=1e-4)


class TestMaps:
    def test_disparity_agrees_with_the_images(self, dataset):
        clip = open_clip(dataset)
        assert [measured_disparity(pair) for pair in clip.pairs()] == [DISPARITY] * NUM_FRAMES
        disparity = clip.disparity(1)
        unseen = np.zeros((HEIGHT, WIDTH), bool)
        unseen[:4] = unseen[:, 30:33] = unseen[:, :6] = True
        assert np.array_equal(np.isnan(disparity), unseen)
        assert disparity[~unseen] == pytest.approx(truth(1)[~unseen], abs=2**-14)
        assert clip.depth(1)[~unseen] == pytest.approx(60 * 0.1 / truth(1)[~unseen], rel=1e-4)

    def test_the_final_pass(self, dataset):
        clean, final = open_clip(dataset), open_clip(dataset, **{"pass": "final"})
        assert final.clip_id == "alley_1_final"
        assert np.array_equal(next(final.pairs()).left, next(clean.pairs()).left // 2)

    def test_without_disparities(self, dataset):
        (dataset / "training" / "disparities").rename(dataset / "training" / "elsewhere")
        clip = open_clip(dataset)
        assert (clip.disparity(0), clip.depth(0)) == (None, None)


class TestReader:
    @pytest.mark.parametrize("level", [".", "training"])
    def test_recognises(self, dataset, level):
        assert "clean_left" in SintelReader().recognises(dataset / level)

    def test_other_folders_are_not_taken(self, tmp_path):
        (tmp_path / "clean_left").mkdir()
        assert SintelReader().recognises(tmp_path) is None
        with pytest.raises(InputError, match="no scenes"):
            SintelReader().find(tmp_path)

    def test_options(self, dataset):
        with pytest.raises(InputError, match="none of clean, final"):
            SintelReader().find(dataset, **{"pass": "albedo"})
        with pytest.raises(InputError, match="no scenes"):
            SintelReader().find(dataset, scene="alley_2")


class TestFaults:
    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (cam_bytes(M, np.eye(4))[:100], "100 bytes, a .cam file has 172"),
            (b"PIEX" + cam_bytes(M, np.eye(4))[4:], "field tag"),
            (cam_bytes(M * np.nan, np.eye(4)), "field M: holds NaN"),
            (cam_bytes(M, np.eye(4) * np.nan), "field N: holds NaN"),
            (cam_bytes(M, np.eye(4) * 3), "row 2, field N: the 3x3 block"),
        ],
    )
    def test_camera_files_are_named(self, dataset, data, words):
        camera_file(dataset, 1).write_bytes(data)
        with pytest.raises(InputError, match=words) as caught:
            open_clip(dataset)
        assert "camdata_left" in caught.value.file

    def test_no_camera_files(self, dataset):
        (dataset / "training" / "camdata_left").rename(dataset / "training" / "elsewhere")
        with pytest.raises(InputError, match="depth package"):
            open_clip(dataset)

    def test_missing_files(self, dataset):
        camera_file(dataset, 2).unlink()
        with pytest.raises(InputError, match="2 cameras for 3 images"):
            open_clip(dataset)
        camera_file(dataset, 1).rename(camera_file(dataset, 2))
        with pytest.raises(InputError, match="frame 2 is missing"):
            open_clip(dataset)

    def test_maps(self, dataset):
        folder = dataset / "training" / "disparities" / "alley_1"
        (folder / "frame_0001.png").unlink()
        write_rgb(folder / "frame_0002.png", np.zeros((4, 5, 3), np.uint8))
        cv2.imwrite(str(folder / "frame_0003.png"), np.zeros((HEIGHT, WIDTH), np.uint8))
        clip = open_clip(dataset)
        for frame, words in enumerate(("cannot be read", "5x4 pixels", "1 channels of uint8, expected 3")):
            with pytest.raises(InputError, match=words):
                clip.disparity(frame)

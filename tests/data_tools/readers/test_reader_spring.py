"""Spring written as the data set is; its HDF5 disparities where h5py is installed."""

import importlib.util
import shutil
import sys

import numpy as np
import pytest
from tiny_scene import HEIGHT, WIDTH, drive, from_first, measured_disparity, plane_pair, write_rgb, write_text

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.geometry import project_points, world_to_camera_points
from mllm4d_verl.data_tools.readers.spring import SpringReader

NUM_FRAMES = 4
FX, FY, CX, CY = 70.0, 71.0, 32.0, 24.0
DISPARITY = 5
needs_h5py = pytest.mark.skipif(importlib.util.find_spec("h5py") is None, reason="h5py is not installed")


def stored_disparity() -> np.ndarray:
    """At twice the size, in pixels of the images; sky is 0, and what is not known NaN."""
    disparity = np.full((2 * HEIGHT, 2 * WIDTH), DISPARITY, np.float32)
    disparity[1::2] += 100  # between the pixels of the images
    disparity[:8] = 0
    disparity[8:12] = np.nan
    return disparity


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "spring" / "train" / "0004"
    for t in range(NUM_FRAMES):
        for eye, image in zip(("left", "right"), plane_pair(DISPARITY, seed=t), strict=True):
            write_rgb(folder / f"frame_{eye}" / f"frame_{eye}_{t + 1:04d}.png", image)
    write_text(folder / "cam_data" / "intrinsics.txt", f"{FX} {FY} {CX} {CY}\n" * NUM_FRAMES)
    world_to_cam = np.linalg.inv(drive(NUM_FRAMES)).reshape(NUM_FRAMES, 16)
    write_text(
        folder / "cam_data" / "extrinsics.txt", "\n".join(" ".join(map(repr, row.tolist())) for row in world_to_cam)
    )
    return tmp_path / "spring"


@pytest.fixture
def scene(dataset):
    return dataset / "train" / "0004"


def open_clip(path, **options):
    reader = SpringReader()
    (ref,) = reader.find(path, **options)
    return reader.open(ref)


class TestGeometry:
    def test_one_metre_forward_in_the_files_is_one_metre_along_z(self, scene):
        rows = [f"1 0 0 0 0 1 0 0 0 0 1 {-t} 0 0 0 1" for t in range(NUM_FRAMES)]
        (scene / "cam_data" / "extrinsics.txt").write_text("\n".join(rows))
        assert open_clip(scene).cam_to_world[1, :3, 3].tolist() == [0, 0, 1]

    def test_poses_and_camera(self, dataset):
        clip = open_clip(dataset)
        assert np.allclose(clip.cam_to_world, from_first(drive(NUM_FRAMES)))
        assert clip.camera.intrinsics.tolist() == [[FX, 0, CX], [0, FY, CY], [0, 0, 1]]
        assert (clip.camera.baseline, clip.fps, clip.clip_id) == (0.065, 24, "train_0004")

    def test_a_point_hits_the_pixel_of_the_data_sets_own_formula(self, dataset):
        clip = open_clip(dataset)
        point = np.array([9.0, 0.0, 10.0, 1.0])
        own = np.array([[FX, 0, CX], [0, FY, CY], [0, 0, 1]]) @ (np.linalg.inv(drive(NUM_FRAMES)[3]) @ point)[:3]
        ours = np.linalg.inv(drive(NUM_FRAMES)[0]) @ point
        pixel = project_points(clip.camera.intrinsics, world_to_camera_points(clip.cam_to_world[3], ours[:3]))
        assert pixel == pytest.approx(own[:2] / own[2])

    def test_frames(self, dataset):
        pairs = list(open_clip(dataset).pairs())
        assert [pair.frame for pair in pairs] == [0, 1, 2, 3]
        assert [measured_disparity(pair) for pair in pairs] == [DISPARITY] * 4

    def test_the_test_split_has_no_poses(self, scene):
        (scene / "cam_data" / "extrinsics.txt").unlink()
        clip = open_clip(scene)
        assert (clip.cam_to_world, clip.disparity(0), clip.depth(0)) == (None, None, None)

    def test_a_zoom_ends_a_clip(self, scene):
        focal = [70.0, 70.0, 80.0, 80.1]
        (scene / "cam_data" / "intrinsics.txt").write_text("\n".join(f"{f} {f} {CX} {CY}" for f in focal))
        reader = SpringReader()
        refs = reader.find(scene)
        assert [ref.clip_id for ref in refs] == ["train_0004_0000", "train_0004_0002"]
        clip = reader.open(refs[1])
        assert (clip.num_frames, clip.camera.focal_px) == (2, pytest.approx(80.05))
        assert np.allclose(clip.cam_to_world, from_first(drive(NUM_FRAMES)[2:]))
        whole = list(whole_clip(scene).pairs(2))
        assert [np.array_equal(a.left, b.left) for a, b in zip(clip.pairs(), whole, strict=True)] == [True, True]


def whole_clip(scene):
    (scene / "cam_data" / "intrinsics.txt").write_text(f"{FX} {FY} {CX} {CY}\n" * NUM_FRAMES)
    return open_clip(scene)


@needs_h5py
class TestDisparity:
    @pytest.fixture
    def clip(self, scene):
        import h5py

        (scene / "disp1_left").mkdir()
        for t in range(NUM_FRAMES):
            with h5py.File(scene / "disp1_left" / f"disp1_left_{t + 1:04d}.dsp5", "w") as file:
                file.create_dataset("disparity", data=stored_disparity() + t, compression="gzip")
        return open_clip(scene)

    def test_every_other_pixel_at_its_own_value(self, clip):
        disparity = clip.disparity(0)
        assert disparity.shape == (HEIGHT, WIDTH)
        assert np.isnan(disparity[:6]).all()
        assert (disparity[6:] == DISPARITY).all()
        assert clip.depth(0)[6:] == pytest.approx(FX * 0.065 / DISPARITY, rel=1e-6)
        assert clip.disparity(3)[20, 20] == DISPARITY + 3

    def test_faults(self, clip, scene):
        import h5py

        folder = scene / "disp1_left"
        (folder / "disp1_left_0001.dsp5").unlink()
        (folder / "disp1_left_0002.dsp5").write_bytes(b"not HDF5")
        with h5py.File(folder / "disp1_left_0003.dsp5", "w") as file:
            file.create_dataset("flow", data=stored_disparity())
        with h5py.File(folder / "disp1_left_0004.dsp5", "w") as file:
            file.create_dataset("disparity", data=stored_disparity()[::2])
        clip = open_clip(scene)
        words = ("frame 1 is missing", "not a readable HDF5", "field disparity: the array is missing", "expected twice")
        for frame, text in enumerate(words):
            with pytest.raises(InputError, match=text):
                clip.disparity(frame)


def test_without_h5py_the_message_says_what_to_install(scene, monkeypatch):
    (scene / "disp1_left").mkdir()
    (scene / "disp1_left" / "disp1_left_0001.dsp5").touch()
    monkeypatch.setitem(sys.modules, "h5py", None)
    clip = open_clip(scene)
    assert len(list(clip.pairs())) == NUM_FRAMES
    with pytest.raises(InputError, match="pip install h5py"):
        clip.disparity(0)


class TestReader:
    @pytest.mark.parametrize("level", [".", "train", "train/0004"])
    def test_recognises_every_level(self, dataset, level):
        assert "cam_data/intrinsics.txt" in SpringReader().recognises(dataset / level)

    def test_other_folders_are_not_taken(self, tmp_path):
        (tmp_path / "frame_left").mkdir()
        assert SpringReader().recognises(tmp_path) is None
        with pytest.raises(InputError, match="no folder"):
            SpringReader().find(tmp_path)

    @pytest.mark.parametrize(
        ("file", "rows", "words"),
        [
            ("intrinsics.txt", ["70 71 32 24"] * 3 + ["70 71 32"], "row 3: 3 numbers in the line, expected 4"),
            ("intrinsics.txt", ["70 71 32 24"] * 3, "3 rows for 4 images"),
            ("extrinsics.txt", ["1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1"] * 5, "5 rows for 4 images"),
            (
                "extrinsics.txt",
                ["1 0 0 nan 0 1 0 0 0 0 1 0 0 0 0 1"] * 4,
                "row 0, field extrinsics: the pose",
            ),
            ("extrinsics.txt", ["2 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1"] * 4, "row 0, field extrinsics: the 3x3 block"),
        ],
    )
    def test_rows_are_named(self, scene, file, rows, words):
        (scene / "cam_data" / file).write_text("\n".join(rows))
        with pytest.raises(InputError, match=words) as caught:
            open_clip(scene)
        assert caught.value.file.endswith(file)

    def test_a_broken_scene_does_not_hide_the_others(self, dataset, scene):
        shutil.copytree(scene, dataset / "train" / "0005")
        (scene / "cam_data" / "intrinsics.txt").write_text("70 71\n")
        reader = SpringReader()
        broken, whole = reader.find(dataset)
        assert reader.open(whole).num_frames == NUM_FRAMES
        with pytest.raises(InputError, match="row 0: 2 numbers"):
            reader.open(broken)

    def test_missing_images(self, scene):
        shutil.move(scene / "frame_right" / "frame_right_0004.png", scene)
        with pytest.raises(InputError, match="4 left and 3 right"):
            open_clip(scene)
        (scene / "frame_left" / "frame_left_0002.png").unlink()
        with pytest.raises(InputError, match="frame 2 is missing"):
            open_clip(scene)

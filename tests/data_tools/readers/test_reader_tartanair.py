"""TartanAir written as the data set is: NED poses, npy depth."""

import shutil

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tiny_scene import HEIGHT, WIDTH, drive, from_first, measured_disparity, plane_pair, write_rgb, write_text

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.geometry import project_points, world_to_camera_points
from mllm4d_verl.data_tools.readers.tartanair import TartanAirReader, read_poses

NUM_FRAMES = 3
F = WIDTH / 2  # 90 degrees
DISPARITY = 4
DEPTH = F * 0.25 / DISPARITY


def ned_line(pose: np.ndarray) -> str:
    """A line of pose_left.txt for an OpenCV pose, element by element: NED x is Z, y is X, z is Y."""
    order = [2, 0, 1]
    rotation = np.array([[pose[i, j] for j in order] for i in order])
    translation = [pose[i, 3] for i in order]
    return " ".join(f"{value:.9f}" for value in (*translation, *Rotation.from_matrix(rotation).as_quat()))


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "tartan" / "hospital" / "Easy" / "P003"
    for t in range(NUM_FRAMES):
        for eye, image in zip(("left", "right"), plane_pair(DISPARITY, seed=t), strict=True):
            write_rgb(folder / f"image_{eye}" / f"{t:06d}_{eye}.png", image)
        depth = np.full((HEIGHT, WIDTH), DEPTH, np.float32)
        depth[:4] = 10000.0
        mask = np.full((HEIGHT, WIDTH), 17 + t, np.uint8)
        for kind, name, pixels in (("depth_left", "depth", depth), ("seg_left", "seg", mask)):
            (folder / kind).mkdir(exist_ok=True)
            np.save(folder / kind / f"{t:06d}_left_{name}.npy", pixels)
    write_text(folder / "pose_left.txt", "\n".join(ned_line(pose) for pose in drive(NUM_FRAMES)) + "\n")
    return tmp_path / "tartan"


def open_clip(path, **options):
    reader = TartanAirReader()
    (ref,) = reader.find(path, **options)
    return reader.open(ref)


class TestAxes:
    @pytest.mark.parametrize(
        ("ned", "opencv"), [("1 0 0", [0, 0, 1]), ("0 1 0", [1, 0, 0]), ("0 0 1", [0, 1, 0])], ids=["N", "E", "D"]
    )
    def test_translation(self, tmp_path, ned, opencv):
        path = tmp_path / "pose_left.txt"
        path.write_text(f"{ned} 0 0 0 1\n")
        assert read_poses(path)[0, :3, 3].tolist() == opencv

    def test_a_turn_to_the_right_is_one_about_down(self, tmp_path):
        path = tmp_path / "pose_left.txt"
        half = np.sqrt(0.5)
        path.write_text(f"0 0 0 0 0 {half} {half}\n")
        assert np.allclose(read_poses(path)[0, :3, 2], [1, 0, 0])  # it now looks along +X

    def test_path(self, dataset):
        assert np.allclose(open_clip(dataset).cam_to_world, from_first(drive(NUM_FRAMES)), atol=1e-6)

    def test_a_point_hits_the_pixel_of_the_data_sets_own_formula(self, dataset):
        clip = open_clip(dataset)
        line = np.array([float(word) for word in ned_line(drive(NUM_FRAMES)[2]).split()])
        point = np.array([12.0, 7.0, 0.5])  # NED world, ahead
        forward, right, down = Rotation.from_quat(line[3:]).as_matrix().T @ (point - line[:3])
        own = [F * right / forward + WIDTH / 2, F * down / forward + HEIGHT / 2]
        ours = np.linalg.inv(drive(NUM_FRAMES)[0]) @ [point[1], point[2], point[0], 1]
        pixel = project_points(clip.camera.intrinsics, world_to_camera_points(clip.cam_to_world[2], ours[:3]))
        assert pixel == pytest.approx(own, abs=1e-4)


class TestClip:
    def test_depth_agrees_with_the_images(self, dataset):
        clip = open_clip(dataset)
        assert [measured_disparity(pair) for pair in clip.pairs()] == [DISPARITY] * NUM_FRAMES
        depth = clip.depth(0)
        assert np.isnan(depth[:4]).all()
        assert (depth[4:] == DEPTH).all()
        assert (clip.disparity(0)[4:] == DISPARITY).all()
        assert (clip.camera.baseline, clip.camera.focal_px) == (0.25, F)

    def test_masks_and_name(self, dataset):
        clip = open_clip(dataset, fps=20)
        assert (clip.clip_id, clip.fps, clip.objects) == ("hospital_Easy_P003", 20, None)
        assert (clip.instance_mask(2) == 19).all()

    def test_without_maps(self, dataset):
        folder = dataset / "hospital/Easy/P003"
        for name in ("depth_left", "seg_left"):
            shutil.rmtree(folder / name)
        clip = open_clip(dataset)
        assert (clip.depth(0), clip.disparity(0), clip.instance_mask(0)) == (None, None, None)


class TestReader:
    @pytest.mark.parametrize("level", [".", "hospital", "hospital/Easy", "hospital/Easy/P003"])
    def test_recognises_every_level(self, dataset, level):
        assert "pose_left.txt" in TartanAirReader().recognises(dataset / level)

    def test_other_folders_are_not_taken(self, tmp_path):
        for name in ("image_0", "image_1", "image_left"):
            (tmp_path / name).mkdir()
        (tmp_path / "poses.txt").touch()
        assert TartanAirReader().recognises(tmp_path) is None
        assert TartanAirReader().recognises(tmp_path / "nothing") is None
        with pytest.raises(InputError, match="no folder"):
            TartanAirReader().find(tmp_path)


class TestFaults:
    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("0 0 0 0 0 0", "row 1: 6 numbers in the line, expected 7"),
            ("nan 0 0 0 0 0 1", "row 1: the pose holds NaN"),
            ("0 0 0 0 0 0 2", "row 1, field qx qy qz qw"),
            ("0 0 zero 0 0 0 1", "row 1: not a number"),
        ],
    )
    def test_lines_are_named(self, dataset, line, words):
        path = dataset / "hospital/Easy/P003/pose_left.txt"
        lines = path.read_text().splitlines()
        path.write_text("\n".join([lines[0], line, lines[2]]))
        with pytest.raises(InputError, match=words):
            open_clip(dataset)

    def test_too_few_poses(self, dataset):
        path = dataset / "hospital/Easy/P003/pose_left.txt"
        path.write_text(path.read_text().splitlines()[0])
        with pytest.raises(InputError, match="1 poses for 3 images"):
            open_clip(dataset)

    def test_depth_files(self, dataset):
        folder = dataset / "hospital/Easy/P003/depth_left"
        (folder / "000000_left_depth.npy").unlink()
        np.save(folder / "000001_left_depth.npy", np.ones((3, 4), np.float32))
        (folder / "000002_left_depth.npy").write_bytes(b"\x93NUMPY cut")
        clip = open_clip(dataset)
        for frame, words in enumerate(("frame 0 is missing", "4x3 pixels", "not a readable npy")):
            with pytest.raises(InputError, match=words):
                clip.depth(frame)

    def test_a_missing_image(self, dataset):
        (dataset / "hospital/Easy/P003/image_left/000001_left.png").unlink()
        with pytest.raises(InputError, match="frame 1 is missing"):
            open_clip(dataset)

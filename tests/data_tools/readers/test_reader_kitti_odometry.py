"""KITTI odometry: cameras, poses, splitting."""

import pickle

import cv2
import numpy as np
import pytest
from stereo_files import DATA, frame_numbers, moving_frames, write_images

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.geometry import invert_pose, project_points
from mllm4d_verl.data_tools.readers import recognise
from mllm4d_verl.data_tools.readers.kitti_odometry import KittiOdometryReader
from mllm4d_verl.data_tools.schema import Clip4D, check_clip

K = np.array([[90.0, 0, 47.5], [0, 90.0, 31.5], [0, 0, 1]])
#: t of each camera, metres from camera 0; the left colour camera stands 6 cm left of it.
SHIFTS = {"P0": [0, 0, 0], "P1": [-0.54, 0, 0], "P2": [0.06, 0.001, 0.003], "P3": [-0.47, 0.001, 0.003]}
REAL = DATA / "kitti_odom_gray_seq2"


def poses(count, seed=0):
    """(T, 4, 4) camera-0-to-world, forward 0.8 m a frame and turning."""
    rng = np.random.default_rng(seed)
    result = np.tile(np.eye(4), (count, 1, 1))
    for t in range(1, count):
        step = np.eye(4)
        step[:3, :3] = cv2.Rodrigues(rng.normal((0, 0.05, 0), 0.03))[0]
        step[:3, 3] = [0, 0, 0.8]
        result[t] = result[t - 1] @ step
    return result


def write_sequence(folder, count=6, eyes=("image_0", "image_1"), with_times=True, pose_rows=None):
    for seed, eye in enumerate(eyes):
        write_images(folder / eye, moving_frames(count, seed=seed))
    rows = [
        f"{name}: " + " ".join(f"{x:.12e}" for x in (K @ np.hstack([np.eye(3), np.c_[t]])).ravel())
        for name, t in SHIFTS.items()
    ]
    (folder / "calib.txt").write_text("\n".join([*rows, "Tr: 1 0 0 0 0 1 0 0 0 0 1 0\n"]))
    if with_times:
        (folder / "times.txt").write_text("".join(f"{0.104 * t:.6e}\n" for t in range(count)))
    if pose_rows is not None:
        write_poses(folder / "poses.txt", pose_rows)
    return folder


def write_poses(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(" ".join(f"{x:.12e}" for x in row[:3].ravel()) + "\n" for row in rows))


def open_all(path, **options):
    reader = KittiOdometryReader()
    return [reader.open(pickle.loads(pickle.dumps(ref))) for ref in reader.find(path, **options)]


class TestSequence:
    def test_grey(self, tmp_path):
        truth = poses(6)
        (clip,) = open_all(write_sequence(tmp_path / "04", pose_rows=truth))
        assert (clip.clip_id, clip.source, clip.num_frames) == ("04", "kitti_odometry", 6)
        assert clip.camera.baseline == pytest.approx(0.54)
        assert clip.fps == pytest.approx(1 / 0.104)
        np.testing.assert_allclose(clip.timestamps_s, 0.104 * np.arange(6), atol=1e-6)
        np.testing.assert_allclose(clip.cam_to_world, truth, atol=1e-9)
        assert frame_numbers(pair.left for pair in clip.pairs()) == list(range(6))

    def test_forward_is_plus_z(self, tmp_path):
        (clip,) = open_all(write_sequence(tmp_path / "04", count=3, pose_rows=poses(3)))
        assert clip.cam_to_world[1, :3, 3] == pytest.approx([0, 0, 0.8])

    def test_colour_poses_are_those_of_the_colour_camera(self, tmp_path):
        """A world point projects by the clip's own poses as it does by P2 and the poses of camera 0."""
        truth = poses(6)
        (clip,) = open_all(write_sequence(tmp_path / "04", eyes=("image_2", "image_3"), pose_rows=truth))
        assert clip.camera.baseline == pytest.approx(0.53)
        point = np.array([0.5, -0.3, 12.0])  # in camera 0 of the first frame
        in_world = point + SHIFTS["P2"]  # in the left colour camera of the first frame
        for t in range(6):
            in_camera0 = (invert_pose(truth[t]) @ [*point, 1])[:3]
            expected = project_points(K, in_camera0 + SHIFTS["P2"])
            in_camera = (invert_pose(clip.cam_to_world[t]) @ [*in_world, 1])[:3]
            np.testing.assert_allclose(project_points(clip.camera.intrinsics, in_camera), expected, atol=1e-8)

    def test_colour_comes_first(self, tmp_path):
        write_sequence(tmp_path, eyes=("image_0", "image_1", "image_2", "image_3"))
        assert open_all(tmp_path)[0].notes["cameras"] == "image_2"
        assert open_all(tmp_path, cameras="grey")[0].notes["cameras"] == "image_0"

    def test_without_poses_and_times(self, tmp_path):
        (clip,) = open_all(write_sequence(tmp_path / "11", with_times=False))
        assert clip.cam_to_world is None
        assert clip.timestamps_s is None
        assert clip.fps == 10.0


class TestDataSet:
    def test_its_own_folders(self, tmp_path):
        for name in ("00", "01"):
            write_sequence(tmp_path / "sequences" / name, count=3)
            write_poses(tmp_path / "poses" / f"{name}.txt", poses(3, seed=int(name)))
        found = recognise(tmp_path)
        assert found.reader.name == "kitti_odometry"
        assert found.reason == "calib.txt with P0, image_0 and image_1 in sequences/00"
        clips = open_all(tmp_path)
        assert [clip.clip_id for clip in clips] == ["00", "01"]
        np.testing.assert_allclose(clips[1].cam_to_world, poses(3, seed=1), atol=1e-9)

    def test_long_sequences_are_split(self, tmp_path):
        truth = poses(23)
        clips = open_all(write_sequence(tmp_path / "04", count=23, pose_rows=truth), frames=8)
        assert [clip.clip_id for clip in clips] == ["04_000000", "04_000008", "04_000016"]
        assert [clip.num_frames for clip in clips] == [8, 8, 7]
        assert frame_numbers(pair.left for pair in clips[1].pairs()) == [t % 12 for t in range(8, 16)]
        np.testing.assert_allclose(clips[1].cam_to_world, invert_pose(truth[8]) @ truth[8:16], atol=1e-9)
        assert clips[1].timestamps_s[0] == 0

    @pytest.mark.parametrize(
        ("options", "spans"),
        [
            ({"frames": 0}, [(0, 20)]),
            ({}, [(0, 20)]),
            ({"frames": 8}, [(0, 8), (8, 16), (16, 20)]),
            ({"frames": 9}, [(0, 9), (9, 18)]),  # two frames are left over, less than half a clip
            ({"frames": "8", "stride": "4"}, [(0, 8), (4, 12), (8, 16), (12, 20)]),
        ],
    )
    def test_frames_and_stride(self, tmp_path, options, spans):
        refs = KittiOdometryReader().find(write_sequence(tmp_path / "04", count=20), **options)
        assert [(ref.key["start"], ref.key["stop"]) for ref in refs] == spans


class TestFaults:
    @pytest.mark.parametrize(
        ("name", "text", "match"),
        [
            ("poses.txt", "1 0 0 0 0 1 0 0 0 0 1 0\n" * 5, r"poses\.txt, row 5: 5 poses, frame 5 needs one"),
            ("poses.txt", "1 0 0 0 0 1 0 0 0 0 1 0\n" * 5 + "1 0 0 0 0 1 0 nan 0 0 1 0\n", "row 5, field pose.*NaN"),
            ("poses.txt", "1 0 0 0 0 1 0 0 0 0 1 0\n" * 3 + "1 0 0\n", "row 3: 3 numbers in the line, expected 12"),
            ("times.txt", "0\n0.1\n0.2\n0.2\n0.3\n0.4\n", r"times\.txt, row 3, field seconds"),
            ("times.txt", "0\n", "1 times, frame 5 needs one"),
            ("calib.txt", "P0: 90 0 47.5 0 0 90 31.5 0 0 0 1 0\n", "field P1: is missing"),
        ],
    )
    def test_bad_rows_are_named(self, tmp_path, name, text, match):
        write_sequence(tmp_path / "04")
        (tmp_path / "04" / name).write_text(text)
        with pytest.raises(InputError, match=match):
            open_all(tmp_path / "04")

    def test_a_missing_image(self, tmp_path):
        write_sequence(tmp_path / "04")
        (tmp_path / "04" / "image_1" / "000003.png").unlink()
        with pytest.raises(InputError, match="the left eye has 6 frames, the right one 5"):
            open_all(tmp_path / "04")
        (tmp_path / "04" / "image_0" / "000003.png").unlink()
        with pytest.raises(InputError, match="frame 3 is missing"):
            open_all(tmp_path / "04")

    def test_nothing_there(self, tmp_path):
        assert KittiOdometryReader().recognises(tmp_path) is None
        with pytest.raises(InputError, match="no sequence"):
            KittiOdometryReader().find(tmp_path)


def tracked(image, other, corners):
    """(N, 2) places of corners in another image, and which of them lead back to where they came from."""
    found, forth, _ = cv2.calcOpticalFlowPyrLK(image, other, corners, None, maxLevel=4)
    returned, back, _ = cv2.calcOpticalFlowPyrLK(other, image, found, None, maxLevel=4)
    near = np.linalg.norm((returned - corners).reshape(-1, 2), axis=1) < 0.5
    return found.reshape(-1, 2), (forth & back).ravel().astype(bool) & near


@pytest.mark.skipif(not REAL.is_dir(), reason="no shared data")
class TestRealSequence:
    def test_it_is_recognised_and_opens(self):
        assert recognise(REAL).reader.name == "kitti_odometry"
        (clip,) = open_all(REAL)
        assert clip.num_frames == 24
        assert clip.camera.baseline == pytest.approx(0.53716, abs=1e-4)
        assert clip.cam_to_world[-1, 2, 3] == pytest.approx(18.19, abs=0.01)
        pair = next(clip.pairs(23))
        assert pair.left.shape == (376, 1241, 3)
        check_clip(
            Clip4D(
                "a",
                "",
                "",
                "",
                clip.fps,
                24,
                1241,
                376,
                clip.camera.intrinsics,
                clip.camera.baseline,
                clip.cam_to_world,
            )
        )

    def test_poses_and_images_agree(self):
        """Static points triangulated in one frame lie where the poses put them in the next one."""
        (clip,) = open_all(REAL)
        first, second = clip.pairs(0, 2)
        eyes = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first.left, first.right, second.left)]
        corners = cv2.goodFeaturesToTrack(eyes[0], 800, 0.005, 8)
        left = corners.reshape(-1, 2)
        right, found_right = tracked(eyes[0], eyes[1], corners)
        later, found_later = tracked(eyes[0], eyes[2], corners)
        good = found_right & found_later & (np.abs(left[:, 1] - right[:, 1]) < 1) & (left[:, 0] - right[:, 0] > 3)
        points = clip.camera.lift(left[good], clip.camera.depth(left[good, 0] - right[good, 0]))
        to_second = invert_pose(clip.cam_to_world[1])
        expected = project_points(clip.camera.intrinsics, points @ to_second[:3, :3].T + to_second[:3, 3])
        error = np.linalg.norm(expected - later[good], axis=1)
        assert good.sum() > 100
        assert np.median(error) < 1.0

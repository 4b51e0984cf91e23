"""KITTI tracking: boxes, axes, poses, what moves and what does not."""

import math
import pickle

import cv2
import numpy as np
import pytest
from stereo_files import DATA, frame_numbers, moving_frames, write_images

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.geometry import invert_pose, project_points, transform_points
from mllm4d_verl.data_tools.readers import recognise
from mllm4d_verl.data_tools.readers.kitti_tracking import KittiTrackingReader, Label, moves, oxts_poses, read_labels
from mllm4d_verl.data_tools.schema import MAX_POINTS_PER_OBJECT, Clip4D, ObjectTrack, check_clip

K = np.array([[700.0, 0, 600], [0, 700.0, 180], [0, 0, 1]])
SHIFTS = {"P0": [0, 0, 0], "P1": [-0.54, 0, 0], "P2": [0.06, -0.001, 0.003], "P3": [-0.47, 0.002, 0.003]}
#: A rig whose IMU looks along the camera: x forward, y left, z up to x right, y down, z forward.
IMU_TO_VELO = np.hstack([np.eye(3), [[-0.8], [0.3], [-0.8]]])
VELO_TO_CAM = np.array([[0.0, -1, 0, 0], [0, 0, -1, -0.07], [1, 0, 0, -0.27]])
REAL = DATA / "kitti_tracking_labels"


def calib_text(names=("R_rect", "Tr_velo_cam", "Tr_imu_velo"), colon=False):
    rows = {name: K @ np.hstack([np.eye(3), np.c_[shift]]) for name, shift in SHIFTS.items()}
    text = "".join(f"{name}: " + " ".join(f"{x:.12e}" for x in row.ravel()) + "\n" for name, row in rows.items())
    for name, matrix in zip(names, (np.eye(3), VELO_TO_CAM, IMU_TO_VELO), strict=True):
        text += f"{name}{':' if colon else ''} " + " ".join(f"{x:.12e}" for x in matrix.ravel()) + "\n"
    return text


def label_row(frame, track, bottom, kind="Car", occluded=0, turn=0.0, size=(1.5, 1.6, 4.0), box=(500, 150, 600, 250)):
    numbers = [*box, *size, *bottom, turn]
    return f"{frame} {track} {kind} 0 {occluded} -1.5 " + " ".join(f"{x:.6f}" for x in numbers)


DONT_CARE = "0 -1 DontCare -1 -1 -10 219.3 188.5 245.5 218.6 -1000 -1000 -1000 -10 -1 -1 -1"


def write_tracking(folder, labels, poses=None, calib=None, sequence="0001"):
    for name, text in (("label_02", "\n".join(labels) + "\n"), ("calib", calib or calib_text())):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / f"{sequence}.txt").write_text(text)
    if poses is not None:
        (folder / "poses").mkdir(exist_ok=True)
        rows = (" ".join(f"{x:.12e}" for x in pose[:3].ravel()) for pose in poses)
        (folder / "poses" / f"{sequence}.txt").write_text("\n".join(rows))
    return folder


def driving(count, step=1.0):
    """(T, 4, 4) poses that go forward and turn a little."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    move = np.eye(4)
    move[:3, :3] = cv2.Rodrigues(np.array([0, 0.02, 0]))[0]
    move[2, 3] = step
    for t in range(1, count):
        poses[t] = poses[t - 1] @ move
    return poses


def bottom_of(world_center, pose, height=1.5):
    """Label coordinates of a box whose centre is at a place of the world (left colour camera of frame 0)."""
    return (invert_pose(pose) @ [*world_center, 1])[:3] - SHIFTS["P2"] + [0, height / 2, 0]


def open_all(path, **options):
    reader = KittiTrackingReader()
    return [reader.open(pickle.loads(pickle.dumps(ref))) for ref in reader.find(path, **options)]


class TestBoxes:
    def test_the_centre_is_half_a_height_above_the_bottom_and_in_the_colour_camera(self, tmp_path):
        poses = driving(2)
        (clip,) = open_all(write_tracking(tmp_path, [DONT_CARE, label_row(0, 0, (2.0, 1.7, 20.0))], poses))
        (car,) = clip.objects
        np.testing.assert_allclose(car.centers[0], [2.06, 1.7 - 0.75 - 0.001, 20.003], atol=1e-6)
        by_matrix = K @ np.hstack([np.eye(3), np.c_[SHIFTS["P2"]]]) @ [2.0, 0.95, 20.0, 1]
        pixel = project_points(clip.camera.intrinsics, car.centers[0])
        np.testing.assert_allclose(pixel, by_matrix[:2] / by_matrix[2], atol=1e-3)
        assert np.isnan(car.centers[1]).all()
        assert car.boxes[0].tolist() == [500, 150, 600, 250]
        assert (car.id, car.category, len(car.points[1])) == (1, "car", 0)

    def test_points_lie_on_the_box_and_around_its_centre(self, tmp_path):
        (clip,) = open_all(write_tracking(tmp_path, [label_row(0, 3, (0, 1.5, 10))], driving(1)))
        points = clip.objects[0].points[0]
        assert 100 < len(points) <= MAX_POINTS_PER_OBJECT
        assert points.dtype == np.float32
        np.testing.assert_allclose(points.mean(axis=0), clip.objects[0].centers[0], atol=1e-5)
        extent = points.max(axis=0) - points.min(axis=0)
        np.testing.assert_allclose(extent, [4.0, 1.5, 1.6], atol=1e-5)  # length along x where rotation_y is 0
        nearest = points[:, 2].min()
        assert nearest == pytest.approx(10.003 - 0.8, abs=1e-5)

    @pytest.mark.parametrize(
        ("turn", "front"), [(0.0, [2, 0, 0]), (math.pi / 2, [0, 0, -2]), (-math.pi / 2, [0, 0, 2])]
    )
    def test_rotation_about_the_downward_axis(self, turn, front):
        """A car with rotation_y = -pi/2 drives away from the camera: its front is two metres further."""
        label = Label(0, 0, "car", 0, (0, 0, 1, 1), 1.5, 1.6, 4.0, (0.0, 0.75, 10.0), turn)
        offsets = label.surface() - label.center
        ends = offsets[np.abs(np.linalg.norm(offsets[:, [0, 2]], axis=1) - np.hypot(2, 0)) < 1e-6]
        assert any(np.allclose(end, front, atol=1e-9) for end in ends)

    def test_occluded_objects_keep_their_centre_and_lose_their_points(self, tmp_path):
        rows = [label_row(t, 0, (0, 1.5, 10), occluded=t) for t in range(4)]
        (clip,) = open_all(write_tracking(tmp_path, rows, driving(4)))
        assert [len(points) > 0 for points in clip.objects[0].points] == [True, True, False, False]
        assert np.isfinite(clip.objects[0].centers).all()

    @pytest.mark.parametrize(
        ("row", "match"),
        [
            ("0 0 Car 0 0", r"row 1: 5 columns, a label has 17"),
            (label_row(0, 0, (0, 1.5, math.nan)), r"row 1, field z: 'nan'"),
            (label_row(0, 0, (0, 1.5, 9), size=(0, 1, 1)), "row 1, field height"),
            (label_row(0, 5, (0, 1.5, 9)), "row 1, field track id: track 5 is labelled twice in frame 0"),
            (label_row(-1, 0, (0, 1.5, 9)), "row 1, field frame"),
        ],
    )
    def test_bad_rows_are_named(self, tmp_path, row, match):
        (tmp_path / "a.txt").write_text(label_row(0, 5, (0, 1.5, 10)) + "\n" + row)
        with pytest.raises(InputError, match=match):
            read_labels(tmp_path / "a.txt")


class TestMotion:
    def test_a_parked_car_stays_and_a_driving_one_goes(self, tmp_path):
        poses = driving(20)
        parked, driven = np.array([4.0, 0.5, 30.0]), np.array([-4.0, 0.5, 10.0])
        rows = []
        for t, pose in enumerate(poses):
            rows.append(label_row(t, 0, bottom_of(parked, pose)))
            rows.append(label_row(t, 7, bottom_of(driven + np.array([0, 0, 1.5 * t]), pose)))
        still, moving = open_all(write_tracking(tmp_path, rows, poses))[0].objects
        np.testing.assert_allclose(still.centers, np.tile(parked, (20, 1)), atol=1e-5)
        np.testing.assert_allclose(moving.centers[19], driven + np.array([0, 0, 28.5]), atol=1e-5)
        assert (still.id, still.is_moving) == (1, False)
        assert (moving.id, moving.is_moving) == (8, True)

    def test_what_noise_may_do_is_not_motion(self):
        rng = np.random.default_rng(0)
        poses = driving(40)
        parked = np.tile([3.0, 0.5, 45.0], (40, 1)) + rng.normal(0, 0.1, (40, 3))
        assert moves(parked, poses) is False
        assert moves(parked + np.outer(np.arange(40), [0, 0, 0.03]), poses) is not True  # poses that are 3 % long
        assert moves(parked + np.outer(np.arange(40), [0.3, 0, 0]), poses) is True

    def test_a_single_sight_tells_nothing(self):
        centers = np.full((5, 3), np.nan)
        centers[2] = 1.0
        assert moves(centers, driving(5)) is None

    def test_pose_scale(self, tmp_path):
        write_tracking(tmp_path, [label_row(0, 0, (0, 1.5, 10))], driving(5))
        (clip,) = open_all(tmp_path, pose_scale="0.5")
        np.testing.assert_allclose(clip.cam_to_world[:, :3, 3], driving(5, 0.5)[:, :3, 3], atol=1e-9)


def oxts_row(latitude, longitude, altitude=100.0, roll=0.0, pitch=0.0, yaw=0.0):
    return " ".join(f"{x:.12f}" for x in [latitude, longitude, altitude, roll, pitch, yaw, *np.zeros(24)])


class TestOxts:
    METRE = 180 / math.pi / 6378137.0 / math.cos(math.radians(49))  # degrees of longitude at latitude 49

    def drive(self, tmp_path, rows, **options):
        write_tracking(tmp_path, [label_row(0, 0, (0, 1.5, 10))], **options)
        (tmp_path / "oxts").mkdir()
        (tmp_path / "oxts" / "0001.txt").write_text("\n".join(rows))
        return open_all(tmp_path)[0]

    def test_driving_east_is_forward_for_a_car_that_heads_east(self, tmp_path):
        clip = self.drive(tmp_path, [oxts_row(49, 8 + 2 * t * self.METRE) for t in range(3)])
        np.testing.assert_allclose(clip.cam_to_world[:, :3, 3], [[0, 0, 0], [0, 0, 2], [0, 0, 4]], atol=1e-3)

    def test_climbing_is_up_and_a_left_turn_looks_left(self, tmp_path):
        clip = self.drive(tmp_path, [oxts_row(49, 8), oxts_row(49, 8, 101.0), oxts_row(49, 8, yaw=0.1)])
        np.testing.assert_allclose(clip.cam_to_world[1, :3, 3], [0, -1, 0], atol=1e-6)
        assert clip.cam_to_world[2, 0, 2] == pytest.approx(-math.sin(0.1), abs=1e-6)
        # The camera stands ahead of the IMU, so a turn about the IMU takes it to the left.
        assert clip.cam_to_world[2, 0, 3] < -0.05

    def test_pitch_and_roll(self):
        poses = oxts_poses(np.array([[49, 8, 0, 0.1, 0, 0], [49, 8, 0, 0, 0.1, 0]]))
        np.testing.assert_allclose(poses[0, :3, 1], [0, math.cos(0.1), math.sin(0.1)], atol=1e-12)  # left side up
        np.testing.assert_allclose(poses[1, :3, 0], [math.cos(0.1), 0, -math.sin(0.1)], atol=1e-12)  # nose down

    @pytest.mark.parametrize("colon", [False, True])
    def test_names_in_calib(self, tmp_path, colon):
        rows = [oxts_row(49, 8), oxts_row(49, 8, yaw=0.1)]
        usual = self.drive(tmp_path / "a", rows)
        names = ("R0_rect", "Tr_velo_to_cam", "Tr_imu_to_velo")
        other = self.drive(tmp_path / "b", rows, calib=calib_text(names, colon))
        np.testing.assert_allclose(other.cam_to_world, usual.cam_to_world, atol=1e-12)

    def test_bad_files_are_named(self, tmp_path):
        with pytest.raises(InputError, match=r"calib/0001\.txt, field Tr_imu_velo: is missing"):
            self.drive(tmp_path / "a", [oxts_row(49, 8)], calib=calib_text(("R_rect", "Tr_velo_cam", "other")))
        with pytest.raises(InputError, match="row 1: 29 numbers in the line, expected 30"):
            self.drive(tmp_path / "b", [oxts_row(49, 8), oxts_row(49, 8)[:-15]])
        with pytest.raises(InputError, match=r"row 1, field lat, lon.*NaN"):
            self.drive(tmp_path / "c", [oxts_row(49, 8), oxts_row(math.nan, 8)])


class TestSequences:
    def test_labels_and_poses_without_images(self, tmp_path):
        write_tracking(tmp_path, [label_row(0, 0, (0, 1.5, 10))], driving(30))
        found = recognise(tmp_path)
        assert (found.reader.name, found.reason) == ("kitti_tracking", "label_02 and calib")
        (clip,) = open_all(tmp_path)
        assert (clip.clip_id, clip.has_frames, clip.num_frames, clip.fps) == ("kitti_0001", False, 30, 10.0)
        assert clip.camera.baseline == pytest.approx(0.53)
        assert (clip.camera.width, clip.camera.height) == (1242, 375)
        with pytest.raises(InputError, match="labels and no images"):
            clip.pairs()

    def test_with_images(self, tmp_path):
        write_tracking(tmp_path / "training", [label_row(1, 0, (0, 1.5, 10))], driving(3))
        for eye in ("image_02", "image_03"):
            write_images(tmp_path / "training" / eye / "0001", moving_frames(3))
        (clip,) = open_all(tmp_path)
        assert clip.has_frames
        assert frame_numbers(pair.left for pair in clip.pairs()) == [0, 1, 2]
        assert (clip.camera.width, clip.camera.height) == (96, 64)

    def test_images_without_poses_leave_motion_and_objects_to_be_found(self, tmp_path):
        write_tracking(tmp_path, [label_row(0, 0, (0, 1.5, 10))])
        for eye in ("image_02", "image_03"):
            write_images(tmp_path / eye / "0001", moving_frames(3))
        (clip,) = open_all(tmp_path)
        assert clip.cam_to_world is None
        assert clip.objects is None

    def test_neither_images_nor_poses(self, tmp_path):
        write_tracking(tmp_path, [label_row(0, 0, (0, 1.5, 10))])
        with pytest.raises(InputError, match="row 0001: neither images nor poses"):
            open_all(tmp_path)

    def test_splitting_moves_the_world_to_each_clip(self, tmp_path):
        poses = driving(20)
        place = np.array([4.0, 0.5, 40.0])
        rows = [label_row(t, 2, bottom_of(place, pose)) for t, pose in enumerate(poses)]
        rows.append(label_row(3, 9, (0, 1.5, 10)))
        first, second = open_all(write_tracking(tmp_path, rows, poses), frames=10)
        assert [clip.clip_id for clip in (first, second)] == ["kitti_0001_000000", "kitti_0001_000010"]
        assert [track.id for track in first.objects] == [3, 10]
        assert [track.id for track in second.objects] == [3]
        np.testing.assert_allclose(second.cam_to_world[0], np.eye(4), atol=1e-12)
        expected = transform_points(invert_pose(poses[10]), place)
        np.testing.assert_allclose(second.objects[0].centers, np.tile(expected, (10, 1)), atol=1e-5)

    def test_poses_folder_given(self, tmp_path):
        write_tracking(tmp_path, [label_row(0, 0, (0, 1.5, 10))], driving(5))
        (tmp_path / "poses").rename(tmp_path / "mine")
        assert open_all(tmp_path, poses="mine")[0].notes["poses"] == "mine/0001.txt"
        with pytest.raises(InputError, match=r"holds no 0001\.txt"):
            open_all(tmp_path, poses="other")

    def test_too_few_poses(self, tmp_path):
        write_tracking(tmp_path, [label_row(0, 0, (0, 1.5, 10))], driving(2))
        for eye in ("image_02", "image_03"):
            write_images(tmp_path / eye / "0001", moving_frames(3))
        with pytest.raises(InputError, match="2 poses, frame 2 needs one"):
            open_all(tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason="no shared data")
class TestRealSequences:
    @pytest.fixture(scope="class")
    def clips(self):
        return {clip.notes["sequence"]: clip for clip in open_all(REAL, frames=0)}

    def test_they_are_recognised(self):
        assert recognise(REAL).reader.name == "kitti_tracking"
        refs = KittiTrackingReader().find(REAL)
        assert len(refs) == len({ref.clip_id for ref in refs}) == 14

    def test_records_hold(self, clips):
        assert sorted(clips) == ["0000", "0003", "0006", "0012", "0018"]
        for clip in clips.values():
            tracks = [ObjectTrack(o.id, o.category, "", bool(o.is_moving), o.points) for o in clip.objects]
            c = clip.camera
            check_clip(Clip4D(clip.clip_id, "", "", "", clip.fps, clip.num_frames, c.width, c.height, c.intrinsics,
                              c.baseline, clip.cam_to_world, tracks))  # fmt: skip

    def test_boxes_and_pixels_agree(self, clips):
        """Projected corners of labelled cars bound about the labelled 2D boxes: axes, heights and shift are right."""
        errors = []
        for clip in clips.values():
            for track in clip.objects:
                for t, points in enumerate(track.points):
                    camera_points = transform_points(invert_pose(clip.cam_to_world[t]), points)
                    if len(points) == 0 or camera_points[:, 2].min() < 4:
                        continue
                    pixels = project_points(clip.camera.intrinsics, camera_points)
                    left, top, right, bottom = track.boxes[t]
                    if left < 5 or right > clip.camera.width - 6 or bottom > clip.camera.height - 6:
                        continue  # cut by the image's border
                    found = [*pixels.min(axis=0), *pixels.max(axis=0)]
                    errors.append(np.abs(np.array(found) - [left, top, right, bottom]).max())
        assert len(errors) > 500
        assert np.median(errors) < 1.0  # 1.6 without the shift from camera 0, 20 with bottoms for centres

    def test_parked_cars_stay_put_and_traffic_moves(self, clips):
        def spread(track):
            seen = track.centers[np.isfinite(track.centers[:, 0])]
            return float(np.sqrt(((seen - seen.mean(axis=0)) ** 2).sum(axis=1).mean()))

        # 0000: a street between parked cars, behind a van and a cyclist that go on (tracks 0 and 1 of the labels).
        tracks = {track.id: track for track in clips["0000"].objects}
        assert tracks[1].is_moving is True
        assert tracks[2].is_moving is True
        parked = [track for track in tracks.values() if track.is_moving is False]
        assert len(parked) >= 8
        assert np.median([spread(track) for track in parked]) < 0.3
        assert max(spread(track) for track in parked) < 0.6
        # 0006 and 0018: traffic that crosses and comes, 0.2 and 0.26 km of it.
        for sequence in ("0006", "0018"):
            moving = [track for track in clips[sequence].objects if track.is_moving]
            assert len(moving) >= 0.9 * len(clips[sequence].objects)

    def test_shorter_poses_hold_parked_cars_better(self, clips):
        """The ORB-SLAM3 poses are about 3 % long against the laser's labels, which `pose_scale` puts right."""

        def parked_spread(clip):
            tracks = [
                track.centers[np.isfinite(track.centers[:, 0])] for track in clip.objects if track.is_moving is False
            ]
            return np.median([np.linalg.norm(seen - seen.mean(axis=0), axis=1).mean() for seen in tracks])

        scaled = {clip.notes["sequence"]: clip for clip in open_all(REAL, frames=0, pose_scale=0.97)}
        for sequence in ("0000", "0003"):
            assert parked_spread(scaled[sequence]) < 0.7 * parked_spread(clips[sequence])

"""Stereo4D's npz as its release writes them, with and without the video."""

import numpy as np
import pytest
from tiny_scene import drive, from_first, measured_disparity, plane_pair, turn

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.readers.stereo4d import Stereo4dReader
from mllm4d_verl.data_tools.synthetic.mp4 import write_mp4

NUM_FRAMES = 4
VIDEO_ID = "a-B_cdefgh1"
NAME = f"{VIDEO_ID}_66700"
#: 30 frames a second from frame 2 of the video on, cut to whole microseconds.
TIMES_US = np.floor((2 + np.arange(NUM_FRAMES)) / 30 * 1e6).astype(np.int64)
ROTATIONS = np.stack([turn("x", 0.5), turn("z", -0.5)])


def world_tracks():
    """Three tracks (3, T, 3): two points at rest and one that moves, unseen here and there."""
    tracks = np.zeros((3, NUM_FRAMES, 3))
    tracks[0], tracks[1] = [5.0, 0.0, 9.0], [3.0, -1.0, 6.0]
    tracks[2] = np.stack([[4.0 + 0.5 * t, 0.5, 8.0] for t in range(NUM_FRAMES)])
    tracks[0, 1] = tracks[2, 0] = tracks[2, 3] = np.nan
    return tracks


def npz_fields():
    tracks = world_tracks()
    seen = np.isfinite(tracks[..., 0])
    return {
        "name": np.array(NAME),
        "video_id": np.array(VIDEO_ID),
        "timestamps": TIMES_US,
        "camera2world": drive(NUM_FRAMES)[:, :3],
        "track_lengths": seen.sum(axis=1),
        "track_indices": np.nonzero(seen)[1],
        "track_coordinates": tracks[seen].astype(np.float32),
        "rectified2rig": ROTATIONS,
        "fov_bounds": np.array([-90.0, 90.0, -90.0, 90.0]),
    }


def write_npz(folder, **changes):
    fields = {**npz_fields(), **changes}
    np.savez(folder / f"{NAME}.npz", **{name: value for name, value in fields.items() if value is not None})
    return folder


def open_clip(folder, **options):
    reader = Stereo4dReader()
    (ref,) = reader.find(folder, **options)
    return reader.open(ref)


class TestWithoutVideo:
    def test_poses_and_times(self, tmp_path):
        clip = open_clip(write_npz(tmp_path))
        assert (clip.clip_id, clip.num_frames, clip.has_frames) == (NAME, NUM_FRAMES, False)
        assert np.allclose(clip.cam_to_world, from_first(drive(NUM_FRAMES)))
        assert clip.fps == pytest.approx(30, rel=1e-3)
        assert clip.timestamps_s == pytest.approx(np.arange(NUM_FRAMES) / 30, abs=1e-5)
        assert clip.camera.focal_px == pytest.approx(443.405, abs=1e-3)  # 512 / 2 / tan(30 degrees)
        assert (clip.camera.width, clip.camera.baseline) == (512, 0.063)

    def test_one_metre_forward(self, tmp_path):
        poses = np.tile(np.eye(4)[:3], (NUM_FRAMES, 1, 1))
        poses[1:, 2, 3] = 1.0
        clip = open_clip(write_npz(tmp_path, camera2world=poses))
        assert clip.cam_to_world[1, :3, 3].tolist() == [0, 0, 1]

    def test_tracks_are_scattered_and_in_the_world_of_the_first_frame(self, tmp_path):
        clip = open_clip(write_npz(tmp_path))
        to_clip = np.linalg.inv(drive(NUM_FRAMES)[0])
        expected = world_tracks() @ to_clip[:3, :3].T + to_clip[:3, 3]
        assert clip.tracks.shape == (3, NUM_FRAMES, 3)
        assert np.allclose(clip.tracks, expected, atol=1e-5, equal_nan=True)

    def test_a_pitched_view_turns_the_poses_with_it(self, tmp_path):
        clip = open_clip(write_npz(tmp_path), pitch=20)
        assert np.allclose(clip.cam_to_world, from_first(drive(NUM_FRAMES) @ pad(turn("x", 20))))

    def test_frames_are_refused(self, tmp_path):
        with pytest.raises(InputError, match=f"{VIDEO_ID}.mp4"):
            open_clip(write_npz(tmp_path)).pairs()


def pad(rotation):
    pose = np.eye(4)
    pose[:3, :3] = rotation
    return pose


class TestWithVideo:
    def test_frames_of_the_raw_video_are_those_of_the_times(self, tmp_path):
        """Frame t of the raw video has brightness 20 t on the left and 20 t + 10 on the right."""
        (tmp_path / "npz").mkdir()
        (tmp_path / "raw").mkdir()
        frames = np.zeros((8, 128, 256, 3), np.uint8)
        for t in range(8):
            frames[t, :, :128], frames[t, :, 128:] = 20 * t, 20 * t + 10
        write_mp4(tmp_path / "raw" / f"{VIDEO_ID}.mp4", frames, 30.0)
        clip = open_clip(write_npz(tmp_path / "npz").parent, size=32)
        assert clip.has_frames
        seen = [(pair.frame, pair.left[16, 16, 0] // 10, pair.right[16, 16, 0] // 10) for pair in clip.pairs()]
        assert [frame for frame, _, _ in seen] == [0, 1, 2, 3]
        assert [left for _, left, _ in seen] == pytest.approx([4, 6, 8, 10], abs=1)
        (last,) = clip.pairs(3)
        assert last.frame == 3
        assert int(last.left.mean()) == pytest.approx(100, abs=3)

    def test_a_rectified_pair_is_taken_as_it_is(self, tmp_path):
        folder = write_npz(tmp_path) / "processed" / NAME
        folder.mkdir(parents=True)
        for eye, image in zip(("left", "right"), plane_pair(7), strict=True):
            write_mp4(folder / f"{NAME}-{eye}_rectified.mp4", np.stack([image] * NUM_FRAMES), 30.0)
        clip = open_clip(tmp_path)
        assert (clip.camera.width, clip.camera.height) == (64, 48)
        assert clip.video == folder / f"{NAME}-left_rectified.mp4"
        assert [measured_disparity(pair) for pair in clip.pairs()] == [7] * NUM_FRAMES

    def test_a_video_that_ends_early(self, tmp_path):
        write_mp4(write_npz(tmp_path) / f"{VIDEO_ID}.mp4", np.zeros((3, 64, 128, 3), np.uint8), 30.0)
        with pytest.raises(InputError, match="frame 5 is needed, the video has 3"):
            open_clip(tmp_path, size=32)

    def test_a_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(InputError, match="no such folder"):
            open_clip(write_npz(tmp_path), videos=tmp_path / "none")


class TestReader:
    def test_recognises_by_names_and_fields(self, tmp_path):
        reader = Stereo4dReader()
        assert reader.recognises(tmp_path) is None
        np.savez(tmp_path / "clip_0001.npz", camera2world=np.zeros(3))
        assert reader.recognises(tmp_path) is None
        (tmp_path / "clip_0001.npz").unlink()
        assert "rectified2rig" in reader.recognises(write_npz(tmp_path))
        assert "rectified2rig" in reader.recognises(tmp_path / f"{NAME}.npz")

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"timestamps": None}, "timestamps"),
            ({"timestamps": TIMES_US[:2]}, "timestamps"),
            ({"timestamps": TIMES_US[::-1]}, "timestamps"),
            ({"camera2world": drive(NUM_FRAMES)}, "camera2world"),
            ({"camera2world": np.full((NUM_FRAMES, 3, 4), np.nan)}, "camera2world"),
            ({"camera2world": 2 * drive(NUM_FRAMES)[:, :3]}, "camera2world"),
            ({"rectified2rig": np.eye(3)}, "rectified2rig"),
            ({"fov_bounds": np.zeros(4)}, "fov_bounds"),
        ],
    )
    def test_bad_fields_are_named(self, tmp_path, changes, field):
        with pytest.raises(InputError) as caught:
            open_clip(write_npz(tmp_path, **changes))
        assert (caught.value.field, caught.value.file) == (field, str(tmp_path / f"{NAME}.npz"))

    def test_the_row_of_a_bad_pose_is_named(self, tmp_path):
        poses = drive(NUM_FRAMES)[:, :3]
        poses[2, 1, 3] = np.nan
        with pytest.raises(InputError, match="row 2, field camera2world: the pose holds NaN"):
            open_clip(write_npz(tmp_path, camera2world=poses))

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"track_lengths": np.array([1, 2])}, "track_indices"),
            ({"track_coordinates": np.zeros((9, 2))}, "track_coordinates"),
            ({"track_indices": np.full(9, NUM_FRAMES)}, "track_indices"),
        ],
    )
    def test_bad_tracks_are_named_when_asked_for(self, tmp_path, changes, field):
        clip = open_clip(write_npz(tmp_path, **changes))
        with pytest.raises(InputError) as caught:
            _ = clip.tracks
        assert caught.value.field == field

    def test_a_file_that_is_cut_off(self, tmp_path):
        path = write_npz(tmp_path) / f"{NAME}.npz"
        path.write_bytes(path.read_bytes()[:400])
        with pytest.raises(InputError, match="Fetch it again"):
            open_clip(path)

"""Questions about real KITTI tracks, 50 of them drawn at random, against the label files by a slow computation."""

import os
from pathlib import Path

import numpy as np
import pytest

from mllm4d_verl.data_tools.questions import QuestionConfig, build_questions
from mllm4d_verl.data_tools.readers.kitti_tracking import KittiTrackingReader
from mllm4d_verl.data_tools.schema import Clip4D, ObjectTrack

REAL = Path(os.environ.get("MLLM4D_SHARED_DATA", "/work/shared/data")) / "kitti_tracking_labels"
LATTICE_M = 0.35  # an object's points lie on its box about so far apart: the nearest point is that much too far at most
CENTER_M = 0.02  # points are float32 and rounded


class Sequence:
    """One sequence read again from its text files, without the reader."""

    def __init__(self, name):
        self.boxes = {}
        for line in (REAL / "label_02" / f"{name}.txt").read_text().splitlines():
            words = line.split()
            if words[2] != "DontCare":
                self.boxes[int(words[1]), int(words[0])] = [float(word) for word in words[10:17]]
        for line in (REAL / "calib" / f"{name}.txt").read_text().splitlines():
            if line.startswith("P2"):
                p2 = np.array([float(word) for word in line.split()[1:]]).reshape(3, 4)
        self.shift = np.linalg.solve(p2[:, :3], p2[:, 3])  # camera 0 -> left colour camera
        lines = (REAL / "orbslam3_stereo_poses" / f"{name}.txt").read_text().splitlines()
        self.poses = [np.array(line.split(), float).reshape(3, 4) for line in lines]

    def camera(self, frame):
        return self.poses[frame][:, 3]  # taken, as the reader does, to be of the left colour camera

    def middle(self, number, frame):
        height, _, _, x, y, z, _ = self.boxes[number, frame]
        pose = self.poses[frame]
        return pose[:, :3] @ (np.array([x, y - height / 2, z]) + self.shift) + pose[:, 3]

    def distance(self, number, frame, camera_frame):
        """From the camera to the nearest point of the box."""
        height, width, length, x, y, z, turn = self.boxes[number, frame]
        pose = self.poses[frame]
        seen = pose[:, :3].T @ (self.camera(camera_frame) - pose[:, 3]) - self.shift - [x, y - height / 2, z]
        along = np.cos(turn) * seen[0] - np.sin(turn) * seen[2]
        across = np.sin(turn) * seen[0] + np.cos(turn) * seen[2]
        beyond = [max(abs(p) - size / 2, 0) for p, size in ((along, length), (seen[1], height), (across, width))]
        return sum(part**2 for part in beyond) ** 0.5


def _slow(row, sequence):
    """The measure, and by how much the points of the record may differ from it."""
    i, j = row.meta["clip_frames"]
    number = row.meta.get("object_id", 0) - 1  # objects count from 1, tracks from 0
    rotation = sequence.poses[i][:, :3]
    if row.task.startswith("camera"):
        moved = rotation.T @ (sequence.camera(j) - sequence.camera(i))
        return (np.linalg.norm(moved) if "distance" in row.task else max(abs(moved))), CENTER_M
    if row.task == "object_absolute_distance":
        return np.linalg.norm(sequence.middle(number, j) - sequence.middle(number, i)), CENTER_M
    if row.task == "object_camera_absolute_distance":
        return sequence.distance(number, j, i), LATTICE_M
    if row.task == "object_camera_relative_distance":
        return sequence.distance(number, j, j) - sequence.distance(number, i, i), LATTICE_M
    moved = rotation.T @ (sequence.middle(number, j) - sequence.middle(number, i))
    return moved[0 if "lateral" in row.task else 2], CENTER_M


@pytest.mark.skipif(not REAL.is_dir(), reason="no shared data")
def test_fifty_questions_agree_with_the_label_files():
    reader = KittiTrackingReader()
    clips, names = [], {}
    for ref in reader.find(REAL, frames=0):
        source = reader.open(ref)
        camera = source.camera
        tracks = [
            ObjectTrack(item.id, item.category, f"{item.category} number {item.id}", bool(item.is_moving), item.points)
            for item in source.objects
        ]
        names[ref.clip_id] = source.notes["sequence"]
        clips.append(
            Clip4D(
                ref.clip_id,
                "kitti",
                "",
                "a.mp4",
                source.fps,
                source.num_frames,
                camera.width,
                camera.height,
                camera.intrinsics,
                camera.baseline,
                source.cam_to_world,
                tracks,
            )
        )
    config = QuestionConfig(max_per_clip=70, max_per_clip_task=10, inner_pairs=20, balance_ratio=float("inf"))
    rows = build_questions(clips, config)
    sequences = {name: Sequence(name) for name in set(names.values())}
    drawn = np.random.default_rng(0).permutation(len(rows))[:50]
    assert len(drawn) == 50
    tasks = set()
    for number in drawn:
        row = rows[number]
        measure, tolerance = _slow(row, sequences[names[row.clip_id]])
        assert row.meta["measure"] == pytest.approx(measure, abs=tolerance), row
        if row.value is None and row.task != "camera_relative_direction" and row.answer_text != "not moving":
            assert (row.answer_text in ("left", "closer")) == (measure < 0), row
        tasks.add(row.task)
    assert len(tasks) == 7

"""KITTI tracking: labelled 3D boxes of road users, with camera poses from OXTS or from a SLAM run, images or not.

Facts, from the devkit: a label row is frame, track id, type, truncated, occluded, alpha, left, top, right, bottom
(pixels of image_02), height, width, length, x, y, z, rotation_y; (x, y, z) is the bottom centre of the box in the
rectified frame of camera 0, y points down, rotation_y turns about it; DontCare rows have track id -1. Names in calib
vary (`R_rect` or `R0_rect:`, `Tr_velo_cam` or `Tr_velo_to_cam:`). P2 belongs to the left colour camera, whose first
frame is the world here: points move by the t of P2 = K [I | t] on their way from camera 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import invert_pose, transform_points
from ..stereo.camera import StereoCamera
from ..stereo.clip import ClipRef, Reader, SourceObject, StereoClip, StereoPair, check_same_frames
from ..video import ImageFrames
from .calibration_file import ImageSize, camera_shift, kitti_camera, read_kitti_table, read_projections
from .checks import (
    check_gapless,
    check_options,
    check_rigid,
    file_name,
    number_option,
    read_number_rows,
    read_text,
    start_at_first,
)
from .kitti_odometry import KITTI_FPS, KITTI_LICENSE, SPLIT_OPTIONS, numbered_images, read_poses, split_refs
from .media import PairedClip
from .pair import unique

FloatArray = NDArray[np.float64]

#: Folders with a file of poses for each sequence, looked for in this order.
POSE_FOLDERS = ("oxts", "poses", "orbslam3_stereo_poses", "orbslam3_poses")
_OXTS_COLUMNS = 30
_EARTH_RADIUS_M = 6378137.0  # of the devkit's Mercator projection

#: Size of the drives of most sequences, for labels without images and without a SLAM configuration.
_USUAL_SIZE = ImageSize(1242, 375)

#: Points a box has along each edge. The lattice on its surface, 7^3 - 5^3 = 218 points, has the box's centre as its
#: mean from wherever it is seen, and the box's nearest face among its points.
_EDGE_POINTS = 7
#: Label values of `occluded` from which an object counts as unseen: 2 largely occluded, 3 unknown.
_UNSEEN = 2

# What still things may seem to move between two frames, metres: boxes are annotated to about 0.3 m, a tilt of the pose
# shows in proportion to the depth, and the scale of the poses in proportion to what the camera travelled.
_BOX_NOISE_M = 0.3
_NOISE_PER_DEPTH = 0.015
_NOISE_PER_TRAVEL = 0.05
_STILL_BELOW = 0.8
_MOVING_ABOVE = 1.5


class KittiTrackingReader(Reader):
    """Reader of KITTI tracking sequences: labels, calibration, poses, and images where they are there."""

    name: ClassVar[str] = "kitti_tracking"
    summary: ClassVar[str] = "KITTI tracking: label_02, calib, poses (OXTS or SLAM), image_02/03 where there"
    options: ClassVar[dict[str, str]] = {
        **SPLIT_OPTIONS,
        "poses": "folder with <sequence>.txt of OXTS (30 columns) or 3x4 poses of the left colour camera (12)",
        "pose_scale": "factor on the lengths of the poses, 1; a SLAM run may be some percent off",
    }
    tried_on: ClassVar[str] = "labels, calibration and ORB-SLAM3 poses of sequences 0000, 0003, 0006, 0012, 0018"

    def recognises(self, path: Path) -> str | None:
        home = _home(path)
        if home is None:
            return None
        return "label_02 and calib" + (" and image_02, image_03" if (home / "image_03").is_dir() else "")

    def find(self, path: Path, **options: Any) -> list[ClipRef]:
        check_options(self, options)
        home = _home(path)
        if home is None:
            raise InputError("no label_02 and calib", file=path, remedy="Point at the folder that holds both")
        refs = []
        for labels in sorted((home / "label_02").glob("*.txt")):
            sequence = labels.stem
            count = _count_frames(home, sequence, labels, options)
            name = f"kitti_{file_name(sequence)}"
            for ref in split_refs(name, home, self.name, count, dict(options)):
                refs.append(ClipRef(ref.clip_id, home, self.name, {**ref.key, "sequence": sequence}, ref.options))
        if not refs:
            raise InputError("holds no <sequence>.txt", file=home / "label_02")
        return unique(refs)

    def open(self, ref: ClipRef) -> StereoClip:
        home, sequence = ref.path, str(ref.key["sequence"])
        numbers = range(int(ref.key["start"]), int(ref.key["stop"]))
        label_file = home / "label_02" / f"{sequence}.txt"
        calib_file = home / "calib" / f"{sequence}.txt"
        labels = [label for label in read_labels(label_file) if label.frame in numbers]
        eyes = _images(home, sequence, numbers)
        poses_file = _poses_file(home, sequence, ref.options)
        size = _image_size(eyes, poses_file, labels)
        projections = read_projections(calib_file)
        camera = kitti_camera(projections, "P2", "P3", size, calib_file)
        notes: dict[str, Any] = {"sequence": sequence, "first_frame": numbers.start}
        if poses_file is None and eyes is None:
            raise InputError(
                "neither images nor poses: nothing tells how the camera moved",
                file=home,
                row=sequence,
                remedy=f"Add {sequence}.txt to one of {', '.join(POSE_FOLDERS)}, or image_02 and image_03",
            )
        cam_to_world, objects = None, None
        if poses_file is not None:
            scale = number_option(ref.options, "pose_scale", 1.0, 0.1, 10.0)
            cam_to_world = _cam_to_world(poses_file, calib_file, projections["P2"], numbers)
            cam_to_world[:, :3, 3] *= scale
            objects = to_objects(labels, numbers, cam_to_world, camera_shift(projections["P2"]))
            notes |= {"poses": f"{poses_file.parent.name}/{poses_file.name}", "pose_scale": scale}
        common: dict[str, Any] = {
            "clip_id": ref.clip_id,
            "source": "kitti_tracking",
            "license": KITTI_LICENSE,
            "path": label_file,
            "camera": camera,
            "cam_to_world": cam_to_world,
            "objects": objects,
            "notes": notes,
        }
        if eyes is None:
            return LabelledClip(num_frames=len(numbers), fps=KITTI_FPS, **common)
        return PairedClip(left=eyes[0], right=eyes[1], **common)


class LabelledClip(StereoClip):
    """Poses and objects of a sequence whose images are not there."""

    has_frames = False

    def __init__(
        self,
        *,
        clip_id: str,
        source: str,
        license: str,
        path: Path,
        num_frames: int,
        fps: float,
        camera: StereoCamera,
        cam_to_world: FloatArray | None,
        objects: list[SourceObject] | None,
        notes: dict[str, Any],
    ) -> None:
        self.clip_id, self.source, self.license, self.path = clip_id, source, license, path
        self.num_frames, self.fps, self.camera = num_frames, fps, camera
        self.cam_to_world, self.objects, self.notes = cam_to_world, objects, notes

    def pairs(self, start: int = 0, stop: int | None = None) -> Iterator[StereoPair]:
        raise InputError(
            "the clip has labels and no images", file=self.path, remedy="Put image_02 and image_03 beside label_02"
        )


@dataclass(frozen=True)
class Label:
    """A row of a label file.

    Attributes:
        frame, track: as in the file.
        category: lower case.
        occluded: 0 seen, 1 partly, 2 largely occluded, 3 unknown.
        box: left, top, right, bottom, pixels of image_02.
        height, width, length: metres.
        bottom: (x, y, z) of the bottom centre in rectified camera 0, metres.
        rotation_y: radians about the downward axis.
    """

    frame: int
    track: int
    category: str
    occluded: int
    box: tuple[float, float, float, float]
    height: float
    width: float
    length: float
    bottom: tuple[float, float, float]
    rotation_y: float

    @property
    def center(self) -> FloatArray:
        """(3,) centre of the box in rectified camera 0: half a height above the bottom, and y points down."""
        x, y, z = self.bottom
        return np.array([x, y - self.height / 2, z])

    def surface(self) -> FloatArray:
        """(218, 3) points on the box's surface in rectified camera 0; the length lies along x where rotation_y is 0."""
        sin, cos = math.sin(self.rotation_y), math.cos(self.rotation_y)
        turn = np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])
        return _LATTICE * (self.length, self.height, self.width) @ turn.T + self.center


def _surface_lattice() -> FloatArray:
    steps = np.linspace(-0.5, 0.5, _EDGE_POINTS)
    lattice = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    return lattice[np.abs(lattice).max(axis=1) == 0.5]


_LATTICE = _surface_lattice()


def read_labels(path: Path) -> list[Label]:
    """Labels of a sequence in the order of the file, DontCare left out.

    Raises:
        InputError: naming row and field of what is no number, out of range, or labelled twice in a frame.
    """
    labels: list[Label] = []
    seen: set[tuple[int, int]] = set()
    for row, line in enumerate(read_text(path).splitlines()):
        words = line.split()
        if not words:
            continue
        if len(words) not in (17, 18):  # 18 with a tracker's score
            raise InputError(f"{len(words)} columns, a label has 17", file=path, row=row)
        if words[2].lower() == "dontcare":
            continue
        label = _label(words, path, row)
        if (label.frame, label.track) in seen:
            raise InputError(
                f"track {label.track} is labelled twice in frame {label.frame}", file=path, row=row, field="track id"
            )
        seen.add((label.frame, label.track))
        labels.append(label)
    return labels


def _label(words: Sequence[str], path: Path, row: int) -> Label:
    def number(column: int, name: str, low: float = -1e6) -> float:
        try:
            value = float(words[column])
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < low:
            raise InputError(f"{words[column]!r} is not a number that fits", file=path, row=row, field=name)
        return value

    height, width, length = (number(column, name, 1e-3) for column, name in _DIMENSIONS)
    return Label(
        frame=int(number(0, "frame", 0)),
        track=int(number(1, "track id", 0)),
        category=words[2].lower(),
        occluded=int(number(4, "occluded")),
        box=(number(6, "left"), number(7, "top"), number(8, "right"), number(9, "bottom")),
        height=height,
        width=width,
        length=length,
        bottom=(number(13, "x"), number(14, "y"), number(15, "z")),
        rotation_y=number(16, "rotation_y"),
    )


_DIMENSIONS = ((10, "height"), (11, "width"), (12, "length"))


def to_objects(
    labels: Sequence[Label], numbers: range, cam_to_world: FloatArray, shift: FloatArray
) -> list[SourceObject]:
    """Tracks of a clip in its world.

    Args:
        labels: of the clip's frames.
        numbers: frames of the sequence that the clip has.
        cam_to_world: (T, 4, 4) of the left colour camera.
        shift: (3,) metres, from camera 0 to the left colour camera: a point p becomes p + shift.
    """
    tracks: dict[int, list[Label]] = {}
    for label in labels:
        tracks.setdefault(label.track, []).append(label)
    objects = []
    for track, rows in sorted(tracks.items()):
        centers = np.full((len(numbers), 3), np.nan)
        boxes = np.full((len(numbers), 4), np.nan)
        points = [np.zeros((0, 3), np.float32)] * len(numbers)
        for label in rows:
            frame = label.frame - numbers.start
            centers[frame] = transform_points(cam_to_world[frame], label.center + shift)
            boxes[frame] = label.box
            if label.occluded < _UNSEEN:
                points[frame] = transform_points(cam_to_world[frame], label.surface() + shift).astype(np.float32)
        # Track ids start at 0, ids of objects at 1.
        moving = moves(centers, cam_to_world)
        objects.append(SourceObject(track + 1, rows[0].category, centers, points, boxes, moving))
    return objects


def moves(centers: FloatArray, cam_to_world: FloatArray) -> bool | None:
    """Whether a world track (T, 3), NaN where absent, moves by more than still things seem to; None in between.

    Every two frames are compared: what their centres are apart against what noise may make of it, which grows with the
    depth (tilt of the poses) and with the way of the camera between the two (scale of the poses).
    """
    frames = np.flatnonzero(np.isfinite(centers[:, 0]))
    if len(frames) < 2:
        return None
    found, cameras = centers[frames], cam_to_world[frames, :3, 3]
    apart = np.linalg.norm(found[:, None] - found[None], axis=-1)
    travelled = np.linalg.norm(cameras[:, None] - cameras[None], axis=-1)
    depth = np.linalg.norm(found - cameras, axis=-1)
    noise = _BOX_NOISE_M + _NOISE_PER_DEPTH * np.maximum(depth[:, None], depth[None]) + _NOISE_PER_TRAVEL * travelled
    ratio = float((apart / noise).max())
    return True if ratio > _MOVING_ABOVE else False if ratio < _STILL_BELOW else None


# -------------------------------------------------------------------------------------------------------------- poses


class _RigNames(NamedTuple):
    """Spellings of a matrix in calib files."""

    names: tuple[str, ...]
    numbers: int


_RECTIFICATION = _RigNames(("R_rect", "R0_rect"), 9)
_VELO_TO_CAM = _RigNames(("Tr_velo_cam", "Tr_velo_to_cam"), 12)
_IMU_TO_VELO = _RigNames(("Tr_imu_velo", "Tr_imu_to_velo"), 12)


def _cam_to_world(poses_file: Path, calib_file: Path, projection: FloatArray, numbers: range) -> FloatArray:
    first_line = next((line for line in read_text(poses_file).splitlines() if line.strip()), "")
    if len(first_line.split()) == 12:
        return start_at_first(read_poses(poses_file, list(numbers)))
    rows = read_number_rows(poses_file, _OXTS_COLUMNS)
    if numbers.stop > len(rows):
        raise InputError(f"{len(rows)} rows, frame {numbers.stop - 1} needs one", file=poses_file, row=len(rows))
    imu_to_world = check_rigid(oxts_poses(rows), poses_file, "lat, lon, alt, roll, pitch, yaw")[
        numbers.start : numbers.stop
    ]
    table = read_kitti_table(calib_file)
    imu_to_camera = (
        _rig(table, _RECTIFICATION, calib_file)
        @ _rig(table, _VELO_TO_CAM, calib_file)
        @ _rig(table, _IMU_TO_VELO, calib_file)
    )
    imu_to_camera[:3, 3] += camera_shift(projection)
    return start_at_first(imu_to_world @ invert_pose(imu_to_camera))


def oxts_poses(rows: FloatArray) -> FloatArray:
    """(T, 4, 4) IMU-to-earth poses, metres, of OXTS rows: lat, lon (degrees), alt, roll, pitch, yaw (radians), ...

    The devkit's Mercator projection: with s = cos(lat_0), x = s r lon, y = s r log(tan(45 + lat / 2)), z = alt, and
    R = Rz(yaw) Ry(pitch) Rx(roll). IMU axes: x forward, y left, z up.
    """
    latitude, longitude = np.radians(rows[:, 0]), np.radians(rows[:, 1])
    scale = math.cos(latitude[0]) * _EARTH_RADIUS_M
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, 0, 3] = scale * longitude
    poses[:, 1, 3] = scale * np.log(np.tan(math.pi / 4 + latitude / 2))
    poses[:, 2, 3] = rows[:, 2]
    poses[:, :3, 3] -= poses[0, :3, 3]  # millions of metres would cost the last digits
    roll, pitch, yaw = rows[:, 3], rows[:, 4], rows[:, 5]
    poses[:, :3, :3] = _turn(2, yaw) @ _turn(1, pitch) @ _turn(0, roll)
    return poses


def _turn(axis: int, angles: FloatArray) -> FloatArray:
    """(T, 3, 3) right-handed turns about a coordinate axis."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turns = np.tile(np.eye(3), (len(angles), 1, 1))
    turns[:, first, first] = turns[:, second, second] = np.cos(angles)
    turns[:, second, first] = np.sin(angles)
    turns[:, first, second] = -np.sin(angles)
    return turns


def _rig(table: dict[str, FloatArray], wanted: _RigNames, path: Path) -> FloatArray:
    name = next((name for name in wanted.names if name in table), None)
    if name is None:
        raise InputError("is missing", file=path, field=wanted.names[0], remedy="OXTS poses need it")
    if len(table[name]) != wanted.numbers:
        raise InputError(f"{len(table[name])} numbers, expected {wanted.numbers}", file=path, field=name)
    matrix = np.eye(4)
    if wanted.numbers == 9:
        matrix[:3, :3] = table[name].reshape(3, 3)
    else:
        matrix[:3] = table[name].reshape(3, 4)
    return check_rigid(matrix[None], path, name)[0]


# -------------------------------------------------------------------------------------------------------------- files


def _home(path: Path) -> Path | None:
    """The folder with label_02 and calib: `path` or its `training`."""
    for home in (path, path / "training"):
        if (home / "label_02").is_dir() and (home / "calib").is_dir():
            return home
    return None


def _eye_folders(home: Path, sequence: str) -> list[Path] | None:
    folders = [home / eye / sequence for eye in ("image_02", "image_03")]
    return folders if all(folder.is_dir() for folder in folders) else None


def _images(home: Path, sequence: str, numbers: range) -> tuple[ImageFrames, ImageFrames] | None:
    folders = _eye_folders(home, sequence)
    if folders is None:
        return None
    left, right = (numbered_images(folder) for folder in folders)
    check_same_frames(len(left), len(right), home / "image_02" / sequence)
    for eye, folder in zip((left, right), folders, strict=True):
        missing = next((number for number in numbers if number not in eye), None)
        if missing is not None:
            raise InputError(f"image {missing:06d} is missing", file=folder, row=missing)
    check_gapless(numbers, folders[0])
    return (
        ImageFrames([left[number] for number in numbers], KITTI_FPS),
        ImageFrames([right[number] for number in numbers], KITTI_FPS),
    )


def _count_frames(home: Path, sequence: str, labels: Path, options: dict[str, Any]) -> int:
    """How many frames a sequence has: images, else poses, else labelled frames."""
    folders = _eye_folders(home, sequence)
    if folders is not None:
        return len(numbered_images(folders[0]))
    poses = _poses_file(home, sequence, options)
    if poses is not None:
        return sum(1 for line in read_text(poses).splitlines() if line.strip())
    return max((label.frame for label in read_labels(labels)), default=0) + 1


def _poses_file(home: Path, sequence: str, options: dict[str, Any]) -> Path | None:
    given = options.get("poses")
    if given is not None:
        folder = Path(str(given)).expanduser()
        for candidate in (home / folder / f"{sequence}.txt", folder / f"{sequence}.txt"):
            if candidate.is_file():
                return candidate
        raise InputError(f"holds no {sequence}.txt", file=folder, field="poses")
    found = (home / name / f"{sequence}.txt" for name in POSE_FOLDERS)
    return next((path for path in found if path.is_file()), None)


def _image_size(
    eyes: tuple[ImageFrames, ImageFrames] | None, poses_file: Path | None, labels: Sequence[Label]
) -> ImageSize:
    """Of the images; without them that of the SLAM run's configuration, else the usual one, made to hold the boxes."""
    if eyes is not None:
        return ImageSize(eyes[0].width, eyes[0].height)
    size = _USUAL_SIZE
    settings = poses_file.with_suffix(".yaml") if poses_file is not None else None
    if settings is not None and settings.is_file():
        text = read_text(settings)
        found = [re.search(rf"^Camera\.{side}:\s*(\d+)", text, re.MULTILINE) for side in ("width", "height")]
        if found[0] and found[1]:
            size = ImageSize(int(found[0][1]), int(found[1][1]))
    right = max((math.floor(label.box[2]) + 1 for label in labels), default=0)
    bottom = max((math.floor(label.box[3]) + 1 for label in labels), default=0)
    return ImageSize(max(size.width, right), max(size.height, bottom))

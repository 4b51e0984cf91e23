"""Virtual KITTI 2: rendered street scenes with exact poses, depth, instance masks and vehicle tracks.

Facts, from the files' headers and code that reads them: SceneXX/<variation> with frames/rgb/Camera_{0,1}/rgb_%05d.jpg,
frames/depth/Camera_0/depth_%05d.png (uint16 centimetres, sky 65535), frames/instanceSegmentation/Camera_0/
instancegt_%05d.png (palette image, index = trackID + 1), intrinsic.txt (frame cameraID fx fy cx cy), extrinsic.txt
(frame cameraID and a 4x4 world-to-camera matrix), pose.txt, bbox.txt (with isMoving), info.txt; OpenCV axes, pixel
centres at integers (cx 620.5 of 1242 pixels). Taken: centres from camera_space_X/Y/Z of camera 0.
Inferred: that point is the middle of the box's bottom face, as in KITTI, and up is -Y of the data set's world, so the
centre lies height / 2 above it (`-o origin=center` if not); 10 frames per second, the rate of KITTI.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from ..errors import InputError
from ..geometry import invert_pose, transform_points
from ..stereo.camera import StereoCamera
from ..stereo.clip import ClipRef, Reader, SourceObject, StereoClip
from ..video import ImageFrames
from .checks import (
    check_gapless,
    check_map_size,
    check_options,
    check_rigid,
    choice_option,
    file_name,
    find_folders,
    number_option,
    numbered_files,
    pinhole,
    pose_matrices,
    read_bytes,
    read_number_rows,
    read_png,
    read_text,
    start_at_first,
)
from .media import PairedClip

FloatArray = NDArray[np.float64]

BASELINE_M = 0.532725
LICENSE = "CC BY-NC-SA 3.0"
_SKY_CM = 65535
_ORIGINS = ("bottom", "center")
#: What two rectified cameras of one rig may differ by, metres and radians: the files print six digits.
_RIG_TOLERANCE = 1e-3
_POSE_COLUMNS = ("frame", "cameraID", "trackID", "height", "camera_space_X", "camera_space_Y", "camera_space_Z")
_BOX_COLUMNS = ("frame", "cameraID", "trackID", "left", "right", "top", "bottom", "isMoving")


class VirtualKittiClip(PairedClip):
    """One variation of one scene, camera 0 left and camera 1 right."""

    def __init__(self, folder: Path, clip_id: str, fps: float, origin: str) -> None:
        eyes = [_images(folder, "rgb", camera, "rgb", "jpg") for camera in (0, 1)]
        numbers = list(eyes[0])
        check_gapless(numbers, folder / "frames/rgb/Camera_0")
        cameras = _read_cameras(folder, numbers)
        left = ImageFrames(list(eyes[0].values()))
        super().__init__(
            clip_id=clip_id,
            source="virtual_kitti_2",
            license=LICENSE,
            path=folder,
            left=left,
            right=ImageFrames(list(eyes[1].values())),
            camera=StereoCamera(left.width, left.height, cameras.intrinsics, cameras.baseline),
            fps=fps,
            cam_to_world=start_at_first(cameras.cam_to_world),
            objects=_read_objects(folder, numbers, cameras, origin),
            notes={"first_frame": numbers[0]},
        )
        self._depths = _images(folder, "depth", 0, "depth", "png")
        self._masks = _images(folder, "instanceSegmentation", 0, "instancegt", "png")
        self._numbers = numbers

    def depth(self, frame: int) -> NDArray[np.float32] | None:
        if not self._depths:
            return None
        path = _frame_file(self._depths, self._numbers[frame], self.path / "frames/depth/Camera_0")
        centimetres = read_png(path, np.uint16, 1, (self.camera.width, self.camera.height))
        known = (centimetres > 0) & (centimetres < _SKY_CM)
        return np.where(known, centimetres.astype(np.float32) / 100, np.float32(np.nan)).astype(np.float32)

    def disparity(self, frame: int) -> NDArray[np.float32] | None:
        depth = self.depth(frame)
        return None if depth is None else self.camera.disparity(depth)

    def instance_mask(self, frame: int) -> NDArray[np.int32] | None:
        if not self._masks:
            return None
        path = _frame_file(self._masks, self._numbers[frame], self.path / "frames/instanceSegmentation/Camera_0")
        mask = _palette_indices(path)
        check_map_size(mask, (self.camera.width, self.camera.height), path)
        return mask


@dataclass(frozen=True, eq=False)
class _Cameras:
    """Camera 0 over time: intrinsics (3, 3), poses (T, 4, 4) in the world of the data set, metres to camera 1."""

    intrinsics: FloatArray
    world_to_cam: FloatArray
    cam_to_world: FloatArray
    baseline: float


def _images(folder: Path, kind: str, camera: int, prefix: str, suffix: str) -> dict[int, Path]:
    return numbered_files(folder / "frames" / kind / f"Camera_{camera}", rf"{prefix}_(\d+)\.{suffix}")


def _frame_file(files: dict[int, Path], number: int, folder: Path) -> Path:
    if number not in files:
        raise InputError(f"frame {number} is missing", file=folder, row=number, remedy="Fetch it again")
    return files[number]


def _palette_indices(path: Path) -> NDArray[np.int32]:
    """(H, W) indices of a palette or grey image; OpenCV would give the palette's colours."""
    data = read_bytes(path)
    try:
        with PillowImage.open(BytesIO(data)) as image:
            if image.mode not in ("P", "L", "I;16", "I"):
                raise InputError(f"a {image.mode} image, expected one index per pixel", file=path, field="pixels")
            return np.asarray(image).astype(np.int32)
    except OSError as error:
        raise InputError(f"not an image, or one that is cut off ({error})", file=path, remedy="Copy it again") from None


def _rows_of(table: FloatArray, camera: int, numbers: list[int], path: Path) -> FloatArray:
    """The rows of one camera for the frames in order. Raises InputError naming the frame that has none."""
    rows = {int(row[0]): row for row in table if int(row[1]) == camera}
    for number in numbers:
        if number not in rows:
            raise InputError(f"no row for frame {number}, camera {camera}", file=path, row=number, field="frame")
    return np.stack([rows[number] for number in numbers])


def _read_cameras(folder: Path, numbers: list[int]) -> _Cameras:
    path = folder / "intrinsic.txt"
    intrinsics = _rows_of(read_number_rows(path, 6, skip=1), 0, numbers, path)
    change = np.flatnonzero(np.abs(intrinsics[:, 2:] - intrinsics[0, 2:]).max(axis=1) > 1e-6)
    if len(change):
        raise InputError("the intrinsics differ from the first frame's", file=path, row=numbers[change[0]], field="K")
    path = folder / "extrinsic.txt"
    table = read_number_rows(path, 18, skip=1)
    first, second = (
        check_rigid(pose_matrices(_rows_of(table, camera, numbers, path)[:, 2:]), path, "extrinsic", numbers)
        for camera in (0, 1)
    )
    to_second = second @ invert_pose(first)
    off = np.abs(to_second - to_second[0]).max() + np.abs(to_second[:, 1:3, 3]).max()
    if off > 2 * _RIG_TOLERANCE or np.abs(to_second[:, :3, :3] - np.eye(3)).max() > _RIG_TOLERANCE:
        raise InputError("camera 1 is not camera 0 moved along its rows", file=path, field="extrinsic")
    baseline = -float(np.median(to_second[:, 0, 3]))
    if not math.isclose(baseline, BASELINE_M, abs_tol=0.05):
        raise InputError(f"the cameras are {baseline:.3f} m apart, expected {BASELINE_M}", file=path, field="extrinsic")
    return _Cameras(pinhole(*intrinsics[0, 2:]), first, invert_pose(first), baseline)


def _read_table(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, float]]]:
    """Line number and named columns of a table with a header; True and False are 1 and 0."""
    lines = read_text(path).splitlines()
    header = lines[0].split() if lines else []
    for name in columns:
        if name not in header:
            raise InputError("the column is missing", file=path, row=0, field=name)
    at = {name: header.index(name) for name in columns}
    words = {"True": 1.0, "False": 0.0}
    table = []
    for number, line in enumerate(lines[1:], 1):
        values = line.split()
        if not values:
            continue
        if len(values) != len(header):
            raise InputError(f"{len(values)} values in the line, the header has {len(header)}", file=path, row=number)
        row = {}
        for name, column in at.items():
            try:
                row[name] = words[values[column]] if values[column] in words else float(values[column])
            except ValueError:
                raise InputError(f"{values[column]!r} is not a number", file=path, row=number, field=name) from None
            if not math.isfinite(row[name]):
                raise InputError(f"{values[column]} is not finite", file=path, row=number, field=name)
        table.append((number, row))
    return table


def _read_objects(folder: Path, numbers: list[int], cameras: _Cameras, origin: str) -> list[SourceObject] | None:
    """Vehicles that camera 0 has a pose of; None where the labels are not there."""
    pose_path, box_path, info_path = folder / "pose.txt", folder / "bbox.txt", folder / "info.txt"
    if not pose_path.is_file():
        return None
    frame_of = {number: frame for frame, number in enumerate(numbers)}
    labels = _read_labels(info_path) if info_path.is_file() else {}
    objects: dict[int, SourceObject] = {}
    to_clip_world = cameras.world_to_cam[0] @ cameras.cam_to_world
    for _, row in _read_table(pose_path, _POSE_COLUMNS):
        frame = frame_of.get(int(row["frame"]))
        if int(row["cameraID"]) != 0 or frame is None:
            continue
        track = int(row["trackID"])
        if track not in objects:
            nowhere = np.full((len(numbers), 3), np.nan)
            objects[track] = SourceObject(track + 1, labels.get(track, "vehicle"), nowhere)
        center = np.array([row["camera_space_X"], row["camera_space_Y"], row["camera_space_Z"]])
        if origin == "bottom":
            up = -cameras.world_to_cam[frame][:3, 1]
            center = center + up * row["height"] / 2
        objects[track].centers[frame] = transform_points(to_clip_world[frame], center)
    if box_path.is_file():
        _add_boxes(objects, box_path, frame_of)
    return [objects[track] for track in sorted(objects)]


def _add_boxes(objects: dict[int, SourceObject], path: Path, frame_of: dict[int, int]) -> None:
    for _, row in _read_table(path, _BOX_COLUMNS):
        frame = frame_of.get(int(row["frame"]))
        vehicle = objects.get(int(row["trackID"]))
        if int(row["cameraID"]) != 0 or frame is None or vehicle is None:
            continue
        if vehicle.boxes is None:
            vehicle.boxes = np.full((len(vehicle.centers), 4), np.nan)
        vehicle.boxes[frame] = [row["left"], row["top"], row["right"], row["bottom"]]
        vehicle.is_moving = bool(vehicle.is_moving) or bool(row["isMoving"])


def _read_labels(path: Path) -> dict[int, str]:
    """trackID -> label, lower case."""
    labels = {}
    for number, line in enumerate(read_text(path).splitlines()[1:], 1):
        words = line.split()
        if not words:
            continue
        if len(words) < 2 or not words[0].isdigit():
            raise InputError("expected trackID and label", file=path, row=number)
        labels[int(words[0])] = words[1].lower()
    return labels


class VirtualKittiReader(Reader):
    """The data set's folder, a scene of it, or a variation of a scene."""

    name = "virtual_kitti"
    summary = "Virtual KITTI 2: SceneXX/<variation> with exact poses, depth, masks and vehicle tracks"
    options: ClassVar[dict[str, str]] = {
        "variation": "clone, fog, 15-deg-left ...; all without",
        "fps": "frames per second, 10",
        "origin": "what the positions in pose.txt are of a box: bottom (its lowest face) or center, bottom",
    }

    def recognises(self, path: Path) -> str | None:
        found = find_folders(path, _is_variation, depth=2, first_only=True)
        return f"{found[0].name} with extrinsic.txt and frames/rgb/Camera_0, Camera_1" if found else None

    def find(self, path: Path, **options: Any) -> list[ClipRef]:
        check_options(self, options)
        wanted = options.get("variation")
        folders = [folder.resolve() for folder in find_folders(path, _is_variation, depth=2)]
        refs = [
            ClipRef(file_name(folder.parent.name, folder.name), folder, self.name, {}, options)
            for folder in folders
            if wanted is None or folder.name == wanted
        ]
        if not refs:
            raise InputError("no scene with extrinsic.txt and frames/rgb/Camera_0, Camera_1", file=path)
        return refs

    def open(self, ref: ClipRef) -> StereoClip:
        fps = number_option(ref.options, "fps", 10.0, 0.1, 1000.0)
        return VirtualKittiClip(ref.path, ref.clip_id, fps, choice_option(ref.options, "origin", _ORIGINS))


def _is_variation(folder: Path) -> bool:
    eyes = [folder / "frames" / "rgb" / f"Camera_{camera}" for camera in (0, 1)]
    return (folder / "extrinsic.txt").is_file() and all(eye.is_dir() for eye in eyes)

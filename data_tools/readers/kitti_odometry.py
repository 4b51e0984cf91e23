"""KITTI odometry: rectified image pairs, calib.txt, times.txt, ground-truth poses of camera 0.

Facts: calib.txt holds P0..P3 of the rectified cameras (0, 1 grey; 2, 3 colour; even ones left), P = K [I | t] with t in
metres from camera 0; a row of poses is a 3x4 matrix that takes camera-0 points to those of frame 0; 10 frames a second.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..stereo.clip import ClipRef, Reader, StereoClip, check_same_frames
from ..video import ImageFrames, list_images
from .calibration_file import ImageSize, camera_shift, kitti_camera, read_projections
from .checks import (
    check_gapless,
    check_options,
    check_rigid,
    choice_option,
    file_name,
    number_option,
    pose_matrices,
    read_number_rows,
    start_at_first,
)
from .media import PairedClip
from .pair import rate_of_times, rising, unique

FloatArray = NDArray[np.float64]

KITTI_FPS = 10.0
KITTI_LICENSE = "CC BY-NC-SA 3.0"
DEFAULT_FRAMES = 64


class Eyes(NamedTuple):
    """Folders of the two eyes and the projection matrix of each."""

    left: str
    right: str
    left_projection: str
    right_projection: str


COLOUR_EYES = (Eyes("image_2", "image_3", "P2", "P3"), Eyes("image_02", "image_03", "P2", "P3"))
GREY_EYES = (
    Eyes("image_0", "image_1", "P0", "P1"),
    Eyes("image_00", "image_01", "P0", "P1"),
    Eyes("image_l", "image_r", "P0", "P1"),
)

SPLIT_OPTIONS = {
    "frames": f"frames of a clip, {DEFAULT_FRAMES}; longer sequences become several clips, 0 leaves them whole",
    "stride": "frames from the start of a clip to that of the next one; as many as a clip has by default",
}


class KittiOdometryReader(Reader):
    """Reader of KITTI odometry sequences, alone or in the data set's own folders."""

    name: ClassVar[str] = "kitti_odometry"
    summary: ClassVar[str] = "KITTI odometry: image_0/1 or image_2/3, calib.txt, poses, times.txt"
    options: ClassVar[dict[str, str]] = {
        **SPLIT_OPTIONS,
        "cameras": "auto (colour where there is), colour or grey",
        "poses": "file of poses; without it poses.txt of the sequence or poses/<sequence>.txt of the data set",
    }
    tried_on: ClassVar[str] = "24 grey frames of a KITTI sequence with poses"

    def recognises(self, path: Path) -> str | None:
        for folder in _sequences(path)[:1]:
            eyes = _eyes(folder, "auto")
            if eyes is not None:
                where = "" if folder == path else f" in {folder.relative_to(path)}"
                return f"calib.txt with P0, {eyes.left} and {eyes.right}{where}"
        return None

    def find(self, path: Path, **options: Any) -> list[ClipRef]:
        check_options(self, options)
        cameras = choice_option(options, "cameras", ("auto", "colour", "grey"))
        refs = []
        for folder in _sequences(path):
            eyes = _eyes(folder, cameras)
            if eyes is None:
                raise InputError(f"no pair of {cameras} image folders", file=folder, field="cameras")
            name = file_name(folder.resolve().name)
            refs += split_refs(name, folder, self.name, len(list_images(folder / eyes.left)), dict(options))
        if not refs:
            raise InputError(
                "no sequence: a folder with calib.txt and two folders of images",
                file=path,
                remedy="Point at the folder of a sequence, or at the one that holds sequences/",
            )
        return unique(refs)

    def open(self, ref: ClipRef) -> StereoClip:
        folder, start, stop = ref.path, int(ref.key["start"]), int(ref.key["stop"])
        eyes = _eyes(folder, choice_option(ref.options, "cameras", ("auto", "colour", "grey")))
        if eyes is None:
            raise InputError("the image folders are not there any more", file=folder)
        images = [numbered_images(folder / name) for name in (eyes.left, eyes.right)]
        check_same_frames(len(images[0]), len(images[1]), folder)
        if list(images[0]) != list(images[1]):
            odd = min(set(images[0]) ^ set(images[1]))
            raise InputError(f"image {odd:06d} is there for one eye only", file=folder, row=odd)
        numbers = list(images[0])[start:stop]
        check_gapless(numbers, folder / eyes.left)
        left, right = (ImageFrames([eye[number] for number in numbers], KITTI_FPS) for eye in images)
        calibration = folder / "calib.txt"
        projections = read_projections(calibration)
        size = ImageSize(left.width, left.height)
        camera = kitti_camera(projections, eyes.left_projection, eyes.right_projection, size, calibration)
        times = _times(folder, numbers)
        notes: dict[str, Any] = {"sequence": folder.resolve().name, "first_frame": numbers[0], "cameras": eyes.left}
        poses = _poses_path(folder, ref.options.get("poses"))
        cam_to_world = None
        if poses is not None:
            rows = read_poses(poses, numbers)
            cam_to_world = poses_of_camera(rows, projections[eyes.left_projection])
            notes["poses"] = poses.name
        return PairedClip(
            clip_id=ref.clip_id,
            source="kitti_odometry",
            license=KITTI_LICENSE,
            path=folder,
            left=left,
            right=right,
            camera=camera,
            fps=rate_of_times(times) or KITTI_FPS,
            timestamps_s=times,
            cam_to_world=cam_to_world,
            notes=notes,
        )


def split_refs(name: str, folder: Path, reader: str, num_frames: int, options: dict[str, Any]) -> list[ClipRef]:
    """Clips of a sequence by the options `frames` and `stride`; what is left at the end is a clip from half a clip on.

    Raises:
        InputError: the options are not whole numbers in range.
    """
    frames = int(number_option(options, "frames", DEFAULT_FRAMES, 0, 1e6)) or num_frames
    stride = int(number_option(options, "stride", 0, 0, 1e6)) or frames
    if frames >= num_frames:
        return [ClipRef(name, folder, reader, {"start": 0, "stop": num_frames}, options)]
    refs = []
    for start in range(0, num_frames, stride):
        stop = min(start + frames, num_frames)
        if start == 0 or 2 * (stop - start) >= frames:
            refs.append(ClipRef(f"{name}_{start:06d}", folder, reader, {"start": start, "stop": stop}, options))
        if stop == num_frames:
            break
    return refs


def numbered_images(folder: Path) -> dict[int, Path]:
    """Images by the number that is their name, in order. Raises InputError for one that has another name."""
    images = {}
    for path in list_images(folder):
        if not path.stem.isdigit():
            raise InputError("images are named by their frame: 000000.png", file=path)
        images[int(path.stem)] = path
    return dict(sorted(images.items()))


def read_poses(path: Path, numbers: list[int]) -> FloatArray:
    """(T, 4, 4) poses of frames `numbers`, one row of 12 numbers per frame of the sequence.

    Raises:
        InputError: naming the row that is missing, malformed, holds a NaN or is no rotation.
    """
    rows = read_number_rows(path, 12)
    if numbers[-1] >= len(rows):
        raise InputError(
            f"{len(rows)} poses, frame {numbers[-1]} needs one", file=path, row=len(rows), remedy="One row per image"
        )
    return check_rigid(pose_matrices(rows[numbers]), path, "pose", numbers)


def poses_of_camera(camera0_to_world: FloatArray, projection: FloatArray) -> FloatArray:
    """cam_to_world of the camera of P = K [I | t], in a world that is that camera at the first frame.

    A camera-0 point p is p + t in that camera, so its own points go to camera 0 by subtracting t.
    """
    to_camera0 = np.eye(4)
    to_camera0[:3, 3] = -camera_shift(projection)
    return start_at_first(camera0_to_world @ to_camera0)


def _times(folder: Path, numbers: list[int]) -> FloatArray | None:
    path = folder / "times.txt"
    if not path.is_file():
        return None
    rows = read_number_rows(path, 1)[:, 0]
    if numbers[-1] >= len(rows):
        raise InputError(f"{len(rows)} times, frame {numbers[-1]} needs one", file=path, row=len(rows))
    return rising(rows[numbers], path, numbers[0])


def _sequences(path: Path) -> list[Path]:
    """`path` itself, or the sequences right below it or in its `sequences`."""
    if not path.is_dir():
        return []
    if _is_sequence(path):
        return [path]
    home = path / "sequences" if (path / "sequences").is_dir() else path
    return sorted(child for child in home.iterdir() if child.is_dir() and _is_sequence(child))


def _is_sequence(folder: Path) -> bool:
    calibration = folder / "calib.txt"
    if not calibration.is_file() or _eyes(folder, "auto") is None:
        return False
    with calibration.open(encoding="utf-8", errors="replace") as file:
        return re.match(r"\s*(P0:?\s|[-+0-9.])", file.readline()) is not None


def _eyes(folder: Path, cameras: str) -> Eyes | None:
    choices = {"colour": COLOUR_EYES, "grey": GREY_EYES, "auto": COLOUR_EYES + GREY_EYES}[cameras]
    return next((eyes for eyes in choices if all((folder / name).is_dir() for name in (eyes.left, eyes.right))), None)


def _poses_path(folder: Path, given: Any) -> Path | None:
    if given is not None:
        return Path(str(given)).expanduser()
    here = folder.resolve()
    candidates = [here / "poses.txt", here.parents[1] / "poses" / f"{here.name}.txt" if len(here.parents) > 1 else here]
    return next((path for path in candidates if path.is_file()), None)

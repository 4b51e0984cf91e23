"""TartanAir: rendered flights with stereo images, depth, segmentation and the poses of the left camera.

Facts, from the data set's own description: image_left/000000_left.png, image_right/000000_right.png,
depth_left/000000_left_depth.npy (metres, sky about 10000), seg_left/000000_left_seg.npy (uint8, a number per mesh),
pose_left.txt with lines "tx ty tz qx qy qz qw", camera-to-world in NED axes (x forward, y right, z down); a field of
view of 90 degrees: f 320, centre (320, 240) at 640x480; disparity 80 / depth, hence a baseline of 0.25 m.
Inferred: the centre W / 2, H / 2 is kept as published, though it may belong to pixel edges; 10 frames per second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ..errors import InputError
from ..stereo.camera import StereoCamera
from ..stereo.clip import ClipRef, Reader, StereoClip
from ..video import ImageFrames
from .checks import (
    check_gapless,
    check_map_size,
    check_options,
    file_name,
    find_folders,
    number_option,
    numbered_files,
    pinhole,
    read_number_rows,
    start_at_first,
)
from .media import PairedClip

FloatArray = NDArray[np.float64]

BASELINE_M = 0.25
LICENSE = "CC BY 4.0"
#: What lies further is the sky sphere of the game engine.
MAX_DEPTH_M = 1000.0
#: NED (forward, right, down) to OpenCV (right, down, forward).
NED_TO_OPENCV = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])


def read_poses(path: Path) -> FloatArray:
    """(T, 4, 4) camera-to-world poses in OpenCV axes of lines "tx ty tz qx qy qz qw" in NED axes.

    Raises:
        InputError: naming the line with a wrong length, a NaN, or a quaternion that is not of length one.
    """
    rows = read_number_rows(path, 7)
    for row, values in enumerate(rows):
        if not np.isfinite(values).all():
            raise InputError("the pose holds NaN or infinite numbers", file=path, row=row)
        if abs(np.linalg.norm(values[3:]) - 1) > 1e-2:
            raise InputError("the quaternion does not have length one", file=path, row=row, field="qx qy qz qw")
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3, :3] = NED_TO_OPENCV @ Rotation.from_quat(rows[:, 3:]).as_matrix() @ NED_TO_OPENCV.T
    poses[:, :3, 3] = rows[:, :3] @ NED_TO_OPENCV.T
    return poses


class TartanAirClip(PairedClip):
    """One trajectory, such as abandonedfactory/Easy/P000."""

    def __init__(self, folder: Path, clip_id: str, fps: float) -> None:
        eyes = [numbered_files(folder / f"image_{eye}", rf"(\d+)_{eye}\.png") for eye in ("left", "right")]
        numbers = list(eyes[0])
        check_gapless(numbers, folder / "image_left")
        pose_path = folder / "pose_left.txt"
        poses = read_poses(pose_path)
        if len(poses) != len(numbers):
            raise InputError(f"{len(poses)} poses for {len(numbers)} images", file=pose_path)
        left = ImageFrames(list(eyes[0].values()))
        width, height = left.width, left.height
        super().__init__(
            clip_id=clip_id,
            source="tartanair",
            license=LICENSE,
            path=folder,
            left=left,
            right=ImageFrames(list(eyes[1].values())),
            camera=StereoCamera(width, height, pinhole(width / 2, width / 2, width / 2, height / 2), BASELINE_M),
            fps=fps,
            cam_to_world=start_at_first(poses),
        )
        self._numbers = numbers
        self._depths = numbered_files(folder / "depth_left", r"(\d+)_left_depth\.npy")
        self._masks = numbered_files(folder / "seg_left", r"(\d+)_left_seg\.npy")

    def depth(self, frame: int) -> NDArray[np.float32] | None:
        depth = self._map(self._depths, "depth_left", frame)
        if depth is None:
            return None
        with np.errstate(invalid="ignore"):
            known = (depth > 0) & (depth < MAX_DEPTH_M)
        return np.where(known, depth, np.float32(np.nan)).astype(np.float32)

    def disparity(self, frame: int) -> NDArray[np.float32] | None:
        depth = self.depth(frame)
        return None if depth is None else self.camera.disparity(depth)

    def instance_mask(self, frame: int) -> NDArray[np.int32] | None:
        """(H, W) numbers of meshes, which are not tracked objects: `objects` stays None."""
        mask = self._map(self._masks, "seg_left", frame)
        return None if mask is None else mask.astype(np.int32)

    def _map(self, files: dict[int, Path], kind: str, frame: int) -> NDArray[Any] | None:
        if not files:
            return None
        number = self._numbers[frame]
        if number not in files:
            raise InputError(f"frame {number} is missing", file=self.path / kind, row=number, remedy="Fetch it again")
        path = files[number]
        try:
            pixels = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"not a readable npy file ({error})", file=path, remedy="Fetch it again") from None
        if pixels.ndim != 2:
            raise InputError(f"shape {pixels.shape}, expected (H, W)", file=path)
        check_map_size(pixels, (self.camera.width, self.camera.height), path)
        return pixels


class TartanAirReader(Reader):
    """The data set's folder, an environment, a difficulty, or one trajectory."""

    name = "tartanair"
    summary = "TartanAir: <environment>/<Easy|Hard>/P000 with pose_left.txt in NED axes"
    options: ClassVar[dict[str, str]] = {"fps": "frames per second, 10"}

    def recognises(self, path: Path) -> str | None:
        found = find_folders(path, _is_trajectory, depth=3, first_only=True)
        return f"{found[0].name} with pose_left.txt and image_left, image_right" if found else None

    def find(self, path: Path, **options: Any) -> list[ClipRef]:
        check_options(self, options)
        folders = [folder.resolve() for folder in find_folders(path, _is_trajectory, depth=3)]
        if not folders:
            raise InputError("no folder with pose_left.txt, image_left and image_right", file=path)
        refs = []
        for folder in folders:
            # names of trajectories repeat in every environment and difficulty
            clip_id = file_name(folder.parent.parent.name, folder.parent.name, folder.name)
            refs.append(ClipRef(clip_id, folder, self.name, {}, options))
        return refs

    def open(self, ref: ClipRef) -> StereoClip:
        return TartanAirClip(ref.path, ref.clip_id, number_option(ref.options, "fps", 10.0, 0.1, 1000.0))


def _is_trajectory(folder: Path) -> bool:
    eyes = (folder / "image_left", folder / "image_right")
    return (folder / "pose_left.txt").is_file() and all(eye.is_dir() for eye in eyes)

"""Spring: rendered film scenes with stereo images, poses, and disparities at twice the size.

Facts, from the data set's code and readers of it: frame_left/frame_left_0001.png and frame_right likewise;
disp1_left/disp1_left_0001.dsp5 is HDF5 with one array `disparity` at twice the width and height, its values in pixels
of the images, to be taken as [::2, ::2]; cam_data/intrinsics.txt (fx fy cx cy per frame) and extrinsics.txt (a 4x4
world-to-camera matrix per frame, OpenCV axes); depth = fx * 0.065 / disparity. The test split has neither disparities
nor extrinsics. Inferred: 24 frames per second, that of the film; the centre is taken as printed.

HDF5 is read by h5py, which is needed for disparities only: `pip install h5py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import invert_pose
from ..stereo.camera import StereoCamera
from ..stereo.clip import ClipRef, Reader, StereoClip
from ..video import ImageFrames
from .checks import (
    check_gapless,
    check_options,
    check_rigid,
    file_name,
    find_folders,
    number_option,
    numbered_files,
    pinhole,
    pose_matrices,
    read_number_rows,
    start_at_first,
    steady_stretches,
)
from .media import PairedClip

BASELINE_M = 0.065
LICENSE = "CC BY 4.0"
#: Intrinsics of one clip may differ by this many pixels; more is a zoom, which ends the clip.
ZOOM_TOLERANCE_PX = 0.5


def read_dsp5(path: Path) -> NDArray[np.float32]:
    """The array of a dsp5 file as it is stored.

    Raises:
        InputError: h5py is not installed, or the file is not what it should be.
    """
    try:
        import h5py  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        raise InputError(
            "disparities of Spring are HDF5 files, and h5py is not installed", file=path, remedy="pip install h5py"
        ) from None
    try:
        with h5py.File(path, "r") as file:
            if "disparity" not in file:
                raise InputError("the array is missing", file=path, field="disparity")
            return np.asarray(file["disparity"], np.float32)
    except OSError as error:
        raise InputError(f"not a readable HDF5 file ({error})", file=path, remedy="Fetch it again") from None


class SpringClip(PairedClip):
    """A scene, or a stretch of one in which the camera does not zoom.

    Args:
        folder: of the scene.
        start, stop: 0-based frames.
        Others as in `StereoClip`.
    """

    def __init__(self, folder: Path, clip_id: str, start: int, stop: int, fps: float) -> None:
        eyes = [
            list(numbered_files(folder / f"frame_{eye}", rf"frame_{eye}_(\d+)\.png").items())
            for eye in ("left", "right")
        ]
        check_gapless((number for number, _ in eyes[0]), folder / "frame_left")
        rows = _intrinsics(folder)
        if len(rows) != len(eyes[0]):
            problem = f"{len(rows)} rows for {len(eyes[0])} images"
            raise InputError(problem, file=folder / "cam_data" / "intrinsics.txt")
        left, right = (ImageFrames([image for _, image in eye]) for eye in eyes)
        if left.num_frames != right.num_frames:
            raise InputError(f"{left.num_frames} left and {right.num_frames} right images", file=folder)
        super().__init__(
            clip_id=clip_id,
            source="spring",
            license=LICENSE,
            path=folder,
            left=left.cut(start, stop),
            right=right.cut(start, stop),
            camera=StereoCamera(left.width, left.height, pinhole(*rows[start:stop].mean(axis=0)), BASELINE_M),
            fps=fps,
            cam_to_world=self._poses(folder, len(rows), start, stop),
            notes={"first_frame": start},
        )
        self._numbers = [number for number, _ in eyes[0]][start:stop]
        self._disparities = numbered_files(folder / "disp1_left", r"disp1_left_(\d+)\.dsp5")

    @staticmethod
    def _poses(folder: Path, num_frames: int, start: int, stop: int) -> NDArray[np.float64] | None:
        path = folder / "cam_data" / "extrinsics.txt"
        if not path.is_file():
            return None
        rows = read_number_rows(path, 16)
        if len(rows) != num_frames:
            raise InputError(f"{len(rows)} rows for {num_frames} images", file=path)
        world_to_cam = check_rigid(pose_matrices(rows), path, "extrinsics")
        return start_at_first(invert_pose(world_to_cam)[start:stop])

    def disparity(self, frame: int) -> NDArray[np.float32] | None:
        if not self._disparities:
            return None
        number = self._numbers[frame]
        folder = self.path / "disp1_left"
        if number not in self._disparities:
            raise InputError(f"frame {number} is missing", file=folder, row=number, remedy="Fetch it again")
        path = self._disparities[number]
        stored = read_dsp5(path)
        if stored.shape != (2 * self.camera.height, 2 * self.camera.width):
            raise InputError(
                f"shape {stored.shape}, expected twice the image's ({self.camera.height}, {self.camera.width})",
                file=path,
            )
        disparity = stored[::2, ::2]
        with np.errstate(invalid="ignore"):
            return np.where((disparity > 0) & np.isfinite(disparity), disparity, np.float32(np.nan)).astype(np.float32)

    def depth(self, frame: int) -> NDArray[np.float32] | None:
        disparity = self.disparity(frame)
        return None if disparity is None else self.camera.depth(disparity)


class SpringReader(Reader):
    """The data set's folder, a split, or a scene."""

    name = "spring"
    summary = "Spring: scenes with frame_left, frame_right, cam_data and dsp5 disparities"
    options: ClassVar[dict[str, str]] = {"fps": "frames per second, 24"}

    def recognises(self, path: Path) -> str | None:
        found = find_folders(path, _is_scene, depth=2, first_only=True)
        return f"{found[0].name} with frame_left, frame_right and cam_data/intrinsics.txt" if found else None

    def find(self, path: Path, **options: Any) -> list[ClipRef]:
        check_options(self, options)
        folders = [folder.resolve() for folder in find_folders(path, _is_scene, depth=2)]
        if not folders:
            raise InputError("no folder with frame_left, frame_right and cam_data/intrinsics.txt", file=path)
        return [ref for folder in folders for ref in self._stretches(folder, options)]

    def open(self, ref: ClipRef) -> StereoClip:
        start, stop = ref.key["start"], ref.key["stop"] or len(_intrinsics(ref.path))
        return SpringClip(ref.path, ref.clip_id, start, stop, number_option(ref.options, "fps", 24.0, 0.1, 1000.0))

    def _stretches(self, folder: Path, options: dict[str, Any]) -> list[ClipRef]:
        """A clip per stretch without zoom; single frames between are left out, unless nothing else is there.

        A scene whose intrinsics do not read keeps its place and fails in `open`.
        """
        try:
            stretches = steady_stretches(_intrinsics(folder), ZOOM_TOLERANCE_PX)
        except InputError:
            name = file_name(folder.parent.name, folder.name)
            return [ClipRef(name, folder, self.name, {"start": 0, "stop": None}, options)]
        longer = [stretch for stretch in stretches if stretch[1] - stretch[0] > 1] or stretches[:1]
        refs = []
        for start, stop in longer:
            parts = (folder.parent.name, folder.name, *((f"{start:04d}",) if len(stretches) > 1 else ()))
            refs.append(ClipRef(file_name(*parts), folder, self.name, {"start": start, "stop": stop}, options))
        return refs


def _intrinsics(folder: Path) -> NDArray[np.float64]:
    """(T, 4) fx, fy, cx, cy, pixels."""
    return read_number_rows(folder / "cam_data" / "intrinsics.txt", 4)


def _is_scene(folder: Path) -> bool:
    eyes = (folder / "frame_left", folder / "frame_right")
    return (folder / "cam_data" / "intrinsics.txt").is_file() and all(eye.is_dir() for eye in eyes)

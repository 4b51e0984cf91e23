"""MPI Sintel stereo: rendered film scenes with disparities, occlusion masks and, from its depth package, cameras.

Facts, from the data set's README and I/O code: training/clean_left/<scene>/frame_0001.png (clean_right, final_left,
final_right likewise), baseline 10 cm; disparities/<scene>/frame_0001.png with R * 4 + G / 2^6 + B / 2^14 pixels;
occlusions and outofframe, not zero where the right view does not see the pixel; camdata_left/<scene>/frame_0001.cam:
little-endian float32 202021.25, a 3x3 matrix M and a 3x4 matrix N of float64, pixel = M N point, so N is
world-to-camera. Inferred: pixel centres at integers (cx 511.5 of 1024 pixels); 24 frames per second, that of the film.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import invert_pose
from ..stereo.camera import StereoCamera
from ..stereo.clip import ClipRef, Reader, StereoClip
from ..video import ImageFrames, read_image
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
    read_png,
    start_at_first,
    steady_stretches,
)
from .media import PairedClip

FloatArray = NDArray[np.float64]

BASELINE_M = 0.1
LICENSE = "CC BY 3.0"
CAM_TAG = 202021.25
_CAM_BYTES = 4 + 9 * 8 + 12 * 8
_FRAME = r"frame_(\d+)\."
#: Intrinsics of one clip may differ by this many pixels; more is a zoom, which ends the clip.
ZOOM_TOLERANCE_PX = 0.5


def read_cam(path: Path) -> tuple[FloatArray, FloatArray]:
    """M (3, 3) and N (3, 4) of a .cam file. Raises InputError for another length, tag, or a NaN."""
    data = read_bytes(path)
    if len(data) != _CAM_BYTES:
        raise InputError(f"{len(data)} bytes, a .cam file has {_CAM_BYTES}", file=path, remedy="Fetch it again")
    tag = struct.unpack("<f", data[:4])[0]
    if tag != CAM_TAG:
        raise InputError(f"starts with {tag}, expected {CAM_TAG}", file=path, field="tag")
    numbers = np.frombuffer(data, "<f8", offset=4).astype(np.float64)
    if not np.isfinite(numbers).all():
        raise InputError("holds NaN or infinite numbers", file=path, field="M" if np.isnan(numbers[:9]).any() else "N")
    return numbers[:9].reshape(3, 3), numbers[9:].reshape(3, 4)


class SintelClip(PairedClip):
    """A scene, or a stretch of one in which the camera does not zoom.

    Args:
        training: the folder with clean_left and its like.
        scene: alley_1 and so on.
        rendering: "clean" or "final".
        start, stop: 0-based frames.
        Others as in `StereoClip`.
    """

    def __init__(
        self, training: Path, scene: str, clip_id: str, rendering: str, start: int, stop: int, fps: float
    ) -> None:
        folders = [training / f"{rendering}_{eye}" / scene for eye in ("left", "right")]
        eyes = [numbered_files(folder, _FRAME + "png") for folder in folders]
        for folder, images in zip(folders, eyes, strict=True):
            check_gapless(images, folder)
            if not images:
                raise InputError("no images frame_0001.png and so on", file=folder)
        numbers = list(eyes[0])
        intrinsics, world_to_cam = read_cameras(training, scene)
        if len(intrinsics) != len(numbers):
            raise InputError(
                f"{len(intrinsics)} cameras for {len(numbers)} images", file=training / "camdata_left" / scene
            )
        left, right = (ImageFrames(list(images.values())) for images in eyes)
        if left.num_frames != right.num_frames:
            raise InputError(f"{left.num_frames} images, the left eye {right.num_frames}", file=folders[1])
        camera = StereoCamera(left.width, left.height, pinhole(*intrinsics[start:stop].mean(axis=0)), BASELINE_M)
        super().__init__(
            clip_id=clip_id,
            source="sintel",
            license=LICENSE,
            path=folders[0],
            left=left.cut(start, stop),
            right=right.cut(start, stop),
            camera=camera,
            fps=fps,
            cam_to_world=start_at_first(invert_pose(world_to_cam)[start:stop]),
            notes={"first_frame": start},
        )
        self._training, self._scene, self._numbers = training, scene, numbers[start:stop]

    def disparity(self, frame: int) -> NDArray[np.float32] | None:
        """NaN where the right view does not see the pixel, and at infinity."""
        folder = self._training / "disparities" / self._scene
        if not folder.is_dir():
            return None
        name = f"frame_{self._numbers[frame]:04d}.png"
        size = (self.camera.width, self.camera.height)
        rgb = read_png(folder / name, np.uint8, 3, size).astype(np.float64)
        disparity = rgb[..., 0] * 4 + rgb[..., 1] / 2**6 + rgb[..., 2] / 2**14
        unseen = disparity <= 0
        for kind in ("occlusions", "outofframe"):
            path = self._training / kind / self._scene / name
            if path.is_file():
                mask = read_image(path)[..., 0]
                check_map_size(mask, size, path)
                unseen |= mask > 0
        return np.where(unseen, np.nan, disparity).astype(np.float32)

    def depth(self, frame: int) -> NDArray[np.float32] | None:
        disparity = self.disparity(frame)
        return None if disparity is None else self.camera.depth(disparity)


def read_cameras(training: Path, scene: str) -> tuple[FloatArray, FloatArray]:
    """(T, 4) fx, fy, cx, cy and (T, 4, 4) world-to-camera poses of a scene.

    Raises:
        InputError: the files are not there, or one is malformed.
    """
    folder = training / "camdata_left" / scene
    files = numbered_files(folder, _FRAME + "cam")
    if not files:
        raise InputError(
            "no camera files", file=folder, remedy="Unpack Sintel's depth package (camdata_left) into the same folder"
        )
    check_gapless(files, folder)
    cameras = [read_cam(path) for path in files.values()]
    intrinsics = np.array([[m[0, 0], m[1, 1], m[0, 2], m[1, 2]] for m, _ in cameras])
    poses = pose_matrices(np.stack([n.reshape(12) for _, n in cameras]))
    return intrinsics, check_rigid(poses, folder, "N", list(files))


class SintelReader(Reader):
    """The data set's folder, or its folder `training`."""

    name = "sintel"
    summary = "MPI Sintel stereo: training/clean_left, clean_right, disparities, camdata_left"
    options: ClassVar[dict[str, str]] = {
        "pass": "clean or final, clean",
        "scene": "alley_1 and so on; all without",
        "fps": "frames per second, 24",
    }

    def recognises(self, path: Path) -> str | None:
        found = find_folders(path, _is_training, depth=1, first_only=True)
        return f"{found[0].name} with clean_left and clean_right or final_left and final_right" if found else None

    def find(self, path: Path, **options: Any) -> list[ClipRef]:
        check_options(self, options)
        rendering = choice_option(options, "pass", ("clean", "final"))
        refs = []
        for training in find_folders(path, _is_training, depth=1):
            left = training / f"{rendering}_left"
            scenes = sorted(scene.name for scene in left.iterdir() if scene.is_dir()) if left.is_dir() else []
            for scene in scenes:
                if options.get("scene", scene) == scene:
                    refs += self._stretches(training.resolve(), scene, rendering, options)
        if not refs:
            raise InputError(f"no scenes in {rendering}_left", file=path)
        return refs

    def open(self, ref: ClipRef) -> StereoClip:
        key = ref.key
        fps = number_option(ref.options, "fps", 24.0, 0.1, 1000.0)
        training = ref.path.parent.parent
        stop = key["stop"] or len(read_cameras(training, key["scene"])[0])
        return SintelClip(training, key["scene"], ref.clip_id, key["pass"], key["start"], stop, fps)

    def _stretches(self, training: Path, scene: str, rendering: str, options: dict[str, Any]) -> list[ClipRef]:
        """A clip per stretch without zoom; a scene whose cameras do not read keeps its place and fails in `open`."""
        path = training / f"{rendering}_left" / scene
        key: dict[str, Any] = {"scene": scene, "pass": rendering, "start": 0, "stop": None}
        try:
            intrinsics, _ = read_cameras(training, scene)
        except InputError:
            return [ClipRef(file_name(scene, rendering), path, self.name, key, options)]
        stretches = steady_stretches(intrinsics, ZOOM_TOLERANCE_PX)
        longer = [stretch for stretch in stretches if stretch[1] - stretch[0] > 1] or stretches[:1]
        refs = []
        for start, stop in longer:
            parts = (scene, rendering, *((f"{start:04d}",) if len(stretches) > 1 else ()))
            stretch = {**key, "start": start, "stop": stop}
            refs.append(ClipRef(file_name(*parts), path, self.name, stretch, options))
        return refs


def _is_training(folder: Path) -> bool:
    return any(all((folder / f"{name}_{eye}").is_dir() for eye in ("left", "right")) for name in ("clean", "final"))

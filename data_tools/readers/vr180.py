"""VR180 video: two equirectangular half spheres side by side, rectified per eye and cropped to a pinhole pair.

Facts, from the Stereo4D code that makes such crops: longitude is atan2(x, z), latitude asin(y) with y downwards, both
linear in the pixel coordinate between the bounds of the field of view; `rectified2rig` takes a ray of the rectified
view to the rig's, one rotation per eye; a crop has f = W / 2 / tan(hfov / 2) and its pixel centres at + 0.5.
Inferred: that code puts the first and last pixel centre on the bounds. In a user's own video the bounds are taken to
be the outer edges of the pixels, as for any image; `Vr180View.bounds_at_centers` chooses.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..stereo.camera import StereoCamera
from ..stereo.clip import ClipRef, Image, Reader, StereoClip, StereoPair
from ..video import FrameSource, is_video, open_frames
from .checks import check_options, check_rigid, file_name, number_option, pinhole, read_text
from .pair import unique

FloatArray = NDArray[np.float64]
Map = NDArray[np.float32]

DEFAULT_BASELINE_M = 0.063
DEFAULT_FOV_BOUNDS = (-90.0, 90.0, -90.0, 90.0)

#: Names that players of VR video go by: clip_180_LR.mp4, clip_180x180_3dh.mp4, vr180_clip.mp4, clip_LR_180.mp4.
_NAME = re.compile(r"(?i)vr[-_ ]?180|180x180|(?<!\d)180_(3dh|lr|sbs)(?![a-z0-9])|(3dh|lr|sbs)_180(?!\d)")

#: A crop that leaves the video by more than this share of its pixels is refused.
_MAX_OUTSIDE = 0.02
_MAX_OVERSAMPLING = 4

#: Options shared by all readers that crop VR180 frames.
VIEW_OPTIONS = {
    "size": "pixels of the crop, 512x512",
    "hfov": "horizontal field of view of the crop, degrees, 60",
    "pitch": "direction of the crop, degrees upwards, 0",
    "baseline": f"metres between the eyes, {DEFAULT_BASELINE_M}",
}


@dataclass(frozen=True, eq=False)
class Vr180View:
    """A perspective pair inside a VR180 frame.

    Attributes:
        width, height: of the crop, pixels.
        hfov: horizontal field of view of the crop, degrees, where yaw is 0.
        yaw: degrees to the right. It shifts the image plane and leaves its direction: turned away from the rig's own,
            the baseline would leave the rows and the pair would not be rectified.
        pitch: degrees upwards; a turn about the baseline, which leaves the pair rectified.
        fov_bounds: (start_yaw, end_yaw, start_tilt, end_tilt) of an eye's image, degrees, tilt downwards.
        rectified2rig: (2, 3, 3) rotations from rectified to rig axes, left and right eye.
        bounds_at_centers: whether `fov_bounds` are the outermost pixel centres (Stereo4D) or the outer edges.
    """

    width: int = 512
    height: int = 512
    hfov: float = 60.0
    yaw: float = 0.0
    pitch: float = 0.0
    fov_bounds: tuple[float, float, float, float] = DEFAULT_FOV_BOUNDS
    rectified2rig: FloatArray = field(default_factory=lambda: np.stack([np.eye(3)] * 2))
    bounds_at_centers: bool = False

    @property
    def focal_px(self) -> float:
        """f = W / 2 / tan(hfov / 2)."""
        return self.width / 2 / math.tan(math.radians(self.hfov) / 2)

    @property
    def crop_to_rectified(self) -> FloatArray:
        """(3, 3) rotation from the axes of the crop's camera to those of the rectified view."""
        sin, cos = math.sin(math.radians(self.pitch)), math.cos(math.radians(self.pitch))
        return np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])

    def camera(self, baseline: float) -> StereoCamera:
        """The pinhole pair of the crop. A centre at W / 2 of pixels with edges is (W - 1) / 2 of pixel centres."""
        f = self.focal_px
        center_x = (self.width - 1) / 2 - f * math.tan(math.radians(self.yaw))
        return StereoCamera(self.width, self.height, pinhole(f, f, center_x, (self.height - 1) / 2), baseline)

    def oversampling(self, eye_width: int) -> int:
        """How many samples a crop pixel takes each way, so that a fine equirectangular image does not alias."""
        per_radian = eye_width / math.radians(self.fov_bounds[1] - self.fov_bounds[0])
        return min(max(int(per_radian / self.focal_px), 1), _MAX_OVERSAMPLING)

    def maps(self, eye: int, eye_width: int, eye_height: int, oversampling: int = 1) -> tuple[Map, Map]:
        """Where the crop's samples lie in an eye's image, pixels, for cv2.remap.

        Args:
            eye: 0 left, 1 right.
            eye_width, eye_height: of that eye's image.
            oversampling: samples per pixel each way.

        Returns:
            x and y, (height * oversampling, width * oversampling) float32 each.
        """
        pinhole_camera = self.camera(1.0).intrinsics
        x = ((np.arange(self.width * oversampling) + 0.5) / oversampling - 0.5 - pinhole_camera[0, 2]) / self.focal_px
        y = ((np.arange(self.height * oversampling) + 0.5) / oversampling - 0.5 - pinhole_camera[1, 2]) / self.focal_px
        rays = np.stack([*np.meshgrid(x, y), np.ones((len(y), len(x)))], axis=-1)
        rays = rays @ (self.rectified2rig[eye] @ self.crop_to_rectified).T
        longitude = np.degrees(np.arctan2(rays[..., 0], rays[..., 2]))
        latitude = np.degrees(np.arctan2(rays[..., 1], np.hypot(rays[..., 0], rays[..., 2])))
        start_yaw, end_yaw, start_tilt, end_tilt = self.fov_bounds
        u = (longitude - start_yaw) / (end_yaw - start_yaw)
        v = (latitude - start_tilt) / (end_tilt - start_tilt)
        return self._pixels(u, eye_width), self._pixels(v, eye_height)

    def check_inside(self) -> None:
        """Raise InputError where the crop reaches beyond the video."""
        for eye in (0, 1):
            x, y = self.maps(eye, 1000, 1000)
            outside = float(np.mean((x < -0.5) | (x > 999.5) | (y < -0.5) | (y > 999.5)))
            if outside > _MAX_OUTSIDE:
                raise InputError(
                    f"{outside:.0%} of the crop lies outside the field of view {list(self.fov_bounds)} of the video",
                    field="hfov",
                    remedy="Make hfov smaller, or yaw and pitch nearer to 0",
                )

    def _pixels(self, fraction: FloatArray, size: int) -> Map:
        pixels = fraction * (size - 1) if self.bounds_at_centers else fraction * size - 0.5
        return pixels.astype(np.float32)


class Vr180Clip(StereoClip):
    """Crops of a VR180 video. The remap tables are made once, for the first frame that is asked for.

    Args:
        frames: the raw side-by-side video.
        view: the crop.
        frame_numbers: which frames of the video the clip's are, rising; all by default.
        Others as in `StereoClip`.

    Raises:
        InputError: the video is too short for `frame_numbers`, its width is odd, or no frame rate is known.
    """

    def __init__(
        self,
        *,
        clip_id: str,
        source: str,
        path: Path,
        frames: FrameSource,
        view: Vr180View,
        baseline: float,
        license: str = "",
        fps: float | None = None,
        frame_numbers: list[int] | None = None,
    ) -> None:
        if frames.width % 2:
            raise InputError(f"{frames.width} pixels wide, which two equal eyes cannot be", file=frames.path)
        numbers = frame_numbers if frame_numbers is not None else list(range(frames.num_frames))
        if numbers and numbers[-1] >= frames.num_frames:
            raise InputError(
                f"frame {numbers[-1]} is needed, the video has {frames.num_frames}",
                file=frames.path,
                remedy="Is it the right video, at its own frame rate and in full length?",
            )
        rate = fps if fps is not None else frames.fps
        if rate is None or rate <= 0:
            raise InputError("the frame rate is not known", file=path, field="fps", remedy="Give it with -o fps=30")
        self.clip_id, self.source, self.license, self.path = clip_id, source, license, path
        self.fps, self.num_frames = float(rate), len(numbers)
        self.view, self.camera = view, view.camera(baseline)
        self.notes = {"hfov": view.hfov, "yaw": view.yaw, "pitch": view.pitch}
        self._frames, self._numbers = frames, numbers

    def pairs(self, start: int = 0, stop: int | None = None) -> Iterator[StereoPair]:
        start, stop, _ = slice(start, stop).indices(self.num_frames)
        if start >= stop:
            return
        frame, first = start, self._numbers[start]
        for number, image in enumerate(self._frames.frames(first, self._numbers[stop - 1] + 1), first):
            if number != self._numbers[frame]:
                continue
            left, right = self.crop(image)
            while frame < stop and self._numbers[frame] == number:
                yield StereoPair(frame, left, right)
                frame += 1

    def crop(self, image: Image) -> tuple[Image, Image]:
        """The left and right crop of a raw frame (H, W, 3)."""
        half = image.shape[1] // 2
        return self._crop_eye(image[:, :half], 0), self._crop_eye(image[:, half:], 1)

    def _crop_eye(self, image: Image, eye: int) -> Image:
        samples = cv2.remap(image, *self._maps[eye], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        size = (self.view.width, self.view.height)
        cropped = samples if samples.shape[1::-1] == size else cv2.resize(samples, size, interpolation=cv2.INTER_AREA)
        return cropped.astype(np.uint8, copy=False)

    @cached_property
    def _maps(self) -> list[tuple[Map, Map]]:
        width, height = self._frames.width // 2, self._frames.height
        oversampling = self.view.oversampling(width)
        return [self.view.maps(eye, width, height, oversampling) for eye in (0, 1)]

    def __getstate__(self) -> dict[str, Any]:  # megabytes that the other process makes itself
        return {name: value for name, value in self.__dict__.items() if name != "_maps"}


def view_from_options(options: Mapping[str, Any], default_size: str = "512x512", **known: Any) -> Vr180View:
    """The view that `VIEW_OPTIONS` and `yaw` describe; `known` are further fields of `Vr180View`.

    Raises:
        InputError: naming the option.
    """
    size = re.fullmatch(r"(\d+)(?:x(\d+))?", str(options.get("size", default_size)))
    width, height = (int(size[1]), int(size[2] or size[1])) if size else (0, 0)
    if not 16 <= width <= 8192 or not 16 <= height <= 8192:
        raise InputError(f"{options.get('size')!r} is not a size such as 512x512", field="size")
    view = Vr180View(
        width=width,
        height=height,
        hfov=number_option(options, "hfov", 60.0, 5.0, 150.0),
        yaw=number_option(options, "yaw", 0.0, -75.0, 75.0),
        pitch=number_option(options, "pitch", 0.0, -85.0, 85.0),
        **known,
    )
    view.check_inside()
    return view


def check_view_calibration(rectified2rig: Any, fov_bounds: Any, path: Path) -> tuple[FloatArray, tuple[float, ...]]:
    """Rotations (2, 3, 3) and the four bounds as numbers.

    Raises:
        InputError: naming the field with a wrong shape, a NaN, or bounds that are not start below end.
    """
    rotations = np.asarray(rectified2rig, np.float64)
    bounds = np.asarray(fov_bounds, np.float64)
    if rotations.shape != (2, 3, 3):
        raise InputError(f"shape {rotations.shape}, expected (2, 3, 3)", file=path, field="rectified2rig")
    if bounds.shape != (4,):
        raise InputError(f"shape {bounds.shape}, expected (4,)", file=path, field="fov_bounds")
    start_yaw, end_yaw, start_tilt, end_tilt = bounds
    if not (-360 <= start_yaw < end_yaw <= 360 and -90 <= start_tilt < end_tilt <= 90):
        raise InputError(
            f"{bounds.tolist()} are not degrees [start_yaw, end_yaw, start_tilt, end_tilt]",
            file=path,
            field="fov_bounds",
        )
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[:, :3, :3] = rotations
    return check_rigid(poses, path, "rectified2rig")[:, :3, :3], tuple(bounds.tolist())


def _read_calibration(path: Path) -> dict[str, Any]:
    """`rectified2rig` and `fov_bounds`, either of which may be absent, of a JSON or npz file."""
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in ("rectified2rig", "fov_bounds") if name in archive.files}
        except (OSError, ValueError) as error:
            raise InputError(f"not a readable npz ({error})", file=path) from None
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON ({error})", file=path) from None
    if not isinstance(content, dict):
        raise InputError("expected a JSON object with rectified2rig and fov_bounds", file=path)
    return content


class Vr180Reader(Reader):
    """VR180 files such as cameras and video sites give them out."""

    name = "vr180"
    summary = "VR180 side-by-side equirectangular video, cropped to a rectified perspective pair"
    options: ClassVar[dict[str, str]] = {
        **VIEW_OPTIONS,
        "yaw": "direction of the crop, degrees to the right (shifts the image plane), 0",
        "calibration": "JSON or npz with rectified2rig (2,3,3) and fov_bounds (4); identity and a half sphere without",
        "fps": "frames per second, that of the video by default",
    }

    def recognises(self, path: Path) -> str | None:
        videos = self._videos(path)
        named = [video for video in videos if _NAME.search(video.stem)]
        if videos and len(named) == len(videos):
            return f"video named as VR180 ({named[0].name})"
        return None

    def find(self, path: Path, **options: Any) -> list[ClipRef]:
        check_options(self, options)
        videos = self._videos(path)
        if not videos:
            raise InputError("no video there", file=path)
        return unique([ClipRef(file_name(video.stem), video, self.name, {}, options) for video in videos])

    def open(self, ref: ClipRef) -> StereoClip:
        options = ref.options
        calibration: dict[str, Any] = {}
        calibration_path = Path(str(options.get("calibration", ref.path)))
        if "calibration" in options:
            calibration = _read_calibration(calibration_path)
        rotations, bounds = check_view_calibration(
            calibration.get("rectified2rig", np.stack([np.eye(3)] * 2)),
            calibration.get("fov_bounds", DEFAULT_FOV_BOUNDS),
            calibration_path,
        )
        return Vr180Clip(
            clip_id=ref.clip_id,
            source="user",
            path=ref.path,
            frames=open_frames(ref.path),
            view=view_from_options(options, rectified2rig=rotations, fov_bounds=bounds),
            baseline=number_option(options, "baseline", DEFAULT_BASELINE_M, 1e-4, 10.0),
            fps=number_option(options, "fps", 0.0, 1e-3, 1000.0) if "fps" in options else None,
        )

    @staticmethod
    def _videos(path: Path) -> list[Path]:
        if path.is_dir():
            return sorted(video for video in path.iterdir() if is_video(video))
        return [path] if is_video(path) else []

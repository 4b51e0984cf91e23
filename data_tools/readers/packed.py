"""Both eyes in one video, side by side or one over the other."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from ..errors import InputError
from ..stereo.camera import StereoCamera
from ..stereo.clip import ClipRef, Image, Reader, StereoClip
from ..video import FrameSource, VideoFrames, is_video, natural_key
from .calibration_file import ImageSize, StereoCalibration, find_calibration, read_calibration
from .checks import check_options, choice_option, file_name, number_option, pinhole
from .media import PairedClip
from .pair import EYES, unique

SIDE_BY_SIDE = "sbs"
OVER_UNDER = "ou"

#: Words in file names by which players tell packings.
_NAME_WORDS = {
    SIDE_BY_SIDE: re.compile(r"(?i)(^|[^a-z0-9])(h?[-_ ]?sbs|side[-_ ]?by[-_ ]?side|lr|3dh)([^a-z0-9]|$)"),
    OVER_UNDER: re.compile(r"(?i)(^|[^a-z0-9])(h?[-_ ]?ou|over[-_ ]?under|h?tb|3dv)([^a-z0-9]|$)"),
}
#: Words in file names by which players tell that each eye was squeezed to half its width or height.
_HALF_WORDS = re.compile(
    r"(?i)(^|[^a-z0-9])(h|half)[-_ ]?(sbs|ou|tb|side[-_ ]?by[-_ ]?side|over[-_ ]?under)([^a-z0-9]|$)"
)
#: Frames wider or taller than these (width / height) can only be two eyes of usual shapes: two 4:3 beside each other
#: are 2.67, two 16:9 over each other 0.89. What lies between may be a half packing, or square eyes.
_SURELY_SIDE_BY_SIDE = 2.6
_SURELY_OVER_UNDER = 0.95


class PackedReader(Reader):
    """Reader of videos whose frames hold both eyes."""

    name: ClassVar[str] = "packed"
    summary: ClassVar[str] = "side-by-side or over-under video with a calibration beside it"
    options: ClassVar[dict[str, str]] = {
        "layout": "auto, sbs (left eye on the left) or ou (left eye above)",
        "half": "true where each eye was squeezed to half its width (sbs) or height (ou), and is to be stretched back; "
        "unless given, true for names with hsbs, half-sbs, hou and the like",
        "swap": "true where the right eye comes first",
        "calibration": "calibration file; without it <video>.json, calibration.json and the like beside the video",
        "hfov": "horizontal field of view of a rectified eye, degrees, in place of a calibration",
        "baseline": "metres between the eyes, with hfov",
        "unit_m": "metres per unit of the calibration's translation: 0.001 for millimetres",
        "license": "licence of the clips, kept in their records",
    }

    def recognises(self, path: Path) -> str | None:
        for video in _videos(path):
            told = _calibration_layout(video)
            if told:
                return f"{video.name}, {told} by its calibration"
            for layout, words in _NAME_WORDS.items():
                if words.search(video.stem):
                    return f"{video.name}, {layout} by its name"
        return None

    def find(self, path: Path, **options: Any) -> list[ClipRef]:
        check_options(self, options)
        refs = [ClipRef(file_name(video.stem), video, self.name, {}, dict(options)) for video in _videos(path)]
        if not refs:
            raise InputError("no videos", file=path)
        return unique(refs)

    def open(self, ref: ClipRef) -> StereoClip:
        options, path = ref.options, ref.path
        whole = VideoFrames(path)
        layout = packing(whole, choice_option(options, "layout", ("auto", SIDE_BY_SIDE, OVER_UNDER)))
        half = truth_option(options, "half") if "half" in options else is_half(path)
        swap = truth_option(options, "swap")
        left, right = split(whole, layout, half, swap)
        calibration = _calibration(path, left, options)
        return packed_clip(
            ref,
            whole,
            (left, right),
            calibration,
            license=str(options.get("license", "")),
            notes={
                "packing": layout,
                "half": half,
                "swap": swap,
                "rectified_here": calibration.rectification is not None,
            },
        )


def is_half(video: Path) -> bool:
    """Whether a video's name says that its eyes are squeezed."""
    return _HALF_WORDS.search(video.stem) is not None


class EyeView(FrameSource):
    """One eye of a packed video. Picklable.

    Args:
        whole: the packed frames.
        cut: gives the eye of a packed frame.
        size: of the eye.
    """

    def __init__(self, whole: FrameSource, cut: Callable[[Image], Image], size: ImageSize) -> None:
        self.path, self.fps, self.num_frames = whole.path, whole.fps, whole.num_frames
        self.whole, self.of_frame, self._size = whole, cut, size

    @property
    def width(self) -> int:
        return self._size.width

    @property
    def height(self) -> int:
        return self._size.height

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Image]:
        return map(self.of_frame, self.whole.frames(start, stop))


class PackedClip(PairedClip):
    """A clip of two views of one video, which is decoded once for both."""

    def _eyes(self, start: int, stop: int) -> Iterator[tuple[Image, Image]]:
        left, right = self._left, self._right
        assert isinstance(left, EyeView)
        assert isinstance(right, EyeView)
        return ((left.of_frame(frame), right.of_frame(frame)) for frame in left.whole.frames(start, stop))


def packed_clip(
    ref: ClipRef,
    whole: FrameSource,
    eyes: tuple[EyeView, EyeView],
    calibration: StereoCalibration,
    license: str = "",
    notes: dict[str, Any] | None = None,
) -> PackedClip:
    """The clip of a packed video. Raises InputError as `PairedClip` does."""
    rectification = calibration.rectification
    return PackedClip(
        clip_id=ref.clip_id,
        source="user",
        license=license,
        path=ref.path,
        left=eyes[0],
        right=eyes[1],
        camera=calibration.camera,
        fps=whole.fps or calibration.fps,
        rectify=None if rectification is None else rectification.apply,
        notes=notes,
    )


def split(whole: FrameSource, layout: str, half: bool = False, swap: bool = False) -> tuple[EyeView, EyeView]:
    """Left and right view of a packed video.

    Raises:
        InputError: the side that is halved has an odd number of pixels.
    """
    width, height = whole.width, whole.height
    across = layout == SIDE_BY_SIDE
    if (width if across else height) % 2:
        raise InputError(f"{width}x{height} pixels do not split into two eyes", file=whole.path, field="layout")
    # A squeezed eye is as wide (or high) as the whole frame once it is stretched back.
    size = (
        ImageSize(width, height) if half else ImageSize(width // 2, height) if across else ImageSize(width, height // 2)
    )
    first, second = (
        EyeView(whole, partial(_cut, across=across, second=side, size=size), size) for side in (False, True)
    )
    return (second, first) if swap else (first, second)


def packing(whole: FrameSource, layout: str) -> str:
    """`layout` or, for "auto", what the calibration, the file's name or an unmistakable shape says.

    Raises:
        InputError: none of them tells.
    """
    if layout != "auto":
        return layout
    path = Path(whole.path)
    told = _calibration_layout(path)
    if told:
        return told
    for name, words in _NAME_WORDS.items():
        if words.search(path.stem):
            return name
    shape = whole.width / whole.height
    if shape >= _SURELY_SIDE_BY_SIDE:
        return SIDE_BY_SIDE
    if shape <= _SURELY_OVER_UNDER:
        return OVER_UNDER
    raise InputError(
        f"{whole.width}x{whole.height} pixels do not tell whether the eyes are side by side",
        file=whole.path,
        field="layout",
        remedy="Say -o layout=sbs or -o layout=ou, and -o half=true if the eyes are squeezed",
    )


def truth_option(options: dict[str, Any], name: str) -> bool:
    """A yes or no, given as such or as text; False by default. Raises InputError for anything else."""
    value = str(options.get(name, False)).lower()
    if value not in ("true", "false", "1", "0", "yes", "no"):
        raise InputError(f"{options[name]!r} is neither true nor false", field=name)
    return value in ("true", "1", "yes")


def _cut(frame: Image, *, across: bool, second: bool, size: ImageSize) -> Image:
    height, width = frame.shape[:2]
    if across:
        eye = frame[:, width // 2 :] if second else frame[:, : width // 2]
    else:
        eye = frame[height // 2 :] if second else frame[: height // 2]
    if (eye.shape[1], eye.shape[0]) != size:
        return np.asarray(cv2.resize(eye, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    return np.ascontiguousarray(eye)


def _videos(path: Path) -> list[Path]:
    """The video itself, or those of a folder; none where a folder holds an eye per file."""
    if path.is_file():
        return [path] if is_video(path) else []
    videos = sorted((entry for entry in path.iterdir() if is_video(entry)), key=natural_key)
    stems = {video.stem for video in videos}
    return [] if any({left, right} <= stems for left, right in EYES) else videos


def _calibration_path(video: Path) -> Path | None:
    own = (video.with_suffix(suffix) for suffix in (".json", ".yml", ".yaml", ".xml"))
    return next((path for path in own if path.is_file()), None) or find_calibration(video.parent)


def _calibration_layout(video: Path) -> str | None:
    """What "layout" says in the JSON calibration of a video, None where it says nothing."""
    path = _calibration_path(video)
    if path is None or path.suffix != ".json":
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # whoever opens the clip is told
    layout = values.get("layout") if isinstance(values, dict) else None
    return layout if layout in (SIDE_BY_SIDE, OVER_UNDER) else None


def _calibration(video: Path, eye: EyeView, options: dict[str, Any]) -> StereoCalibration:
    size = ImageSize(eye.width, eye.height)
    given = options.get("calibration")
    if "hfov" in options or "baseline" in options:
        for name in ("hfov", "baseline"):
            if name not in options:
                raise InputError("is missing", field=name, remedy="hfov and baseline go together")
        hfov = number_option(options, "hfov", 0, 1, 179)
        baseline = number_option(options, "baseline", 0, 1e-4, 100)
        focal = size.width / 2 / math.tan(math.radians(hfov) / 2)
        intrinsics = pinhole(focal, focal, (size.width - 1) / 2, (size.height - 1) / 2)
        return StereoCalibration(video, StereoCamera(size.width, size.height, intrinsics, baseline))
    path = _calibration_path(video) if given is None else Path(str(given)).expanduser()
    if path is not None and not path.is_absolute() and not path.is_file():
        path = video.parent / path
    if path is None:
        raise InputError(
            "no calibration beside the video",
            file=video,
            field="calibration",
            remedy=f"Write {video.stem}.json, or give -o hfov=... -o baseline=... for rectified video",
        )
    return read_calibration(path, size, number_option(options, "unit_m", 0, 0, 1000) or None)

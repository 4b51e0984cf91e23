"""ZED cameras: side-by-side video of the raw eyes, and the factory calibration SN<serial>.conf.

Facts, from Stereolabs' open capture samples: the file is INI; [LEFT_CAM_HD] and [RIGHT_CAM_HD] hold fx fy cx cy k1 k2
p1 p2 k3 at that resolution, [STEREO] holds Baseline, TY and TZ in millimetres and the rotation vector (RX_HD, CV_HD,
RZ_HD) in radians. The samples rectify with T = (Baseline, TY, TZ), which is the line from one eye to the other; in
OpenCV's sense, where the right eye is on the right, T is its negative.
"""

from __future__ import annotations

import configparser
import math
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from ..errors import InputError
from ..stereo.clip import ClipRef, Reader, StereoClip
from ..stereo.rectify import RawStereoCalibration
from ..video import VideoFrames, is_video, natural_key
from .calibration_file import ImageSize, StereoCalibration, naming_file
from .checks import check_options, file_name, pinhole, read_text
from .packed import SIDE_BY_SIDE, packed_clip, split
from .pair import unique

#: Pixels of an eye by the name of the resolution in the conf.
RESOLUTIONS = {
    "2K": ImageSize(2208, 1242),
    "FHD1200": ImageSize(1920, 1200),
    "FHD": ImageSize(1920, 1080),
    "HD": ImageSize(1280, 720),
    "SVGA": ImageSize(960, 600),
    "VGA": ImageSize(672, 376),
}
_DISTORTION = ("k1", "k2", "p1", "p2", "k3")


class ZedReader(Reader):
    """Reader of ZED recordings that were exported to video unrectified."""

    name: ClassVar[str] = "zed"
    summary: ClassVar[str] = "ZED side-by-side video with its SN<serial>.conf"
    options: ClassVar[dict[str, str]] = {
        "conf": "calibration; without it the only SN*.conf beside the video",
        "license": "licence of the clips, kept in their records",
    }

    def recognises(self, path: Path) -> str | None:
        folder = path if path.is_dir() else path.parent
        confs = _confs(folder)
        return f"{confs[0].name} beside a video" if confs and _videos(path) else None

    def find(self, path: Path, **options: Any) -> list[ClipRef]:
        check_options(self, options)
        refs = [ClipRef(file_name(video.stem), video, self.name, {}, dict(options)) for video in _videos(path)]
        if not refs:
            raise InputError("no videos", file=path)
        return unique(refs)

    def open(self, ref: ClipRef) -> StereoClip:
        whole = VideoFrames(ref.path)
        eyes = split(whole, SIDE_BY_SIDE)
        conf = _conf(ref.path, ref.options.get("conf"))
        calibration = read_conf(conf, ImageSize(eyes[0].width, eyes[0].height))
        notes = {"calibration": conf.name, "rectified_here": True}
        return packed_clip(ref, whole, eyes, calibration, str(ref.options.get("license", "")), notes)


def read_conf(path: Path, size: ImageSize) -> StereoCalibration:
    """The calibration for eyes of `size` in a ZED conf.

    Raises:
        InputError: no ZED resolution has that size, or a section or key is missing or not a number.
    """
    name = next((name for name, eye in RESOLUTIONS.items() if eye == size), None)
    if name is None:
        known = ", ".join(f"{width}x{height}" for width, height in RESOLUTIONS.values())
        raise InputError(
            f"eyes of {size.width}x{size.height} pixels are no resolution of a ZED",
            file=path,
            field="video",
            remedy=f"Export the recording unscaled; an eye has {known}",
        )
    parser = configparser.ConfigParser(strict=False, inline_comment_prefixes=(";", "#"))
    try:
        parser.read_string(read_text(path))
    except configparser.Error as error:
        raise InputError(f"not an INI file ({error.message.splitlines()[0]})", file=path) from None
    sections = {section.upper(): dict(parser[section]) for section in parser.sections()}  # keys are lower case already

    def number(section: str, *keys: str, default: float | None = None) -> float:
        values = sections.get(section)
        if values is None:
            raise InputError("the section is missing", file=path, field=f"[{section}]")
        key = next((key for key in keys if key.lower() in values), None)
        if key is None:
            if default is None:
                raise InputError("is missing", file=path, field=f"[{section}] {keys[0]}")
            return default
        try:
            value = float(values[key.lower()])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"{values[key.lower()]!r} is not a number", file=path, field=f"[{section}] {key}")
        return value

    matrices, distortions = [], []
    for eye in ("LEFT", "RIGHT"):
        section = f"{eye}_CAM_{name}"
        matrices.append(pinhole(*(number(section, key) for key in ("fx", "fy", "cx", "cy"))))
        distortions.append(np.array([number(section, key, default=0.0) for key in _DISTORTION]))
    baseline_mm = number("STEREO", "Baseline")
    if not 10 <= baseline_mm <= 1000:
        raise InputError(
            f"{baseline_mm:g} mm", file=path, field="[STEREO] Baseline", remedy="ZED confs use millimetres"
        )
    line_mm = [baseline_mm, *(number("STEREO", f"{key}_{name}", key, default=0.0) for key in ("TY", "TZ"))]
    turn = np.array([number("STEREO", f"{key}_{name}", key, default=0.0) for key in ("RX", "CV", "RZ")])
    with naming_file(path):
        raw = RawStereoCalibration(
            size.width,
            size.height,
            matrices[0],
            distortions[0],
            matrices[1],
            distortions[1],
            np.asarray(cv2.Rodrigues(turn)[0], np.float64),
            -np.array(line_mm) / 1000,
        )
        rectification = raw.rectify()
    return StereoCalibration(path, rectification.camera, rectification)


def _videos(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if is_video(path) else []
    return sorted((entry for entry in path.iterdir() if is_video(entry)), key=natural_key)


def _confs(folder: Path) -> list[Path]:
    return sorted(folder.glob("SN*.conf"))


def _conf(video: Path, given: Any) -> Path:
    if given is not None:
        named = Path(str(given)).expanduser()
        return named if named.is_absolute() or named.is_file() else video.parent / named
    confs = _confs(video.parent)
    serial = [conf for conf in confs if conf.stem in video.stem]  # "HD720_SN21531_10-20-30.mp4"
    if len(confs) == 1 or len(serial) == 1:
        return serial[0] if len(serial) == 1 else confs[0]
    found = ", ".join(conf.name for conf in confs) or "none"
    raise InputError(
        f"which SN*.conf belongs to the video is not clear, there are: {found}",
        file=video,
        field="conf",
        remedy="Name it with -o conf=SN12345.conf",
    )

"""Calibration files of stereo cameras: JSON, OpenCV YAML and XML, ROS camera info, KITTI projection matrices."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import yaml  # type: ignore[import-untyped]
from numpy.typing import NDArray

from ..errors import InputError
from ..stereo.camera import StereoCamera
from ..stereo.rectify import RawStereoCalibration, Rectification
from .checks import read_text

FloatArray = NDArray[np.float64]

#: Looked for beside the images in this order.
CALIBRATION_NAMES = (
    *(f"{stem}.{suffix}" for stem in ("calibration", "calib", "stereo") for suffix in ("json", "yml", "yaml", "xml")),
    *(f"intrinsics.{suffix}" for suffix in ("yml", "yaml", "xml")),
    *(f"left.{suffix}" for suffix in ("yaml", "yml")),
    "calib.txt",
)

# The names that OpenCV's samples, stereo tools and papers give to the same things.
_NAMES = {
    "left_matrix": ("K1", "M1", "cameraMatrix1", "camera_matrix_left", "left_camera_matrix", "K_left", "left_matrix"),
    "right_matrix": (
        "K2", "M2", "cameraMatrix2", "camera_matrix_right", "right_camera_matrix", "K_right", "right_matrix",
    ),
    "left_distortion": ("D1", "distCoeffs1", "dist_coeffs_1", "left_distortion", "D_left"),
    "right_distortion": ("D2", "distCoeffs2", "dist_coeffs_2", "right_distortion", "D_right"),
    "rotation": ("R", "R_left_to_right", "rotation"),
    "translation": ("T", "translation_m", "T_left_to_right", "translation"),
}  # fmt: skip
_UNITS_M = {"m": 1.0, "metre": 1.0, "metres": 1.0, "meter": 1.0, "meters": 1.0, "cm": 0.01, "mm": 0.001}


class ImageSize(NamedTuple):
    """Pixels."""

    width: int
    height: int


@dataclass(frozen=True, eq=False)
class StereoCalibration:
    """What a calibration file says.

    Attributes:
        path: the file.
        camera: of the rectified pair.
        rectification: takes raw pairs to rectified ones, None where the file is for rectified images.
        fps: frames per second, None where the file does not say.
        layout: "sbs" or "ou" where the file says how eyes are packed in a frame, else None.
    """

    path: Path
    camera: StereoCamera
    rectification: Rectification | None = None
    fps: float | None = None
    layout: str | None = None


def find_calibration(folder: Path) -> Path | None:
    """The calibration file in a folder, by its name; None where there is none."""
    return next((folder / name for name in CALIBRATION_NAMES if (folder / name).is_file()), None)


def read_calibration(
    path: Path,
    size: ImageSize | None = None,
    unit_m: float | None = None,
    projections: tuple[str, str] = ("P0", "P1"),
) -> StereoCalibration:
    """Read a calibration file of any kind.

    Args:
        path: JSON, OpenCV YAML or XML (`intrinsics.yml` takes `extrinsics.yml` from beside it), ROS camera info
            (`left.yaml` takes `right.yaml`), or KITTI `calib.txt`.
        size: of one eye's images; must be the one in the file where the file has one.
        unit_m: metres per unit of the file's translation; by default what the file says, else 1.
        projections: which two matrices of a KITTI file are the eyes.

    Raises:
        InputError: naming the file and the field that is missing or is not what it should be.
    """
    if not path.is_file():
        raise InputError("there is no such calibration file", file=path)
    suffix = path.suffix.lower()
    if suffix == ".txt":
        matrices = read_projections(path)
        if size is None:
            raise InputError("a KITTI calibration does not tell the image size", file=path, field="size")
        return StereoCalibration(path, kitti_camera(matrices, *projections, size, path))
    if suffix not in (".json", ".yml", ".yaml", ".xml"):
        raise InputError(
            f"calibration in a {suffix or 'nameless'} file", file=path, remedy="Use .json, .yml, .yaml, .xml or .txt"
        )
    values = _read_values(path)
    if "camera_matrix" in values and not _named(values, "right_matrix"):
        return _ros_pair(path, values, size, unit_m)
    if _named(values, "left_matrix") and not _named(values, "rotation") and "intrinsic" in path.name:
        beside = path.with_name(path.name.replace("intrinsic", "extrinsic"))
        if not beside.is_file():
            raise InputError("holds no R and T", file=path, field="R", remedy=f"Put {beside.name} beside it")
        values = {**values, **_read_values(beside)}
    with naming_file(path):
        return _from_values(path, values, size, unit_m)


def _from_values(
    path: Path, values: Mapping[str, Any], size: ImageSize | None, unit_m: float | None
) -> StereoCalibration:
    size = _image_size(values, size)
    fps = _optional_number(values, "fps")
    layout = values.get("layout")
    if layout not in (None, "sbs", "ou"):
        raise InputError(f"{layout!r} is neither sbs nor ou", field="layout")
    if any(_named(values, name) for name in ("left_matrix", "right_matrix", "translation")):
        raw = _raw_calibration(values, size, unit_m)
        rectification = raw.rectify()
        return StereoCalibration(path, rectification.camera, rectification, fps, layout)
    if "intrinsics" in values or "fx" in values:
        return StereoCalibration(path, _rectified_camera(values, size, unit_m), None, fps, layout)
    if "P1" in values and "P2" in values:
        camera = kitti_camera({name: _matrix(values, name, (3, 4)) for name in ("P1", "P2")}, "P1", "P2", size, path)
        return StereoCalibration(path, camera, None, fps, layout)
    raise InputError(
        "holds neither intrinsics and baseline_m of rectified images nor K1, D1, K2, D2, R, T of raw ones",
        field="intrinsics",
    )


def _rectified_camera(values: Mapping[str, Any], size: ImageSize, unit_m: float | None) -> StereoCamera:
    if "intrinsics" in values:
        intrinsics = _matrix(values, "intrinsics", (3, 3))
    else:
        fx = _number(values, "fx")
        fy = _number(values, "fy") if "fy" in values else fx
        intrinsics = np.array([[fx, 0, _number(values, "cx")], [0, fy, _number(values, "cy")], [0, 0, 1]])
    if "baseline_m" in values:
        baseline = _number(values, "baseline_m")
    elif "baseline" in values:
        baseline = _number(values, "baseline") * _unit(values, unit_m)
    else:
        raise InputError("is missing", field="baseline_m", remedy="Metres between the two cameras")
    offset = _optional_number(values, "disparity_offset_px") or 0.0
    return StereoCamera(size.width, size.height, intrinsics, baseline, offset)


def _raw_calibration(values: Mapping[str, Any], size: ImageSize, unit_m: float | None) -> RawStereoCalibration:
    fields = {}
    for name, spellings in _NAMES.items():
        found = _named(values, name)
        if found is None and name.endswith("distortion"):
            fields[name] = np.zeros(0)  # lenses that are undone already, cameras that are not yet aligned
            continue
        if found is None:
            raise InputError("is missing", field=spellings[0], remedy=f"Known spellings: {', '.join(spellings)}")
        shape = (3, 3) if name.endswith("matrix") else None
        fields[name] = _matrix(values, found, shape)
    scale = 1.0 if _named(values, "translation") == "translation_m" else _unit(values, unit_m)
    fields["translation"] = fields["translation"].ravel() * scale
    return RawStereoCalibration(size.width, size.height, **fields)


def _ros_pair(
    left_path: Path, left: Mapping[str, Any], size: ImageSize | None, unit_m: float | None
) -> StereoCalibration:
    """Two files of ROS' camera_calibration_parsers: x_rect = R x_raw, and the right P holds -fx times the baseline.

    With t = (P[0,3] / fx, 0, 0) of the right camera: x_right = R_r^T (R_l x_left + t).
    """
    right_path = left_path.with_name(left_path.name.replace("left", "right"))
    if right_path == left_path or not right_path.is_file():
        raise InputError(
            "is for one camera only", file=left_path, field="camera_matrix", remedy="Name the two left.yaml, right.yaml"
        )
    right = _read_values(right_path)
    eyes = []
    for path, values in ((left_path, left), (right_path, right)):
        with naming_file(path):
            projection = _matrix(values, "projection_matrix", (3, 4))
            if projection[0, 0] <= 0:
                raise InputError(f"focal length {projection[0, 0]}", field="projection_matrix")
            distortion = _matrix(values, "distortion_coefficients", None).ravel()
            rectification = _matrix(values, "rectification_matrix", (3, 3))
            eyes.append((_matrix(values, "camera_matrix", (3, 3)), distortion, rectification, projection))
    (left_k, left_d, left_r, _), (right_k, right_d, right_r, right_p) = eyes
    shift = np.array([right_p[0, 3] / right_p[0, 0], 0.0, 0.0])
    with naming_file(left_path):
        size = _image_size(left, size)
        raw = RawStereoCalibration(
            size.width, size.height, left_k, left_d, right_k, right_d,
            right_r.T @ left_r, right_r.T @ shift * (unit_m or 1.0),
        )  # fmt: skip
        rectification_of_pair = raw.rectify()
    return StereoCalibration(left_path, rectification_of_pair.camera, rectification_of_pair)


# -------------------------------------------------------------------------------------------------------------- KITTI


def read_kitti_table(path: Path) -> dict[str, FloatArray]:
    """Lines "name: numbers" or "name numbers" of a KITTI calibration; lines without a name are P0, P1, ... in order.

    Raises:
        InputError: naming the line that holds something else than numbers, or a NaN.
    """
    table: dict[str, FloatArray] = {}
    unnamed = 0
    for row, line in enumerate(read_text(path).splitlines()):
        words = line.split()
        if not words:
            continue
        name = words[0].rstrip(":")
        if _is_number(words[0]):
            name, unnamed = f"P{unnamed}", unnamed + 1
        else:
            words = words[1:]
        try:
            numbers = np.array([float(word) for word in words], np.float64)
        except ValueError:
            continue  # devkit files of raw data have lines of text: "calib_time: 09-Jan-2012 13:57:47"
        if not np.isfinite(numbers).all():
            raise InputError("holds NaN or infinite numbers", file=path, row=row, field=name)
        table[name] = numbers
    return table


def read_projections(path: Path) -> dict[str, FloatArray]:
    """The (3, 4) projection matrices P0, P1, ... of a KITTI calibration, pixels and metres.

    Raises:
        InputError: there are none, or one does not have 12 numbers.
    """
    found = {}
    for name, numbers in read_kitti_table(path).items():
        if re.fullmatch(r"P\d", name):
            if len(numbers) != 12:
                raise InputError(f"{len(numbers)} numbers, a 3x4 matrix has 12", file=path, field=name)
            found[name] = numbers.reshape(3, 4)
    if not found:
        raise InputError("holds no projection matrices P0, P1, ...", file=path, field="P0")
    return found


def camera_shift(projection: FloatArray) -> FloatArray:
    """(3,) metres t of P = K [I | t]: a point p of the common rectified frame is p + t in this camera."""
    return np.asarray(np.linalg.solve(projection[:, :3], projection[:, 3]), np.float64)


def kitti_camera(
    projections: Mapping[str, FloatArray], left: str, right: str, size: ImageSize, path: Path
) -> StereoCamera:
    """The rectified pair of two projection matrices; baseline = t_left,x - t_right,x by `camera_shift`.

    Raises:
        InputError: a matrix is missing, the focal lengths differ, or the eyes are swapped.
    """
    for name in (left, right):
        if name not in projections:
            raise InputError("is missing", file=path, field=name, remedy=f"The file has {', '.join(projections)}")
    first, second = projections[left], projections[right]
    if not np.allclose(first[:2, :2], second[:2, :2], rtol=1e-4):
        raise InputError(
            f"focal lengths of {left} and {right} differ: {first[0, 0]:g} and {second[0, 0]:g}",
            file=path,
            field=right,
            remedy="They are not of one rectified pair",
        )
    with naming_file(path):
        return StereoCamera(
            size.width,
            size.height,
            first[:, :3],
            baseline=float(camera_shift(first)[0] - camera_shift(second)[0]),
            disparity_offset_px=float(first[0, 2] - second[0, 2]),
        )


# ------------------------------------------------------------------------------------------------------------- values


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Add the file to an InputError that does not name one."""
    try:
        yield
    except InputError as error:
        if error.file is not None:
            raise
        raise InputError(error.problem, file=path, row=error.row, field=error.field, remedy=error.remedy) from None


def _read_values(path: Path) -> dict[str, Any]:
    text = read_text(path)
    try:
        if path.suffix.lower() == ".json":
            values = json.loads(text)
        elif text.lstrip().startswith(("%YAML:", "<?xml")) or "!!opencv-matrix" in text:
            values = _read_storage(path)
        else:
            values = yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise InputError(f"does not parse ({str(error).splitlines()[0]})", file=path) from None
    if not isinstance(values, dict):
        raise InputError("holds no names with values", file=path)
    return values


def _read_storage(path: Path) -> dict[str, Any]:
    """The top level of an OpenCV storage: matrices, numbers, strings, lists of numbers."""
    try:
        storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
        root = storage.root()
        values: dict[str, Any] = {}
        for name in root.keys():  # noqa: SIM118 - a FileNode, not a dict
            node = root.getNode(name)
            if node.isMap():
                matrix = node.mat()
                values[name] = None if matrix is None else matrix
            elif node.isString():
                values[name] = node.string()
            elif node.isSeq():
                items = [node.at(index) for index in range(node.size())]
                values[name] = [item.real() if item.isInt() or item.isReal() else item.string() for item in items]
            else:
                values[name] = node.real()
        storage.release()
    except (cv2.error, SystemError) as error:
        raise InputError(f"not an OpenCV file storage ({error})", file=path) from None
    return values


def _named(values: Mapping[str, Any], name: str) -> str | None:
    return next((spelling for spelling in _NAMES[name] if values.get(spelling) is not None), None)


def _matrix(values: Mapping[str, Any], name: str, shape: tuple[int, ...] | None) -> FloatArray:
    if values.get(name) is None:
        raise InputError("is missing", field=name)
    value = values[name]
    try:
        if isinstance(value, Mapping):  # ROS: rows, cols, data
            array = np.array(value["data"], np.float64).reshape(value["rows"], value["cols"])
        else:
            array = np.array(value, np.float64)
        if shape is not None and array.size == math.prod(shape):
            array = array.reshape(shape)
    except (KeyError, TypeError, ValueError):
        raise InputError("is not a matrix of numbers", field=name) from None
    if shape is not None and array.shape != shape:
        raise InputError(f"has shape {array.shape}, expected {shape}", field=name)
    if not np.isfinite(array).all():
        raise InputError("holds NaN or infinite numbers", field=name)
    return array


def _number(values: Mapping[str, Any], name: str) -> float:
    if name not in values:
        raise InputError("is missing", field=name)
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{value!r} is not a number", field=name)
    return float(value)


def _optional_number(values: Mapping[str, Any], name: str) -> float | None:
    return None if values.get(name) is None else _number(values, name)


def _unit(values: Mapping[str, Any], unit_m: float | None) -> float:
    """Metres per unit of the file."""
    if unit_m is not None:
        return unit_m
    unit = str(values.get("unit", "m")).lower()
    if unit not in _UNITS_M:
        raise InputError(
            f"lengths in {unit!r}", field="unit", remedy="Give the metres of one unit with -o unit_m=0.025"
        )
    return _UNITS_M[unit]


def _image_size(values: Mapping[str, Any], size: ImageSize | None) -> ImageSize:
    """The size in the file, or `size`. Raises InputError where they differ or there is none."""
    found = None
    for names in (("width", "height"), ("image_width", "image_height"), ("imageSize_width", "imageSize_height")):
        if all(name in values for name in names):
            found = ImageSize(*(int(_number(values, name)) for name in names))
    for name in ("image_size", "imageSize"):
        if name in values:
            pair = _matrix(values, name, (2,))
            found = ImageSize(int(pair[0]), int(pair[1]))
    if found is None and size is None:
        raise InputError("the image size is missing", field="width")
    if found is not None and size is not None and found != size:
        raise InputError(
            f"the calibration is for {found.width}x{found.height} pixels, the frames of an eye have "
            f"{size.width}x{size.height}",
            field="width",
            remedy="Calibrate at the size of the video, or scale the calibration with it",
        )
    chosen = size or found
    assert chosen is not None
    return chosen


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True

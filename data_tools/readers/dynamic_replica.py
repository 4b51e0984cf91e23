"""Dynamic Replica: rendered rooms with animated people and animals, exact poses, depth and mesh trajectories.

Facts, from the data set's loader: frame_annotations_<split>.jgz is gzipped JSON, a list of frames with sequence_name,
camera_name ("left", "right"), frame_number, image {path, size [H, W]}, depth {path, scale_adjustment}, viewpoint {R, T,
focal_length, principal_point, intrinsics_format} in PyTorch3D's convention (+X left, +Y up, row vectors:
X_camera = X_world R + T; NDC centre (0, 0) in the middle of the image, whose pixels have edges at integers); paths are
relative to the split's folder; depth is a 16-bit PNG whose bits are a float16 in metres; trajectories/*.pth hold
traj_3d_world (N, 3), verts_inds_vis and instances (N,), the same N vertices in every frame.
Inferred: 30 frames per second; `instance_id_map`, where an annotation has one, is a PNG of one id per pixel, the ids
being those of the trajectories; instance 0 is the room.

Trajectories are files of PyTorch, which is needed for them only (`-o trajectories=true`).
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import invert_pose, transform_points
from ..schema import MAX_POINTS_PER_OBJECT
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
    number_option,
    pinhole,
    read_bytes,
    read_png,
)
from .media import PairedClip

FloatArray = NDArray[np.float64]

LICENSE = "CC BY-NC 4.0"
SPLITS = ("train", "valid", "test", "real")
#: The data set's own loader takes less for unknown.
_MIN_DEPTH_M = 1e-5
#: A vertex that is never further than this from where it was is still, metres; the truth is exact but for rounding.
_STILL_M = 1e-3
#: What two rectified cameras of one rig may differ by, metres and radians.
_RIG_TOLERANCE = 1e-3
#: PyTorch3D (+X left, +Y up) to OpenCV (+X right, +Y down).
_FLIP = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class _View:
    """One frame of one eye.

    Attributes:
        number: frame_number.
        row: in the annotation file.
        paths: of "image", "depth", "instance_id_map", "trajectories"; absent ones are not in it.
        size: (width, height).
        intrinsics: (4,) fx, fy, cx, cy in pixels with centres at integers.
        world_to_cam: (4, 4) in OpenCV axes.
        depth_scale: factor on the stored depth.
    """

    number: int
    row: int
    paths: dict[str, str]
    size: tuple[int, int]
    intrinsics: FloatArray
    world_to_cam: FloatArray
    depth_scale: float


Sequences = dict[str, dict[str, list[_View]]]


def pixel_intrinsics(viewpoint: dict[str, Any], width: int, height: int) -> FloatArray:
    """(4,) fx, fy, cx, cy, pixels with centres at integers, of a PyTorch3D viewpoint.

    NDC run to the left and up from the middle of the image, so a principal point p lies at W / 2 - p * scale from the
    left edge; half a pixel less counts from the first pixel's centre.

    Raises:
        ValueError: the format of the intrinsics is not known.
    """
    kind = str(viewpoint.get("intrinsics_format", "ndc_norm_image_bounds")).lower()
    if kind == "ndc_norm_image_bounds":
        scale = np.array([width / 2, height / 2])
    elif kind == "ndc_isotropic":
        scale = np.full(2, min(width, height) / 2)
    else:
        raise ValueError(f"intrinsics_format {kind!r} is neither ndc_norm_image_bounds nor ndc_isotropic")
    focal = np.asarray(viewpoint["focal_length"], np.float64) * scale
    center = np.array([width / 2, height / 2]) - np.asarray(viewpoint["principal_point"], np.float64) * scale - 0.5
    return np.concatenate([focal, center])


def opencv_world_to_cam(rotation: Any, translation: Any) -> FloatArray:
    """(4, 4) world-to-camera matrix for column vectors of PyTorch3D's R and T, which are for row vectors."""
    pose = np.eye(4)
    pose[:3, :3] = _FLIP @ np.asarray(rotation, np.float64).reshape(3, 3).T
    pose[:3, 3] = _FLIP @ np.asarray(translation, np.float64).reshape(3)
    return pose


def decode_depth(pixels: NDArray[np.uint16], scale: float) -> NDArray[np.float32]:
    """(H, W) metres of 16-bit pixels whose bits are a float16; NaN where there is no depth."""
    depth = np.ascontiguousarray(pixels).view(np.float16).astype(np.float32) * np.float32(scale)
    with np.errstate(invalid="ignore"):
        known = np.isfinite(depth) & (depth > _MIN_DEPTH_M)
    return np.where(known, depth, np.float32(np.nan)).astype(np.float32)


class DynamicReplicaClip(PairedClip):
    """One sequence.

    Args:
        annotations: the jgz file.
        root: folder that paths in it are relative to.
        sequence: its name.
        trajectories: whether to make objects of the mesh trajectories.
        Others as in `StereoClip`.
    """

    def __init__(
        self, annotations: Path, root: Path, sequence: str, clip_id: str, fps: float, trajectories: bool
    ) -> None:
        eyes = read_annotations(annotations).get(sequence, {})
        left, right = eyes.get("left", []), eyes.get("right", [])
        if not left or len(left) != len(right):
            raise InputError(f"{len(left)} left and {len(right)} right frames of {sequence}", file=annotations)
        check_gapless((view.number for view in left), annotations)
        for mine, other in zip(left, right, strict=True):
            if mine.number != other.number:
                raise InputError(f"no right frame {mine.number} of {sequence}", file=annotations, row=mine.row)
        rows = [view.row for view in left]
        world_to_cam = check_rigid(np.stack([view.world_to_cam for view in left]), annotations, "viewpoint", rows)
        super().__init__(
            clip_id=clip_id,
            source="dynamic_replica",
            license=LICENSE,
            path=annotations,
            left=ImageFrames([root / view.paths["image"] for view in left]),
            right=ImageFrames([root / view.paths["image"] for view in right]),
            camera=_stereo_camera(left, right, annotations),
            fps=fps,
            cam_to_world=world_to_cam[0] @ invert_pose(world_to_cam),
            notes={"sequence": sequence, "first_frame": left[0].number},
        )
        self._root, self._views = root, left
        if trajectories:
            self.objects = _read_objects(root, left, world_to_cam[0])

    def depth(self, frame: int) -> NDArray[np.float32] | None:
        view = self._views[frame]
        if "depth" not in view.paths:
            return None
        return decode_depth(read_png(self._root / view.paths["depth"], np.uint16, 1, view.size), view.depth_scale)

    def disparity(self, frame: int) -> NDArray[np.float32] | None:
        depth = self.depth(frame)
        return None if depth is None else self.camera.disparity(depth)

    def instance_mask(self, frame: int) -> NDArray[np.int32] | None:
        view = self._views[frame]
        if "instance_id_map" not in view.paths:
            return None
        path = self._root / view.paths["instance_id_map"]
        mask = cv2.imdecode(np.frombuffer(read_bytes(path), np.uint8), cv2.IMREAD_UNCHANGED)
        if mask is None or mask.ndim != 2:
            raise InputError("not an image of one id per pixel", file=path)
        check_map_size(mask, view.size, path)
        return mask.astype(np.int32)


def _stereo_camera(left: list[_View], right: list[_View], path: Path) -> StereoCamera:
    """The rig, which must be rectified and the same in every frame."""
    for eye in (left, right):
        for view in eye:
            if view.size != left[0].size or np.abs(view.intrinsics - eye[0].intrinsics).max() > 1e-2:
                raise InputError("size or intrinsics differ from the first frame's", file=path, row=view.row)
    fx, fy, cx, cy = left[0].intrinsics
    other = right[0].intrinsics
    if np.abs(other[[0, 1, 3]] - left[0].intrinsics[[0, 1, 3]]).max() > 1e-2:
        raise InputError("the eyes differ in focal length or in the row of their centres", file=path, row=right[0].row)
    baselines = []
    for mine, its in zip(left, right, strict=True):
        to_right = its.world_to_cam @ np.linalg.inv(mine.world_to_cam)
        off = np.abs(to_right[:3, :3] - np.eye(3)).max() + np.abs(to_right[1:3, 3]).max()
        if not off < 2 * _RIG_TOLERANCE:
            raise InputError("the right camera is not the left one moved along its rows", file=path, row=its.row)
        baselines.append(-to_right[0, 3])
    return StereoCamera(*left[0].size, pinhole(fx, fy, cx, cy), float(np.median(baselines)), float(cx - other[2]))


@lru_cache(maxsize=1)
def _read_annotations(path: Path, modified_ns: int) -> Sequences:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as text:
            records = json.load(text)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise InputError(f"not gzipped JSON ({error})", file=path, remedy="Fetch it again") from None
    if not isinstance(records, list) or not records:
        raise InputError("expected a list of frames", file=path)
    sequences: Sequences = {}
    for row, record in enumerate(records):
        name, camera, view = _read_record(record, row, path)
        sequences.setdefault(name, {}).setdefault(camera, []).append(view)
    for eyes in sequences.values():
        for views in eyes.values():
            views.sort(key=lambda view: view.number)
    return sequences


def read_annotations(path: Path) -> Sequences:
    """Sequence name -> camera name -> views by frame number. The last file stays in memory: it has all sequences.

    Raises:
        InputError: naming the record and the field that is missing or malformed.
    """
    if not path.is_file():
        raise InputError("the file does not exist", file=path)
    return _read_annotations(path, path.stat().st_mtime_ns)


def _read_record(record: Any, row: int, path: Path) -> tuple[str, str, _View]:
    def fail(problem: str, field: str) -> InputError:
        return InputError(problem, file=path, row=row, field=field)

    try:
        height, width = (int(size) for size in record["image"]["size"])
        viewpoint = record["viewpoint"]
        paths = {"image": str(record["image"]["path"])}
        for kind in ("depth", "instance_id_map", "trajectories"):
            # either a path or a record with one; the id map goes by two names
            entry = record.get(kind) or (record.get("instance_id_map_path") if kind == "instance_id_map" else None)
            if entry:
                paths[kind] = str(entry["path"] if isinstance(entry, dict) else entry)
        intrinsics = pixel_intrinsics(viewpoint, width, height)
        world_to_cam = opencv_world_to_cam(viewpoint["R"], viewpoint["T"])
        scale = float((record.get("depth") or {}).get("scale_adjustment") or 1.0)
        view = _View(int(record["frame_number"]), row, paths, (width, height), intrinsics, world_to_cam, scale)
        name, camera = str(record["sequence_name"]), str(record["camera_name"])
    except KeyError as error:
        raise fail("the field is missing", str(error.args[0])) from None
    except (TypeError, ValueError, AttributeError) as error:
        raise fail(f"the record is malformed ({error})", "viewpoint") from None
    if intrinsics.shape != (4,) or not np.isfinite(intrinsics).all():
        raise fail("focal length and principal point must be two finite numbers each", "viewpoint")
    if not np.isfinite(world_to_cam).all():
        raise fail("R or T holds NaN or infinite numbers", "viewpoint")
    return name, camera, view


def _read_objects(root: Path, views: list[_View], to_clip_world: FloatArray) -> list[SourceObject]:
    """Objects of the mesh trajectories: per frame the visible vertices of each instance, and their mean."""
    frames = [_read_trajectory(root, view) for view in views]
    instances = frames[0][2]
    for view, (points, visible, ids) in zip(views, frames, strict=True):
        if len(points) != len(instances) or len(visible) != len(instances) or not np.array_equal(ids, instances):
            raise InputError("other vertices than in the first frame", file=root / view.paths["trajectories"])
    vertices = transform_points(to_clip_world, np.stack([points for points, _, _ in frames]))
    visible = np.stack([seen for _, seen, _ in frames])
    numbers = [int(number) for number in np.unique(instances) if number > 0]
    return [_object(number, vertices, visible, instances == number) for number in numbers]


def _object(number: int, vertices: FloatArray, visible: NDArray[np.bool_], mine: NDArray[np.bool_]) -> SourceObject:
    """One instance: vertices (T, N, 3) world metres, visible (T, N), mine (N,)."""
    own, seen = vertices[:, mine], visible[:, mine]
    points, centers = [], np.full((len(own), 3), np.nan)
    for frame, (position, in_sight) in enumerate(zip(own, seen, strict=True)):
        shown = position[in_sight]
        if len(shown):
            centers[frame] = position.mean(axis=0)
        chosen = np.linspace(0, len(shown) - 1, min(len(shown), MAX_POINTS_PER_OBJECT)).astype(int)
        points.append(shown[chosen].astype(np.float32))
    moved = float(np.linalg.norm(own - own[0], axis=-1).max())
    return SourceObject(number, "object", centers, points, is_moving=moved > _STILL_M)


def _read_trajectory(root: Path, view: _View) -> tuple[FloatArray, NDArray[np.bool_], NDArray[np.int64]]:
    """Vertices (N, 3) in the world of the data set, seen (N,), instance (N,)."""
    if "trajectories" not in view.paths:
        raise InputError("the annotation has no trajectories", file=root, row=view.row, field="trajectories")
    path = root / view.paths["trajectories"]
    try:
        import torch
    except ImportError:
        raise InputError(
            "trajectories are files of PyTorch, which is not installed", file=path, remedy="pip install torch"
        ) from None
    if not path.is_file():
        raise InputError("the file does not exist", file=path, row=view.row, field="trajectories")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        points, seen, ids = (_numpy(content[name]) for name in ("traj_3d_world", "verts_inds_vis", "instances"))
    except KeyError as error:
        raise InputError("the tensor is missing", file=path, field=str(error.args[0])) from None
    except Exception as error:  # torch raises its own and pickle's kinds
        raise InputError(f"not a readable file of tensors ({error})", file=path, remedy="Fetch it again") from None
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise InputError(f"shape {points.shape}, expected (N, 3) finite numbers", file=path, field="traj_3d_world")
    return points.astype(np.float64), seen.astype(bool).reshape(-1), ids.astype(np.int64).reshape(-1)


def _numpy(tensor: Any) -> NDArray[Any]:
    return tensor.numpy()


class DynamicReplicaReader(Reader):
    """The data set's folder, or the folder of a split."""

    name = "dynamic_replica"
    summary = "Dynamic Replica: frame_annotations_<split>.jgz with its images, depth and trajectories"
    options: ClassVar[dict[str, str]] = {
        "split": "train, valid, test or real; all that are there without",
        "fps": "frames per second, 30",
        "trajectories": "true to make objects of the mesh trajectories (needs torch), false",
    }

    def recognises(self, path: Path) -> str | None:
        for file, _ in self._annotations(path):
            return file.name
        return None

    def find(self, path: Path, **options: Any) -> list[ClipRef]:
        check_options(self, options)
        refs = []
        for file, root in self._annotations(path):
            split = file.name.removeprefix("frame_annotations_").removesuffix(".jgz")
            if options.get("split", split) != split:
                continue
            for sequence in sorted(read_annotations(file)):
                key = {"root": str(root), "sequence": sequence}
                refs.append(ClipRef(file_name(split, sequence), file, self.name, key, options))
        if not refs:
            raise InputError("no frame_annotations_<split>.jgz there", file=path)
        return refs

    def open(self, ref: ClipRef) -> StereoClip:
        return DynamicReplicaClip(
            annotations=ref.path,
            root=Path(ref.key["root"]),
            sequence=ref.key["sequence"],
            clip_id=ref.clip_id,
            fps=number_option(ref.options, "fps", 30.0, 0.1, 1000.0),
            trajectories=choice_option(_lower(ref.options), "trajectories", ("false", "true")) == "true",
        )

    @staticmethod
    def _annotations(path: Path) -> Iterator[tuple[Path, Path]]:
        """Annotation files and the folders that their paths are relative to."""
        if path.is_file() and path.name.startswith("frame_annotations_") and path.suffix == ".jgz":
            split_folder = path.parent / path.stem.removeprefix("frame_annotations_")
            yield path, split_folder if split_folder.is_dir() else path.parent
        elif path.is_dir():
            for split in SPLITS:
                root = path / split if (path / split).is_dir() else path
                for folder in (path, root):
                    file = folder / f"frame_annotations_{split}.jgz"
                    if file.is_file():
                        yield file, root
                        break


def _lower(options: dict[str, Any]) -> dict[str, Any]:
    return {name: str(value).lower() for name, value in options.items()}

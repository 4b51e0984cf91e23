"""Objects of a stretch, the source's own or found by their motion: both are fed frame by frame and give tracks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..estimation.description import ObjectAppearance, describe_objects, extent_m, lit_colour, measure_appearance
from ..estimation.disparity import Disparity
from ..estimation.objects import ObjectConfig, ObjectFinder
from ..estimation.odometry import Trajectory
from ..estimation.surfaces import surface_points, thin_points
from ..geometry import project_points, transform_points, world_to_camera_points
from ..schema import ObjectTrack
from ..stereo.clip import Image, SourceObject, StereoClip

FloatArray = NDArray[np.float64]

#: An object of the source that does not say whether it moves does where its centre goes this far, metres.
_MOVING_M = 0.15
#: Share of a box's sides that is taken for the object itself, around the middle, and of the fullest frame's pixels
#: that a frame must show to tell the colour.
_BOX_MIDDLE, _LEAST_PIXELS = 0.4, 0.25


@dataclass(eq=False)
class Objects:
    """Objects of a stretch.

    Attributes:
        tracks: as the record has them.
        masks: (T, h, w) uint8, 0 background, at a whole fraction of the image size; None where there are none.
        boxes: by track id, (T, 4) left, top, right, bottom in pixels, NaN where it is not seen; None where there are
            masks, or no boxes.
        noise_m: standard deviation of an object's centre, metres; 0 where the source's are exact.
        origin: "source" or "estimate".
        noises_m: the noise of each object by track id; of those that are not named, `noise_m` holds.
    """

    tracks: list[ObjectTrack]
    masks: NDArray[np.uint8] | None
    noise_m: float
    origin: str
    boxes: dict[int, FloatArray] | None = None
    noises_m: dict[int, float] = field(default_factory=dict)


class ObjectPart(ABC):
    """Takes the frames of a stretch in order, then the trajectory."""

    @abstractmethod
    def add(self, frame: int, left: Image, disparity: Disparity) -> None:
        """The next frame: left (H, W, 3) uint8 RGB and its disparities."""

    @abstractmethod
    def finish(self, trajectory: Trajectory) -> Objects:
        """All objects."""


def objects_of(view: StereoClip, origin: str, config: ObjectConfig, keep_masks: bool) -> ObjectPart:
    """The source's objects where it has them and `origin` allows, found ones elsewhere.

    Raises:
        InputError: `origin` is "source" and the source has none.
    """
    if origin != "estimate" and view.objects is not None:
        return SourceObjects(view, view.objects, keep_masks)
    if origin == "source":
        raise InputError("the source has no objects", file=view.path, row=view.clip_id, field="origin.objects")
    return FoundByMotion(view, config, keep_masks)


class FoundByMotion(ObjectPart):
    """What moves on its own, see `estimation.objects`."""

    def __init__(self, view: StereoClip, config: ObjectConfig, keep_masks: bool) -> None:
        self._view, self._config, self._keep_masks = view, config, keep_masks
        self._finder: ObjectFinder | None = None

    def add(self, frame: int, left: Image, disparity: Disparity) -> None:
        if self._finder is None:
            self._finder = ObjectFinder(self._view.camera, self._view.fps, self._config, disparity.std_px)
        self._finder.add(left, disparity.pixels)

    def finish(self, trajectory: Trajectory) -> Objects:
        assert self._finder is not None, "no frame was given"
        found = self._finder.finish(trajectory)
        looks = [measure_appearance(list(found.images), found.masks, item.id, item.points) for item in found.objects]
        if is_grey(found.images):
            looks = [replace(look, rgb=np.zeros((0, 3))) for look in looks]
        tracks = [
            ObjectTrack(item.id, category, text, True, item.points)
            for item, (category, text) in zip(found.objects, describe_objects(looks), strict=True)
        ]
        masks = found.masks if self._keep_masks else None
        noises_m = {item.id: item.noise_m for item in found.objects}
        return Objects(tracks, masks, found.noise_m, "estimate", noises_m=noises_m)


class SourceObjects(ObjectPart):
    """Objects with the source's identities and labels.

    Points are the source's where it gives them, else those of the mask's pixels with a depth, else the centre alone.
    """

    def __init__(self, view: StereoClip, objects: list[SourceObject], keep_masks: bool) -> None:
        self._view, self._objects, self._keep_masks = view, objects, keep_masks
        self._local: list[dict[int, FloatArray]] = []  # camera-frame points by object id
        self._seen = {item.id: _Look() for item in objects}
        self._masks: list[NDArray[np.uint8]] = []
        # Masks of the record are bytes: objects are numbered anew where the source's ids do not fit.
        fits = all(0 < item.id < 256 for item in objects)
        self._number = {item.id: item.id if fits else place for place, item in enumerate(objects, start=1)}

    def add(self, frame: int, left: Image, disparity: Disparity) -> None:
        mask = self._view.instance_mask(frame)
        self._local.append({})
        if mask is None:
            self._look_in_boxes(frame, left)
            return
        numbered = np.zeros(mask.shape, np.uint8)
        for number in np.unique(mask):
            if int(number) not in self._seen:
                continue
            inside = mask == number
            rows, columns = np.nonzero(inside)
            self._seen[int(number)].add(frame, left, rows, columns)
            points = surface_points(self._view.camera, disparity.pixels, inside)
            self._local[-1][int(number)] = np.asarray(thin_points(points), np.float64)
            if self._number[int(number)] < 256:
                numbered[inside] = self._number[int(number)]
        if self._keep_masks:
            self._masks.append(numbered)

    def finish(self, trajectory: Trajectory) -> Objects:
        poses = trajectory.cam_to_world
        points = [self._points(item, poses) for item in self._objects]
        seen = [place for place, frames in enumerate(points) if any(len(cloud) for cloud in frames)]
        words = describe_objects([self._appearance(self._objects[place], points[place], poses) for place in seen])
        tracks, noises = [], []
        for place, (category, text) in zip(seen, words, strict=True):
            item = self._objects[place]
            centers = np.stack([cloud.mean(axis=0) if len(cloud) else np.full(3, np.nan) for cloud in points[place]])
            noise = 0.0 if item.points is not None else second_difference_noise(centers)
            moving = item.is_moving if item.is_moving is not None else moves(item.centers, centers, noise)
            noises.append(noise)
            tracks.append(ObjectTrack(self._number[item.id], category, text, moving, points[place]))
        masks = np.stack(self._masks) if len(self._masks) == len(poses) else None
        noise_m = float(np.median(noises)) if noises else 0.0
        boxes = self._boxes(tracks) if masks is None else None
        noises_m = {track.id: noise for track, noise in zip(tracks, noises, strict=True)}
        return Objects(tracks, masks, noise_m, "source", boxes, noises_m)

    def _boxes(self, tracks: list[ObjectTrack]) -> dict[int, FloatArray] | None:
        given = {self._number[item.id]: item.boxes for item in self._objects if item.boxes is not None}
        seen = {track.id: np.array([len(cloud) > 0 for cloud in track.points]) for track in tracks}
        boxes = {
            number: np.where(seen[number][:, None], box, np.nan) for number, box in given.items() if number in seen
        }
        return boxes or None

    def _points(self, item: SourceObject, poses: FloatArray) -> list[NDArray[np.float32]]:
        if item.points is not None:
            return [thin_points(np.asarray(cloud, np.float64).reshape(-1, 3)) for cloud in item.points]
        if any(item.id in frame for frame in self._local):
            none = np.zeros((0, 3))
            return [
                thin_points(transform_points(pose, frame.get(item.id, none)))
                for pose, frame in zip(poses, self._local, strict=True)
            ]
        return [
            np.asarray(center[None] if np.isfinite(center).all() else np.zeros((0, 3)), np.float32)
            for center in item.centers
        ]

    def _appearance(self, item: SourceObject, points: list[NDArray[np.float32]], poses: FloatArray) -> ObjectAppearance:
        look = self._seen[item.id]
        place, frame = look.place, look.frame
        if place is None:  # no picture shows it: where its points project to
            frame = next(t for t, cloud in enumerate(points) if len(cloud))
            place = self._projected(points[frame], poses[frame])
        return ObjectAppearance(look.rgb, extent_m(points), place, frame, item.category)

    def _projected(self, points: NDArray[np.float32], pose: FloatArray) -> tuple[float, float] | None:
        camera = self._view.camera
        local = world_to_camera_points(pose, points.astype(np.float64).mean(axis=0))
        if local[2] <= 0:
            return None
        u, v = project_points(camera.intrinsics, local)
        return float(u / camera.width), float(v / camera.height)

    def _look_in_boxes(self, frame: int, left: Image) -> None:
        """At the middle of each box, where little of the background shows."""
        height, width = left.shape[:2]
        inner, outer = (1 - _BOX_MIDDLE) / 2, (1 + _BOX_MIDDLE) / 2
        for item in self._objects:
            if item.boxes is None or not np.isfinite(item.boxes[frame]).all():
                continue
            x0, y0, x1, y1 = item.boxes[frame]
            columns = np.arange(max(0, int(outer * x0 + inner * x1)), min(width, int(inner * x0 + outer * x1) + 1))
            rows = np.arange(max(0, int(outer * y0 + inner * y1)), min(height, int(inner * y0 + outer * y1) + 1))
            across, down = np.meshgrid(columns, rows)
            self._seen[item.id].add(frame, left, down.ravel(), across.ravel())


class _Look:
    """What the frames show of one object: a colour per frame, and where it is at first."""

    def __init__(self) -> None:
        self.place: tuple[float, float] | None = None
        self.frame = 0
        self._colours: list[FloatArray] = []
        self._counts: list[int] = []

    def add(self, frame: int, left: Image, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> None:
        """Its pixels in the next frame."""
        if not len(rows):
            return
        if self.place is None:
            height, width = left.shape[:2]
            self.place = float((columns.mean() + 0.5) / width), float((rows.mean() + 0.5) / height)
            self.frame = frame
        pixels = left[rows, columns]
        if not is_grey(pixels):
            self._colours.append(lit_colour(pixels))
            self._counts.append(len(pixels))

    @property
    def rgb(self) -> FloatArray:
        """(N, 3) colours of the frames that show enough of it."""
        least = _LEAST_PIXELS * max(self._counts, default=0)
        kept = [colour for colour, count in zip(self._colours, self._counts, strict=True) if count >= least]
        return np.array(kept, np.float64).reshape(-1, 3)


def is_grey(pixels: NDArray[np.uint8]) -> bool:
    """Whether RGB pixels (..., 3) are of a grey camera, which tells no colours."""
    return not (pixels != pixels[..., :1]).any()


def second_difference_noise(centers: FloatArray) -> float:
    """Standard deviation per axis of centres (T, 3) with NaN rows, metres, from second differences.

    For independent noise s per axis, x[t-1] - 2 x[t] + x[t+1] has variance 6 s^2, and the median of its length over
    three axes is 1.538 sqrt(6) s. 0 where no three frames in a row have one.
    """
    bend = np.linalg.norm(centers[:-2] - 2 * centers[1:-1] + centers[2:], axis=1)
    bend = bend[np.isfinite(bend)]
    return float(np.median(bend) / (1.538 * np.sqrt(6))) if len(bend) else 0.0


def moves(labelled: FloatArray, measured: FloatArray, noise_m: float) -> bool:
    """Whether a centre goes further than noise explains: the source's (T, 3) where it gives any, else the measured."""
    exact = np.isfinite(labelled).all(axis=1)
    centers = labelled[exact] if exact.sum() > 1 else measured[np.isfinite(measured).all(axis=1)]
    noise = 0.0 if exact.sum() > 1 else noise_m
    if len(centers) < 2:
        return False
    reach = np.linalg.norm(centers - centers[0], axis=1).max()
    return bool(reach > max(_MOVING_M, 4 * noise))

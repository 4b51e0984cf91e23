"""Objects of a stretch, the source's own or found by their motion: both are fed frame by frame and give tracks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..estimation.disparity import Disparity
from ..estimation.objects import ObjectConfig, ObjectFinder, surface_points, thin_points
from ..estimation.odometry import Trajectory
from ..geometry import transform_points
from ..schema import ObjectTrack
from ..stereo.clip import Image, SourceObject, StereoClip
from .descriptions import ColourVotes, Described, describe

FloatArray = NDArray[np.float64]

#: An object of the source that does not say whether it moves does where its centre goes this far, metres.
_MOVING_M = 0.15
#: Pixels of an object that are looked at for its colour, per frame.
_COLOUR_PIXELS = 400


@dataclass(eq=False)
class Objects:
    """Objects of a stretch.

    Attributes:
        tracks: as the record has them.
        masks: (T, h, w) uint8, 0 background, at a whole fraction of the image size; None where there are none.
        noise_m: standard deviation of an object's centre, metres; 0 where the source's are exact.
        origin: "source" or "estimate".
    """

    tracks: list[ObjectTrack]
    masks: NDArray[np.uint8] | None
    noise_m: float
    origin: str


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
        known = [
            Described("object", _colour(found.masks, found.images, item.id), item.points) for item in found.objects
        ]
        words = describe(known, self._view.camera, trajectory.cam_to_world)
        tracks = [
            ObjectTrack(item.id, "object", text, True, item.points)
            for item, text in zip(found.objects, words, strict=True)
        ]
        return Objects(tracks, found.masks if self._keep_masks else None, found.noise_m, "estimate")


class SourceObjects(ObjectPart):
    """Objects with the source's identities and labels.

    Points are the source's where it gives them, else those of the mask's pixels with a depth, else the centre alone.
    """

    def __init__(self, view: StereoClip, objects: list[SourceObject], keep_masks: bool) -> None:
        self._view, self._objects, self._keep_masks = view, objects, keep_masks
        self._local: list[dict[int, FloatArray]] = []  # camera-frame points by object id
        self._votes = {item.id: ColourVotes() for item in objects}
        self._masks: list[NDArray[np.uint8]] = []
        # Masks of the record are bytes: objects are numbered anew where the source's ids do not fit.
        fits = all(0 < item.id < 256 for item in objects)
        self._number = {item.id: item.id if fits else place for place, item in enumerate(objects, start=1)}

    def add(self, frame: int, left: Image, disparity: Disparity) -> None:
        mask = self._view.instance_mask(frame)
        self._local.append({})
        if mask is None:
            self._vote_in_boxes(frame, left)
            return
        numbered = np.zeros(mask.shape, np.uint8)
        for number in np.unique(mask):
            if int(number) not in self._votes:
                continue
            inside = mask == number
            self._votes[int(number)].add(_some(left[inside]))
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
        known = [
            Described(self._objects[place].category, self._votes[self._objects[place].id].winner, points[place])
            for place in seen
        ]
        words = describe(known, self._view.camera, poses)
        tracks, noises = [], []
        for place, text in zip(seen, words, strict=True):
            item = self._objects[place]
            centers = np.stack([cloud.mean(axis=0) if len(cloud) else np.full(3, np.nan) for cloud in points[place]])
            noise = 0.0 if item.points is not None else second_difference_noise(centers)
            moving = item.is_moving if item.is_moving is not None else moves(item.centers, centers, noise)
            noises.append(noise)
            tracks.append(ObjectTrack(self._number[item.id], item.category, text, moving, points[place]))
        masks = np.stack(self._masks) if len(self._masks) == len(poses) else None
        return Objects(tracks, masks, float(np.median(noises)) if noises else 0.0, "source")

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

    def _vote_in_boxes(self, frame: int, left: Image) -> None:
        """Colours of the middle of each box, where little of the background shows."""
        height, width = left.shape[:2]
        for item in self._objects:
            if item.boxes is None or not np.isfinite(item.boxes[frame]).all():
                continue
            x0, y0, x1, y1 = item.boxes[frame]
            columns = slice(max(0, int(0.7 * x0 + 0.3 * x1)), min(width, int(0.3 * x0 + 0.7 * x1) + 1))
            rows = slice(max(0, int(0.7 * y0 + 0.3 * y1)), min(height, int(0.3 * y0 + 0.7 * y1) + 1))
            self._votes[item.id].add(_some(left[rows, columns].reshape(-1, 3)))


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


def _colour(masks: NDArray[np.uint8], images: NDArray[np.uint8], number: int) -> str | None:
    votes = ColourVotes()
    for mask, image in zip(masks, images, strict=True):
        votes.add(_some(image[mask == number]))
    return votes.winner


def _some(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels[:: max(1, len(pixels) // _COLOUR_PIXELS)]

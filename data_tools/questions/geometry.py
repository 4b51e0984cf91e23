"""The geometry of one clip at the sampled frames, as arrays that answer many questions at once.

Coordinates: OpenCV axes, metres, cam_to_world. Frames are counted among the sampled ones; others are `clip_frames`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..schema import Clip4D

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_BLOCK_POINTS = 1 << 17  # points compared with a camera in one go, to stay within the processor's cache


class ClipGeometry:
    """What the solvers ask of a clip, for K questions in one call.

    Args:
        clip: the clip.
        clip_frames: (F,) the sampled frames, indices into the clip.

    Attributes:
        rotations: (F, 3, 3) camera to world.
        centers: (F, 3) camera centres, world metres.
        times_s: (F,) seconds since the clip's first frame.
        counts: (M, F) points of each object.
        is_moving, is_unique: (M,) of each object; unique where no other object has its description.
        object_centers: (M, F, 3) mean of an object's points, world metres; NaN where it has none.
        camera_noise_m: measured noise of the camera's motion; 0 for exact clips.
        object_noise_m: (M,) measured noise of each object's centre, or else that of the clip's objects.
    """

    def __init__(self, clip: Clip4D, clip_frames: Sequence[int]) -> None:
        self.clip = clip
        self.clip_frames = np.asarray(clip_frames, np.int64)
        poses = clip.cam_to_world[self.clip_frames]
        self.rotations: Floats = poses[:, :3, :3]
        self.centers: Floats = poses[:, :3, 3]
        self.times_s: Floats = self.clip_frames / clip.fps
        tracks, frames = clip.objects, self.clip_frames.tolist()
        parts = [track.points[frame] for track in tracks for frame in frames]
        shape = (len(tracks), len(frames))
        self.counts: Ints = np.array([len(part) for part in parts], np.int64).reshape(shape)
        self._points: Floats = (np.concatenate(parts) if parts else np.zeros((0, 3))).astype(np.float64)
        ends = np.cumsum(self.counts).reshape(shape)
        self._first: Ints = ends - self.counts
        self.is_moving: Bools = np.array([track.is_moving for track in tracks], bool)
        names = [track.description.strip().lower() for track in tracks]
        uses = Counter(names)
        self.is_unique: Bools = np.array([bool(name) and uses[name] == 1 for name in names], bool)
        self.camera_noise_m = float(clip.quality.get("camera_noise_m", 0.0))
        own = clip.quality.get("object_noises_m", {})
        common = clip.quality.get("object_noise_m", 0.0)
        noises = [own.get(str(track.id)) for track in tracks]
        self.object_noise_m: Floats = np.array([common if n is None else n for n in noises], np.float64)

    @cached_property
    def object_centers(self) -> Floats:
        centers = np.full((*self.counts.shape, 3), np.nan)
        seen = self.counts > 0
        if seen.any():
            sums = np.add.reduceat(self._points, self._first[seen], axis=0)
            centers[seen] = sums / self.counts[seen][:, None]
        return centers

    @cached_property
    def radii_m(self) -> Floats:
        """(M, F) root mean square distance of an object's points from their mean; NaN where it has none."""
        radii = np.full(self.counts.shape, np.nan)
        seen = self.counts > 0
        if seen.any():
            offsets = self._points - np.repeat(self.object_centers[seen], self.counts[seen], axis=0)
            squares = np.add.reduceat((offsets**2).sum(axis=1), self._first[seen])
            radii[seen] = np.sqrt(squares / self.counts[seen])
        return radii

    def in_camera(self, frames: Ints, vectors: Floats) -> Floats:
        """World displacements (K, 3) in the axes of the cameras at `frames` (K,): R^T d."""
        turned: Floats = np.einsum("kji,kj->ki", self.rotations[frames], vectors)
        return turned

    def camera_displacement(self, start: Ints, end: Ints) -> Floats:
        """R_i^T (c_j - c_i), (K, 3) metres in the axes of camera i."""
        return self.in_camera(start, self.centers[end] - self.centers[start])

    def object_displacement(self, objects: Ints, start: Ints, end: Ints) -> Floats:
        """mean R_i^T (P_j - c_i) - mean R_i^T (P_i - c_i), (K, 3) metres in the axes of camera i."""
        return self.in_camera(start, self.object_centers[objects, end] - self.object_centers[objects, start])

    @cached_property
    def nearest_m(self) -> Floats:
        """(M, F) distance of an object's nearest point from the same frame's camera; infinite where it has none."""
        objects, frames = np.indices(self.counts.shape).reshape(2, -1)
        return self._nearest(objects, frames, frames).reshape(self.counts.shape)

    def nearest(self, objects: Ints, object_frames: Ints, camera_frames: Ints) -> Floats:
        """min over points p of P_object_frame of |p - c_camera_frame|, (K,) metres; infinite where there are none."""
        distances = self.nearest_m[objects, object_frames]
        other = np.flatnonzero(object_frames != camera_frames)
        if len(other):
            distances[other] = self._nearest(objects[other], object_frames[other], camera_frames[other])
        return distances

    def _nearest(self, objects: Ints, object_frames: Ints, camera_frames: Ints) -> Floats:
        counts = self.counts[objects, object_frames]
        distances = np.full(len(counts), np.inf)
        asked = np.flatnonzero(counts)
        ends = np.cumsum(counts[asked])
        at = 0
        while at < len(asked):  # in blocks, so that memory does not grow with the questions
            done = ends[at - 1] if at else 0
            stop = max(at + 1, int(np.searchsorted(ends, done + _BLOCK_POINTS, "right")))
            block = asked[at:stop]
            number = counts[block]
            first = np.cumsum(number) - number
            places = np.repeat(self._first[objects[block], object_frames[block]] - first, number)
            places += np.arange(len(places))
            offsets = self._points[places] - np.repeat(self.centers[camera_frames[block]], number, axis=0)
            squares = np.einsum("ka,ka->k", offsets, offsets)
            distances[block] = np.sqrt(np.minimum.reduceat(squares, first))
            at = stop
        return distances

    def image_boxes(self, objects: Ints, frames: Ints) -> Floats:
        """(K, 4) left, top, right, bottom of an object's projected points, pixels; NaN where one is behind or none."""
        boxes = np.full((len(objects), 4), np.nan)
        for k, (number, frame) in enumerate(zip(objects.tolist(), frames.tolist(), strict=True)):
            first = self._first[number, frame]
            points = self._points[first : first + self.counts[number, frame]]
            seen = (points - self.centers[frame]) @ self.rotations[frame]
            if len(seen) and seen[:, 2].min() > 0:
                pixels = seen @ self.clip.intrinsics.T
                pixels = pixels[:, :2] / pixels[:, 2:]
                boxes[k] = [*pixels.min(axis=0), *pixels.max(axis=0)]
        return boxes

"""What cues are made of: cameras and objects of one clip or of many in the frames that a model sees, as arrays.

Coordinates: OpenCV axes, metres, cam_to_world. Nothing here grows with the number of points, so the sights of a hundred
clips fit anywhere, and clips need not be read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ..schema import Clip4D

EDGE_SHARE = 0.02  # of the image's width or height: an outline so near to the border touches it
_OUTLINE_POINTS = 16  # of an object in a frame, all over its list of points; an extent needs no more
_Floats = NDArray[np.float64]
_Bools = NDArray[np.bool_]
_Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Sights:
    """C clips in F frames each, with O objects in all, those of a clip next to each other.

    Where an object is unseen, its numbers are 0, but for `middles`, which are drawn straight between seen frames.

    Attributes:
        rotations: (C, F, 3, 3) camera to world.
        centers: (C, F, 3) camera centres, world metres.
        closest_m: (C, F) distance of the nearest point of any object from the camera; infinite where none is seen.
        focal_widths: (C,) focal length as a share of the image's width.
        heights: (C,) of the image, as a share of its width.
        is_moving: (O,) of each object.
        seen: (O, F) whether the object has points.
        object_centers: (O, F, 3) mean of its points, world metres.
        nearest_m: (O, F) of its nearest point from the camera of the same frame.
        middles: (O, F, 2) (u, v) of its centre as shares of width and height; (-1, -1) behind the camera.
        extents: (O, F) root mean square distance of its projected points from their mean, pixels.
        at_edge: (O, F) whether its outline touches the border of the image, or goes beyond.
        covered, away: (O, F + 1) numbers of frames before each one at which it is unseen within, and out of, the image.
    """

    rotations: _Floats
    centers: _Floats
    closest_m: _Floats
    focal_widths: _Floats
    heights: _Floats
    is_moving: _Bools
    seen: _Bools
    object_centers: _Floats
    nearest_m: _Floats
    middles: _Floats
    extents: _Floats
    at_edge: _Bools
    covered: _Ints
    away: _Ints

    @classmethod
    def join(cls, parts: Sequence[Sights]) -> Sights:
        """Of several clips, at least one, all with the same number of frames."""
        return cls(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(cls)))


def sights_of(
    clip: Clip4D, frames: Sequence[int], nearest_m: _Floats | None = None, centers_m: _Floats | None = None
) -> Sights:
    """Sights of one clip; the M * F clouds of points go through together.

    Args:
        clip: the clip.
        frames: (F,) clip frames that the model sees, in order.
        nearest_m: (M, F) distance of each object's nearest point from the camera of the same frame, metres, where a
            solver has it already; unseen frames may hold anything.
        centers_m: (M, F, 3) mean of each object's points, world metres, likewise.
    """
    poses = clip.cam_to_world[np.asarray(frames)]
    shape = len(clip.objects), len(frames)
    clouds = [track.points[frame] for track in clip.objects for frame in frames]
    sizes = np.array([len(cloud) for cloud in clouds], np.int64)
    visible = np.flatnonzero(sizes)
    seen = (sizes > 0).reshape(shape)
    centers, nearest = np.zeros((len(clouds), 3)), np.zeros(len(clouds))
    extents, at_edge = np.zeros(len(clouds)), np.zeros(len(clouds), bool)
    if len(visible):
        own_poses, sizes = poses[visible % shape[1]], sizes[visible]  # of each cloud that is not empty
        points = np.concatenate(clouds)
        first = np.cumsum(sizes) - sizes
        spread = first[:, None] + np.arange(_OUTLINE_POINTS) * sizes[:, None] // _OUTLINE_POINTS
        extents[visible], at_edge[visible] = _outlines(points[spread].astype(np.float64), clip, own_poses)
        if nearest_m is None:
            offsets = points - np.repeat(own_poses[:, :3, 3], sizes, axis=0)
            nearest[visible] = np.sqrt(np.minimum.reduceat(np.einsum("ka,ka->k", offsets, offsets), first))
        if centers_m is None:
            centers[visible] = np.add.reduceat(points.astype(np.float64), first, axis=0) / sizes[:, None]
    distances = nearest.reshape(shape) if nearest_m is None else np.where(seen, nearest_m, 0.0)
    places = centers.reshape(*shape, 3) if centers_m is None else np.where(seen[..., None], centers_m, 0.0)
    middles = _middles(_filled(places, seen), poses, clip)
    inside = ((middles >= 0) & (middles <= 1)).all(axis=2)
    covered, away = (
        np.concatenate([np.zeros((shape[0], 1), np.int64), np.cumsum(~seen & kind, axis=1)], axis=1)
        for kind in (inside, ~inside)
    )
    return Sights(
        rotations=poses[None, :, :3, :3],
        centers=poses[None, :, :3, 3],
        closest_m=np.where(seen, distances, np.inf).min(axis=0, initial=np.inf)[None],
        focal_widths=np.array([clip.intrinsics[0, 0] / clip.width], np.float64),
        heights=np.array([clip.height / clip.width]),
        is_moving=np.array([track.is_moving for track in clip.objects], bool),
        seen=seen,
        object_centers=places,
        nearest_m=distances,
        middles=middles,
        extents=extents.reshape(shape),
        at_edge=at_edge.reshape(shape),
        covered=covered,
        away=away,
    )


def _outlines(clouds: _Floats, clip: Clip4D, poses: _Floats) -> tuple[_Floats, _Bools]:
    """Extent in pixels of each of n clouds (n, k, 3) seen from n poses, and whether it touches the image's border."""
    camera = (clouds - poses[:, None, :3, 3]) @ poses[:, :3, :3]
    depth = camera[..., 2:]
    is_behind = depth <= 1e-6
    pixels = (camera @ clip.intrinsics.T)[..., :2] / np.where(is_behind, 1.0, depth)
    extents = np.sqrt(pixels.var(axis=1).sum(axis=1))
    beyond = is_behind | (np.abs(pixels / (clip.width, clip.height) - 0.5) > 0.5 - EDGE_SHARE)
    return extents, beyond.any(axis=(1, 2))


def _filled(centers: _Floats, seen: _Bools) -> _Floats:
    """Centres (M, F, 3) with those of unseen frames drawn straight between the seen ones around them."""
    gaps = np.flatnonzero(seen.any(axis=1) & ~seen.all(axis=1))
    if not len(gaps):
        return centers
    filled, at = centers.copy(), np.arange(seen.shape[1])
    for number in gaps:
        known = np.flatnonzero(seen[number])
        for axis in range(3):
            filled[number, :, axis] = np.interp(at, known, centers[number, known, axis])
    return filled


def _middles(centers: _Floats, poses: _Floats, clip: Clip4D) -> _Floats:
    """(M, F, 2) of world points (M, F, 3) as shares of width and height; (-1, -1) behind the camera."""
    camera = ((centers - poses[:, :3, 3])[..., None, :] @ poses[:, :3, :3])[..., 0, :]
    depth = camera[..., 2:]
    ahead = depth > 1e-6
    pixels = (camera @ clip.intrinsics.T)[..., :2] / np.where(ahead, depth, 1.0)
    return np.where(ahead, pixels / (clip.width, clip.height), -1.0)

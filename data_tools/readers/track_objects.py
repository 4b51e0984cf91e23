"""Objects out of 3D tracks that belong to none: those that move, put together where they stay together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from ..geometry import world_to_camera_points
from ..stereo.clip import SourceObject

FloatArray = NDArray[np.float64]

#: Tracks seen in fewer frames tell too little of their motion.
_LEAST_FRAMES = 5
#: A track moves where it gets further than this, metres, and than this many times what tracks of its depth do.
_LEAST_REACH_M, _TIMES_NOISE = 0.2, 6.0
#: Neighbours are of one object where they never part by more than this, metres, and share of their depth.
_NEAR_M, _NEAR_PER_DEPTH = 0.3, 0.04
#: Fewer moving tracks than this are no object.
_LEAST_TRACKS = 6
#: Moving tracks that are looked at, and frames in which neighbours are looked for: enough for objects, bounded in cost.
_MOST_TRACKS, _LOOKS = 2000, 16


def moving_objects(tracks: NDArray[np.float32], cam_to_world: FloatArray) -> list[SourceObject]:
    """Objects of the tracks that move, the one with the most tracks first.

    Stereo depth errs by Z^2, and most tracks of a scene are still: the median of reach / Z^2 over all tracks is what
    noise alone makes of one. Tracks that move well beyond it are joined with those that stay near them wherever both
    are seen. Things that move as one (a rider and a horse) become one object, and things that keep apart by less than
    0.3 m may.

    Args:
        tracks: (N, T, 3) metres in the world of frame 0, NaN where a track is not seen.
        cam_to_world: (T, 4, 4) of the left camera.
    """
    depths = _depths(tracks, cam_to_world)
    moving = _moving(tracks, depths)
    if len(moving) > _MOST_TRACKS:
        moving = moving[:: -(-len(moving) // _MOST_TRACKS)]
    groups = _groups(tracks[moving].astype(np.float64), depths[moving])
    objects = []
    for number, members in enumerate(groups, start=1):
        points = [
            np.asarray(frame[np.isfinite(frame[:, 0])], np.float32) for frame in tracks[moving[members]].swapaxes(0, 1)
        ]
        centers = np.stack([cloud.mean(axis=0) if len(cloud) else np.full(3, np.nan) for cloud in points])
        objects.append(SourceObject(number, "object", centers.astype(np.float64), points, is_moving=True))
    return objects


def _depths(tracks: NDArray[np.float32], cam_to_world: FloatArray) -> FloatArray:
    """(N,) median depth of each track in the left camera, metres; NaN where it is never seen."""
    depths = np.full(tracks.shape[:2], np.nan)
    for frame, pose in enumerate(cam_to_world):
        depths[:, frame] = world_to_camera_points(pose, tracks[:, frame].astype(np.float64))[:, 2]
    seen = np.isfinite(depths).any(axis=1)
    medians = np.full(len(tracks), np.nan)
    medians[seen] = np.nanmedian(depths[seen], axis=1)
    return medians


def _moving(tracks: NDArray[np.float32], depths: FloatArray) -> NDArray[np.intp]:
    """Numbers of the tracks that move."""
    seen = np.isfinite(tracks[..., 0])
    known = np.flatnonzero((seen.sum(axis=1) >= _LEAST_FRAMES) & (depths > 0))
    if not len(known):
        return known
    sample = known[:: max(1, len(known) // _MOST_TRACKS)]
    noise_per_depth2 = float(np.median([_reach(tracks[track], seen[track]) / depths[track] ** 2 for track in sample]))
    limits = np.maximum(_LEAST_REACH_M, _TIMES_NOISE * noise_per_depth2 * depths[known] ** 2)
    # What stays within a box of that size cannot have gone further: most tracks need no closer look.
    spans = np.linalg.norm(np.nanmax(tracks[known], axis=1) - np.nanmin(tracks[known], axis=1), axis=1)
    wide = np.flatnonzero(spans > limits)
    return known[[place for place in wide if _reach(tracks[known[place]], seen[known[place]]) > limits[place]]]


def _reach(track: NDArray[np.float32], seen: NDArray[np.bool_]) -> float:
    """Metres that a track (T, 3) gets from its first third; medians, since one wild point is no motion."""
    points = track[seen].astype(np.float64)
    third = max(1, len(points) // 3)
    first, middle, last = (np.median(part, axis=0) for part in (points[:third], points[third:-third], points[-third:]))
    return max(float(np.linalg.norm(middle - first)), float(np.linalg.norm(last - first)))


def _groups(tracks: FloatArray, depths: FloatArray) -> list[NDArray[np.intp]]:
    """Places of tracks (M, T, 3) that stay together, largest group first."""
    count, num_frames = tracks.shape[:2]
    if count < _LEAST_TRACKS:
        return []
    reach = np.maximum(_NEAR_M, _NEAR_PER_DEPTH * depths)
    together = np.zeros((count, count), np.int16)
    near = np.zeros((count, count), np.int16)
    for frame in np.unique(np.linspace(0, num_frames - 1, _LOOKS).round().astype(int)):
        seen = np.flatnonzero(np.isfinite(tracks[:, frame, 0]))
        if len(seen) < 2:
            continue
        together[np.ix_(seen, seen)] += 1
        points = tracks[seen, frame]
        first, second = cKDTree(points).query_pairs(float(reach[seen].max()), output_type="ndarray").T
        gap = np.linalg.norm(points[first] - points[second], axis=1)
        fits = gap <= np.minimum(reach[seen[first]], reach[seen[second]])
        near[seen[first[fits]], seen[second[fits]]] += 1
    joined = (near >= 2) & (near == together)
    _, labels = connected_components(csr_matrix(joined), directed=False)
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return sorted((group for group in groups if len(group) >= _LEAST_TRACKS), key=lambda group: (-len(group), group[0]))

"""What a viewer could notice between two frames, worked out from projections: the raw material of ST-CoT texts.

Nothing here is taken from the answer of a question, so a text that tells the cues and the answer tells two things that
agree because the geometry does. Coordinates: OpenCV axes, metres, cam_to_world 4x4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..schema import Clip4D, ObjectTrack

Cues = dict[str, Any]

TURN_DEGREES = 5.0  # smaller turns of the view are not mentioned
SIZE_CHANGE = 1.1  # apparent size must change by a tenth to be noticed
SHIFT_SHARE = 0.05  # of the image's width; smaller shifts of an object in the image are not mentioned
DRIFT_SHARE = 0.4  # of the main motion; a smaller part of the camera's motion along another axis is not mentioned
#: Motion of near against far things, shares of the image's width, from which it is slight, and clear.
PARALLAX_SHARES = (0.01, 0.05)
#: Approach to the nearest thing, shares of its distance, from which its growth is slight, and clear.
APPROACH_SHARES = (0.02, 0.1)
EDGE_SHARE = 0.02  # of the image's width or height: an outline so near to the border touches it

PLACES = ("left", "middle", "right", "outside")  # thirds of the image, and out of it
LEVELS = ("top", "middle", "bottom", "outside")
NEGATIVE = ("left", "up", "backward")  # by axis: -X, -Y, -Z
POSITIVE = ("right", "down", "forward")

_CAMERA_KEYS = frozenset({"camera_shift", "camera_drift", "camera_turn", "parallax"})
_OBJECT_KEYS = frozenset(
    {"start_place", "end_place", "start_level", "end_level", "image_shift", "distance", "size", "outline"}
    | {"own_motion", "moving", "edge", "gap"}
)
_OUTLINE_POINTS = 16  # of an object in a frame, all over its list of points; an extent needs no more
_Floats = NDArray[np.float64]


class ClipCues:
    """Cues of one clip. Projections of all objects in all frames are computed at once, when the first is needed.

    Args:
        clip: the clip.
        frames: clip frames that the model sees, in order; `pair` counts in these. None means all frames.
        nearest_m: (M, F) distance of each object's nearest point from the camera of the same frame, metres, where a
            solver has it already; unseen frames may hold anything.
        centers_m: (M, F, 3) mean of each object's points, world metres, likewise.
        min_motion_m: a camera or an object that moves less stands still.
        tau_m, tau_relative: an object that moves less along an axis, metres or as a share of its distance (the larger
            counts), does not move. The defaults are those of questions.config.Thresholds.

    Example:
        >>> cues = ClipCues(clip, sample_frame_indices(clip.num_frames, 32))  # doctest: +SKIP
        >>> cues.pair(0, 31, 0)["size"]  # doctest: +SKIP
        'larger'
    """

    def __init__(
        self,
        clip: Clip4D,
        frames: Sequence[int] | None = None,
        *,
        nearest_m: _Floats | None = None,
        centers_m: _Floats | None = None,
        min_motion_m: float = 0.1,
        tau_m: float = 0.1,
        tau_relative: float = 0.02,
    ) -> None:
        self._clip = clip
        self._frames = list(range(clip.num_frames)) if frames is None else [int(frame) for frame in frames]
        self._poses = clip.cam_to_world[self._frames]
        self._rotations: list[list[list[float]]] = self._poses[:, :3, :3].tolist()
        self._centers: list[list[float]] = self._poses[:, :3, 3].tolist()
        self._nearest_m, self._centers_m = nearest_m, centers_m
        self._min_motion_m, self._tau_m, self._tau_relative = min_motion_m, tau_m, tau_relative
        self._objects: list[_SeenObject] | None = None
        self._camera: dict[tuple[int, int], Cues] = {}

    def pair(self, start: int, end: int, object_index: int | None = None) -> Cues:
        """Cues between two frames, JSON values only.

        Args:
            start, end: positions among `frames`.
            object_index: place in `clip.objects`; None for the camera alone. The object is seen at both frames.

        Returns:
            camera_shift: one of the six directions in the start view, or "still".
            camera_drift: the direction of a lesser motion beside it, or "none".
            camera_turn: "left", "right", "up", "down" or "none".
            parallax: "none", "slight" or "clear": motion in the image that the camera's shift alone gives to the
                nearest object, against far things; null where no object is seen at the start.
            and for an object:
            start_place, end_place: one of PLACES; start_level, end_level: one of LEVELS.
            image_shift: "left", "right", "up", "down" or "none", of its middle in the image.
            distance: "closer", "farther" or "same": of its nearest point from the camera, as questions about it say.
            size: "larger", "smaller", "same", as that distance has it, by a tenth at least.
            outline: the same words, as the extent of its projected points has it. A part that is hidden, or another
                side that comes into view, makes the two differ.
            own_motion: [x, y, z] in axes of the start camera, each -1, 0 or 1; what the camera does is no part of it.
            moving: whether it moves at all, if only by less than that along each axis.
            edge: "enters", "leaves" or "none": touches the image's border at the start only, or at the end only.
            gap: "none"; or "covered" or "away", out of sight for a time at a place within, or out of, the image.
        """
        camera = self._camera.get((start, end))
        if camera is None:
            camera = self._camera[start, end] = self._camera_cues(start, end)
        if object_index is None:
            return dict(camera)
        return {**camera, **self._object_cues(start, end, object_index)}

    # ------------------------------------------------------------------------------------------------------ camera

    def _camera_cues(self, start: int, end: int) -> Cues:
        shift = _in_camera(self._rotations[start], self._centers[start], self._centers[end])
        ranked = sorted((abs(part), axis) for axis, part in enumerate(shift))
        (lesser, second), (most, first) = ranked[1:]
        is_still = math.hypot(*shift) < self._min_motion_m
        drifts = not is_still and lesser >= max(DRIFT_SHARE * most, self._min_motion_m)
        return {
            "camera_shift": "still" if is_still else _direction(shift, first),
            "camera_drift": _direction(shift, second) if drifts else "none",
            "camera_turn": self._turn(start, end),
            "parallax": self._parallax(start, shift, first, is_still),
        }

    def _turn(self, start: int, end: int) -> str:
        """Of the viewing axis of the end camera, in the axes of the start camera."""
        ahead = self._rotations[end]
        x, y, z = _turned(self._rotations[start], (ahead[0][2], ahead[1][2], ahead[2][2]))
        yaw, pitch = math.degrees(math.atan2(x, z)), math.degrees(math.asin(max(-1.0, min(1.0, -y))))
        if max(abs(yaw), abs(pitch)) < TURN_DEGREES:
            return "none"
        if abs(yaw) >= abs(pitch):
            return "right" if yaw > 0 else "left"
        return "up" if pitch > 0 else "down"

    def _parallax(self, start: int, shift: tuple[float, float, float], axis: int, is_still: bool) -> str | None:
        if is_still:
            return "none"
        seen = (self._object(place) for place in range(len(self._clip.objects)))
        distances = [track.nearest_m[start] for track in seen if track.seen[start]]
        if not distances:
            return None
        nearest_m = max(min(distances), 1e-6)
        if axis == 2:
            amount, (slight, clear) = abs(shift[2]) / nearest_m, APPROACH_SHARES
        else:
            focal_widths = float(self._clip.intrinsics[0, 0]) / self._clip.width
            amount, (slight, clear) = math.hypot(shift[0], shift[1]) / nearest_m * focal_widths, PARALLAX_SHARES
        return "clear" if amount >= clear else "slight" if amount >= slight else "none"

    # ------------------------------------------------------------------------------------------------------ object

    def _object_cues(self, start: int, end: int, index: int) -> Cues:
        track = self._object(index)
        if not (track.seen[start] and track.seen[end]):
            raise ValueError(f"object {index} of {self._clip.clip_id} is not seen at both of the frames {start}, {end}")
        before_m, after_m = track.nearest_m[start], track.nearest_m[end]
        tau_m = max(self._tau_m, self._tau_relative * before_m)
        own, is_moving = (0, 0, 0), False
        if self._clip.objects[index].is_moving:
            moved = _in_camera(self._rotations[start], track.centers[start], track.centers[end])
            own = (_sign(moved[0], tau_m), _sign(moved[1], tau_m), _sign(moved[2], tau_m))
            is_moving = any(own) or math.hypot(*moved) >= self._min_motion_m
        (u, v), (u_end, v_end) = track.middles[start], track.middles[end]
        at_start, at_end = _place(u, v), _place(u_end, v_end)
        # A change that a question would call none is none here, whatever its share of a short distance.
        nearing = _sign(after_m - before_m, tau_m)
        size = _change(before_m / max(after_m, 1e-6)) if nearing else "same"
        touches, touches_end = track.at_edge[start], track.at_edge[end]
        return {
            "start_place": at_start[0],
            "end_place": at_end[0],
            "start_level": at_start[1],
            "end_level": at_end[1],
            "image_shift": _image_shift(u_end - u, (v_end - v) * self._clip.height / self._clip.width),
            "distance": ("same", "farther", "closer")[nearing],
            "size": size,
            "outline": _change(track.extents[end] / max(track.extents[start], 1e-9)),
            "own_motion": list(own),
            "moving": is_moving,
            "edge": "none" if touches == touches_end else "enters" if touches else "leaves",
            "gap": track.gap(start, end),
        }

    def _object(self, index: int) -> _SeenObject:
        if self._objects is None:
            self._objects = _project(self._clip, self._frames, self._poses, self._nearest_m, self._centers_m)
        return self._objects[index]


def find_cues(clip: Clip4D, clip_frames: Sequence[int], track: ObjectTrack | None, **limits: Any) -> Cues:
    """`ClipCues.pair` between the first and the last of `clip_frames`, for a single use."""
    index = None if track is None else next(place for place, own in enumerate(clip.objects) if own is track)
    return ClipCues(clip, clip_frames, **limits).pair(0, len(clip_frames) - 1, index)


def are_cues(value: object) -> bool:
    """Whether a value is what `ClipCues.pair` returns, of the camera alone or of an object as well."""
    if not isinstance(value, dict):
        return False
    found = value.keys() & _OBJECT_KEYS
    return value.keys() >= _CAMERA_KEYS and (not found or found == _OBJECT_KEYS)


@dataclass(frozen=True)
class _SeenObject:
    """An object in the F frames; lists, since numbers are taken one by one. Unseen frames hold zeros.

    Attributes:
        seen: whether it has points.
        centers: mean of its points, world metres.
        nearest_m: of its nearest point from the camera, metres.
        middles: (u, v) of its centre as shares of width and height; (-1, -1) behind the camera.
        extents: root mean square distance of its projected points from their mean, pixels.
        at_edge: whether its outline touches the border of the image, or goes beyond.
        covered, away: (F + 1,) numbers of frames before each one at which it is unseen within, and out of, the image.
    """

    seen: list[bool]
    centers: list[list[float]]
    nearest_m: list[float]
    middles: list[list[float]]
    extents: list[float]
    at_edge: list[bool]
    covered: list[int]
    away: list[int]

    def gap(self, start: int, end: int) -> str:
        covered, away = self.covered[end + 1] - self.covered[start], self.away[end + 1] - self.away[start]
        return "none" if not covered + away else "covered" if covered >= away else "away"


def _project(
    clip: Clip4D, frames: list[int], poses: _Floats, nearest_m: _Floats | None, centers_m: _Floats | None
) -> list[_SeenObject]:
    """All objects in all frames; the M * F clouds of points go through together."""
    shape = len(clip.objects), len(frames)
    clouds = [track.points[frame] for track in clip.objects for frame in frames]
    sizes = np.array([len(cloud) for cloud in clouds])
    visible = np.flatnonzero(sizes)
    seen = (sizes > 0).reshape(shape)
    own_poses = poses[visible % shape[1]]  # of each cloud that is not empty
    centers, nearest = np.zeros((len(clouds), 3)), np.zeros(len(clouds))
    extents, at_edge = np.zeros(len(clouds)), np.zeros(len(clouds), bool)
    if len(visible):
        # (3, N): axis by axis the steps below take a third of the time
        points, sizes = np.concatenate(clouds).T.astype(np.float64, order="C"), sizes[visible]
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        if nearest_m is None:
            owners = np.repeat(np.arange(len(visible)), sizes)
            squares, offsets = np.zeros(points.shape[1]), np.empty(points.shape[1])
            for axis in range(3):  # in place: memory taken anew costs more than the arithmetic
                np.take(own_poses[:, axis, 3], owners, out=offsets, mode="clip")
                np.subtract(points[axis], offsets, out=offsets)
                np.multiply(offsets, offsets, out=offsets)
                squares += offsets
            nearest[visible] = np.sqrt(np.minimum.reduceat(squares, starts))
        if centers_m is None:
            centers[visible] = (np.add.reduceat(points, starts, axis=1) / sizes).T
        spread = starts[:, None] + np.arange(_OUTLINE_POINTS) * sizes[:, None] // _OUTLINE_POINTS
        extents[visible], at_edge[visible] = _outlines(np.moveaxis(points[:, spread], 0, 2), clip, own_poses)
    if nearest_m is not None:
        nearest = np.where(seen, nearest_m, 0.0)
    places = centers.reshape(*shape, 3) if centers_m is None else np.where(seen[..., None], centers_m, 0.0)
    middles = _middles(_filled(places, seen), poses, clip)
    inside = ((middles >= 0) & (middles <= 1)).all(axis=2)
    covered, away = (
        np.concatenate([np.zeros((shape[0], 1), np.int64), np.cumsum(~seen & kind, axis=1)], axis=1).tolist()
        for kind in (inside, ~inside)
    )
    columns = (
        seen.tolist(),
        places.tolist(),
        nearest.reshape(shape).tolist(),
        middles.tolist(),
        extents.reshape(shape).tolist(),
        at_edge.reshape(shape).tolist(),
        covered,
        away,
    )
    return [_SeenObject(*parts) for parts in zip(*columns, strict=True)]


def _outlines(clouds: _Floats, clip: Clip4D, poses: _Floats) -> tuple[_Floats, NDArray[np.bool_]]:
    """Extent in pixels of each of n clouds (n, k, 3) seen from n poses, and whether it touches the image's border."""
    camera = (clouds - poses[:, None, :3, 3]) @ poses[:, :3, :3]
    depth = camera[..., 2:]
    is_behind = depth <= 1e-6
    pixels = (camera @ clip.intrinsics.T)[..., :2] / np.where(is_behind, 1.0, depth)
    extents = np.sqrt(pixels.var(axis=1).sum(axis=1))
    beyond = is_behind | (np.abs(pixels / (clip.width, clip.height) - 0.5) > 0.5 - EDGE_SHARE)
    return extents, beyond.any(axis=(1, 2))


def _filled(centers: _Floats, seen: NDArray[np.bool_]) -> _Floats:
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


def _in_camera(rotation: list[list[float]], start: list[float], end: list[float]) -> tuple[float, float, float]:
    """R^T (end - start)."""
    return _turned(rotation, (end[0] - start[0], end[1] - start[1], end[2] - start[2]))


def _turned(rotation: list[list[float]], vector: tuple[float, float, float]) -> tuple[float, float, float]:
    """R^T v."""
    (a, b, c), (d, e, f), (g, h, i) = rotation
    x, y, z = vector
    return a * x + d * y + g * z, b * x + e * y + h * z, c * x + f * y + i * z


def _direction(vector: tuple[float, float, float], axis: int) -> str:
    return (NEGATIVE if vector[axis] < 0 else POSITIVE)[axis]


def _sign(part: float, tau: float) -> int:
    return 0 if abs(part) <= tau else 1 if part > 0 else -1


def _change(ratio: float) -> str:
    return "larger" if ratio > SIZE_CHANGE else "smaller" if ratio < 1 / SIZE_CHANGE else "same"


def _image_shift(right: float, down: float) -> str:
    """Both in shares of the image's width."""
    if max(abs(right), abs(down)) < SHIFT_SHARE:
        return "none"
    if abs(right) >= abs(down):
        return "right" if right > 0 else "left"
    return "down" if down > 0 else "up"


def _place(u: float, v: float) -> tuple[str, str]:
    if not (0 <= u <= 1 and 0 <= v <= 1):
        return "outside", "outside"
    return PLACES[min(2, int(3 * u))], LEVELS[min(2, int(3 * v))]

"""What a viewer could notice between two frames, worked out from projections: the raw material of ST-CoT texts.

Nothing here is taken from the answer of a question, so a text that tells the cues and the answer tells two things that
agree because the geometry does. Coordinates: OpenCV axes, metres, cam_to_world 4x4.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..schema import Clip4D, ObjectTrack
from .sights import Sights, sights_of

Cues = dict[str, Any]

TURN_DEGREES = 5.0  # smaller turns of the view are not mentioned
SIZE_CHANGE = 1.1  # apparent size must change by a tenth to be noticed
SHIFT_SHARE = 0.05  # of the image's width; smaller shifts of an object in the image are not mentioned
DRIFT_SHARE = 0.4  # of the main motion; a smaller part of the camera's motion along another axis is not mentioned
#: Motion of near against far things, shares of the image's width, from which it is slight, and clear.
PARALLAX_SHARES = (0.01, 0.05)
#: Approach to the nearest thing, shares of its distance, from which its growth is slight, and clear.
APPROACH_SHARES = (0.02, 0.1)

PLACES = ("left", "middle", "right", "outside")  # thirds of the image, and out of it
LEVELS = ("top", "middle", "bottom", "outside")
NEGATIVE = ("left", "up", "backward")  # by axis: -X, -Y, -Z
POSITIVE = ("right", "down", "forward")

_DIRECTIONS = tuple(word for axis in zip(NEGATIVE, POSITIVE, strict=True) for word in axis)
_SIZES = ("same", "larger", "smaller")
#: Every cue and the values it can have; codes are places among them.
_CAMERA_VALUES: dict[str, tuple[Any, ...]] = {
    "camera_shift": (*_DIRECTIONS, "still"),
    "camera_drift": (*_DIRECTIONS, "none"),
    "camera_turn": ("none", "left", "right", "up", "down"),
    "parallax": ("none", "slight", "clear", None),
}
_OBJECT_VALUES: dict[str, tuple[Any, ...]] = {
    "start_place": PLACES,
    "end_place": PLACES,
    "start_level": LEVELS,
    "end_level": LEVELS,
    "image_shift": ("none", "left", "right", "up", "down"),
    "distance": ("closer", "same", "farther"),
    "size": _SIZES,
    "outline": _SIZES,
    "own_motion": tuple(product((-1, 0, 1), repeat=3)),
    "moving": (False, True),
    "edge": ("none", "enters", "leaves"),
    "gap": ("none", "covered", "away"),
}
_VALUES = _CAMERA_VALUES | _OBJECT_VALUES
#: Cues in the order of JSON texts, in groups small enough for a table of all their combinations.
_CAMERA_GROUPS = (("camera_drift", "camera_shift", "camera_turn"), ("parallax",))
_OBJECT_GROUPS = (
    ("camera_drift", "camera_shift", "camera_turn"),
    ("distance", "edge", "end_level", "end_place"),
    ("gap", "image_shift", "moving", "outline"),
    ("own_motion", "parallax"),
    ("size", "start_level", "start_place"),
)
_Floats = NDArray[np.float64]
_Bools = NDArray[np.bool_]
_Ints = NDArray[np.int64]
_Codes = dict[str, _Ints]


class ClipCues:
    """Cues of one clip. Projections of all objects in all frames are computed once.

    Args:
        clip: the clip.
        frames: clip frames that the model sees, in order; `pair` counts in these. None means all frames.
        nearest_m, centers_m: of the objects, where a solver has them already (`sights.sights_of`).
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
        self._clip_id = clip.clip_id
        self._limits = {"min_motion_m": min_motion_m, "tau_m": tau_m, "tau_relative": tau_relative}
        self._sights = sights_of(clip, range(clip.num_frames) if frames is None else frames, nearest_m, centers_m)

    def pair(self, start: int, end: int, object_index: int | None = None) -> Cues:
        """Cues between two frames, JSON values only. For many pairs, `find_codes` takes a hundredth of the time.

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

        Raises:
            ValueError: the object is not seen at both frames.
        """
        index = -1 if object_index is None else object_index
        if index >= 0 and not (self._sights.seen[index, start] and self._sights.seen[index, end]):
            raise ValueError(f"object {index} of {self._clip_id} is not seen at both of the frames {start}, {end}")
        clip, first, last, own = (np.array([value]) for value in (0, start, end, index))
        codes = find_codes(self._sights, clip, first, last, own, **self._limits)
        cues = {name: _VALUES[name][int(code[0])] for name, code in codes.items() if code[0] >= 0}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in cues.items()}


def find_codes(
    sights: Sights,
    clip: _Ints,
    start: _Ints,
    end: _Ints,
    index: _Ints,
    *,
    min_motion_m: float = 0.1,
    tau_m: float = 0.1,
    tau_relative: float = 0.02,
) -> _Codes:
    """Cues of K pairs of frames as codes, places among the values that each cue can have.

    Args:
        sights: of all clips.
        clip: (K,) the clip's place.
        start, end: (K,) positions among the frames.
        index: (K,) the object's place among those of all clips, seen at both frames; -1 for the camera alone.
        min_motion_m, tau_m, tau_relative: see ClipCues.

    Returns:
        (K,) per cue; -1 for cues of an object where there is none.
    """
    codes = _camera_codes(sights, clip, start, end, min_motion_m)
    about = np.flatnonzero(index >= 0)
    own = _object_codes(
        sights, clip[about], start[about], end[about], index[about], min_motion_m, tau_m, tau_relative
    )  # fmt: skip
    for name, values in own.items():
        codes[name] = np.full(len(clip), -1)
        codes[name][about] = values
    return codes


def cue_texts(codes: _Codes) -> pa.Array:
    """Cues of K pairs as JSON objects, keys sorted, as `json.dumps` of `ClipCues.pair` writes them."""
    has_object = codes["distance"] >= 0
    parts = []
    for groups, rows in ((_CAMERA_GROUPS, np.flatnonzero(~has_object)), (_OBJECT_GROUPS, np.flatnonzero(has_object))):
        inner = [_group_texts(names, [codes[name][rows] for name in names]) for names in groups]
        joined = pc.binary_join_element_wise(*inner, ", ")
        parts.append(pc.binary_join_element_wise("{", joined, "}", ""))
    order = np.argsort(has_object, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return pa.concat_arrays(parts).take(pa.array(place))


def find_cues(clip: Clip4D, clip_frames: Sequence[int], track: ObjectTrack | None, **limits: Any) -> Cues:
    """`ClipCues.pair` between the first and the last of `clip_frames`, for a single use."""
    index = None if track is None else next(place for place, own in enumerate(clip.objects) if own is track)
    return ClipCues(clip, clip_frames, **limits).pair(0, len(clip_frames) - 1, index)


def are_cues(value: object) -> bool:
    """Whether a value is what `ClipCues.pair` returns, of the camera alone or of an object as well."""
    if not isinstance(value, dict):
        return False
    found = value.keys() & _OBJECT_VALUES.keys()
    return value.keys() >= _CAMERA_VALUES.keys() and (not found or found == _OBJECT_VALUES.keys())


# -------------------------------------------------------------------------------------------------------------- texts


def _group_texts(names: tuple[str, ...], codes: list[_Ints]) -> pa.Array:
    sizes = tuple(len(_VALUES[name]) for name in names)
    return _group_table(names).take(pa.array(np.ravel_multi_index(tuple(codes), sizes)))


@cache
def _group_table(names: tuple[str, ...]) -> pa.Array:
    """JSON members of every combination of the values of these cues."""
    combinations = product(*(_VALUES[name] for name in names))
    return pa.array([json.dumps(dict(zip(names, values, strict=True)))[1:-1] for values in combinations], pa.string())


# ------------------------------------------------------------------------------------------------------------- camera


def _camera_codes(sights: Sights, clip: _Ints, start: _Ints, end: _Ints, min_motion_m: float) -> _Codes:
    rotations = sights.rotations[clip, start]
    shift = _turned(rotations, sights.centers[clip, end] - sights.centers[clip, start])
    size = np.abs(shift)
    order = np.argsort(size, axis=1, kind="stable")
    most, lesser = np.take_along_axis(size, order[:, :0:-1], axis=1).T
    is_still = np.sqrt((shift**2).sum(axis=1)) < min_motion_m
    drifts = ~is_still & (lesser >= np.maximum(DRIFT_SHARE * most, min_motion_m))
    return {
        "camera_shift": np.where(is_still, len(_DIRECTIONS), _direction(shift, order[:, 2])),
        "camera_drift": np.where(drifts, _direction(shift, order[:, 1]), len(_DIRECTIONS)),
        "camera_turn": _turn(rotations, sights.rotations[clip, end, :, 2]),
        "parallax": _parallax(sights, clip, start, shift, order[:, 2], is_still),
    }


def _turn(rotations: _Floats, ahead: _Floats) -> _Ints:
    """Of the viewing axis of the end camera, in the axes of the start camera."""
    x, y, z = _turned(rotations, ahead).T
    yaw, pitch = np.degrees(np.arctan2(x, z)), np.degrees(np.arcsin(np.clip(-y, -1.0, 1.0)))
    sideways = np.where(yaw > 0, 2, 1)
    code = np.where(np.abs(yaw) >= np.abs(pitch), sideways, np.where(pitch > 0, 3, 4))
    return np.where(np.maximum(np.abs(yaw), np.abs(pitch)) < TURN_DEGREES, 0, code)


def _parallax(sights: Sights, clip: _Ints, start: _Ints, shift: _Floats, axis: _Ints, is_still: _Bools) -> _Ints:
    closest_m = sights.closest_m[clip, start]
    across = np.sqrt((shift[:, :2] ** 2).sum(axis=1)) * sights.focal_widths[clip]
    amount = np.where(axis == 2, np.abs(shift[:, 2]), across) / np.maximum(closest_m, 1e-6)
    slight, clear = np.where(axis == 2, np.array([APPROACH_SHARES]).T, np.array([PARALLAX_SHARES]).T)
    code = (amount >= slight).astype(np.int64) + (amount >= clear)
    return np.where(is_still, 0, np.where(np.isinf(closest_m), 3, code))


# ------------------------------------------------------------------------------------------------------------- object


def _object_codes(
    sights: Sights,
    clip: _Ints,
    start: _Ints,
    end: _Ints,
    index: _Ints,
    min_motion_m: float,
    tau_m: float,
    tau_relative: float,
) -> _Codes:
    before_m, after_m = sights.nearest_m[index, start], sights.nearest_m[index, end]
    tau = np.maximum(tau_m, tau_relative * before_m)
    centers = sights.object_centers
    moved = _turned(sights.rotations[clip, start], centers[index, end] - centers[index, start])
    moved *= sights.is_moving[index, None]
    own = _sign(moved, tau[:, None])
    moves = own.any(axis=1) | (np.sqrt((moved**2).sum(axis=1)) >= min_motion_m)
    middle, middle_end = sights.middles[index, start], sights.middles[index, end]
    (place, level), (place_end, level_end) = _place(middle), _place(middle_end)
    nearing = _sign(after_m - before_m, tau)
    touches, touches_end = sights.at_edge[index, start], sights.at_edge[index, end]
    covered = sights.covered[index, end + 1] - sights.covered[index, start]
    away = sights.away[index, end + 1] - sights.away[index, start]
    return {
        "start_place": place,
        "end_place": place_end,
        "start_level": level,
        "end_level": level_end,
        "image_shift": _image_shift((middle_end - middle) * np.stack([np.ones(len(clip)), sights.heights[clip]], 1)),
        "distance": nearing + 1,
        # A change that a question would call none is none here, whatever its share of a short distance.
        "size": np.where(nearing == 0, 0, _change(before_m / np.maximum(after_m, 1e-6))),
        "outline": _change(sights.extents[index, end] / np.maximum(sights.extents[index, start], 1e-9)),
        "own_motion": (own + 1) @ np.array([9, 3, 1]),
        "moving": (sights.is_moving[index] & moves).astype(np.int64),
        "edge": np.where(touches == touches_end, 0, np.where(touches, 1, 2)),
        "gap": np.where(covered + away == 0, 0, np.where(covered >= away, 1, 2)),
    }


def _turned(rotations: _Floats, vectors: _Floats) -> _Floats:
    """R^T v of (K, 3, 3) and (K, 3)."""
    x, y, z = vectors.T[..., None]
    return rotations[:, 0] * x + rotations[:, 1] * y + rotations[:, 2] * z


def _direction(vectors: _Floats, axis: _Ints) -> _Ints:
    """(K,) place in _DIRECTIONS of the sense of (K, 3) along one axis each."""
    return 2 * axis + (np.take_along_axis(vectors, axis[:, None], axis=1)[:, 0] >= 0)


def _sign(part: _Floats, tau: _Floats) -> _Ints:
    return np.where(np.abs(part) <= tau, 0, np.where(part > 0, 1, -1))


def _change(ratio: _Floats) -> _Ints:
    return np.where(ratio > SIZE_CHANGE, 1, np.where(ratio < 1 / SIZE_CHANGE, 2, 0))


def _image_shift(shift: _Floats) -> _Ints:
    """Of (K, 2) right and down, both in shares of the image's width."""
    right, down = shift.T
    sideways = np.abs(right) >= np.abs(down)
    code = np.where(sideways, np.where(right > 0, 2, 1), np.where(down > 0, 4, 3))
    return np.where(np.abs(shift).max(axis=1) < SHIFT_SHARE, 0, code)


def _place(middles: _Floats) -> tuple[_Ints, _Ints]:
    """Places in PLACES and LEVELS of (K, 2)."""
    inside = ((middles >= 0) & (middles <= 1)).all(axis=1, keepdims=True)
    thirds = np.where(inside, np.minimum(2, 3 * middles), 3).astype(np.int64)
    return thirds[:, 0], thirds[:, 1]

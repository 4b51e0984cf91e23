"""How close are the stated centres to the true ones? Frames: world = rectified left camera of clip frame 0, metres."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from .response import Center, Point, Response, Vector, make
from .truth import Truth

Slots = tuple[Point | None, Point | None]

MAX_ERROR_M = 1e6  # errors are cut here, so that absurd coordinates stay finite in logs and means
NOT_MEASURED = -1.0


class CenterScore(NamedTuple):
    """Score of one kind of centre.

    Attributes:
        value: in [0, 1]; 1 when nothing is needed.
        needed: number of slots with a true value, 0 to 2.
        informativeness: in [0, 1], how far the truth is from "at the origin and not moving"; 0 when nothing is needed.
        error_m: mean distance over the needed slots that were stated, at most 1e6; -1 when there is none.
    """

    value: float
    needed: int
    informativeness: float
    error_m: float


def camera_center_reward(response: Response, truth: Truth, floor_m: float = 0.1, relative_scale: float = 0.5) -> float:
    """Closeness of the two camera centres to the truth, in [0, 1]: `score_centers` of them."""
    return score_centers(response.camera_center, truth.camera_center, floor_m, relative_scale).value


def object_center_reward(response: Response, truth: Truth, floor_m: float = 0.1, relative_scale: float = 0.5) -> float:
    """Closeness of the two object centres to the truth, in [0, 1]: `score_centers` of them."""
    return score_centers(response.object_center, truth.object_center, floor_m, relative_scale).value


def score_centers(
    stated: tuple[Center, Center], true: Slots, floor_m: float = 0.1, relative_scale: float = 0.5
) -> CenterScore:
    r"""Score the stated initial and final centre against the true ones, relative to the scene's own scale.

    Up to three vectors are compared: the initial centre, the final centre, and the displacement between them. With true
    vector v, stated vector u and s = floor_m + relative_scale * |v|

        closeness(u, v) = 1 / (1 + |u - v| / s)^2          0 if u was not stated
        weight(v)       = (|v| + 0.1 floor_m) / (|v| + floor_m)
        value           = sum(weight * closeness) / sum(weight)

    Why this shape. The paper's exp(-metres) is flat at both ends: 10% error at 30 m earns 0.05, zeros in a still scene
    0.97. Here the error counts relative to what is measured, at any distance, and the slow tail still ranks bad
    estimates, so a group of rollouts has something to climb. The lazy answers (all zeros; any constant, which has no
    displacement) are 2s off or nearly so, hence earn about 1/9 for the vectors they dodge; and a vector that the lazy
    answer gets right for free (a camera near the origin, a still object's displacement) hardly weighs.

    Args:
        stated: initial and final slot of the response. A needed slot that is null or missing earns 0.
        true: initial and final centre; None is not needed and changes nothing, whatever was stated.
        floor_m: errors well below this are noise.
        relative_scale: fraction of the true length that counts as one unit of error.
    """
    needed, at_start, at_end, between, weights = _measures(true, floor_m, relative_scale)
    if not needed:
        return _NOTHING_NEEDED
    initial, final = stated
    start = initial.xyz if type(initial) is Vector else None
    end = final.xyz if type(final) is Vector else None
    total = error = 0.0
    measured = 0
    if at_start is not None and start is not None:
        true_start, scale, weight = at_start
        error = _distance(start, true_start)
        total, measured = weight / (1.0 + error / scale) ** 2, 1
    if at_end is not None and end is not None:
        true_end, scale, weight = at_end
        end_error = _distance(end, true_end)
        total += weight / (1.0 + end_error / scale) ** 2
        measured, error = measured + 1, error + end_error
        if between is not None and start is not None:
            true_move, scale, weight = between
            total += weight / (1.0 + _distance(_minus(end, start), true_move) / scale) ** 2
    informativeness = weights / (3 if needed == 2 else 1)
    return make(CenterScore, (total / weights, needed, informativeness, error / measured if measured else NOT_MEASURED))


_NOTHING_NEEDED = CenterScore(1.0, 0, 0.0, NOT_MEASURED)

# One true vector with its unit of error and its weight: the initial centre, the final one, or the displacement.
_Measure = tuple[Point, float, float]


def _distance(vector: Point, true_vector: Point) -> float:
    """Metres between the two, cut at MAX_ERROR_M."""
    distance = math.dist(vector, true_vector)
    return distance if distance < MAX_ERROR_M else MAX_ERROR_M


@lru_cache(maxsize=4096)  # the rollouts of a group share their truth
def _measures(
    true: Slots, floor_m: float, relative_scale: float
) -> tuple[int, _Measure | None, _Measure | None, _Measure | None, float]:
    """Number of centres needed; what to compare at the start, at the end and between them; the sum of the weights."""
    start, end = true
    moved = _minus(end, start) if start is not None and end is not None else None
    measures: list[_Measure | None] = []
    for vector in (start, end, moved):
        if vector is None:
            measures.append(None)
            continue
        length = min(math.hypot(*vector), MAX_ERROR_M)
        weight = (length + 0.1 * floor_m) / (length + floor_m)
        measures.append((vector, floor_m + relative_scale * length, weight))
    at_start, at_end, between = measures
    needed = (start is not None) + (end is not None)
    return needed, at_start, at_end, between, sum(measure[2] for measure in measures if measure is not None)


def _minus(left: Point, right: Point) -> Point:
    return left[0] - right[0], left[1] - right[1], left[2] - right[2]

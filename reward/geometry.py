"""How close are the stated centres to the true ones? Frames: world = rectified left camera of clip frame 0, metres."""

from __future__ import annotations

import math
from typing import NamedTuple

from .response import Center, Point, Response, Vector
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
    pairs = [
        (slot.xyz if isinstance(slot, Vector) else None, center)
        for slot, center in zip(stated, true, strict=True)
        if center is not None
    ]
    if not pairs:
        return CenterScore(1.0, 0, 0.0, NOT_MEASURED)
    errors = [min(math.dist(point, center), MAX_ERROR_M) for point, center in pairs if point is not None]
    if len(pairs) == 2:
        (start, true_start), (end, true_end) = pairs
        moved = _minus(end, start) if start is not None and end is not None else None
        pairs.append((moved, _minus(true_end, true_start)))

    total = weights = 0.0
    for vector, true_vector in pairs:
        length = min(math.hypot(*true_vector), MAX_ERROR_M)
        weight = (length + 0.1 * floor_m) / (length + floor_m)
        weights += weight
        if vector is not None:
            error = min(math.dist(vector, true_vector), MAX_ERROR_M)
            total += weight / (1.0 + error / (floor_m + relative_scale * length)) ** 2
    return CenterScore(
        value=total / weights,
        needed=sum(center is not None for center in true),
        informativeness=weights / len(pairs),
        error_m=sum(errors) / len(errors) if errors else NOT_MEASURED,
    )


def _minus(left: Point, right: Point) -> Point:
    return left[0] - right[0], left[1] - right[1], left[2] - right[2]

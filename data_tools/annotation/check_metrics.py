"""Figures of estimated depth and poses against true ones, with their formulas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import invert_pose, project_points, world_to_camera_points
from ..schema import Clip4D

FloatArray = NDArray[np.float64]
Figures = dict[str, float | None]

#: A camera whose centre ends within this share of its path, or within this length, is as good as asked for.
CENTER_SHARE, CENTER_M = 0.02, 0.02
#: So is one whose rotation never errs by more, degrees.
ROTATION_DEG = 0.2


def depth_errors(
    estimated_m: NDArray[Any], true_m: NDArray[Any], range_m: tuple[float, float]
) -> tuple[FloatArray, int]:
    """|Z - Z*| / Z* where the true depth Z* is in the range and the estimate valid; how many pixels are in the range.

    Args:
        estimated_m, true_m: depths of one shape, metres; an estimate is valid where it is finite and positive.
    """
    in_range = (true_m >= range_m[0]) & (true_m <= range_m[1])
    true, estimated = true_m[in_range].astype(np.float64), estimated_m[in_range].astype(np.float64)
    valid = np.isfinite(estimated) & (estimated > 0)
    return np.abs(estimated[valid] - true[valid]) / true[valid], int(in_range.sum())


def point_depth_errors(clip: Clip4D, true_depth_m: NDArray[Any], range_m: tuple[float, float]) -> FloatArray:
    """|Z - Z*| / Z* of all object points of `clip`, Z* being the true depth (T, H, W) at the pixel they project to.

    Points are taken into the estimated camera, which they were lifted from: errors of poses do not count here.
    """
    errors = [np.zeros(0)]
    for frame in range(clip.num_frames):
        clouds = [track.points[frame] for track in clip.objects if track.seen(frame)]
        if not clouds:
            continue
        local = world_to_camera_points(clip.cam_to_world[frame], np.concatenate(clouds).astype(np.float64))
        local = local[local[:, 2] > 0]
        pixels = np.rint(project_points(clip.intrinsics, local)).astype(np.int64)
        inside = ((pixels >= 0) & (pixels < [clip.width, clip.height])).all(axis=1)
        u, v = pixels[inside].T
        errors.append(depth_errors(local[inside, 2], true_depth_m[frame, v, u], range_m)[0])
    return np.concatenate(errors)


def pose_figures(estimated: FloatArray, true: FloatArray) -> Figures:
    """Errors of camera-to-world poses (T, 4, 4); both start at the identity, and nothing is aligned.

    * end_center_m: |c_T - c*_T| at the last frame; end_center_percent: the same in percent of the true path
      sum |c*_t+1 - c*_t|, None for a camera that stays.
    * ate_m: sqrt(mean |c_t - c*_t|^2).
    * end_rotation_deg, max_rotation_deg: angle of R_t^T R*_t at the last frame, and its largest.
    * center_within_limit: end_center_m <= max(2 cm, 2% of the path); rotation_within_limit: max_rotation_deg <= 0.2.
    * step_m, step_deg (median over frames) and step_m_p90, step_deg_p90: translation and angle of
      (T*_t^-1 T*_t+1)^-1 (T_t^-1 T_t+1).
    """
    error_m = np.linalg.norm(estimated[:, :3, 3] - true[:, :3, 3], axis=1)
    angle = rotation_angle_deg(np.swapaxes(estimated[:, :3, :3], 1, 2) @ true[:, :3, :3])
    path_m = path_length_m(true)
    figures: Figures = {
        "path_m": path_m,
        "end_center_m": float(error_m[-1]),
        "end_center_percent": 100 * float(error_m[-1]) / path_m if path_m > 1e-6 else None,
        "ate_m": float(np.sqrt(np.mean(error_m**2))),
        "end_rotation_deg": float(angle[-1]),
        "max_rotation_deg": float(angle.max()),
        "center_within_limit": float(error_m[-1]) <= max(CENTER_M, CENTER_SHARE * path_m),
        "rotation_within_limit": float(angle.max()) <= ROTATION_DEG,
        "step_m": None,
        "step_m_p90": None,
        "step_deg": None,
        "step_deg_p90": None,
    }
    if len(true) > 1:
        step = invert_pose(estimated[:-1]) @ estimated[1:]
        difference = invert_pose(invert_pose(true[:-1]) @ true[1:]) @ step
        shift = np.linalg.norm(difference[:, :3, 3], axis=1)
        turn = rotation_angle_deg(difference[:, :3, :3])
        figures |= {
            "step_m": float(np.median(shift)),
            "step_m_p90": float(np.percentile(shift, 90)),
            "step_deg": float(np.median(turn)),
            "step_deg_p90": float(np.percentile(turn, 90)),
        }
    return figures


def rotation_angle_deg(rotation: FloatArray) -> FloatArray:
    """Angle of rotations (N, 3, 3), degrees; by atan2, which keeps small angles that an arc cosine loses."""
    skew = rotation - np.swapaxes(rotation, -1, -2)
    sine = np.sqrt(skew[..., 2, 1] ** 2 + skew[..., 0, 2] ** 2 + skew[..., 1, 0] ** 2)
    cosine = np.trace(rotation, axis1=-2, axis2=-1) - 1
    return np.asarray(np.degrees(np.arctan2(sine, cosine)))


def path_length_m(cam_to_world: FloatArray) -> float:
    """Sum of the steps of the camera centre, metres."""
    return float(np.linalg.norm(np.diff(cam_to_world[:, :3, 3], axis=0), axis=1).sum())


def over_clips(records: list[Figures]) -> dict[str, Any]:
    """Median, p90 and maximum of each figure over the clips that have it; shares of clips within the limits."""
    table: dict[str, Any] = {}
    for name in records[0]:
        values = [value for record in records if (value := record[name]) is not None]
        if name.endswith("_within_limit"):
            table[name] = float(np.mean(values))
        elif values:
            table[name] = {
                "median": float(np.median(values)),
                "p90": float(np.percentile(values, 90)),
                "max": float(np.max(values)),
                "clips": len(values),
            }
    return table


def spread(name: str, values: Sequence[float] | FloatArray, worst: float = 90) -> dict[str, float | None]:
    """Median and the percentile towards the worse end: `name_median`, `name_p90`."""
    if len(values) == 0:
        return {f"{name}_median": None, f"{name}_p{worst:g}": None}
    finite = np.minimum(np.asarray(values, np.float64), np.finfo(np.float64).max)
    return {f"{name}_median": float(np.median(finite)), f"{name}_p{worst:g}": float(np.percentile(finite, worst))}


def share(part: int, whole: int) -> float | None:
    return part / whole if whole else None

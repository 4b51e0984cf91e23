"""What tracks tell of themselves: whether they move like things, how far, and how well that is known."""

from __future__ import annotations

from itertools import pairwise
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from .tracking import Track

_ODD_RATIO = 1.33
# A rim reaches its thing over so many pixels, has at most this share of its area, and a standard deviation of depth
# that is so many times larger; along its thing it wanders by less than this share of the width.
_RIM_PX, _RIM_SIZE, _BEHIND, _RIM_WANDERS = 3, 0.1, 1.2, 0.5
_STILL = 0.25  # of the speed of a region: scene flow below it says that the pixels stay

FloatArray = NDArray[np.float64]


def without_odd(track: Track) -> Track:
    """The track without the frames in which a thing was seen in part, or together with something else.

    Its surface, pixels times squared depth, changes slowly, even where it goes behind something: where it differs from
    the median of the five sightings around by a third, the mask is not that of the thing.
    """
    if len(track.sightings) < 5:
        return track
    surface = np.array([len(one.points) * one.depth_std_m for one in track.sightings])
    usual = np.array(
        [median(surface[max(0, min(n - 2, len(surface) - 5)) :][:5].tolist()) for n in range(len(surface))]
    )
    even = (surface > usual / _ODD_RATIO) & (surface < usual * _ODD_RATIO)
    return Track([one for one, is_even in zip(track.sightings, even, strict=True) if is_even])


def center_noise(track: Track) -> float:
    """Standard deviation of a track's centre, metres: from second differences, which smooth motion hardly has.

    For independent noise s per axis the second difference x[t-1] - 2 x[t] + x[t+1] has variance 6 s^2; the median of
    its length over three axes is 1.538 sqrt(6) s. 0 for fewer than three evenly spaced frames.
    """
    frames = np.array(track.frames)
    centers = np.stack([sighting.points.mean(axis=0) for sighting in track.sightings])
    steps = np.diff(frames)
    # Evenly spaced: beside others, frames that were looked at and not carried along.
    middle = np.flatnonzero((steps[1:] == steps[:-1]) & (steps[1:] <= 2 * shortest_step(track)))
    if not len(middle):
        return 0.0
    bend = centers[middle] - 2 * centers[middle + 1] + centers[middle + 2]
    return float(np.median(np.linalg.norm(bend, axis=1)) / (1.538 * np.sqrt(6)))


def without_rims(tracks: list[Track]) -> list[Track]:
    """Tracks that are no rims: a sliver of what lies behind a larger thing, which goes along its edge.

    Flow is known to half a patch only, so what is seen beside a thing seems to go with it.
    """
    return [track for track in tracks if not any(_is_rim(track, other) for other in tracks if other is not track)]


def _is_rim(part: Track, whole: Track) -> bool:
    by_frame = {sighting.frame: sighting for sighting in whole.sightings}
    kernel = np.ones((2 * _RIM_PX + 1, 2 * _RIM_PX + 1), np.uint8)
    offsets, widths = [], []
    for one in part.sightings:
        other = by_frame.get(one.frame)
        if other is None or np.count_nonzero(one.mask) > _RIM_SIZE * np.count_nonzero(other.mask):
            continue
        is_behind = one.depth_std_m > _BEHIND * other.depth_std_m  # which grows with the square of the depth
        if is_behind and (cv2.dilate(one.mask.astype(np.uint8), kernel).astype(bool) & other.mask).any():
            offsets.append(np.argwhere(one.mask).mean(axis=0) - np.argwhere(other.mask).mean(axis=0))
            widths.append(np.sqrt(np.count_nonzero(other.mask)))
    if len(offsets) <= 0.8 * len(part.sightings):
        return False
    return bool(np.ptp(np.stack(offsets), axis=0).max() < _RIM_WANDERS * median(widths))


def net_motion(track: Track) -> float:
    """Largest distance of the centre from where it was first and last seen, metres, over medians of three frames."""
    centers = np.stack([sighting.points.mean(axis=0) for sighting in track.sightings])
    if len(centers) < 2:
        return 0.0
    ends = min(3, len(centers) // 2)
    first, last = np.median(centers[:ends], axis=0), np.median(centers[-ends:], axis=0)
    middle = np.median(centers[len(centers) // 2 - ends // 2 :][:ends], axis=0)
    return float(max(np.linalg.norm(last - first), np.linalg.norm(middle - first), np.linalg.norm(last - middle)))


def is_steady(track: Track) -> bool:
    """Whether a track moves like a thing: from a parabola through its centres it strays by less than half its radius.

    Fitted to a second and a half at a time; what flickers between places is no thing.
    """
    frames = np.array(track.frames, np.float64)
    centers = np.stack([sighting.center for sighting in track.sightings])
    slack = 0.5 * median(sighting.radius_m for sighting in track.sightings)
    slack += 2 * median(sighting.depth_std_m for sighting in track.sightings)
    strays = []
    for start in range(0, len(frames), 12):
        stretch = slice(max(0, min(start, len(frames) - 12)), start + 12)
        times = frames[stretch] - frames[stretch].mean()
        degree = min(2, len(times) - 2)
        if degree < 1:
            continue
        fitted = np.polynomial.polynomial.polyfit(times, centers[stretch], degree)
        model = np.polynomial.polynomial.polyval(times, fitted).T
        strays.append(np.linalg.norm(centers[stretch] - model, axis=1))
    return not strays or float(np.percentile(np.concatenate(strays), 80)) < float(slack)


def agrees_with_flow(track: Track, gap: int) -> bool:
    """Whether a track goes where the scene flow of its own pixels says: within half the speed of either, and noise.

    Scene flow was measured over `gap` frames. Depths of neighbouring pixels err alike, so their number hardly helps.
    """
    moved, flow = _speeds(track)
    if moved is None or flow is None:
        return True
    depth_std = median(sighting.depth_std_m for sighting in track.sightings)
    slack = 0.5 * max(np.linalg.norm(moved), np.linalg.norm(flow)) + 0.5 * depth_std / gap
    return bool(np.linalg.norm(moved - flow) < slack)


def stands_still(track: Track) -> bool:
    """Whether the scene flow of a track says that its pixels stay, however far their region goes: a lawn in passing."""
    moved, flow = _speeds(track)
    return moved is not None and flow is not None and bool(np.linalg.norm(flow) < _STILL * np.linalg.norm(moved))


def _speeds(track: Track) -> tuple[FloatArray | None, FloatArray | None]:
    """(3,) metres per frame of the centre by least squares, and by the scene flow of its pixels; None where unknown."""
    frames = np.array(track.frames, np.float64)
    centers = np.stack([sighting.center for sighting in track.sightings])
    flows = np.stack([sighting.velocity for sighting in track.sightings])
    known = np.isfinite(flows).all(axis=1)
    if len(frames) < 2 or not known.any():
        return None, None
    times = frames - frames.mean()
    moved = (times[:, None] * (centers - centers.mean(axis=0))).sum(axis=0) / (times**2).sum()
    return moved, np.median(flows[known], axis=0)  # one frame that is off by metres does not count


def is_smooth(track: Track, gap: int, size: float) -> bool:
    """Whether a track is so long and so smooth that scene flow, which fails at the border of the view, need not agree.

    Args:
        size: radius of the thing and standard deviation of a depth, metres.
    """
    looks = max(4, 10 // shortest_step(track))
    # Noise of exactly 0 is that of a track without three evenly spaced sightings.
    return track.longest_run(gap) >= looks and 0 < center_noise(track) < 0.08 * size


def shortest_step(track: Track) -> int:
    """Frames between neighbouring sightings where they are densest; 1 for a single one."""
    return min((after - before for before, after in pairwise(track.frames)), default=1)


def without_doubles(tracks: list[Track]) -> list[Track]:
    """Tracks that do not lie inside a longer one: a piece that was found beside the whole."""
    kept: list[Track] = []
    for track in sorted(tracks, key=lambda track: -sum(len(one.points) for one in track.sightings)):
        if not any(_covers(other, track) for other in kept):
            kept.append(track)
    return kept


def _covers(whole: Track, part: Track) -> bool:
    by_frame = {sighting.frame: sighting.mask for sighting in whole.sightings}
    covered = [
        np.count_nonzero(sighting.mask & by_frame[sighting.frame]) / max(1, int(np.count_nonzero(sighting.mask)))
        for sighting in part.sightings
        if sighting.frame in by_frame
    ]
    return len(covered) > 0.5 * len(part.sightings) and median(covered) > 0.5

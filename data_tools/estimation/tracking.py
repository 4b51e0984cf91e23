"""Identities: segments of single frames joined into tracks through the clip, occlusions included."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median, median_low
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

FloatArray = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Of costs that lie between 0 and 2.8: leaving two apart must stay cheaper than joining both to the wrong ones.
_UNMATCHED = 2.0
# Pieces of one thing: difference of their velocities as a share of the larger, and in standard deviations of a depth
# over the gap; side of the square that reaches from one to the other; pixels of either that it reaches; largest step
# of disparity from one to the other.
_ALIKE, _ALIKE_STD = 0.4, 0.25
_BESIDE_PX, _CONTACT_PX = 5, 6
_JUMP_PX, _JUMP = 0.3, 0.06
_APART_PX, _APART = 0.5, 0.1  # the same between the pieces as a whole


class Sighting(NamedTuple):
    """A segment of one frame, measured.

    Attributes:
        frame: clip frame.
        mask: (H, W) bool at the analysis size.
        points: (N, 3) world metres of the pixels with a depth.
        center: (3,) median of the points.
        radius_m: distance from the centre that holds 90% of the points.
        depth_std_m: standard deviation of a single depth there.
        colours: histogram, sums to one.
        sigmas: median evidence of motion; 0 where the sighting was filled in.
        velocity: (3,) world metres per frame by scene flow, NaN where it cannot be told.
        gap: frames over which its motion was seen; 0 where the sighting was filled in.
    """

    frame: int
    mask: Mask
    points: FloatArray
    center: FloatArray
    radius_m: float
    depth_std_m: float
    colours: NDArray[np.float32]
    sigmas: float
    velocity: FloatArray
    gap: int = 0


@dataclass
class Track:
    """Sightings of one thing in the order of time."""

    sightings: list[Sighting] = field(default_factory=list)

    @property
    def last(self) -> Sighting:
        return self.sightings[-1]

    @property
    def frames(self) -> list[int]:
        return [sighting.frame for sighting in self.sightings]

    @property
    def gap(self) -> int:
        """Frames over which its motion was seen, of most of its sightings."""
        return median_low([sighting.gap for sighting in self.sightings])

    def longest_run(self, gap: int) -> int:
        """Sightings in a row, at most `gap` frames apart."""
        longest = run = 1
        for before, after in pairwise(self.frames):
            run = run + 1 if after - before <= max(2, gap) else 1
            longest = max(longest, run)
        return longest

    def velocity(self, horizon: int = 6) -> FloatArray:
        """(3,) metres per frame over the last sightings by least squares; by scene flow where they are too few."""
        recent = self.sightings[-horizon:]
        if len(recent) < 3:
            flows = np.stack([sighting.velocity for sighting in recent])
            known = np.isfinite(flows).all(axis=1)
            return np.asarray(flows[known].mean(axis=0)) if known.any() else np.zeros(3)
        times = np.array([sighting.frame for sighting in recent], np.float64)
        centers = np.stack([sighting.center for sighting in recent])
        times -= times.mean()
        slope: FloatArray = (times[:, None] * (centers - centers.mean(axis=0))).sum(axis=0) / (times**2).sum()
        return slope

    def predicted_center(self, frame: int) -> FloatArray:
        """(3,) world metres at a later frame, by constant velocity."""
        predicted: FloatArray = self.last.center + self.velocity() * (frame - self.last.frame)
        return predicted


def nearest_rank(values: NDArray[Any], share: float) -> NDArray[Any]:
    """Quantile of (N, ...) values over the first axis, N > 0, without interpolation: several times faster so."""
    rank = round(share * (len(values) - 1))
    ranked = values.copy()
    ranked.partition(rank, axis=0)
    return np.asarray(ranked[rank])


def bounding_window(mask: Mask) -> tuple[slice, slice]:
    """Rows and columns of a mask (H, W) that hold all of it; empty ones of an empty mask."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return slice(top, top + height), slice(left, left + width)


def colour_histogram(image: NDArray[np.uint8], mask: Mask) -> NDArray[np.float32]:
    """Of an RGB image (H, W, 3) inside a mask (H, W), over hue, saturation and value; sums to one."""
    window = bounding_window(mask)
    if not mask[window].size:
        return np.full(8 * 4 * 3, 1 / (8 * 4 * 3), np.float32)
    hsv = cv2.cvtColor(np.ascontiguousarray(image[window]), cv2.COLOR_RGB2HSV)
    inside = mask[window].astype(np.uint8)
    histogram = cv2.calcHist([hsv], [0, 1, 2], inside, [8, 4, 3], [0, 180, 0, 256, 0, 256]).ravel()
    normed: NDArray[np.float32] = histogram / max(float(histogram.sum()), 1.0)
    return normed


def colour_distance(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    """Bhattacharyya distance, 0 for equal histograms and 1 for disjoint ones."""
    return float(np.sqrt(max(0.0, 1.0 - float(np.sqrt(left * right).sum()))))


def track_sightings(frames: list[list[Sighting]], max_gap: int, patience: int = 3) -> list[Track]:
    """Join the sightings of each frame (one list per clip frame, empty for frames not looked at) into tracks.

    Each frame is matched with the tracks of the last `max_gap` frames by place in the world at constant velocity,
    size and colours (Hungarian method); what nothing fits starts a track of its own. A track hidden for a while goes on
    when something turns up where it should be by then, looking alike; one seen fewer than four times, which may have
    been nothing, is waited for `patience` frames.
    """
    tracks: list[Track] = []
    for frame, found in enumerate(frames):
        open_tracks = [track for track in tracks if 0 < frame - track.last.frame <= _patience(track, max_gap, patience)]
        taken = set()
        if found and open_tracks:
            predicted = [track.predicted_center(frame) for track in open_tracks]
            costs = np.array(
                [
                    [_cost(track, center, sighting) for sighting in found]
                    for track, center in zip(open_tracks, predicted, strict=True)
                ]
            )
            for row, column in zip(*linear_sum_assignment(costs), strict=True):
                if costs[row, column] < _UNMATCHED:
                    open_tracks[row].sightings.append(found[column])
                    taken.add(int(column))
        tracks += [Track([sighting]) for number, sighting in enumerate(found) if number not in taken]
    return _join_ends(tracks, patience)


def _patience(track: Track, max_gap: int, patience: int) -> int:
    """Frames that a track is waited for."""
    return max_gap if len(track.sightings) >= 4 else min(patience, max_gap)


def _cost(track: Track, predicted: FloatArray, sighting: Sighting) -> float:
    """Low for the same thing, `_UNMATCHED` where it cannot be; the track should be at `predicted` (3,) by now."""
    last = track.last
    gap = sighting.frame - last.frame
    radius = max(last.radius_m, sighting.radius_m)
    slack = 3 * max(last.depth_std_m, sighting.depth_std_m) + radius
    # What the velocity is not yet known to be grows the circle in which to look.
    unsure = 0.5 * radius if len(track.sightings) < 3 else 0.15 * radius
    gate = slack + min(gap, 8) * unsure
    distance = math.dist(predicted, sighting.center)
    if distance > gate:
        return _UNMATCHED
    colours = colour_distance(last.colours, sighting.colours)
    if colours > (0.75 if gap <= 2 else 0.6):
        return _UNMATCHED
    small, large = sorted((len(last.points) + 1, len(sighting.points) + 1))
    overlap = _mask_iou(last.mask, sighting.mask) if gap <= 2 else 0.0
    cost = distance / gate + colours + 0.3 * (1 - small / large) + 0.5 * (1 - overlap)
    return min(cost, _UNMATCHED)


def _mask_iou(left: Mask, right: Mask) -> float:
    """Intersection over union of two masks (H, W) as they stand: of neighbouring frames, those of one thing overlap."""
    together = int(np.count_nonzero(left & right))
    return together / max(1, int(np.count_nonzero(left | right)))


def join_pieces(pieces: list[Sighting], disparity_px: NDArray[np.float32]) -> list[Sighting]:
    """Sightings of one frame, those that lie side by side on one surface and move alike made one.

    `disparity_px` (H, W) is that of the frame, NaN where unknown.
    """
    pieces = list(pieces)
    first = 0
    while first < len(pieces):
        others = range(first + 1, len(pieces))
        second = next((k for k in others if _are_pieces(pieces[first], pieces[k], disparity_px)), None)
        if second is None:
            first += 1
        else:
            pieces[first] = _union(pieces[first], pieces.pop(second))
            first = 0
    return pieces


def _are_pieces(left: Sighting, right: Sighting, disparity_px: NDArray[np.float32]) -> bool:
    speed = max(float(np.linalg.norm(left.velocity)), float(np.linalg.norm(right.velocity)))
    slack = _ALIKE * speed + _ALIKE_STD * max(left.depth_std_m, right.depth_std_m) / max(left.gap, 1)
    # NaN compares as False: what is not known to move alike is left apart.
    if not float(np.linalg.norm(left.velocity - right.velocity)) < slack:
        return False
    # Beside an edge disparities of both sides are mixed: both the pieces and what they touch by must be as near.
    if not _as_near(disparity_px[left.mask], disparity_px[right.mask], 1, _APART_PX, _APART):
        return False
    kernel = np.ones((_BESIDE_PX, _BESIDE_PX), np.uint8)
    near_left = left.mask & (cv2.dilate(right.mask.astype(np.uint8), kernel) > 0)
    near_right = right.mask & (cv2.dilate(left.mask.astype(np.uint8), kernel) > 0)
    return _as_near(disparity_px[near_left], disparity_px[near_right], _CONTACT_PX, _JUMP_PX, _JUMP)


def _as_near(left: NDArray[np.float32], right: NDArray[np.float32], least: int, slack_px: float, slack: float) -> bool:
    """Whether medians of disparities, at least so many a side, differ by less than the slack, pixels or a share."""
    left, right = left[np.isfinite(left)], right[np.isfinite(right)]
    if min(len(left), len(right)) < least:
        return False
    middle = float(nearest_rank(left, 0.5))
    return abs(middle - float(nearest_rank(right, 0.5))) < max(slack_px, slack * middle)


def join_fragments(tracks: list[Track]) -> list[Track]:
    """Tracks that run side by side, move alike and look alike are parts of one thing: a post stands before it."""
    joined = True
    while joined:
        joined = False
        for first in range(len(tracks)):
            for second in range(first + 1, len(tracks)):
                if _are_fragments(tracks[first], tracks[second]):
                    tracks[first] = _merged(tracks[first], tracks[second])
                    del tracks[second]
                    joined = True
                    break
            if joined:
                break
    return tracks


def _are_fragments(left: Track, right: Track) -> bool:
    by_frame = {sighting.frame: sighting for sighting in right.sightings}
    common = [(one, by_frame[one.frame]) for one in left.sightings if one.frame in by_frame]
    shorter = min(len(left.sightings), len(right.sightings))
    if len(common) < max(1, 0.5 * shorter):
        return False
    offsets = np.stack([one.center - other.center for one, other in common])
    # Of the larger part: the few points of a sliver may lie on two surfaces.
    radius = median(max(pair, key=lambda one: len(one.points)).radius_m for pair in common)
    near = float(np.linalg.norm(np.median(offsets, axis=0))) < 1.5 * radius
    # Parts of one thing may look as different as its lit and its dark side, and slivers have the colours of both sides
    # of an edge; parts that touch and move as one need not look alike.
    distances = [colour_distance(one.colours, other.colours) for one, other in common]
    alike = median(distances) < 0.45 or _touch_and_move_alike(left, right, common)
    slack = 2 * max(max(one.depth_std_m, other.depth_std_m) for one, other in common) + 0.3 * radius
    rigid = float(np.linalg.norm(offsets - np.median(offsets, axis=0), axis=1).max()) < slack
    return near and alike and rigid


def _touch_and_move_alike(left: Track, right: Track, common: list[tuple[Sighting, Sighting]]) -> bool:
    """Whether two tracks lie side by side in the image and move with one velocity."""
    kernel = np.ones((5, 5), np.uint8)
    shares = []
    for one, other in common[:: max(1, len(common) // 5)]:
        small, large = sorted((one.mask, other.mask), key=np.count_nonzero)
        grown = cv2.dilate(large.astype(np.uint8), kernel) > 0
        shares.append(np.count_nonzero(grown & small) / max(1, int(np.count_nonzero(small))))
    first, second = left.velocity(1000), right.velocity(1000)
    speed = max(float(np.linalg.norm(first)), float(np.linalg.norm(second)))
    return median(shares) > 0.3 and float(np.linalg.norm(first - second)) < 0.4 * speed


def _merged(left: Track, right: Track) -> Track:
    by_frame = {sighting.frame: sighting for sighting in left.sightings}
    for sighting in right.sightings:
        other = by_frame.get(sighting.frame)
        by_frame[sighting.frame] = sighting if other is None else _union(other, sighting)
    return Track([by_frame[frame] for frame in sorted(by_frame)])


def _union(left: Sighting, right: Sighting) -> Sighting:
    points = np.concatenate([left.points, right.points])
    center = np.median(points, axis=0)
    share = len(left.points) / max(1, len(points))
    return Sighting(
        left.frame,
        left.mask | right.mask,
        points,
        center,
        float(np.percentile(np.linalg.norm(points - center, axis=1), 90)),
        max(left.depth_std_m, right.depth_std_m),
        (left.colours * share + right.colours * (1 - share)).astype(np.float32),
        max(left.sigmas, right.sigmas),
        _joint_velocity(left, right, share),
        max(left.gap, right.gap),
    )


def _joint_velocity(left: Sighting, right: Sighting, share: float) -> FloatArray:
    """(3,) mean of both, the left one's weight being `share`; where one of them is not known, the other."""
    if not np.isfinite(left.velocity).all():
        return right.velocity
    if not np.isfinite(right.velocity).all():
        return left.velocity
    return np.asarray(left.velocity * share + right.velocity * (1 - share))


def _join_ends(tracks: list[Track], patience: int) -> list[Track]:
    """A track that begins where one that ended would be by then, looking alike, is its continuation.

    Seen from both ends: each side's velocity is used, since the one before an occlusion may be that of two frames.
    """
    joined = True
    while joined:
        joined = False
        best: tuple[float, int, int] | None = None
        for first, early in enumerate(tracks):
            for second, late in enumerate(tracks):
                gap = late.sightings[0].frame - early.last.frame
                if (
                    first == second
                    or min(len(early.sightings), len(late.sightings)) < 2
                    or not 0 < gap <= min(_patience(early, gap, patience), _patience(late, gap, patience))
                ):
                    continue
                distance = _gap_distance(early, late, gap)
                if distance < 1.0 and (best is None or distance < best[0]):
                    best = distance, first, second
        if best is not None:
            _, first, second = best
            tracks[first] = Track(tracks[first].sightings + tracks[second].sightings)
            del tracks[second]
            joined = True
    return tracks


def _gap_distance(early: Track, late: Track, gap: int) -> float:
    """How far two tracks are from being one, in gates; at least 1 where they are not."""
    start, end = late.sightings[0], early.last
    if colour_distance(start.colours, end.colours) > 0.5:
        return 1.0
    forward = early.velocity()
    backward = Track(late.sightings[:6]).velocity()
    known = [velocity for velocity, track in ((forward, early), (backward, late)) if len(track.sightings) >= 3]
    velocity = np.mean(known, axis=0) if known else np.zeros(3)
    radius = max(start.radius_m, end.radius_m)
    gate = radius + 3 * max(start.depth_std_m, end.depth_std_m) + 0.1 * radius * min(gap, 20)
    return float(np.linalg.norm(start.center - end.center - velocity * gap)) / gate

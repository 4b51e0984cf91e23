"""Moving objects of a clip without any weights: what moves on its own, as tracks of 3D points with identities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import project_points, transform_points, world_to_camera_points
from ..stereo.camera import StereoCamera
from .odometry import Trajectory
from .scene_flow import Evidence, fill_from_behind, join_evidence, join_gains, motion_evidence, static_flow, warp_static
from .segmentation import Segment, find_segments
from .surfaces import shrink_camera, shrink_disparity, surface_points, thin_points
from .track_checks import (
    agrees_with_flow,
    center_noise,
    is_smooth,
    is_steady,
    net_motion,
    stands_still,
    without_doubles,
    without_odd,
    without_rims,
)
from .tracking import (
    Sighting,
    Track,
    bounding_window,
    colour_distance,
    colour_histogram,
    join_fragments,
    join_pieces,
    nearest_rank,
    track_sightings,
)

_NOISE_OF_SIZE = 0.15  # of the centre; a thing's centre is known better than its size
# Net motion over the standard deviation of one depth: far away, depths wander together by more than one of it.
_MOTION_OF_DEPTH = 1.8
_LEAST_CORNERS = 6  # that say where a thing goes
_SOME_PIXELS = 300  # of a thing have the median of all
_CARRIED_PX = 1e4  # more than any disparity
_SAME_PLACE = 0.1  # of the smaller of two masks lies in both: what was found there already is not found again
_SLOW_PX = 3.0  # what moves more than this over the usual gap is found by it
_COMMON_ERROR = 0.5  # of the standard deviation of one depth; measured on the synthetic world
_SHORT_S = 0.1  # the gap over which what is fast is found
_FAST_PX = 9  # side of the square that a thing must fill to be missed
_BLIND = 0.35  # of what should be in sight is not found: the frames are too different to be compared
# Of a thing carried there: pixels by which what is seen of it may go beyond, and the share that must be seen.
_BESIDE_PX, _SEEN = 1, 0.6
MAX_OBJECTS = 255  # a mask is a byte a pixel

FloatArray = NDArray[np.float64]
FloatImage = NDArray[np.float32]
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class ObjectConfig:
    """How moving objects are found.

    Attributes:
        max_width: images are analysed at a whole fraction of their size, at most this wide. Halving it is four times
            faster and misses what is half as small.
        gap_s: seconds between the frames that are compared: longer shows slower motion, and loses what turns.
        rate_hz: frames per second that are looked at; in those between, objects are carried along.
        slow_factor: what is slow is looked for over a gap that many times longer, now and then; 1 turns it off.
        flow_std_px: of optical flow, analysed pixels.
        seed_sigmas: evidence that a part of every moving region must have.
        grow_sigmas: evidence of all its pixels.
        min_area: least area of a region, as a share of the image.
        min_seen_s: seconds, and at least three frames, in which an object must be seen.
        min_motion_m: net motion of an object's centre below which it counts as still, metres.
        motion_sigmas: net motion must also exceed this many times the measured noise of its centre.
    """

    max_width: int = 480
    gap_s: float = 0.5
    rate_hz: float = 4.0
    slow_factor: float = 2.5
    flow_std_px: float = 0.35
    seed_sigmas: float = 3.0
    grow_sigmas: float = 2.0
    min_area: float = 0.0004
    min_seen_s: float = 0.6
    min_motion_m: float = 0.08
    motion_sigmas: float = 4.0

    def __post_init__(self) -> None:
        if self.max_width < 16:
            raise InputError(f"must be at least 16, got {self.max_width}", field="objects.max_width")
        for name in ("gap_s", "rate_hz", "flow_std_px", "seed_sigmas", "grow_sigmas"):
            if not getattr(self, name) > 0:
                raise InputError(f"must be above 0, got {getattr(self, name)}", field=f"objects.{name}")


@dataclass(eq=False)
class FoundObject:
    """One moving object.

    Attributes:
        id: from 1 by first appearance; its value in `FoundObjects.masks`.
        points: per clip frame (N_i, 3) float32 world metres, at most 256; (0, 3) where unseen.
        noise_m: standard deviation of its centre, metres: from frame to frame, and what all its depths err alike.
        motion_m: largest net motion of its centre, metres, between medians of three frames: short of the whole way by
            what it goes in two frames.
    """

    id: int
    points: list[NDArray[np.float32]]
    noise_m: float
    motion_m: float


@dataclass(eq=False)
class FoundObjects:
    """Objects of a clip.

    Attributes:
        objects: in order of their ids.
        masks: (T, h, w) uint8 at the analysis size, 0 background.
        images: (T, h, w, 3) uint8 RGB, the analysed images.
        noise_m: median noise of the centres; 0 without objects.
        num_rejected: tracks that were not kept: too short, or not moving beyond noise.
    """

    objects: list[FoundObject]
    masks: NDArray[np.uint8]
    images: NDArray[np.uint8]
    noise_m: float
    num_rejected: int


def compared_frames(num_frames: int, fps: float, config: ObjectConfig) -> frozenset[int]:
    """Frames of a clip whose depth is compared with that of others; in all others objects are carried along only."""
    looks = Looks.of(num_frames, fps, config)
    gaps = {0, looks.gap, -looks.gap}
    frames = {t + shift for t in range(num_frames) if looks.is_look(t) for shift in gaps}
    slow = {looks.long_gap, -looks.long_gap} if looks.long_gap > looks.gap else set()
    frames |= {t + shift for t in range(num_frames) if looks.is_slow_look(t) for shift in slow}
    # Clips shorter than two gaps are compared with their ends.
    return frozenset(frames & set(range(num_frames)) | {0, num_frames - 1})


@dataclass(frozen=True)
class Looks:
    """Which frames are looked at, and how far from them those lie that they are compared with.

    Attributes:
        num_frames: of the clip.
        stride: frames from one that is looked at to the next.
        gap: frames between those that are compared.
        long_gap: the same where what is slow is looked for, at every second look.
        short_gap: the same where something is too fast to be found over `gap`.
    """

    num_frames: int
    stride: int
    gap: int
    long_gap: int
    short_gap: int

    @classmethod
    def of(cls, num_frames: int, fps: float, config: ObjectConfig) -> Looks:
        stride = max(1, round(fps / config.rate_hz))
        # Whole strides, so that what is compared are frames that are looked at.
        gap, long_gap = (
            stride * max(1, round(seconds * fps / stride))
            for seconds in (config.gap_s, config.gap_s * config.slow_factor)
        )
        short_gap = max(1, round(_SHORT_S * fps))
        return cls(num_frames, stride, max(1, min(gap, num_frames - 1)), min(long_gap, num_frames - 1), short_gap)

    def is_look(self, t: int) -> bool:
        return t % self.stride == 0 or t == self.num_frames - 1

    def is_slow_look(self, t: int) -> bool:
        # What is slow stays where it is for a while: it need not be looked for as often.
        return self.long_gap > self.gap and (t % (2 * self.stride) == 0 or t == self.num_frames - 1)


@dataclass
class ObjectFinder:
    """Takes frames one by one with `add`; `finish` finds the objects, given the poses.

    Keeps every frame at the analysis size: 7 bytes a pixel.
    """

    camera: StereoCamera
    fps: float
    config: ObjectConfig = field(default_factory=ObjectConfig)
    disparity_std_px: float = 0.3

    def __post_init__(self) -> None:
        self.scale = -(-self.camera.width // self.config.max_width)
        self.small_camera = shrink_camera(self.camera, self.scale)
        self._images: list[Image] = []
        self._disparities: list[FloatImage] = []
        flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        flow.setFinestScale(0)  # full resolution of the analysed image: borders of objects depend on it
        flow.setPatchStride(5)
        flow.setGradientDescentIterations(8)
        flow.setVariationalRefinementIterations(0)
        self._flow = flow

    def add(self, left: Image, disparity_px: FloatImage) -> None:
        """Take the next frame: left (H, W, 3) uint8 RGB and its disparities (H, W) float32, NaN where unknown."""
        size = (self.small_camera.width, self.small_camera.height)
        # What is left over at the right and lower border goes, as it does from the disparities.
        whole = left[: size[1] * self.scale, : size[0] * self.scale]
        self._images.append(left.copy() if self.scale == 1 else cv2.resize(whole, size, interpolation=cv2.INTER_AREA))
        self._disparities.append(shrink_disparity(disparity_px, self.scale, size))

    def finish(self, trajectory: Trajectory) -> FoundObjects:
        """Objects that move in the world of the trajectory."""
        num_frames = len(self._images)
        if num_frames != len(trajectory.cam_to_world):
            raise InputError(f"{num_frames} frames and {len(trajectory.cam_to_world)} poses", field="trajectory")
        sightings = self._sightings(trajectory.cam_to_world) if num_frames > 1 else [[] for _ in range(num_frames)]
        poses = trajectory.cam_to_world
        # What is slow is looked for at every second look only.
        raw = track_sightings(sightings, max_gap=num_frames, patience=max(3, 2 * self._looks().stride))
        real = join_fragments([track for track in raw if self._is_real(track, poses)])
        filled = [self._filled(track, poses) for track in real]
        moving = join_fragments([track for track in filled if not self._still_there(track, poses)])
        tracks = sorted(without_rims(without_doubles(moving)), key=lambda track: track.frames[0])
        kept = []
        for track in tracks[:MAX_OBJECTS]:
            noise, motion = center_noise(track), net_motion(track)
            if motion >= max(self.config.min_motion_m, self.config.motion_sigmas * noise):
                # Depths of neighbouring pixels err alike, so a part of one depth's error is left in the mean of all,
                # from frame to frame the same: second differences do not see it.
                common = _COMMON_ERROR * median(one.depth_std_m for one in track.sightings)
                kept.append((track, float(np.hypot(noise, common)), motion))
        rejected = len(raw) - len(kept)
        masks = self._share_pixels([track for track, _, _ in kept])
        objects = []
        for number, (track, noise, motion) in enumerate(kept, start=1):
            points = [np.zeros((0, 3), np.float32) for _ in range(num_frames)]
            for sighting in track.sightings:
                own = masks[sighting.frame] == number
                cloud = sighting.points
                if np.count_nonzero(own) < np.count_nonzero(sighting.mask):
                    local = surface_points(self.small_camera, self._disparities[sighting.frame], own)
                    cloud = transform_points(poses[sighting.frame], local)
                    if not is_of(sighting, cloud):
                        masks[sighting.frame][own] = 0
                        continue
                points[sighting.frame] = thin_points(cloud)
            objects.append(FoundObject(number, points, noise, motion))
        noises = [item.noise_m for item in objects]
        images = np.stack(self._images) if self._images else np.zeros((0, 0, 0, 3), np.uint8)
        return FoundObjects(objects, masks, images, float(np.median(noises)) if noises else 0.0, rejected)

    def _share_pixels(self, tracks: list[Track]) -> NDArray[np.uint8]:
        """(T, h, w) numbers of the tracks, from 1; a pixel of several is that of the nearest in disparity.

        What was really seen has a pixel before what was carried there.
        """
        masks = np.zeros((len(self._images), self.small_camera.height, self.small_camera.width), np.uint8)
        claims: dict[int, list[tuple[int, Sighting]]] = {}
        for number, track in enumerate(tracks, start=1):
            for sighting in track.sightings:
                claims.setdefault(sighting.frame, []).append((number, sighting))
        for frame, found in claims.items():
            disparity = self._disparities[frame]
            least = np.full(disparity.shape, np.inf, np.float32)
            for number, sighting in found:
                window = bounding_window(sighting.mask)
                middle = np.float32(np.nanmedian(disparity[window][sighting.mask[window]]))
                away = np.abs(disparity[window] - middle) + np.float32(_CARRIED_PX if sighting.sigmas == 0 else 0)
                away[np.isnan(away)] = 2 * _CARRIED_PX
                better = sighting.mask[window] & (away < least[window])
                masks[frame][window][better] = number
                least[window][better] = away[better]
        return masks

    # --------------------------------------------------------------------------------------------------- segments

    def _sightings(self, poses: FloatArray) -> list[list[Sighting]]:
        num_frames = len(self._images)
        grays = [self._gray(t) for t in range(num_frames)]
        found: list[list[Sighting]] = []
        looks = self._looks()
        fast = False
        for t in range(num_frames):
            if not looks.is_look(t):
                found.append(self._compare(t, looks.short_gap, poses, grays) if fast else [])
                continue
            behind = fill_from_behind(self._disparities[t])
            others, evidence = self._evidence(t, looks.gap, behind, poses, grays)
            fast = looks.short_gap < looks.gap and _holds_square(lost_pixels(evidence), _FAST_PX)
            here: list[Sighting] = []
            if fast:
                here = self._measure(t, poses, *self._evidence(t, looks.short_gap, behind, poses, grays), ())
            if not (fast and _is_blind(evidence)):
                here += self._measure(t, poses, others, evidence, tuple(here))
            if looks.is_slow_look(t) and not fast:
                slow = self._measure(t, poses, *self._evidence(t, looks.long_gap, behind, poses, grays), here)
                limit = _SLOW_PX * self.config.slow_factor
                here += [item for item in slow if self._image_motion(item, poses[t]) * looks.long_gap < limit]
            found.append(here)
        return found

    def _image_motion(self, sighting: Sighting, pose: FloatArray) -> float:
        """Pixels per frame by which a sighting's velocity moves it; infinite where that is not known."""
        ends = world_to_camera_points(pose, np.stack([sighting.center, sighting.center + sighting.velocity]))
        if not (ends[:, 2] > 0).all():
            return float("inf")
        start, end = project_points(self.small_camera.intrinsics, ends)
        return float(np.linalg.norm(end - start))

    def _looks(self) -> Looks:
        return Looks.of(len(self._images), self.fps, self.config)

    def _compare(self, t: int, gap: int, poses: FloatArray, grays: list[Image]) -> list[Sighting]:
        """What moves in frame t, by the frames `gap` before and after it."""
        behind = fill_from_behind(self._disparities[t])
        return self._measure(t, poses, *self._evidence(t, gap, behind, poses, grays), ())

    def _evidence(
        self, t: int, gap: int, behind: FloatImage, poses: FloatArray, grays: list[Image]
    ) -> tuple[list[int], list[Evidence]]:
        """The frames `gap` before and after t, and what each says of its pixels.

        `behind` is its disparity without holes.
        """
        num_frames = len(self._images)
        others = [other for other in (t - gap, t + gap) if 0 <= other < num_frames]
        # The middle of a clip shorter than two gaps has the ends to compare with.
        others = others or [0 if t > num_frames // 2 else num_frames - 1]
        return others, [self._evidence_of(t, other, behind, poses, grays) for other in others]

    def _evidence_of(self, t: int, other: int, behind: FloatImage, poses: FloatArray, grays: list[Image]) -> Evidence:
        known = np.isfinite(self._disparities[t])
        still = static_flow(self.small_camera, behind, poses[t], poses[other])
        warped = warp_static(grays[other], still, grays[t])
        flow = self._flow.calc(grays[t], warped, None)
        return motion_evidence(
            still,
            known,
            grays[t],
            warped,
            self._disparities[other],
            flow,
            self.config.flow_std_px,
            self.disparity_std_px / self.scale,
        )

    def _measure(
        self, t: int, poses: FloatArray, others: list[int], evidence: list[Evidence], seen: Sequence[Sighting]
    ) -> list[Sighting]:
        min_pixels = max(12, round(self.config.min_area * self._images[t].shape[0] * self._images[t].shape[1]))
        segments = find_segments(
            join_evidence(evidence),
            self._disparities[t],
            evidence[0].residual_px,
            join_gains(evidence),
            self._images[t],
            self.config.seed_sigmas,
            self.config.grow_sigmas,
            min_pixels,
        )
        sightings = []
        gap = abs(others[0] - t)
        for segment in segments:
            if any(_overlap(segment.mask, other.mask) > _SAME_PLACE for other in seen):
                continue
            flows = [self._velocity(t, other, poses, one, segment) for other, one in zip(others, evidence, strict=True)]
            flows = [flow for flow in flows if np.isfinite(flow).all()]
            velocity = np.mean(flows, axis=0) if flows else np.full(3, np.nan)
            sightings.append(self._sighting(t, poses[t], segment, velocity, gap))
        pieces = [sighting for sighting in sightings if len(sighting.points) >= 6]
        return join_pieces(pieces, self._disparities[t])

    def _is_real(self, track: Track, poses: FloatArray) -> bool:
        """Whether a track is a thing that moves, not a flicker of flow and depth that happens to line up."""
        min_seen = min(max(3, round(self.config.min_seen_s * self.fps)), len(self._images))
        looks = self._looks()
        gap = min(track.gap, looks.gap)
        # What was found over the short gap was looked for in every frame.
        step = gap if gap < looks.gap else max(gap, looks.stride)
        size = median(one.radius_m + one.depth_std_m for one in track.sightings)
        depth_std = median(one.depth_std_m for one in track.sightings)
        return (
            track.frames[-1] - track.frames[0] + 1 >= min_seen
            and track.longest_run(2 * step) >= max(3, min_seen // step)
            and center_noise(track) <= _NOISE_OF_SIZE * size
            and net_motion(track) > _MOTION_OF_DEPTH * depth_std
            and is_steady(track)
            and (agrees_with_flow(track, gap) or (is_smooth(track, 2 * step, size) and not stands_still(track)))
            and not self._still_there(track, poses)
        )

    def _still_there(self, track: Track, poses: FloatArray) -> bool:
        """Whether the surface that was seen at one time is found in its place after the track has left it.

        What moved is no longer where it was; a floor is. Pairs of frames between which the centre moved by its radius
        are asked, in both directions of time; the surface stayed if half of the depths there are the same.
        """
        shares = []
        chosen = track.sightings[:: max(1, len(track.sightings) // 6)]
        for one in chosen:
            for other in (track.sightings[0], track.last):
                if np.linalg.norm(one.center - other.center) < max(0.7 * one.radius_m, 2 * one.depth_std_m):
                    continue
                share = self._same_depth(one, other, poses)
                if share is not None:
                    shares.append(share)
        return bool(shares) and median(shares) > 0.5

    def _same_depth(self, one: Sighting, other: Sighting, poses: FloatArray) -> float | None:
        """Share of the points of one sighting that the frame of another shows at the same depth, None if it shows few.

        Points that are hidden there, and those inside the other sighting, say nothing.
        """
        camera = self.small_camera
        local = world_to_camera_points(poses[other.frame], one.points)
        local = local[local[:, 2] > 0]
        u, v = project_points(camera.intrinsics, local).round().T
        inside = (u >= 0) & (v >= 0) & (u < camera.width) & (v < camera.height)
        local, u, v = local[inside], u[inside].astype(np.intp), v[inside].astype(np.intp)
        outside = ~other.mask[v, u]
        expected = camera.disparity(local[outside, 2])
        seen = self._disparities[other.frame][v[outside], u[outside]]
        slack = np.maximum(1.5 * self.disparity_std_px / self.scale, 0.025 * expected)
        told = np.isfinite(seen) & (seen < expected + slack)
        if np.count_nonzero(told) < max(8, 0.1 * len(one.points)):
            return None
        return float(np.mean(np.abs(seen - expected)[told] < slack[told]))

    def _filled(self, track: Track, poses: FloatArray) -> Track:
        """The track with sightings in the frames where it was missed and can still be seen.

        What stops for a moment, or moves too slowly for two frames to tell, is where it would be, at the depth and with
        the colours it would have; what went behind something is not.
        """
        track = without_odd(track)
        if len(track.sightings) < 3:
            return track
        by_frame = {sighting.frame: sighting for sighting in track.sightings}
        first, last = track.frames[0], track.frames[-1]
        # Beyond its ends nothing says any more that it moves as it did.
        reach = 2 * max(self._looks().gap, self._looks().stride)
        colours = np.mean([sighting.colours for sighting in track.sightings], axis=0)
        after = range(first, min(len(self._images), last + reach + 1))
        frames = [*after, *range(last, max(-1, first - reach - 1), -1)]
        # Where there is one frame to compare with, what a thing hides there passes for the thing: what was seen where
        # there are two is carried on for comparison.
        unsure = {t: by_frame[t] for t in by_frame if self._is_one_sided(by_frame[t])}
        if len(by_frame) - len(unsure) >= 3:
            for t in unsure:
                del by_frame[t]
            self._fill(by_frame, frames, colours, poses)
            carried = {t: by_frame[t] for t in unsure if t in by_frame}
            by_frame |= unsure | {t: self._trimmed(unsure[t], carried[t], poses[t]) for t in carried}
        self._fill(by_frame, frames, colours, poses)
        return Track([by_frame[frame] for frame in sorted(by_frame)])

    def _is_one_sided(self, sighting: Sighting) -> bool:
        """Whether only later or only earlier frames were there to compare with."""
        return not sighting.gap <= sighting.frame < len(self._images) - sighting.gap

    def _trimmed(self, seen: Sighting, carried: Sighting, pose: FloatArray) -> Sighting:
        """What was seen of a thing, without what lies beside the thing carried there; that one if it shows more."""
        kernel = np.ones((2 * _BESIDE_PX + 1, 2 * _BESIDE_PX + 1), np.uint8)
        mask = seen.mask & (cv2.dilate(carried.mask.astype(np.uint8), kernel) > 0)
        area = np.count_nonzero(mask)
        if area < _SEEN * np.count_nonzero(carried.mask):
            return carried
        if area > 0.95 * np.count_nonzero(seen.mask):
            return seen
        trimmed = self._sighting(seen.frame, pose, Segment(mask, seen.sigmas), seen.velocity, seen.gap)
        return trimmed if len(trimmed.points) >= 6 else seen

    def _fill(
        self, by_frame: dict[int, Sighting], frames: list[int], colours: NDArray[np.float32], poses: FloatArray
    ) -> None:
        """Carry sightings on to those of the frames, in this order, that have none and lie beside one that has."""
        for t in frames:
            if t in by_frame:
                continue
            nearest = min(by_frame, key=lambda frame: abs(frame - t))
            if abs(nearest - t) > 1:  # hidden since then: wait until it is seen again
                continue
            sighting = self._carried(by_frame, nearest, t, poses)
            # Compared with what was really seen: from one carried sighting to the next it could slip off the thing.
            if sighting is not None and colour_distance(sighting.colours, colours) < 0.4:
                by_frame[t] = sighting

    def _carried(self, by_frame: dict[int, Sighting], source: int, t: int, poses: FloatArray) -> Sighting | None:
        """The sighting of frame `source` moved to its neighbour t, None where the thing is not seen there."""
        near = sorted(sorted(by_frame, key=lambda frame: abs(frame - t))[:8])
        track = Track([by_frame[frame] for frame in near])
        before = by_frame[source]
        center = before.center + track.velocity(8) * (t - source)
        camera = self.small_camera
        old = world_to_camera_points(poses[source], before.center)
        new = world_to_camera_points(poses[t], center)
        if old[2] <= 0 or new[2] <= 0:
            return None
        shift = project_points(camera.intrinsics, new) - project_points(camera.intrinsics, old)
        move = self._followed(before.mask, source, t, shift)
        if move is None:
            move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
        size = (camera.width, camera.height)
        mask = cv2.warpAffine(before.mask.astype(np.uint8), move, size, flags=cv2.INTER_NEAREST) > 0
        disparity = self._disparities[t]
        ratio = float(old[2] / new[2])
        values = self._disparities[source][before.mask]
        values = values[np.isfinite(values)] * ratio
        if len(values) < 6 or not mask.any():
            return None
        low, high = float(nearest_rank(values, 0.05)), float(nearest_rank(values, 0.95))
        slack = max(1.0, 0.08 * high) / np.sqrt(self.scale)
        fits = mask & (disparity > low - slack) & (disparity < high + slack)
        # A third of it may be hidden by something nearer.
        if np.count_nonzero(fits) < 0.6 * np.count_nonzero(before.mask):
            return None
        mask = mask & ~(disparity > high + slack) & ~(disparity < low - slack)
        sighting = self._sighting(t, poses[t], Segment(mask, 0.0), np.full(3, np.nan))
        if len(sighting.points) < 6:
            return None
        return sighting

    def _followed(self, mask: NDArray[np.bool_], source: int, t: int, shift: FloatArray) -> FloatImage | None:
        """(2, 3) where corners of a thing go from frame `source` to its neighbour t; None where too few are found.

        Scale, turn and shift of most of them; those that are not found on the way back do not count.
        """
        old, new = self._gray(source), self._gray(t)
        window = bounding_window(mask)
        inner = cv2.erode(mask[window].astype(np.uint8), np.ones((3, 3), np.uint8))
        corners = cv2.goodFeaturesToTrack(old[window], 60, 0.02, 3, mask=inner, blockSize=5)
        if corners is None or len(corners) < _LEAST_CORNERS:
            return None
        corners += np.array([window[1].start, window[0].start], np.float32)
        options = {"winSize": (9, 9), "maxLevel": 2}
        guess = (corners + shift.astype(np.float32)).astype(np.float32)
        flags = cv2.OPTFLOW_USE_INITIAL_FLOW
        there, found, _ = cv2.calcOpticalFlowPyrLK(old, new, corners, guess, flags=flags, **options)
        back, returned, _ = cv2.calcOpticalFlowPyrLK(new, old, there, corners.copy(), flags=flags, **options)
        good = (found[:, 0] == 1) & (returned[:, 0] == 1) & (np.linalg.norm(back - corners, axis=2)[:, 0] < 0.5)
        if int(good.sum()) < _LEAST_CORNERS:
            return None
        move, inliers = cv2.estimateAffinePartial2D(corners[good], there[good], ransacReprojThreshold=1.0)
        if move is None or int(inliers.sum()) < max(_LEAST_CORNERS, 0.5 * int(good.sum())):
            return None
        return np.asarray(move, np.float32)

    def _gray(self, t: int) -> Image:
        return np.asarray(cv2.cvtColor(self._images[t], cv2.COLOR_RGB2GRAY), np.uint8)

    def _velocity(self, t: int, other: int, poses: FloatArray, seen: Evidence, segment: Segment) -> FloatArray:
        """(3,) world metres per frame: the median over pixels that both frames show."""
        here, there = self._disparities[t], seen.other_disparity_px
        window = bounding_window(segment.mask)
        rows, columns = np.nonzero(segment.mask[window] & np.isfinite(seen.sigmas[window]) & np.isfinite(there[window]))
        if len(rows) < 6:
            return np.full(3, np.nan)
        every = -(-len(rows) // _SOME_PIXELS)
        rows, columns = rows[::every] + window[0].start, columns[::every] + window[1].start
        camera = self.small_camera
        start = camera.lift(np.stack([columns, rows], axis=1), camera.depth(here[rows, columns]))
        end = camera.lift(seen.other_pixels[rows, columns], camera.depth(there[rows, columns]))
        motion = transform_points(poses[other], end) - transform_points(poses[t], start)
        motion = motion[np.isfinite(motion).all(axis=1)]
        if len(motion) < 6:
            return np.full(3, np.nan)
        velocity: FloatArray = nearest_rank(motion, 0.5) / (other - t)
        return velocity

    def _sighting(self, t: int, pose: FloatArray, segment: Segment, velocity: FloatArray, gap: int = 0) -> Sighting:
        camera_points = surface_points(self.small_camera, self._disparities[t], segment.mask)
        points = transform_points(pose, camera_points)
        center, radius, depth = np.zeros(3), 0.0, 0.0
        if len(points):
            some = slice(None, None, -(-len(points) // _SOME_PIXELS))
            center = nearest_rank(points[some], 0.5)
            radius = float(nearest_rank(np.linalg.norm(points[some] - center, axis=1), 0.9))
            depth = float(nearest_rank(camera_points[some, 2], 0.5))
        std = float(self.camera.depth_std(np.array([depth]), self.disparity_std_px)[0])
        colours = colour_histogram(self._images[t], segment.mask)
        return Sighting(t, segment.mask, points, center, radius, std, colours, segment.sigmas, velocity, gap)


def lost_pixels(evidence: list[Evidence]) -> NDArray[np.bool_]:
    """(H, W) what some compared frame should show in a static world, and none does: it moves too fast for flow."""
    return np.any([one.is_lost for one in evidence], axis=0) & np.isnan(join_evidence(evidence))


def _holds_square(mask: NDArray[np.bool_], side: int) -> bool:
    """Whether a square of that many pixels a side lies inside a mask (H, W)."""
    return bool(cv2.erode(mask.astype(np.uint8), np.ones((side, side), np.uint8)).any())


def _is_blind(evidence: list[Evidence]) -> bool:
    """Whether the compared frames show so little of what they should that what they do show is not to be trusted."""
    lost = sum(int(np.count_nonzero(one.is_lost)) for one in evidence)
    told = sum(int(np.count_nonzero(np.isfinite(one.sigmas))) for one in evidence)
    return lost > _BLIND * (lost + told)


def _overlap(left: NDArray[np.bool_], right: NDArray[np.bool_]) -> float:
    """Share of the smaller of two masks that the other covers."""
    smaller = max(1, int(min(np.count_nonzero(left), np.count_nonzero(right))))
    return np.count_nonzero(left & right) / smaller


def is_of(sighting: Sighting, points: FloatArray) -> bool:
    """Whether world points (N, 3), what others left of a sighting's pixels, still lie on the thing, not on its rim."""
    if not len(points):
        return False
    away = float(np.linalg.norm(nearest_rank(points, 0.5) - sighting.center))
    return away <= sighting.radius_m + 2 * sighting.depth_std_m

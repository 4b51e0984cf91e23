"""Stereo visual odometry: camera poses of a rectified clip from tracked corners with metric depth.

Corners are tracked from frame to frame (pyramidal Lucas-Kanade, checked forwards and backwards). Each becomes a
landmark in the world by the depth of the frame it was found in. A frame's pose is found by P3P inside RANSAC on
landmarks, which also tells moving points apart, and refined on the inliers. At the end keyframes and landmarks are
refined together in windows (bundle adjustment, see `bundle`), and all frames are solved again on the
refined landmarks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import invert_pose, transform_points, world_to_camera_points
from ..stereo.camera import StereoCamera
from .bundle import Observations, Refined, refine_window

FloatArray = NDArray[np.float64]
Image = NDArray[np.uint8]


#: Beyond it the smallest image of the pyramid has no pixels left.
_MOST_LEVELS = 8


@dataclass(frozen=True)
class OdometryConfig:
    """How poses are estimated.

    Attributes:
        num_corners: corners tracked at a time; more drift less and take longer.
        min_corner_distance: between corners, as a share of the image width.
        window_px: side of the Lucas-Kanade window, pixels.
        pyramid_levels: of Lucas-Kanade; each doubles the motion that can be followed.
        back_tolerance_px: a track that does not come back within this is dropped.
        ransac_px: reprojection error that an inlier may have at most, pixels; less where the others have less.
        min_inliers: fewer make a frame lost: its pose is predicted, and counted in `Trajectory.lost`.
        max_depth: depth of usable landmarks, in baselines: beyond it a pixel of disparity says little.
        keyframe_overlap: a new keyframe is taken when fewer than this share of the last one's landmarks are in view.
        keyframe_gap: and at least every so many frames.
        window: keyframes refined together; 0 turns refinement off.
        disparity_std_px: of a stereo match; see `Disparity.std_px`.
        fit_offset: look for a disparity that the calibration is wrong by, and apply what is beyond doubt; see
            `disparity_offset`.
    """

    num_corners: int = 500
    min_corner_distance: float = 0.02
    window_px: int = 13
    pyramid_levels: int = 3
    back_tolerance_px: float = 0.7
    ransac_px: float = 1.5
    min_inliers: int = 15
    max_depth: float = 200.0
    keyframe_overlap: float = 0.7
    keyframe_gap: int = 4
    window: int = 10
    disparity_std_px: float = 0.3
    fit_offset: bool = True

    def __post_init__(self) -> None:
        # A pose takes six points, Lucas-Kanade a window of three pixels.
        least = {"num_corners": 6, "window_px": 3, "min_inliers": 6, "keyframe_gap": 1, "pyramid_levels": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise InputError(f"must be at least {value}, got {getattr(self, name)}", field=f"odometry.{name}")
        for name in ("back_tolerance_px", "ransac_px", "max_depth", "disparity_std_px"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"must be above 0 and finite, got {getattr(self, name)}", field=f"odometry.{name}")
        if not 0 <= self.min_corner_distance < 1:
            raise InputError(
                f"must be a share of the width, 0 to below 1, got {self.min_corner_distance}",
                field="odometry.min_corner_distance",
            )
        if not 0 <= self.keyframe_overlap <= 1:
            raise InputError(f"must be a share, 0 to 1, got {self.keyframe_overlap}", field="odometry.keyframe_overlap")
        if self.pyramid_levels > _MOST_LEVELS:
            raise InputError(
                f"must be at most {_MOST_LEVELS}, got {self.pyramid_levels}", field="odometry.pyramid_levels"
            )
        if self.window < 0 or self.window == 1:
            raise InputError(f"must be 0 (off) or at least 2, got {self.window}", field="odometry.window")


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses of a clip and how far to trust them.

    Attributes:
        cam_to_world: (T, 4, 4) float64, world = left camera of frame 0.
        reprojection_px: (T,) median reprojection error of the inliers, pixels; 0 at frame 0, NaN where lost.
        num_inliers: (T,) static points that the pose rests on.
        num_matches: (T,) points tracked into the frame.
        center_std_m: (T,) standard deviation of the camera centre against frame 0, metres, growing along the path:
            from refinements without one part of the image after the other (see `bundle`), or, without refinement,
            from poses solved on two halves of the inliers. A wrong baseline moves all parts alike and is not in it.
        lost: (T,) bool, poses that were predicted for want of inliers.
    """

    cam_to_world: FloatArray
    reprojection_px: FloatArray
    num_inliers: NDArray[np.int64]
    num_matches: NDArray[np.int64]
    center_std_m: FloatArray
    lost: NDArray[np.bool_]

    @property
    def path_m(self) -> float:
        """Length of the path of the camera centre, metres."""
        return float(np.linalg.norm(np.diff(self.cam_to_world[:, :3, 3], axis=0), axis=1).sum())


#: Steps of Lucas-Kanade and pixels, and of a pose's least squares from a start that is near.
_FOLLOW_UNTIL = (10, 0.03)
_POSE_UNTIL = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 5, 1e-6)
#: An inlier's error is below this many medians of all inliers', or below so many pixels; never above `ransac_px`.
_LIMIT_PER_MEDIAN, _LEAST_LIMIT_PX = 4.0, 0.7
_CELLS_ACROSS = 8
#: Parts of the image whose landmarks may err together, across and down.
_PARTS = (4, 3)


class _Frame(NamedTuple):
    """Tracks seen in one frame: landmark ids (N,), pixels (N, 2), disparities (N,) with NaN, inliers (N,) bool."""

    ids: NDArray[np.int64]
    pixels: NDArray[np.float32]
    disparity_px: NDArray[np.float32]
    is_inlier: NDArray[np.bool_]


@dataclass
class StereoOdometry:
    """Takes frames one by one with `add`; `finish` refines and returns the trajectory.

    Keeps corners and one image, no frames.
    """

    camera: StereoCamera
    config: OdometryConfig = field(default_factory=OdometryConfig)

    def __post_init__(self) -> None:
        self._gray: Image | None = None
        self._poses: list[FloatArray] = []  # camera to world
        self._frames: list[_Frame] = []
        self._matches: list[int] = []
        self._lost: list[bool] = []
        self._landmarks = np.zeros((0, 3))  # world metres, by id
        self._keyframes: list[int] = []
        self._std_m: dict[int, float] = {0: 0.0}  # of the centre, by frame, as the refinement says
        width = self.camera.width
        self._corner_distance_px = max(3.0, self.config.min_corner_distance * width)

    def add(self, left: Image, disparity_px: NDArray[np.float32]) -> FloatArray:
        """Take the next frame and return its pose so far, cam_to_world (4, 4).

        Args:
            left: (H, W, 3) RGB or (H, W) uint8, rectified.
            disparity_px: (H, W) float32 of the left image, NaN where unknown.
        """
        gray = left.copy() if left.ndim == 2 else cv2.cvtColor(left, cv2.COLOR_RGB2GRAY)
        if self._gray is None:
            self._poses.append(np.eye(4))
            tracked = _empty_frame()
            is_lost = False
        else:
            tracked, pose, is_lost = self._track(self._gray, gray, disparity_px)
            self._poses.append(pose)
        self._matches.append(len(tracked.ids))
        self._lost.append(is_lost)
        if self._is_keyframe(tracked):
            self._keyframes.append(len(self._frames))
            tracked = self._with_new_corners(gray, disparity_px, tracked, self._poses[-1])
        self._frames.append(tracked)
        self._gray = gray
        return self._poses[-1]

    def finish(self) -> Trajectory:
        """Refine all poses. Raises InputError when no frame was added."""
        if not self._frames:
            raise InputError("no frame was given to the odometry", field="frames")
        if self.config.window and len(self._frames) > 1:
            self._refine()
        num_frames = len(self._frames)
        poses = np.stack(self._poses)
        errors, inliers, noise = np.zeros(num_frames), np.zeros(num_frames, np.int64), np.zeros(num_frames)
        for t, frame in enumerate(self._frames):
            inliers[t] = int(frame.is_inlier.sum())
            if t == 0:
                continue
            errors[t] = self._reprojection_px(frame, poses[t]) if not self._lost[t] else np.nan
            if not self._is_known(self._std_m):
                noise[t] = self._center_std(frame, poses[t])
        if self._is_known(self._std_m):
            noise = np.interp(np.arange(num_frames), list(self._std_m), list(self._std_m.values()))
            noise[np.array(self._lost, np.bool_)] = np.nan
        return Trajectory(
            cam_to_world=poses,
            reprojection_px=errors,
            num_inliers=inliers,
            num_matches=np.array(self._matches, np.int64),
            center_std_m=noise,
            lost=np.array(self._lost, np.bool_),
        )

    @property
    def num_inliers(self) -> int:
        """Points that agree with the poses so far, over all frames."""
        return sum(int(frame.is_inlier.sum()) for frame in self._frames)

    def fitted_offset(self) -> tuple[float, float]:
        """The camera's `disparity_offset_px` that fits the frames so far best, and its standard deviation; changes
        nothing. NaN where too little was seen."""
        solved = self._solve_window(self._keyframes, 1, fit_offset=True) if len(self._keyframes) > 1 else None
        if solved is None:
            return math.nan, math.nan
        return solved[1].disparity_offset_px, solved[1].offset_std_px

    # ------------------------------------------------------------------------------------------------- tracking

    def _track(self, before: Image, now: Image, disparity_px: NDArray[np.float32]) -> tuple[_Frame, FloatArray, bool]:
        """Follow the tracks of the last frame into this one and solve its pose."""
        last = self._frames[-1]
        predicted_pose = self._predicted_pose()
        if len(last.ids) == 0:
            return _empty_frame(), predicted_pose, True
        points = self._landmarks[last.ids]
        guess = self._project(points, predicted_pose).astype(np.float32)
        # A moving object is not where the prediction puts it; what that would lead out of sight starts where it was.
        usable = self._in_image(guess) & last.is_inlier
        guess = np.where(usable[:, None], guess, last.pixels)
        found, kept = self._follow(before, now, last.pixels, guess, self.config.pyramid_levels)
        pose, is_inlier = self._solve_pose(points, found, kept, last.is_inlier, predicted_pose)
        if is_inlier.sum() >= self.config.min_inliers:
            # Near points with little texture get lost where the prediction was off, and they tell the scale best: look
            # again where the pose says that they are.
            guess = self._project(points, pose).astype(np.float32)
            again = ~is_inlier & last.is_inlier & self._in_image(guess)
            if again.any():
                refound, rekept = self._follow(before, now, last.pixels[again], guess[again], 1)
                found[again] = np.where(rekept[:, None], refound, found[again])
                kept[again] |= rekept
                pose, is_inlier = self._refine_pose(points, found, kept, pose, is_inlier)
        frame = _Frame(last.ids[kept], found[kept], sample_disparity(disparity_px, found[kept]), is_inlier[kept])
        if is_inlier.sum() < self.config.min_inliers:
            return frame, predicted_pose, True
        return frame, pose, False

    def _follow(
        self,
        before: Image,
        now: Image,
        start: NDArray[np.float32],
        guess: NDArray[np.float32],
        levels: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Where the pixels (N, 2) of the last frame are in this one, and which came back to where they were (N,)."""
        options = {
            "winSize": (self.config.window_px, self.config.window_px),
            "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, *_FOLLOW_UNTIL),
            "flags": cv2.OPTFLOW_USE_INITIAL_FLOW,
            "minEigThreshold": 1e-4,
        }
        found, status, _ = cv2.calcOpticalFlowPyrLK(before, now, start, guess.copy(), maxLevel=levels, **options)
        # Back from where it began: what is right stays there, and needs no small images to come from afar.
        back, back_status, _ = cv2.calcOpticalFlowPyrLK(now, before, found, start.copy(), maxLevel=0, **options)
        returned = np.abs(back - start).max(axis=1) < self.config.back_tolerance_px
        return found, (status[:, 0] == 1) & (back_status[:, 0] == 1) & returned & self._in_image(found)

    def _in_image(self, pixels: NDArray[np.float32]) -> NDArray[np.bool_]:
        size = np.array([self.camera.width - 1, self.camera.height - 1], np.float32)
        return np.asarray(((pixels >= 0) & (pixels <= size)).all(axis=1))

    def _predicted_pose(self) -> FloatArray:
        """Constant velocity."""
        if len(self._poses) < 2:
            return self._poses[-1]
        return self._poses[-1] @ invert_pose(self._poses[-2]) @ self._poses[-1]

    def _solve_pose(
        self,
        points: FloatArray,
        pixels: NDArray[np.float32],
        kept: NDArray[np.bool_],
        was_inlier: NDArray[np.bool_],
        predicted_pose: FloatArray,
    ) -> tuple[FloatArray, NDArray[np.bool_]]:
        """cam_to_world (4, 4) by RANSAC, and which points (N,) agree with it."""
        none = np.zeros(len(points), np.bool_)
        # Points that moved before are not asked again, or a large object would carry the camera along.
        chosen = np.flatnonzero(kept & was_inlier)
        if len(chosen) < max(self.config.min_inliers, 6):
            chosen = np.flatnonzero(kept)
        if len(chosen) < 6:
            return predicted_pose, none
        cv2.setRNGSeed(0)  # RANSAC draws from OpenCV's own generator: the same clip gives the same poses
        found, rotation, translation, inliers = cv2.solvePnPRansac(
            points[chosen],
            pixels[chosen].astype(np.float64),
            self.camera.intrinsics,
            None,
            iterationsCount=100,
            reprojectionError=self.config.ransac_px,
            confidence=0.999,
            flags=cv2.SOLVEPNP_AP3P,
        )
        if not found or inliers is None:
            return predicted_pose, none
        agree = none.copy()
        agree[chosen[inliers[:, 0]]] = True
        return self._refine_pose(points, pixels, kept, pose_from_vectors(rotation, translation), agree)

    def _refine_pose(
        self,
        points: FloatArray,
        pixels: NDArray[np.float32],
        kept: NDArray[np.bool_],
        pose: FloatArray,
        is_inlier: NDArray[np.bool_],
    ) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Least squares on the inliers, and the inliers of that: they differ a little from those of the start."""
        observed = pixels.astype(np.float64)
        rotation, translation = vectors_from_pose(pose)
        for _ in range(2):
            if is_inlier.sum() < 6:
                return pose, np.zeros(len(points), np.bool_)
            rotation, translation = cv2.solvePnPRefineLM(
                points[is_inlier],
                observed[is_inlier],
                self.camera.intrinsics,
                None,
                rotation,
                translation,
                criteria=_POSE_UNTIL,
            )
            errors_px = self._errors_px(points, observed, rotation, translation)
            # What the points agree to tells which do not: slow things stay below a limit that is there for poor images.
            limit_px = max(_LEAST_LIMIT_PX, _LIMIT_PER_MEDIAN * float(np.median(errors_px[is_inlier])))
            is_inlier = kept & (errors_px < min(self.config.ransac_px, limit_px))
        return pose_from_vectors(rotation, translation), is_inlier

    def _errors_px(
        self, points: FloatArray, observed: FloatArray, rotation: FloatArray, translation: FloatArray
    ) -> FloatArray:
        camera_points = points @ cv2.Rodrigues(rotation)[0].T + translation.reshape(3)
        depth = camera_points[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            projected = camera_points @ self.camera.intrinsics.T
            errors = np.linalg.norm(projected[:, :2] / projected[:, 2:] - observed, axis=1)
        return np.where(depth > 1e-6, errors, np.inf)

    def _project(self, points: FloatArray, pose: FloatArray) -> FloatArray:
        camera_points = world_to_camera_points(pose, points)
        with np.errstate(divide="ignore", invalid="ignore"):
            projected = camera_points @ self.camera.intrinsics.T
            pixels = projected[:, :2] / projected[:, 2:]
        return np.where(camera_points[:, 2:] > 1e-6, pixels, -1.0)

    # ------------------------------------------------------------------------------------------------- corners

    def _is_keyframe(self, tracked: _Frame) -> bool:
        if not self._keyframes:
            return True
        last = self._keyframes[-1]
        if len(self._frames) - last >= self.config.keyframe_gap:
            return True
        at_keyframe = max(1, int(self._frames[last].is_inlier.sum()))
        return bool(tracked.is_inlier.sum() < self.config.keyframe_overlap * at_keyframe)

    def _with_new_corners(
        self, gray: Image, disparity_px: NDArray[np.float32], tracked: _Frame, pose: FloatArray
    ) -> _Frame:
        """The tracked corners that are static, and new ones where there are none."""
        kept = tracked.is_inlier
        wanted = self.config.num_corners - int(kept.sum())
        tracked = _Frame(tracked.ids[kept], tracked.pixels[kept], tracked.disparity_px[kept], tracked.is_inlier[kept])
        if wanted < 1:
            return tracked
        free = np.where(np.isfinite(disparity_px), np.uint8(255), np.uint8(0))
        border = self.config.window_px // 2
        free[:border] = free[-border:] = 0
        free[:, :border] = free[:, -border:] = 0
        for u, v in tracked.pixels.round().astype(int):
            cv2.circle(free, (int(u), int(v)), int(self._corner_distance_px), 0, -1)
        pixels = self._corners(gray, free, wanted)
        if not len(pixels):
            return tracked
        disparity = sample_disparity(disparity_px, pixels)
        depth = self.camera.depth(disparity).astype(np.float64)
        usable = np.isfinite(depth) & (depth < self.config.max_depth * self.camera.baseline)
        pixels, disparity, depth = pixels[usable], disparity[usable], depth[usable]
        ids = np.arange(len(self._landmarks), len(self._landmarks) + len(pixels))
        world = transform_points(pose, self.camera.lift(pixels, depth))
        self._landmarks = np.concatenate([self._landmarks, world])
        return _Frame(
            np.concatenate([tracked.ids, ids]),
            np.concatenate([tracked.pixels, pixels]),
            np.concatenate([tracked.disparity_px, disparity]),
            np.concatenate([tracked.is_inlier, np.ones(len(pixels), np.bool_)]),
        )

    def _corners(self, gray: Image, free: Image, wanted: int) -> NDArray[np.float32]:
        """About `wanted` corners (N, 2) where `free` is set, from every cell of a grid.

        The strongest of the whole image would all lie on far trees; what tells the scale is the weak texture nearby.
        """
        rows = max(2, round(_CELLS_ACROSS * gray.shape[0] / gray.shape[1]))
        height, width = -(-gray.shape[0] // rows), -(-gray.shape[1] // _CELLS_ACROSS)
        share = -(-wanted // (rows * _CELLS_ACROSS))
        found = []
        for top in range(0, gray.shape[0], height):
            for left in range(0, gray.shape[1], width):
                cell = (slice(top, top + height), slice(left, left + width))
                if not free[cell].any():
                    continue
                corners = cv2.goodFeaturesToTrack(gray[cell], share, 0.02, self._corner_distance_px, mask=free[cell])
                if corners is not None:
                    found.append(corners.reshape(-1, 2) + np.array([left, top], np.float32))
        return np.concatenate(found).astype(np.float32) if found else np.zeros((0, 2), np.float32)

    # ------------------------------------------------------------------------------------------------- refinement

    def _refine(self) -> None:
        """Bundle adjustment over sliding windows of keyframes, then every frame on the refined landmarks."""
        keyframes = self._keyframes
        if keyframes[-1] != len(self._frames) - 1:
            keyframes = [*keyframes, len(self._frames) - 1]
        size = self.config.window
        step = max(1, size // 2)
        start = 0
        while len(keyframes) > 1:
            window = keyframes[start : start + size]
            # The first pose fixes the world; from the second window on, so does the half that was refined before.
            num_fixed = 1 if start == 0 else max(1, len(window) - step)
            self._refine_keyframes(window, num_fixed)
            if start + size >= len(keyframes):
                break
            start += step
        for t, frame in enumerate(self._frames):
            if t == 0 or self._lost[t]:
                continue
            pose, is_inlier = self._resolve(frame, self._poses[t])
            self._poses[t] = pose
            self._frames[t] = frame._replace(is_inlier=is_inlier)

    def _refine_keyframes(self, window: list[int], num_fixed: int) -> None:
        solved = self._solve_window(window, num_fixed, fit_offset=False)
        if solved is None:
            return
        ids, refined = solved
        before = self._std_m.get(window[num_fixed - 1], math.nan)
        for view, (t, pose) in enumerate(zip(window, refined.cam_to_world, strict=True)):
            self._poses[t] = pose
            if view >= num_fixed:
                self._std_m[t] = math.hypot(before, refined.center_std_m[view])
        self._landmarks[ids] = refined.landmarks

    def _solve_window(
        self, window: list[int], num_fixed: int, fit_offset: bool
    ) -> tuple[NDArray[np.int64], Refined] | None:
        """The landmarks that at least two frames of the window see, refined; None where they are too few."""
        frames = [self._frames[t] for t in window]
        seen = np.concatenate([frame.ids[frame.is_inlier] for frame in frames])
        ids, counts = np.unique(seen, return_counts=True)
        ids = ids[counts >= 2]
        if len(ids) < self.config.min_inliers:
            return None
        views, points, pixels, disparities = [], [], [], []
        for view, frame in enumerate(frames):
            place = np.searchsorted(ids, frame.ids).clip(max=len(ids) - 1)
            used = frame.is_inlier & (ids[place] == frame.ids)
            views.append(np.full(int(used.sum()), view))
            points.append(place[used])
            pixels.append(frame.pixels[used])
            disparities.append(frame.disparity_px[used])
        observations = Observations(
            np.concatenate(views),
            np.concatenate(points),
            np.concatenate(pixels).astype(np.float64),
            np.concatenate(disparities).astype(np.float64),
        )
        refined = refine_window(
            self.camera,
            np.stack([self._poses[t] for t in window]),
            self._landmarks[ids],
            observations,
            num_fixed,
            self.config.disparity_std_px,
            groups=self._parts(observations, len(ids)),
            fit_offset=fit_offset,
        )
        return ids, refined

    def _parts(self, observations: Observations, num_points: int) -> NDArray[np.int64]:
        """(N,) the part of the image that each landmark was first seen in."""
        first = np.zeros((num_points, 2))
        first[observations.point[::-1]] = observations.pixels[::-1]  # views are in order: the first comes last
        across, down = (
            (first[:, axis] * count // size).clip(0, count - 1).astype(np.int64)
            for axis, (count, size) in enumerate(zip(_PARTS, (self.camera.width, self.camera.height), strict=True))
        )
        parts: NDArray[np.int64] = across + _PARTS[0] * down
        return parts

    @staticmethod
    def _is_known(std_m: dict[int, float]) -> bool:
        return len(std_m) > 1 and all(math.isfinite(value) for value in std_m.values())

    def _resolve(self, frame: _Frame, pose: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        kept = np.ones(len(frame.ids), np.bool_)
        solved, is_inlier = self._refine_pose(self._landmarks[frame.ids], frame.pixels, kept, pose, frame.is_inlier)
        return (solved, is_inlier) if is_inlier.sum() >= 6 else (pose, frame.is_inlier)

    # ------------------------------------------------------------------------------------------------- figures

    def _reprojection_px(self, frame: _Frame, pose: FloatArray) -> float:
        ids = frame.ids[frame.is_inlier]
        if not len(ids):
            return float("nan")
        offsets = self._project(self._landmarks[ids], pose) - frame.pixels[frame.is_inlier]
        return float(np.median(np.linalg.norm(offsets, axis=1)))

    def _center_std(self, frame: _Frame, pose: FloatArray) -> float:
        """Half the distance between the centres that even and odd inliers give: the mean of two halves is the whole."""
        chosen = np.flatnonzero(frame.is_inlier)
        if len(chosen) < 2 * self.config.min_inliers:
            return float("nan")
        rotation, translation = vectors_from_pose(pose)
        centers = []
        for half in (chosen[::2], chosen[1::2]):
            points, observed = self._landmarks[frame.ids[half]], frame.pixels[half].astype(np.float64)
            solved = cv2.solvePnPRefineLM(
                points, observed, self.camera.intrinsics, None, rotation.copy(), translation.copy()
            )
            centers.append(pose_from_vectors(*solved)[:3, 3])
        return float(np.linalg.norm(centers[0] - centers[1]) / 2)


def sample_disparity(disparity_px: NDArray[np.float32], pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Disparity (N,) at pixels (N, 2): bilinear where the four neighbours agree within a pixel, else NaN.

    Across a depth edge the mean of two surfaces is neither.
    """
    height, width = disparity_px.shape
    u = np.clip(pixels[:, 0], 0, width - 1.001)
    v = np.clip(pixels[:, 1], 0, height - 1.001)
    column, row = u.astype(np.intp), v.astype(np.intp)
    right, below = np.minimum(column + 1, width - 1), np.minimum(row + 1, height - 1)
    corners = np.stack(
        [
            disparity_px[row, column],
            disparity_px[row, right],
            disparity_px[below, column],
            disparity_px[below, right],
        ]
    )
    a, b = u - column, v - row
    weights = np.stack([(1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b])
    value = (corners * weights).sum(axis=0)
    agree = corners.max(axis=0) - corners.min(axis=0) < 1.0  # False where one is NaN
    return np.where(agree, value, np.nan).astype(np.float32)


def pose_from_vectors(rotation: FloatArray, translation: FloatArray) -> FloatArray:
    """cam_to_world (4, 4) from OpenCV's world-to-camera rotation vector and translation."""
    world_to_cam = np.eye(4)
    world_to_cam[:3, :3] = cv2.Rodrigues(np.asarray(rotation, np.float64))[0]
    world_to_cam[:3, 3] = np.asarray(translation, np.float64).reshape(3)
    return invert_pose(world_to_cam)


def vectors_from_pose(cam_to_world: FloatArray) -> tuple[FloatArray, FloatArray]:
    """OpenCV's world-to-camera rotation vector (3, 1) and translation (3, 1) of cam_to_world (4, 4)."""
    world_to_cam = invert_pose(cam_to_world)
    return cv2.Rodrigues(world_to_cam[:3, :3])[0], world_to_cam[:3, 3:].copy()


def _empty_frame() -> _Frame:
    return _Frame(np.zeros(0, np.int64), np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros(0, np.bool_))

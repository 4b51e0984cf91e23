"""One stereo clip to Clip4D records: frames once through quality, depth, poses and objects."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..atomic import atomic_path
from ..errors import InputError
from ..estimation.disparity import Disparity, DisparityEstimator, SourceDisparity, make_disparity_estimator
from ..estimation.disparity_offset import OFFSET_FRAMES, settle_offset
from ..estimation.objects import compared_frames
from ..estimation.odometry import StereoOdometry, Trajectory
from ..schema import VIDEO_ABSENT, VIDEO_KEY, Clip4D, ObjectTrack, write_clip
from ..stereo.alignment import measure_alignment
from ..stereo.clip import StereoClip
from ..synthetic.mp4 import write_mp4
from ..video import VideoFrames
from .config import AnnotateConfig
from .learned import FoundByName, load_segmenter
from .naming import EntityNamer, name_tracks
from .naming_pictures import BoxRegions, MaskRegions, Regions
from .objects import ObjectPart, Objects, SourceObjects, objects_of
from .quality import Reason, alignment_figures, alignment_reason, broken_limits, frame_figures
from .store import AnnotationFolder, Outcome
from .stretch import Shot, Stretch, checked_poses, find_shots

FloatImage = NDArray[np.float32]

#: Pairs that the disparity range and the alignment of the eyes are measured on, spread over the stretch.
_PROBES = 5
#: Where the camera stays within this reach and turn, and no object moves, nothing does.
_STILL_M = 0.05
_STILL_DEG = 1.0


def annotate_clip(clip: StereoClip, config: AnnotateConfig, out: Path, names_given_up: str = "") -> list[Outcome]:
    """Annotate every stretch of a clip and write what is kept into the folder `out`.

    Frames are decoded once; those of one stretch are held at a time. Records are written last, so that a clip that
    fails half-way leaves none. The same clip and settings give the same bytes.

    Args:
        clip: the source.
        config: settings.
        out: folder.
        names_given_up: why the endpoint that names objects is not asked, see `naming.Breaker`; empty asks it.

    Returns:
        One outcome per stretch, in order.

    Raises:
        InputError: of the reader; poses that are no poses; a part that `config` asks the source for and it has not.
        OSError: a file could not be written.
    """
    _check_origins(clip, config)
    folder = AnnotationFolder(out)
    records: list[Clip4D] = []
    outcomes: list[Outcome] = []
    if not clip.has_frames:
        outcome, record = _from_labels(clip, config)
        outcomes, records = [outcome], [record] if record else []
    else:
        namer = _make_namer(config, folder, names_given_up)
        for shot in find_shots(clip, config.frames):
            name = clip.clip_id if shot.is_only else f"{clip.clip_id}_s{shot.number}"
            outcome, record = _ShotAnnotation(clip, shot, name, config, folder, namer).run()
            outcomes.append(outcome)
            if record is not None:
                records.append(record)
    for record in records:
        write_clip(folder.clips, record)
    return outcomes


def _make_namer(config: AnnotateConfig, folder: AnnotationFolder, given_up: str) -> EntityNamer | None:
    if not config.naming.is_on:
        return None
    settings = replace(config.naming, cache_dir=config.naming.cache_dir or str(folder.names))
    return EntityNamer(settings, given_up=given_up)


def _check_origins(clip: StereoClip, config: AnnotateConfig) -> None:
    def fail(what: str, how: str) -> None:
        raise InputError(f"the source has no {what}", file=clip.path, row=clip.clip_id, field=how, remedy="Use auto")

    if config.origin.poses == "source" and clip.cam_to_world is None:
        fail("camera poses", "origin.poses")
    if config.origin.objects == "source" and clip.objects is None:
        fail("objects", "origin.objects")
    if clip.cam_to_world is not None and config.origin.poses != "estimate":
        checked_poses(clip)


class _ShotAnnotation:
    """The way of one stretch through all steps."""

    def __init__(
        self,
        clip: StereoClip,
        shot: Shot,
        name: str,
        config: AnnotateConfig,
        folder: AnnotationFolder,
        namer: EntityNamer | None,
    ) -> None:
        self.shot, self.name, self.config, self.folder, self.namer = shot, name, config, folder, namer
        self.view = Stretch(clip, shot.frames, name, with_poses=config.origin.poses != "estimate")
        self.camera = clip.camera
        self.figures: dict[str, Any] = {"num_frames": len(shot.frames), **frame_figures(shot.seen)}

    def run(self) -> tuple[Outcome, Clip4D | None]:
        too_short = short_reason(len(self.shot.frames), self.config)
        if too_short:
            return self._outcome([too_short]), None
        fault = self._alignment_fault()
        if fault is not None:
            # Depth of a pair that does not fit together would be noise; what was measured so far is kept.
            return self._outcome([fault, *broken_limits(self.figures, self.config.quality)]), None
        trajectory, objects = self._geometry()
        self.figures.update(motion_figures(trajectory, objects.tracks))
        reasons = broken_limits(self.figures, self.config.quality)
        if reasons:
            return self._outcome(reasons), None
        tracks = self._named(objects)
        video = self._video()
        if self.config.write_masks:
            self._write_masks(objects)
        record = make_record(self.view, video, trajectory, tracks, self._quality())
        return self._outcome([]), record

    def _outcome(self, reasons: list[Reason]) -> Outcome:
        return Outcome(self.name, _span(self.shot.frames), finite_figures(self.figures), tuple(reasons))

    def _quality(self) -> dict[str, Any]:
        return {**self.view.notes, **finite_figures(self.figures), "source_frames": list(_span(self.shot.frames))}

    # ---------------------------------------------------------------------------------------------------- steps

    def _alignment_fault(self) -> Reason | None:
        alignment = measure_alignment(self.shot.pairs(_PROBES), self.camera.disparity_offset_px)
        self.figures |= alignment_figures(alignment)
        return alignment_reason(alignment, self.config.alignment)

    def _geometry(self) -> tuple[Trajectory, Objects]:
        disparities = self._disparities()
        odometry, head = self._start(disparities)
        keep_masks = self.config.write_masks or self.namer is not None
        find = self._object_part(keep_masks)
        valid: list[float] = []
        depths: list[float] = []
        self._depths: list[NDArray[np.float16]] = []
        stds: list[float] = []
        followed = len(head)
        for frame, disparity in enumerate(chain(_drained(head), disparities)):
            left = self.shot.left[frame]
            pixels = disparity.pixels
            if odometry is not None and frame >= followed:
                odometry.add(left, pixels)
            find.add(frame, left, disparity)
            thin = pixels[::4, ::4]
            known = self.camera.depth(thin)
            valid.append(float(np.isfinite(known).mean()))
            depths.append(float(np.nanmedian(known)) if valid[-1] else np.nan)
            if self.config.write_masks:
                self._depths.append(half_precision(self.camera.depth(pixels)))
            stds.append(disparity.std_px)
        self.figures |= {
            "valid_depth": float(np.mean(valid)),
            "median_depth_m": _median(depths),
            "disparity_std_px": float(np.median(stds)),
        }
        trajectory = odometry.finish() if odometry is not None else source_trajectory(self.view)
        if odometry is not None:
            self.figures |= odometry_figures(trajectory)
        objects = find.finish(trajectory)
        self.figures |= {
            "object_noise_m": objects.noise_m,
            "object_noises_m": {str(number): noise for number, noise in objects.noises_m.items()},
            "poses": "source" if odometry is None else "estimate",
            "objects": objects.origin,
        }
        return trajectory, objects

    def _object_part(self, keep_masks: bool) -> ObjectPart:
        learned = self.config.learned
        if learned.is_on and not self._has_objects():
            segmenter = load_segmenter(learned)
            return FoundByName(self.view, self.shot.left, segmenter, learned.names, self.config.objects, keep_masks)
        return objects_of(self.view, self.config.origin.objects, self.config.objects, keep_masks)

    def _has_objects(self) -> bool:
        origin = self.config.origin.objects
        return origin == "source" or (origin == "auto" and self.view.objects is not None)

    def _is_found_by_motion(self) -> bool:
        return not (self.config.learned.is_on or self._has_objects())

    def _named(self, objects: Objects) -> list[ObjectTrack]:
        """The tracks with their final words. Only clips that are kept are asked about."""
        self.figures["names"] = "words"
        if self.namer is None or not objects.tracks:
            return objects.tracks
        regions = _regions(objects, (self.camera.width, self.camera.height))
        if regions is None:
            problem = "the source has neither masks nor boxes to show objects by"
            self.figures |= {"names": "fallback", "names_problem": problem}
            return objects.tracks
        tracks, named = name_tracks(objects.tracks, regions, list(self.shot.left), self.namer)
        # One word for the reply and for the same reply of an earlier, interrupted run: the record is the same.
        self.figures["names"] = "fallback" if named.origin == "fallback" else "endpoint"
        if named.problem:
            self.figures["names_problem"] = named.problem
        if named.is_unanswered:
            self.figures["names_unanswered"] = True
        return tracks

    def _start(self, disparities: Iterator[Disparity]) -> tuple[StereoOdometry | None, deque[Disparity]]:
        """The odometry, None where the source has poses, and the frames that it has seen.

        These tell whether the calibration fits. Where it does not, everything goes on with a camera that does.
        """
        if self.view.cam_to_world is not None:
            return None, deque()
        odometry = StereoOdometry(self.camera, self.config.odometry)
        head: deque[Disparity] = deque()
        for frame, disparity in enumerate(islice(disparities, OFFSET_FRAMES)):
            odometry.add(self.shot.left[frame], disparity.pixels)
            head.append(disparity)
        # The source's own depth is taken at its word.
        if self.figures["depth"] == "estimate" and self.config.odometry.fit_offset:
            frames = [(left, item.pixels) for left, item in zip(self.shot.left, head, strict=False)]
            odometry, found = settle_offset(odometry, frames)
            self.camera = self.view.camera = odometry.camera
            self.figures |= {"disparity_offset_px": found.applied_px, "disparity_offset_std_px": found.std_px}
        return odometry, head

    def _disparities(self) -> Iterator[Disparity]:
        """One per frame; the right image of a frame is let go once it has served."""
        estimator = self._disparity_estimator()
        self.figures["depth"] = "source" if isinstance(estimator, SourceDisparity) else "estimate"
        for frame in range(len(self.shot.frames)):
            right = self.shot.right[frame]
            assert right is not None
            yield estimator.compute(self.shot.left[frame], right, frame)
            self.shot.right[frame] = None

    def _disparity_estimator(self) -> DisparityEstimator:
        origin = self.config.origin.depth
        if origin != "estimate" and has_depth(self.view):
            return SourceDisparity(self.view)
        if origin == "source":
            raise InputError("the source has no depth", file=self.view.path, row=self.name, field="origin.depth")
        compared = None
        if self._is_found_by_motion():
            compared = compared_frames(len(self.shot.frames), self.view.fps, self.config.objects)
        return make_disparity_estimator(
            self.config.disparity, self.view, self.shot.pairs(_PROBES), compared, with_confidence=False
        )

    # ---------------------------------------------------------------------------------------------------- files

    def _video(self) -> str:
        """Path of the left video relative to the folder; written where decoders may read the source's otherwise."""
        source = self.view.video
        if source is not None and source.suffix.lower() == ".mp4" and VideoFrames(source).reads_alike_everywhere:
            return Path(os.path.relpath(source, self.folder.root)).as_posix()
        path = self.folder.videos / f"{self.name}.mp4"
        height, width = self.shot.left.shape[1:3]
        # Chroma of 4:2:0 needs even sides; the last row or column goes, so that pixel coordinates stay.
        even = self.shot.left[:, : height - height % 2, : width - width % 2]
        with atomic_path(path) as temporary:
            write_mp4(temporary, even, self.view.fps)
        return path.relative_to(self.folder.root).as_posix()

    def _write_masks(self, objects: Objects) -> None:
        size = (self.camera.width, self.camera.height)
        small = objects.masks if objects.masks is not None else np.zeros((len(self._depths), *size[::-1]), np.uint8)
        masks = np.stack([cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) for mask in small])
        with atomic_path(self.folder.masks / f"{self.name}.npz") as temporary:
            np.savez_compressed(temporary, masks=masks, depth=np.stack(self._depths))


def _regions(objects: Objects, size: tuple[int, int]) -> Regions | None:
    if objects.masks is not None:
        return MaskRegions(objects.masks)
    return BoxRegions(objects.boxes, size) if objects.boxes else None


def _drained(items: deque[Disparity]) -> Iterator[Disparity]:
    """The items, each let go when it is handed out."""
    while items:
        yield items.popleft()


def _from_labels(clip: StereoClip, config: AnnotateConfig) -> tuple[Outcome, Clip4D | None]:
    """A clip without images: poses and objects are the source's, or there is nothing to make a record of."""
    if clip.cam_to_world is None or clip.objects is None:
        raise InputError("the source has neither frames nor both poses and objects", file=clip.path, row=clip.clip_id)
    frames = range(0, clip.num_frames, config.frames.stride)
    view = Stretch(clip, frames, clip.clip_id)
    trajectory = source_trajectory(view)
    assert view.objects is not None
    objects = SourceObjects(view, view.objects, keep_masks=False).finish(trajectory)
    figures = {
        "num_frames": len(frames),
        **motion_figures(trajectory, objects.tracks),
        "poses": "source",
        "depth": "none",
        "objects": "source",
        VIDEO_KEY: VIDEO_ABSENT,
    }
    reasons = [reason for reason in [short_reason(len(frames), config)] if reason]
    reasons += broken_limits(figures, config.quality)
    outcome = Outcome(clip.clip_id, _span(frames), finite_figures(figures), tuple(reasons))
    if reasons:
        return outcome, None
    quality = {**view.notes, **outcome.figures, "source_frames": list(_span(frames))}
    return outcome, make_record(view, f"videos/{clip.clip_id}.mp4", trajectory, objects.tracks, quality)


def make_record(
    view: StereoClip, video: str, trajectory: Trajectory, tracks: list[ObjectTrack], quality: dict[str, Any]
) -> Clip4D:
    """The record of a stretch."""
    return Clip4D(
        clip_id=view.clip_id,
        source=view.source,
        license=view.license,
        video=video,
        fps=view.fps,
        num_frames=view.num_frames,
        width=view.camera.width,
        height=view.camera.height,
        intrinsics=view.camera.intrinsics,
        baseline=view.camera.baseline,
        cam_to_world=trajectory.cam_to_world,
        objects=tracks,
        quality=quality,
    )


def source_trajectory(view: StereoClip) -> Trajectory:
    """The source's poses as a trajectory that is taken to be exact."""
    assert view.cam_to_world is not None
    count = view.num_frames
    return Trajectory(
        cam_to_world=view.cam_to_world,
        reprojection_px=np.zeros(count),
        num_inliers=np.zeros(count, np.int64),
        num_matches=np.zeros(count, np.int64),
        center_std_m=np.zeros(count),
        lost=np.zeros(count, np.bool_),
    )


def half_precision(depth_m: FloatImage) -> NDArray[np.float16]:
    """Depths to three digits; what is too far for them is as good as unknown."""
    return np.where(depth_m < np.finfo(np.float16).max, depth_m, np.float32(np.nan)).astype(np.float16)


def has_depth(view: StereoClip) -> bool:
    """Whether the source has depth or disparity, by its first frame."""
    return view.disparity(0) is not None or view.depth(0) is not None


# -------------------------------------------------------------------------------------------------------- figures


def short_reason(num_frames: int, config: AnnotateConfig) -> Reason | None:
    """Why a stretch of so few frames is kept out, None where it is long enough."""
    least = config.frames.min_frames
    if num_frames >= least:
        return None
    return Reason("too short", f"{num_frames} frames, below frames.min_frames {least}", num_frames, least)


def odometry_figures(trajectory: Trajectory) -> dict[str, Any]:
    """Medians over frames from the second on, and the noise of the camera centre."""
    if len(trajectory.cam_to_world) < 2:
        return {}
    followed = slice(1, None)
    stds = trajectory.center_std_m[followed]
    stds = stds[np.isfinite(stds)]
    # Nothing is known of poses that nothing was measured for: as noisy as they are large.
    noise = float(np.sqrt(np.mean(stds**2))) if len(stds) else max(1.0, camera_reach_m(trajectory.cam_to_world))
    return {
        "num_matches": float(np.median(trajectory.num_matches[followed])),
        "num_inliers": float(np.median(trajectory.num_inliers[followed])),
        "reprojection_px": _median(trajectory.reprojection_px[followed]),
        "track_coverage": float(1 - trajectory.lost[followed].mean()),
        "camera_noise_m": noise,
    }


def motion_figures(trajectory: Trajectory, tracks: list[ObjectTrack]) -> dict[str, Any]:
    """How far the camera goes and turns, how many objects there are, how much of the time they are seen."""
    poses = trajectory.cam_to_world
    reach, turn = camera_reach_m(poses), camera_turn_deg(poses)
    seen = [np.mean([track.seen(frame) for frame in range(len(poses))]) for track in tracks]
    num_moving = sum(track.is_moving for track in tracks)
    return {
        "camera_path_m": trajectory.path_m,
        "camera_reach_m": reach,
        "camera_turn_deg": turn,
        "num_objects": len(tracks),
        "num_moving_objects": num_moving,
        "object_coverage": float(np.mean(seen)) if seen else None,
        "static": reach < _STILL_M and turn < _STILL_DEG and num_moving == 0,
    }


def camera_reach_m(cam_to_world: NDArray[np.float64]) -> float:
    """Largest distance of the camera centre from the first one, metres."""
    centers = cam_to_world[:, :3, 3]
    return float(np.linalg.norm(centers - centers[0], axis=1).max())


def camera_turn_deg(cam_to_world: NDArray[np.float64]) -> float:
    """Largest angle between the first camera and a later one, degrees."""
    turned = cam_to_world[0, :3, :3].T @ cam_to_world[:, :3, :3]
    cosine = (np.trace(turned, axis1=1, axis2=2) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).max())


def finite_figures(figures: dict[str, Any]) -> dict[str, Any]:
    """Without those that could not be measured: NaN is no JSON."""
    return {
        name: value
        for name, value in figures.items()
        if value is not None and not (isinstance(value, float) and not np.isfinite(value))
    }


def _median(values: Any) -> float:
    finite = np.asarray(values)[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else float("nan")


def _span(frames: range) -> tuple[int, int, int]:
    return frames.start, frames[-1] + 1, frames.step

"""Scene to stereo frames and exact truth."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..schema import MAX_POINTS_PER_OBJECT, Clip4D, ObjectTrack
from .config import WorldConfig
from .raycast import RoomView, cast, pixel_rays, view_room
from .scene import Room, Scene

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class StereoRender:
    """Rectified stereo frames of a scene with the left camera's truth.

    Attributes:
        left, right: (T,H,W,3) uint8 RGB.
        depth: (T,H,W) float32 metres along the left optical axis, through pixel centres.
        mask: (T,H,W) uint8, 0 background, m + 1 object m.
        intrinsics: (3,3) pixels, both cameras; pixel centres have integer coordinates.
        cam_to_world: (T,4,4), world = left camera of frame 0.
    """

    left: NDArray[np.uint8]
    right: NDArray[np.uint8]
    depth: NDArray[np.float32]
    mask: NDArray[np.uint8]
    intrinsics: FloatArray
    cam_to_world: FloatArray


def pinhole(width: int, height: int, focal_per_width: float) -> FloatArray:
    """Intrinsics (3,3) with square pixels and the principal point at the image centre."""
    focal = focal_per_width * width
    return np.array([[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]])


def render_stereo(scene: Scene, config: WorldConfig, width: int, height: int) -> StereoRender:
    """Render every frame of a scene from both eyes."""
    intrinsics = pinhole(width, height, config.focal_per_width)
    truth_rays = pixel_rays(intrinsics, width, height)
    colour_rays = pixel_rays(intrinsics, width, height, config.supersample) if config.supersample > 1 else truth_rays
    _keep_freed_memory()
    num_frames = len(scene.camera_to_level)
    left = np.empty((num_frames, height, width, 3), np.uint8)
    right = np.empty_like(left)
    depth = np.empty((num_frames, height, width), np.float32)
    mask = np.empty((num_frames, height, width), np.uint8)
    to_right_eye = np.eye(4)
    to_right_eye[0, 3] = config.baseline_m
    truth_room, left_room, right_room = (
        _RoomViewer(scene.room, rays) for rays in (truth_rays, colour_rays, colour_rays)
    )
    for frame, pose in enumerate(scene.camera_to_level):
        rgb, frame_depth, mask[frame] = cast(scene, frame, pose, truth_rays, truth_room.view(pose))
        depth[frame] = frame_depth
        if config.supersample > 1:
            rgb = cast(scene, frame, pose, colour_rays, left_room.view(pose))[0]
        left[frame] = _to_bytes(rgb, config.supersample)
        right_pose = pose @ to_right_eye
        rgb = cast(scene, frame, right_pose, colour_rays, right_room.view(right_pose))[0]
        right[frame] = _to_bytes(rgb, config.supersample)
    level_to_world = np.linalg.inv(scene.camera_to_level[0])
    cam_to_world = level_to_world @ scene.camera_to_level
    cam_to_world[0] = np.eye(4)
    return StereoRender(left, right, depth, mask, intrinsics, cam_to_world)


def _keep_freed_memory() -> None:
    """Have glibc keep what is freed, up to some ten megabytes, for the arrays that come next.

    It hands the memory of arrays of 128 KB and more back to the kernel each time, which takes a quarter as long as the
    sums; once a larger block was freed, that size is its new limit. Nothing is written to the block, so it costs none.
    """
    np.empty(30 << 20, np.uint8)


class _RoomViewer:
    """The empty room as the rays of a camera see it, cast again only when the camera has moved."""

    def __init__(self, room: Room, rays: FloatArray) -> None:
        self._room, self._rays = room, rays
        self._last: tuple[FloatArray, RoomView] | None = None

    def view(self, camera_to_level: FloatArray) -> RoomView:
        """What is seen from the pose (4,4)."""
        if self._last is None or not np.array_equal(self._last[0], camera_to_level):
            self._last = camera_to_level, view_room(self._room, camera_to_level, self._rays)
        return self._last[1]


def exact_clip(
    scene: Scene, render: StereoRender, *, clip_id: str, video: str, fps: float, baseline_m: float
) -> Clip4D:
    """The Clip4D record of a render: exact poses, and visible-surface points lifted from the exact depth."""
    num_frames, height, width = render.mask.shape
    return Clip4D(
        clip_id=clip_id,
        source="synthetic",
        license="Apache-2.0",
        video=video,
        fps=fps,
        num_frames=num_frames,
        width=width,
        height=height,
        intrinsics=render.intrinsics,
        baseline=baseline_m,
        cam_to_world=render.cam_to_world,
        objects=[
            ObjectTrack(
                id=number,
                category=solid.shape,
                description=solid.description,
                is_moving=solid.is_moving,
                points=[surface_points(render, frame, number) for frame in range(num_frames)],
            )
            for number, solid in enumerate(scene.objects, start=1)
        ],
        quality={"camera_motion": scene.camera_motion, "object_motions": [solid.motion for solid in scene.objects]},
    )


def surface_points(render: StereoRender, frame: int, number: int) -> NDArray[np.float32]:
    """World points (N,3) of the pixels that show object `number`, N at most 256, evenly spread over them."""
    v, u = np.nonzero(render.mask[frame] == number)
    if len(v) > MAX_POINTS_PER_OBJECT:
        chosen = np.linspace(0, len(v) - 1, MAX_POINTS_PER_OBJECT).round().astype(np.int64)
        v, u = v[chosen], u[chosen]
    z = render.depth[frame, v, u].astype(np.float64)
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1).astype(np.float64)
    in_camera = pixels @ np.linalg.inv(render.intrinsics).T * z[:, None]
    pose = render.cam_to_world[frame]
    return (in_camera @ pose[:3, :3].T + pose[:3, 3]).astype(np.float32)


def _to_bytes(rgb: FloatArray, supersample: int) -> NDArray[np.uint8]:
    """(H,W,3) of colours (H*s,W*s,3) in 0..1: means of blocks, rounded."""
    height, width, _ = rgb.shape
    if supersample > 1:
        size = (width // supersample, height // supersample)
        planes = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in np.moveaxis(rgb, -1, 0)]
    else:
        planes = list(np.moveaxis(rgb, -1, 0))
    return np.asarray(cv2.merge([(np.clip(255.0 * plane, 0.0, 255.0) + 0.5).astype(np.uint8) for plane in planes]))

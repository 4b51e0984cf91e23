"""Scene to stereo frames and exact truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..schema import MAX_POINTS_PER_OBJECT, Clip4D, ObjectTrack
from .config import WorldConfig
from .raycast import cast, pixel_rays
from .scene import Scene

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
    num_frames = len(scene.camera_to_level)
    left = np.empty((num_frames, height, width, 3), np.uint8)
    right = np.empty_like(left)
    depth = np.empty((num_frames, height, width), np.float32)
    mask = np.empty((num_frames, height, width), np.uint8)
    to_right_eye = np.eye(4)
    to_right_eye[0, 3] = config.baseline_m
    for frame, camera_to_level in enumerate(scene.camera_to_level):
        rgb, frame_depth, mask[frame] = cast(scene, frame, camera_to_level, truth_rays)
        depth[frame] = frame_depth
        if config.supersample > 1:
            rgb = cast(scene, frame, camera_to_level, colour_rays)[0]
        left[frame] = _to_bytes(rgb, config.supersample)
        right[frame] = _to_bytes(cast(scene, frame, camera_to_level @ to_right_eye, colour_rays)[0], config.supersample)
    level_to_world = np.linalg.inv(scene.camera_to_level[0])
    cam_to_world = level_to_world @ scene.camera_to_level
    cam_to_world[0] = np.eye(4)
    return StereoRender(left, right, depth, mask, intrinsics, cam_to_world)


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
    if supersample > 1:
        height, width = rgb.shape[0] // supersample, rgb.shape[1] // supersample
        rgb = rgb.reshape(height, supersample, width, supersample, 3).mean(axis=(1, 3))
    return (np.clip(rgb, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)

"""Clips of the synthetic world for tests of estimation: images of the left eye with exact disparities, masks, poses."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from mllm4d_verl.data_tools.estimation.odometry import Trajectory
from mllm4d_verl.data_tools.geometry import transform_points
from mllm4d_verl.data_tools.stereo.camera import StereoCamera
from mllm4d_verl.data_tools.synthetic import WorldConfig, clip_scene
from mllm4d_verl.data_tools.synthetic.camera_path import camera_path
from mllm4d_verl.data_tools.synthetic.raycast import cast, pixel_rays
from mllm4d_verl.data_tools.synthetic.render import pinhole
from mllm4d_verl.data_tools.synthetic.scene import Scene, SceneObject

FRAMES, FPS = 12, 4.0
# The room is 7 m deep: in a small image the fine pattern of a wall much farther away is thinner than a pixel.
WORLD = WorldConfig(
    handheld=0.0,
    camera_travel_m=(0.5, 0.5),
    camera_turn_deg=(12.0, 12.0),
    object_distance_m=(2.5, 4.0),
    object_travel_m=(0.6, 0.8),
)
# Sharp corners instead of fine waves: what is measured in it is the method, not how few pixels there are.
PATCHED = WORLD.replace(patch_m=0.4, detail=0.0)


@dataclass(frozen=True)
class RenderedClip:
    """Truth of T frames: left (T, H, W, 3), disparity and depth (T, H, W), mask (T, H, W) with 0 as background."""

    left: np.ndarray
    disparity: np.ndarray
    depth: np.ndarray
    mask: np.ndarray
    camera: StereoCamera
    cam_to_world: np.ndarray

    @property
    def trajectory(self) -> Trajectory:
        """The exact poses as an estimate without any doubt."""
        num = len(self.cam_to_world)
        many = np.full(num, 500)
        return Trajectory(self.cam_to_world, np.zeros(num), many, many, np.full(num, 1e-4), np.zeros(num, np.bool_))

    def center(self, frame: int, number: int) -> np.ndarray:
        """Mean (3,) of the world points that show object `number`."""
        v, u = np.nonzero(self.mask[frame] == number)
        points = self.camera.lift(np.stack([u, v], axis=1), self.depth[frame, v, u])
        return transform_points(self.cam_to_world[frame], points).mean(axis=0)


@cache
def still_things(camera_motion: str) -> RenderedClip:
    """Four objects that stay where they are."""
    return _render(
        camera_motion,
        _solid("box", "red", 0.35, (-1.0, 0.8, 3.2), yaw=0.5),
        _solid("sphere", "green", 0.4, (0.9, 0.7, 4.0)),
        _solid("cylinder", "blue", (0.3, 0.5, 0.3), (-0.2, 0.6, 4.8)),
        _solid("box", "yellow", 0.3, (1.7, 0.8, 5.0), yaw=0.2),
        world=PATCHED,
        size=256,
    )


@cache
def still_and_fine() -> RenderedClip:
    """A box and a sphere that stay, with the fine pattern of the default world; the camera goes to the right."""
    return _render(
        "right",
        _solid("box", "red", 0.4, (-0.6, 0.5, 3.5), yaw=0.4),
        _solid("sphere", "green", 0.35, (1.0, 0.7, 5.0)),
    )


@cache
def one_mover() -> RenderedClip:
    """A red box (1) goes 7 cm a frame to the right beside a still green sphere (2); the camera goes forward."""
    return _render(
        "forward",
        _solid("box", "red", 0.4, (-1.0, 0.3, 4.0), (0.07, 0, 0), yaw=0.4),
        _solid("sphere", "green", 0.35, (1.0, 0.7, 5.0)),
    )


@cache
def two_movers() -> RenderedClip:
    """A cyan box (1) comes into view on the right, a red box (2) is there from the start; 14 frames."""
    return _render(
        "right",
        _solid("box", "cyan", 0.4, (2.75, 0.4, 4.0), (-0.06, 0, 0), yaw=0.3, num_frames=14),
        _solid("box", "red", 0.4, (-0.9, 0.2, 3.5), (0.05, 0, 0), yaw=0.7, num_frames=14),
        num_frames=14,
    )


@cache
def fast_mover() -> RenderedClip:
    """At ten frames a second, a red box (1), half a metre long, crosses the view by 0.2 m a frame; 16 frames."""
    num_frames = 16
    return _render(
        "right",
        _solid("box", "red", 0.25, (-1.4, 0.5, 4.0), (0.2, 0, 0), yaw=0.1, num_frames=num_frames),
        _solid("sphere", "green", 0.35, (1.0, 0.7, 5.5), num_frames=num_frames),
        num_frames=num_frames,
    )


@cache
def large_mover(half_size_m: float) -> RenderedClip:
    """A yellow box (1) in the middle of the view goes 6 cm a frame to the left; the camera goes to the right."""
    return _render("right", _solid("box", "yellow", half_size_m, (0.5, 0.1, 3.0), (-0.06, 0, 0), yaw=0.5))


def _solid(shape, colour, half_size_m, start, step=(0, 0, 0), yaw=0.0, num_frames=FRAMES) -> SceneObject:
    """An object whose centre starts at (3,) level metres and goes by (3,) metres a frame."""
    centre = np.array(start, np.float64) + np.arange(num_frames)[:, None] * np.array(step, np.float64)
    half = np.broadcast_to(np.asarray(half_size_m, np.float64), 3)
    return SceneObject(shape, colour, "wander" if any(step) else "still", half, yaw, centre)


def _render(
    camera_motion: str, *objects: SceneObject, num_frames: int = FRAMES, world: WorldConfig = WORLD, size: int = 192
) -> RenderedClip:
    """As `render_stereo` does, without the right eye. The camera travels 0.5 m or turns by 12 degrees."""
    room = clip_scene(5, 3, 2, 1.0, world).room
    path = camera_path(camera_motion, num_frames, world, np.random.default_rng(1))
    scene = Scene(room, objects, camera_motion, path)
    intrinsics = pinhole(size, size, world.focal_per_width)
    rays, fine_rays = pixel_rays(intrinsics, size, size), pixel_rays(intrinsics, size, size, 2)
    left, depths, masks = [], [], []
    for frame, pose in enumerate(path):
        rgb = cast(scene, frame, pose, fine_rays)[0].reshape(size, 2, size, 2, 3).mean(axis=(1, 3))
        left.append((np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8))
        _, depth, mask = cast(scene, frame, pose, rays)
        depths.append(depth.astype(np.float32))
        masks.append(mask)
    cam_to_world = np.linalg.inv(path[0]) @ path
    cam_to_world[0] = np.eye(4)
    camera = StereoCamera(size, size, intrinsics, world.baseline_m)
    depth = np.stack(depths)
    return RenderedClip(np.stack(left), camera.disparity(depth), depth, np.stack(masks), camera, cam_to_world)

"""A scene: a room with patchy walls, objects on its floor, and where everything goes over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .camera_path import camera_path
from .config import CAMERA_MOTIONS, COLOURS, OBJECT_MOTIONS, WorldConfig

FloatArray = NDArray[np.float64]

#: Ground directions in the level frame.
_GROUND_AXIS: dict[str, tuple[float, float, float]] = {
    "left": (-1, 0, 0),
    "right": (1, 0, 0),
    "closer": (0, 0, -1),
    "farther": (0, 0, 1),
}
#: Factors on the grey of the patches, by face: left, right, ceiling, floor, behind, ahead.
_FACE_GREYS = (0.65, 0.65, 0.95, 0.85, 0.6, 0.6)
_FACE_COLOURS = (
    (0.45, 0.75, 0.85),
    (0.95, 0.75, 0.45),
    (1.35, 1.35, 1.35),
    (0.90, 0.90, 0.75),
    (0.70, 0.60, 0.70),
    (0.55, 0.50, 0.60),
)
_PLACEMENT_TRIES = 200
_CLEARANCE_M = 0.15
_CAMERA_CLEARANCE_M = 1.0


@dataclass(frozen=True)
class SceneObject:
    """One solid. `half_size_m` is (x,y,z): box half extents; sphere radius; cylinder radius, half height, radius."""

    shape: str
    colour: str
    motion: str
    half_size_m: FloatArray
    yaw: float
    #: Centre per frame (T,3), level frame.
    centre: FloatArray

    @property
    def description(self) -> str:
        return f"the {self.colour} {self.shape}"

    @property
    def is_moving(self) -> bool:
        return self.motion != "still"

    @property
    def bounding_radius_m(self) -> float:
        if self.shape == "sphere":
            return float(self.half_size_m[0])
        if self.shape == "cylinder":
            return float(np.hypot(self.half_size_m[0], self.half_size_m[1]))
        return float(np.linalg.norm(self.half_size_m))

    @property
    def rgb(self) -> FloatArray:
        return np.array(COLOURS[self.colour])


@dataclass(frozen=True)
class Room:
    """An axis-aligned room seen from inside; `palette` (6,K,K,3) holds the patch colours of -x,+x,-y,+y,-z,+z faces."""

    low: FloatArray
    high: FloatArray
    palette: FloatArray
    patch_m: float
    detail: float


@dataclass(frozen=True)
class Scene:
    """Everything the renderer needs, in the level frame: +Y along gravity, origin at the left camera of frame 0."""

    room: Room
    objects: tuple[SceneObject, ...]
    camera_motion: str
    #: Left camera to level frame, (T,4,4).
    camera_to_level: FloatArray


def sample_scene(config: WorldConfig, num_frames: int, aspect: float, rng: np.random.Generator) -> Scene:
    """Draw one scene. `aspect` is image height over width, needed to place objects in view."""
    camera_motion = _draw(config.camera_motions, CAMERA_MOTIONS, rng)
    path = camera_path(camera_motion, num_frames, config, rng)
    height_m = rng.uniform(*config.camera_height_m)
    # A separate stream for the look, so that another palette never moves an object.
    room = _sample_room(config, height_m, np.random.default_rng(rng.integers(2**63)))
    if config.one_mover and camera_motion != "still":
        config = config.replace(object_motions={"still": 1.0})
    return Scene(room, _sample_objects(config, room, path, aspect, rng), camera_motion, path)


def _draw(weights: Mapping[str, float], order: tuple[str, ...], rng: np.random.Generator) -> str:
    share = np.array([weights.get(name, 0.0) for name in order], dtype=np.float64)
    return order[int(rng.choice(len(order), p=share / share.sum()))]


def _sample_room(config: WorldConfig, height_m: float, rng: np.random.Generator) -> Room:
    reach = config.object_distance_m[1] + config.object_travel_m[1]
    left_m, right_m = rng.uniform(*config.side_wall_m, 2)
    low = np.array([-left_m, height_m - rng.uniform(*config.ceiling_m), -rng.uniform(6.0, 9.0)])
    high = np.array([right_m, height_m, reach + rng.uniform(*config.far_wall_m)])
    grey = rng.uniform(*config.patch_levels, (6, 32, 32, 1))
    tint = rng.uniform(0.85, 1.0, (6, 1, 1, 3))
    face = np.array(_FACE_COLOURS if config.coloured_faces else _FACE_GREYS).reshape(6, 1, 1, -1)
    return Room(low, high, np.minimum(grey * tint * face, 1.0), config.patch_m, config.detail)


def _sample_objects(
    config: WorldConfig, room: Room, path: FloatArray, aspect: float, rng: np.random.Generator
) -> tuple[SceneObject, ...]:
    wanted = int(rng.integers(config.num_objects[0], config.num_objects[1] + 1))
    colours = rng.permutation(np.array(config.colours))
    placed: list[SceneObject] = []
    for index in range(wanted):
        # Drawn once: trying again with another motion would favour those that stay in view easily.
        motion = _draw_motion(config, index < config.min_moving, rng)
        for attempt in range(_PLACEMENT_TRIES):
            candidate = _draw_object(config, str(colours[index]), motion, len(path), float(room.high[1]), rng)
            # A crowded or turning view may leave no place that is always seen; unseen at an end is allowed then.
            relaxed = attempt > _PLACEMENT_TRIES // 2
            if _fits(candidate, placed, room, path) and (relaxed or _in_view(candidate, path, config, aspect)):
                placed.append(candidate)
                break
    return tuple(placed)


def _draw_motion(config: WorldConfig, must_move: bool, rng: np.random.Generator) -> str:
    moving = {name: weight for name, weight in config.object_motions.items() if name != "still"}
    return _draw(moving if must_move and sum(moving.values()) > 0 else config.object_motions, OBJECT_MOTIONS, rng)


def _draw_object(
    config: WorldConfig, colour: str, motion: str, num_frames: int, height_m: float, rng: np.random.Generator
) -> SceneObject:
    shape = config.shapes[int(rng.integers(len(config.shapes)))]
    half = rng.uniform(*config.object_half_size_m, 3)
    if shape == "sphere":
        half = np.full(3, half[0])
    elif shape == "cylinder":
        half = np.array([half[0], half[1], half[0]])
    yaw = rng.uniform(0.0, np.pi / 2) if shape == "box" else 0.0

    distance_m = rng.uniform(*config.object_distance_m)
    side = rng.uniform(-config.object_side, config.object_side) * distance_m * 0.5 / config.focal_per_width
    start = np.array([side, height_m - half[1], distance_m])
    travel_m = rng.uniform(*config.object_travel_m)
    heading = rng.uniform(0.0, 2 * np.pi)
    if motion == "still":
        direction = np.zeros(3)
    elif motion == "wander":
        direction = np.array([np.sin(heading), 0.0, np.cos(heading)])
    elif motion == "up":
        direction, travel_m = np.array([0.0, -1.0, 0.0]), 0.5 * travel_m
    else:
        direction = np.array(_GROUND_AXIS[motion], dtype=np.float64)
    progress = np.linspace(0.0, 1.0, num_frames)[:, None] if num_frames > 1 else np.zeros((1, 1))
    return SceneObject(shape, colour, motion, half, float(yaw), start + progress * direction * travel_m)


def _fits(candidate: SceneObject, placed: list[SceneObject], room: Room, path: FloatArray) -> bool:
    """No collision with a wall, another object or the camera at any frame."""
    radius = candidate.bounding_radius_m
    across = candidate.centre[:, ::2]
    if (across < room.low[::2] + radius).any() or (across > room.high[::2] - radius).any():
        return False
    to_camera = np.linalg.norm(candidate.centre - path[:, :3, 3], axis=-1)
    if to_camera.min() < radius + _CAMERA_CLEARANCE_M:
        return False
    return all(
        np.linalg.norm(candidate.centre - other.centre, axis=-1).min() > radius + other.bounding_radius_m + _CLEARANCE_M
        for other in placed
    )


def _in_view(candidate: SceneObject, path: FloatArray, config: WorldConfig, aspect: float) -> bool:
    """The whole object shows at the first and the last frame; what is cut off would pass for a shift of its centre."""
    half_width = 0.5 / config.focal_per_width
    for frame in (0, -1):
        x, y, z = path[frame, :3, :3].T @ (candidate.centre[frame] - path[frame, :3, 3])
        nearest = z - candidate.bounding_radius_m
        if nearest <= _CAMERA_CLEARANCE_M / 2:
            return False
        reach_x, reach_y = abs(x) + candidate.half_size_m.max(), abs(y) + candidate.half_size_m[1]
        if reach_x > half_width * nearest or reach_y > half_width * aspect * nearest:
            return False
    return True

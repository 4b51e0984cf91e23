"""Analytic ray casting of a scene: colour, depth and object index for every pixel, vectorised over pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .camera_path import rotation_y
from .scene import Room, Scene, SceneObject

FloatArray = NDArray[np.float64]

_LIGHT = np.array([0.45, -0.75, -0.5]) / np.linalg.norm([0.45, -0.75, -0.5])
_AMBIENT = 0.6
_TINY = 1e-12


def pixel_rays(intrinsics: FloatArray, width: int, height: int, supersample: int = 1) -> FloatArray:
    """Ray directions (H*s, W*s, 3) in the camera frame with z = 1, so that a ray's length parameter is its depth.

    Pixel (u, v) is a unit square whose centre has the coordinates (u, v), as in OpenCV.
    """
    offset = (np.arange(supersample) + 0.5) / supersample - 0.5
    u = (np.arange(width)[:, None] + offset).ravel()
    v = (np.arange(height)[:, None] + offset).ravel()
    x = (u - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (v - intrinsics[1, 2]) / intrinsics[1, 1]
    rays = np.ones((v.size, u.size, 3))
    rays[..., 0] = x
    rays[..., 1] = y[:, None]
    return rays


def cast(
    scene: Scene, frame: int, camera_to_level: FloatArray, rays: FloatArray
) -> tuple[FloatArray, FloatArray, NDArray[np.uint8]]:
    """Cast `rays` (h,w,3), as from `pixel_rays`, from one camera (4,4) at one frame.

    Returns:
        rgb (h,w,3) in 0..1, depth (h,w) in metres along the optical axis, and index (h,w): 0 the room, m + 1 object m.
    """
    origin = camera_to_level[:3, 3]
    directions = rays @ camera_to_level[:3, :3].T
    depth, rgb = _cast_room(scene.room, origin, directions)
    index = np.zeros(depth.shape, dtype=np.uint8)
    for number, solid in enumerate(scene.objects, start=1):
        window = _window(solid, frame, camera_to_level, rays)
        if window is None:
            continue
        part = directions[window]
        distance, normal = _cast_solid(solid, solid.centre[frame], origin, part)
        hit = distance < depth[window]
        if not hit.any():
            continue
        depth[window][hit] = distance[hit]
        index[window][hit] = number
        shade = _AMBIENT + (1 - _AMBIENT) * np.maximum(normal[hit] @ _LIGHT, 0.0)
        colour = solid.rgb * shade[:, None]
        if scene.room.detail > 0:
            x, y, z = (origin + distance[hit][:, None] * part[hit] - solid.centre[frame]).T
            colour *= _speckle(x, y, z, scene.room.detail)[:, None]
        rgb[window][hit] = colour
    return rgb, depth, index


def _cast_room(room: Room, origin: FloatArray, directions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Depth (h,w) and colour (h,w,3) of the room's faces, seen from inside."""
    # One axis at a time: whole arrays are several times faster than threes of numbers beside each other.
    rays = [np.ascontiguousarray(directions[..., axis]) for axis in range(3)]
    exits, upward = [], []
    for axis, along in enumerate(rays):
        safe = np.where(np.abs(along) < _TINY, _TINY, along)
        upward.append(safe > 0)
        exits.append((np.where(upward[axis], room.high[axis], room.low[axis]) - origin[axis]) / safe)
    depth = np.minimum(np.minimum(exits[0], exits[1]), exits[2])
    # The first axis wins a tie, in an edge of the room.
    is_x = exits[0] == depth
    is_z = ~is_x & (exits[1] != depth)
    face = np.where(is_x, upward[0], np.where(is_z, 4 + upward[2], 2 + upward[1]))
    points = [start + depth * along for start, along in zip(origin, rays, strict=True)]
    # The two coordinates that span the face, in patches.
    first = np.where(is_x, points[1], points[0]) / room.patch_m
    second = np.where(is_z, points[1], points[2]) / room.patch_m
    size = room.palette.shape[1]
    row = np.floor(first).astype(np.int64) % size
    column = np.floor(second).astype(np.int64) % size
    rgb = room.palette[face, row, column]
    if room.detail > 0:
        rgb *= _speckle(points[0], points[1], points[2], room.detail)[..., None]
    return depth, rgb


def _speckle(x: FloatArray, y: FloatArray, z: FloatArray, strength: float) -> FloatArray:
    """Brightness factor (...) of a fine solid pattern: two crossed waves of 15 and 40 cm that never line up."""
    coarse = np.sin(41.0 * x + 7.3 * y) * np.sin(37.0 * z - 5.1 * x) + np.sin(43.0 * y + 3.7 * z)
    fine = np.sin(15.1 * (x + z) + 1.0) * np.sin(16.9 * (y - x))
    factor: FloatArray = 1.0 + strength * (0.3 * coarse + 0.7 * fine)
    return factor


def _window(
    solid: SceneObject, frame: int, camera_to_level: FloatArray, rays: FloatArray
) -> tuple[slice, slice] | None:
    """The block of rays that can meet the solid's bounding sphere, or None; exact tangents of the sphere per axis."""
    centre = camera_to_level[:3, :3].T @ (solid.centre[frame] - camera_to_level[:3, 3])
    radius = solid.bounding_radius_m
    block = []
    for axis, tangents in ((1, rays[:, 0, 1]), (0, rays[0, :, 0])):
        across, along = centre[axis], centre[2]
        reach = np.hypot(across, along)
        if reach <= radius:
            block.append(slice(0, tangents.size))
            continue
        middle, half = np.arctan2(across, along), np.arcsin(radius / reach)
        low, high = middle - half, middle + half
        if high <= -np.pi / 2 or low >= np.pi / 2:
            return None
        start = 0 if low <= -np.pi / 2 else int(np.searchsorted(tangents, np.tan(low), "left"))
        stop = tangents.size if high >= np.pi / 2 else int(np.searchsorted(tangents, np.tan(high), "right"))
        if start >= stop:
            return None
        block.append(slice(start, stop))
    return block[0], block[1]


def _cast_solid(
    solid: SceneObject, centre: FloatArray, origin: FloatArray, directions: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Distance (h,w), inf where missed, and unit normals (h,w,3) of one solid; the origin must lie outside it."""
    start = origin - centre
    if solid.shape == "sphere":
        return _cast_sphere(float(solid.half_size_m[0]), start, directions)
    if solid.shape == "cylinder":
        return _cast_cylinder(float(solid.half_size_m[0]), float(solid.half_size_m[1]), start, directions)
    turn = rotation_y(solid.yaw)
    distance, normal = _cast_box(solid.half_size_m, start @ turn, directions @ turn)
    return distance, normal @ turn.T


def _cast_sphere(radius: float, start: FloatArray, directions: FloatArray) -> tuple[FloatArray, FloatArray]:
    a = (directions**2).sum(-1)
    b = directions @ start
    c = float(start @ start) - radius**2
    distance = _nearer_root(a, b, c)
    with np.errstate(invalid="ignore"):
        normal = (start + distance[..., None] * directions) / radius
    return distance, normal


def _cast_cylinder(
    radius: float, half_height: float, start: FloatArray, directions: FloatArray
) -> tuple[FloatArray, FloatArray]:
    flat, flat_start = directions[..., ::2], start[::2]
    a = np.maximum((flat**2).sum(-1), _TINY)
    b = flat @ flat_start
    c = float(flat_start @ flat_start) - radius**2
    side = _nearer_root(a, b, c)
    dy = np.where(np.abs(directions[..., 1]) < _TINY, _TINY, directions[..., 1])
    with np.errstate(invalid="ignore"):
        side = np.where(np.abs(start[1] + side * dy) <= half_height, side, np.inf)
        lid_y = -half_height * np.sign(dy)  # a ray that goes down can only enter through the upper lid
        lid = (lid_y - start[1]) / dy
        across = flat_start + lid[..., None] * flat
        lid = np.where((lid > 0) & ((across**2).sum(-1) <= radius**2), lid, np.inf)
        distance = np.minimum(side, lid)
        normal = (start + distance[..., None] * directions) / radius
    normal[..., 1] = 0.0
    through_lid = lid < side
    normal[through_lid] = 0.0
    normal[..., 1] = np.where(through_lid, np.sign(lid_y), 0.0)
    return distance, normal


def _cast_box(half_size: FloatArray, start: FloatArray, directions: FloatArray) -> tuple[FloatArray, FloatArray]:
    safe = np.where(np.abs(directions) < _TINY, _TINY, directions)
    enters = (-np.sign(safe) * half_size - start) / safe
    leaves = (np.sign(safe) * half_size - start) / safe
    axis = enters.argmax(axis=-1)[..., None]
    distance = np.take_along_axis(enters, axis, axis=-1)[..., 0]
    distance = np.where((distance > 0) & (distance < leaves.min(axis=-1)), distance, np.inf)
    normal = np.zeros(directions.shape)
    np.put_along_axis(normal, axis, -np.sign(np.take_along_axis(safe, axis, axis=-1)), axis=-1)
    return distance, normal


def _nearer_root(a: FloatArray, b: FloatArray, c: float) -> FloatArray:
    """Smaller root of a t^2 + 2 b t + c = 0 where it is real and ahead, else inf."""
    discriminant = b**2 - a * c
    root = (-b - np.sqrt(np.maximum(discriminant, 0.0))) / a
    return np.where((discriminant > 0) & (root > 0), root, np.inf)

"""Analytic ray casting of a scene: colour, depth and object index for every pixel, vectorised over pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .camera_path import rotation_y
from .scene import Room, Scene, SceneObject

FloatArray = NDArray[np.float64]

_LIGHT = np.array([0.45, -0.75, -0.5]) / np.linalg.norm([0.45, -0.75, -0.5])
_AMBIENT = 0.6
_TINY = 1e-12
_ROUNDING = 1e-9  # relative
#: Arrays below this size take NumPy's sine: with them, calls are what takes the time.
_FEW = 1000
#: sin(2 pi u) / u as a polynomial of u^2 for u within half a turn, fitted at Chebyshev nodes.
_SINE = (
    6.283185307179274,
    -41.3417022401965,
    81.6052492543691,
    -76.70585885975068,
    42.05867551233635,
    -15.09442866717116,
    3.818491306863726,
    -0.7122800043225288,
    0.09150123596191406,
)


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
    scene: Scene, frame: int, camera_to_level: FloatArray, rays: FloatArray, view: RoomView | None = None
) -> tuple[FloatArray, FloatArray, NDArray[np.uint8]]:
    """Cast `rays` (h,w,3), as from `pixel_rays`, from one camera (4,4) at one frame.

    Args:
        view: what `view_room` says of the same room, camera and rays, where it is known already.

    Returns:
        rgb (h,w,3) in 0..1, depth (h,w) in metres along the optical axis, and index (h,w): 0 the room, m + 1 object m.
    """
    view = view or view_room(scene.room, camera_to_level, rays)
    depth, rgb = view.depth.copy(), view.rgb.copy()
    origin = camera_to_level[:3, 3]
    index = np.zeros(depth.shape, dtype=np.uint8)
    for number, solid in enumerate(scene.objects, start=1):
        window = _window(solid, frame, camera_to_level, rays)
        if window is None:
            continue
        distance = _cast_solid(solid, solid.centre[frame], camera_to_level, rays[window])
        rows, columns = np.nonzero(distance < depth[window])
        if not len(rows):
            continue
        distance = distance[rows, columns]
        rows, columns = rows + window[0].start, columns + window[1].start
        points = distance * (camera_to_level[:3, :3] @ rays[rows, columns].T) + (origin - solid.centre[frame])[:, None]
        brightness = _AMBIENT + (1 - _AMBIENT) * np.maximum(_LIGHT @ _normals(solid, points), 0.0)
        if scene.room.detail > 0:
            x, y, z = points
            brightness *= _speckle(x, y, z, scene.room.detail)
        depth[rows, columns] = distance
        index[rows, columns] = number
        for channel, colour in zip(rgb, solid.rgb, strict=True):
            channel[rows, columns] = colour * brightness
    return np.moveaxis(rgb, 0, -1), depth, index


class RoomView(NamedTuple):
    """What the rays of one camera see of an empty room: depth (h,w) in metres, rgb (3,h,w) in 0..1."""

    depth: FloatArray
    rgb: FloatArray


def view_room(room: Room, camera_to_level: FloatArray, rays: FloatArray) -> RoomView:
    """Cast `rays` (h,w,3), as from `pixel_rays`, to the faces of a room that the camera (4,4) is in.

    Arrays have one row or one column wherever a value is the same in all: for a level camera that looks straight ahead,
    most of the work is done per row and per column, not per pixel.
    """
    origin = camera_to_level[:3, 3]
    directions = _directions(camera_to_level[:3, :3], rays)
    exits, upward = [], []
    for axis, along in enumerate(directions):
        safe = np.where(np.abs(along) < _TINY, _TINY, along)
        upward.append(safe > 0)
        exits.append((np.where(upward[axis], room.high[axis], room.low[axis]) - origin[axis]) / safe)
    shape = rays.shape[:2]
    depth = np.empty(shape)
    np.minimum(exits[0], exits[1], out=depth)
    np.minimum(depth, exits[2], out=depth)
    rgb = np.empty((3, *shape))
    # The first axis wins a tie, in an edge of the room.
    is_free = np.ones(shape, np.bool_)
    for axis in range(3):
        ends_here = is_free & (exits[axis] == depth)
        is_free &= ~ends_here
        for side in range(2):
            is_face = ends_here & (upward[axis] == bool(side))
            window = _bounds(is_face)
            if window is None:
                continue
            points = [
                start + _cut(exits[axis], window) * _cut(along, window)
                for start, along in zip(origin, directions, strict=True)
            ]
            points[axis] = np.full((1, 1), (room.low, room.high)[side][axis])
            _paint(room, 2 * axis + side, points, is_face[window], rgb[:, window[0], window[1]])
    return RoomView(depth, rgb)


def _directions(rotation: FloatArray, rays: FloatArray) -> list[FloatArray]:
    """x, y and z of `rays` (h,w,3) turned by `rotation` (3,3), each (h,w), (h,1), (1,w) or (1,1).

    The x of the rays must be the same in all rows, their y the same in all columns, and z = 1.
    """
    turned = []
    for across, down, ahead in rotation:
        value = np.full((1, 1), ahead)
        if across:
            value = value + across * rays[:1, :, 0]
        if down:
            value = value + down * rays[:, :1, 1]
        turned.append(value)
    return turned


def _cut(values: FloatArray, window: tuple[slice, slice]) -> FloatArray:
    """The window of an array that may have one row or one column for all."""
    rows, columns = (part if size > 1 else slice(None) for part, size in zip(window, values.shape, strict=True))
    return values[rows, columns]


def _bounds(mask: NDArray[np.bool_]) -> tuple[slice, slice] | None:
    """Rows and columns that hold all of a mask (h,w), None where it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if len(rows) else None


def _paint(room: Room, face: int, points: list[FloatArray], inside: NDArray[np.bool_], rgb: FloatArray) -> None:
    """Colour one face in the part `inside` (h,w) of rgb (3,h,w); `points` are x, y and z, each of a shape that fits."""
    first, second = (axis for axis in range(3) if axis != face // 2)
    # The two coordinates that span the face, in patches: y and z on x faces, x and z on y faces, x and y on z faces.
    size = room.palette.shape[1]
    row, column = (np.floor(points[axis] / room.patch_m).astype(np.intp) % size for axis in (first, second))
    patch = row * size + column
    x, y, z = points
    brightness = _speckle(x, y, z, room.detail) if room.detail > 0 else None
    palette = room.palette[face].reshape(-1, 3)
    for channel, plane in enumerate(rgb):
        colour = palette[:, channel].take(patch)
        if brightness is None:
            np.copyto(plane, colour, where=inside)
        else:
            np.multiply(colour, brightness, out=plane, where=inside)


def _speckle(x: FloatArray, y: FloatArray, z: FloatArray, strength: float) -> FloatArray:
    """Brightness factor (...) of a fine solid pattern: two crossed waves of 15 and 40 cm that never line up."""
    coarse = _wave(41.0 * x, 7.3 * y) * _wave(37.0 * z, -5.1 * x) + _wave(43.0 * y, 3.7 * z)
    fine = _wave(15.1 * x, 15.1 * z + 1.0) * _wave(16.9 * y, -16.9 * x)
    factor: FloatArray = (0.3 * strength) * coarse
    factor += (0.7 * strength) * fine
    factor += 1.0
    return factor


def _wave(first: FloatArray, second: FloatArray) -> FloatArray:
    """sin(first + second), by the sines of either where one runs along rows and the other along columns."""
    if 4 * (first.size + second.size) <= math.prod(np.broadcast_shapes(first.shape, second.shape)):
        wave: FloatArray = np.sin(first) * np.cos(second)
        wave += np.cos(first) * np.sin(second)
        return wave
    both = first + second
    return _sine(both) if both.size > _FEW else np.sin(both)


def _sine(angle: FloatArray) -> FloatArray:
    """Sine to 2e-13, for many angles: NumPy's own takes three times as long where it has no vector code for float64."""
    rest = angle * (0.5 / np.pi)  # turns
    rest -= np.rint(rest)
    square = rest * rest
    sine = _SINE[-1] * square
    for factor in _SINE[-2:0:-1]:
        sine += factor
        sine *= square
    sine += _SINE[0]
    sine *= rest
    return sine


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


def _cast_solid(solid: SceneObject, centre: FloatArray, camera_to_level: FloatArray, rays: FloatArray) -> FloatArray:
    """Distance (h,w), inf where missed, of one solid; the camera must lie outside it."""
    # Seen from the solid: its own axes, its centre as the origin.
    to_solid = rotation_y(solid.yaw).T
    start = to_solid @ (camera_to_level[:3, 3] - centre)
    directions = _directions(to_solid @ camera_to_level[:3, :3], rays)
    with np.errstate(invalid="ignore"):
        if solid.shape == "sphere":
            return _cast_round(float(solid.half_size_m[0]), start, directions)
        if solid.shape == "cylinder":
            return _cast_cylinder(float(solid.half_size_m[0]), float(solid.half_size_m[1]), start, directions)
        return _cast_box(solid.half_size_m, start, directions)


def _cast_round(radius: float, start: FloatArray, directions: Sequence[FloatArray]) -> FloatArray:
    """Distance of a sphere, or with two axes only, of an endless cylinder along the third."""
    a = np.maximum(sum(along * along for along in directions), _TINY)
    b = sum(along * at for along, at in zip(directions, start, strict=True))
    return _nearer_root(a, np.asarray(b), float(start @ start) - radius**2)


def _cast_cylinder(
    radius: float, half_height: float, start: FloatArray, directions: Sequence[FloatArray]
) -> FloatArray:
    x, y, z = directions
    side = _cast_round(radius, start[::2], (x, z))
    dy = np.where(np.abs(y) < _TINY, _TINY, y)
    side = np.where(np.abs(start[1] + side * dy) <= half_height, side, np.inf)
    lid_y = -half_height * np.sign(dy)  # a ray that goes down can only enter through the upper lid
    lid = (lid_y - start[1]) / dy
    away = (start[0] + lid * x) ** 2 + (start[2] + lid * z) ** 2
    return np.minimum(side, np.where((lid > 0) & (away <= radius**2), lid, np.inf))


def _cast_box(half_size: FloatArray, start: FloatArray, directions: Sequence[FloatArray]) -> FloatArray:
    enters, leaves = [], []
    for half, at, along in zip(half_size, start, directions, strict=True):
        safe = np.where(np.abs(along) < _TINY, _TINY, along)
        enters.append((-np.sign(safe) * half - at) / safe)
        leaves.append((np.sign(safe) * half - at) / safe)
    entered = np.maximum(np.maximum(enters[0], enters[1]), enters[2])
    left = np.minimum(np.minimum(leaves[0], leaves[1]), leaves[2])
    return np.where((entered > 0) & (entered < left), entered, np.inf)


def _nearer_root(a: FloatArray, b: FloatArray, c: float) -> FloatArray:
    """Smaller root of a t^2 + 2 b t + c = 0 where it is real and ahead, else inf."""
    discriminant = b**2 - a * c
    root = (-b - np.sqrt(np.maximum(discriminant, 0.0))) / a
    return np.where((discriminant > 0) & (root > 0), root, np.inf)


def _normals(solid: SceneObject, points: FloatArray) -> FloatArray:
    """Unit normals (3,N) at points (3,N) of the surface, seen from the centre, in axes of the room."""
    if solid.shape == "sphere":
        return points / solid.half_size_m[0]
    if solid.shape == "cylinder":
        normals = points / solid.half_size_m[0]
        # Points of a lid lie on it but for rounding.
        is_lid = np.abs(points[1]) > (1 - _ROUNDING) * solid.half_size_m[1]
        normals[:, is_lid] = 0.0
        normals[1] = np.where(is_lid, np.sign(points[1]), 0.0)
        return normals
    turn = rotation_y(solid.yaw)
    local = turn.T @ points
    axis = (np.abs(local) / solid.half_size_m[:, None]).argmax(axis=0)
    normals = np.zeros(local.shape)
    normals[axis, np.arange(len(axis))] = np.sign(local[axis, np.arange(len(axis))])
    return turn @ normals

"""What tests of readers write in every format: images of a textured plane at a whole disparity, and camera paths."""

import cv2
import numpy as np

WIDTH, HEIGHT = 64, 48


def plane_pair(
    disparity: int, seed: int = 0, width: int = WIDTH, height: int = HEIGHT
) -> tuple[np.ndarray, np.ndarray]:
    """Left and right (H, W, 3) uint8 RGB of a fronto-parallel plane: left[y, x] is right[y, x - disparity]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 4, width // 2, 3), dtype=np.uint8)
    texture = cv2.resize(coarse, (2 * width, height), interpolation=cv2.INTER_CUBIC)
    return texture[:, :width].copy(), texture[:, disparity : disparity + width].copy()


def measured_disparity(pair) -> int:
    """The whole shift at which the right image of a plane lies best on the left one."""
    left, right = (image.astype(np.float64) for image in (pair.left, pair.right))
    width = left.shape[1]
    errors = [np.abs(left[:, shift:] - right[:, : width - shift]).mean() for shift in range(width // 2)]
    return int(np.argmin(errors))


def write_rgb(path, image: np.ndarray) -> None:
    """An RGB image to the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [cv2.IMWRITE_JPEG_QUALITY, 100] if path.suffix == ".jpg" else []
    assert cv2.imwrite(str(path), np.ascontiguousarray(image[:, :, ::-1]), options)


def write_text(path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def turn(axis: str, degrees: float) -> np.ndarray:
    """(3, 3) rotation about an axis by the right-hand rule."""
    sin, cos = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    rotation = np.eye(3)
    rotation[first, first] = rotation[second, second] = cos
    rotation[second, first], rotation[first, second] = sin, -sin
    return rotation


def drive(num_frames: int) -> np.ndarray:
    """(T, 4, 4) camera-to-world in OpenCV axes: a curve to the right, 1 m a frame, that starts anywhere."""
    poses = [np.eye(4)]
    poses[0][:3, :3] = turn("y", 30) @ turn("x", 5)
    poses[0][:3, 3] = [4.0, -1.0, 2.0]
    for _ in range(num_frames - 1):
        step = np.eye(4)
        step[:3, :3] = turn("y", 4)
        step[:3, 3] = [0.1, 0.02, 1.0]
        poses.append(poses[-1] @ step)
    return np.stack(poses)


def from_first(cam_to_world: np.ndarray) -> np.ndarray:
    """The path in a world that is the camera of frame 0, by plain inversion."""
    return np.linalg.inv(cam_to_world[0]) @ cam_to_world

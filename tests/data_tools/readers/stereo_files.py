"""Small stereo sources as users have them, written by the tests."""

import json
from pathlib import Path

import numpy as np
from video_files import HEIGHT, WIDTH, frame_numbers, moving_frames, write_h264, write_images

from mllm4d_verl.data_tools.synthetic.mp4 import write_mp4

__all__ = ["frame_numbers", "moving_frames", "write_h264", "write_images"]

DATA = Path(__file__).parents[4] / "shared" / "data"
CALIBRATION = {
    "model": "rectified pinhole",
    "width": WIDTH,
    "height": HEIGHT,
    "intrinsics": [[90.0, 0.0, 47.5], [0.0, 90.0, 31.5], [0.0, 0.0, 1.0]],
    "baseline_m": 0.12,
}


def write_pair(folder, count=6, calibration=CALIBRATION, seed=0):
    """A clip folder with left.mp4, right.mp4 (the left one shifted by 6 pixels) and calibration.json."""
    folder.mkdir(parents=True, exist_ok=True)
    left = moving_frames(count, seed=seed)
    write_mp4(folder / "left.mp4", left, 10.0)
    write_mp4(folder / "right.mp4", np.roll(left, -6, axis=2), 10.0)
    if calibration is not None:
        (folder / "calibration.json").write_text(json.dumps(calibration))
    return folder


def dot_image(pixel, width, height):
    """A bright Gaussian dot at a sub-pixel place (x, y) on black, (H, W, 3)."""
    y, x = np.mgrid[:height, :width]
    level = 250 * np.exp(-((x - pixel[0]) ** 2 + (y - pixel[1]) ** 2) / (2 * 2.5**2))
    return np.repeat(np.round(level).astype(np.uint8)[..., None], 3, axis=2)


def dot_place(image):
    """(x, y) of the dot."""
    level = image[..., 0].astype(np.float64)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(x * level).sum(), (y * level).sum()]) / level.sum()

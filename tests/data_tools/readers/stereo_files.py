"""Small stereo sources as users have them, written by the tests."""

import json
from pathlib import Path

import av
import cv2
import numpy as np

from mllm4d_verl.data_tools.synthetic.mp4 import write_mp4

DATA = Path(__file__).parents[4] / "shared" / "data"
WIDTH, HEIGHT = 96, 64
CALIBRATION = {
    "model": "rectified pinhole",
    "width": WIDTH,
    "height": HEIGHT,
    "intrinsics": [[90.0, 0.0, 47.5], [0.0, 90.0, 31.5], [0.0, 0.0, 1.0]],
    "baseline_m": 0.12,
}


def moving_frames(count=6, width=WIDTH, height=HEIGHT, seed=0):
    """(T, H, W, 3): blocks of colour that shift by 4 pixels a frame; grey level of the top left block is 20 * t."""
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    frames = np.stack([np.roll(base, 4 * t, axis=1) for t in range(count)])
    for t in range(count):
        frames[t, :16, :16] = 20 * (t % 12)
    return frames


def frame_numbers(frames):
    """Which frame of `moving_frames` each one is, read from its top left block."""
    return [round(float(frame[4:12, 4:12].mean()) / 20) for frame in frames]


def write_h264(path, frames, container_options=None, **codec_options):
    """Encode with B frames, as phones and cameras do."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "8", "bf": "2", "crf": "12", **codec_options})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_images(folder, frames, names="{:06d}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / names.format(number)), np.ascontiguousarray(frame[..., ::-1]))
    return folder


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

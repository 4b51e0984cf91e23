"""qwen_vl_utils without a video reader that works. No upstream thread is known."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from mllm4d_verl.verl_compat.adaptation import adapts, proves

#: Name of our reader among those of qwen_vl_utils.
_READER = "mllm4d"


def _qwen_vl_utils_installed() -> bool:
    return importlib.util.find_spec("qwen_vl_utils") is not None


@adapts(
    "qwen_vl_utils.vision_process",
    "get_video_reader_backend",
    where=_qwen_vl_utils_installed,
    known={"qwen-vl-utils": "<=0.0.14", "torchvision": ">=0.26"},
)
def read_videos_with_pyav(stock: Callable) -> Callable:
    """qwen_vl_utils falls back to torchvision's video reader, which torchvision 0.26 and later do not have.

    It does so where neither torchcodec nor decord is installed. The rows of this package are read without it; verl's
    own datasets call it for theirs. Here they get the reader of this package in that case. A reader that works, or that
    the user chose, is left alone.
    """

    def get_video_reader_backend():
        name = stock()
        if name != "torchvision" or _torchvision_reads():
            return name
        from qwen_vl_utils import vision_process

        vision_process.VIDEO_READER_BACKENDS.setdefault(_READER, read)
        return _READER

    return get_video_reader_backend


def _torchvision_reads() -> bool:
    import torchvision.io

    return hasattr(torchvision.io, "read_video")


def read(element: dict[str, Any]) -> tuple[Any, dict[str, Any], float]:
    """A reader as qwen_vl_utils wants it: (T, 3, H, W) uint8 frames, metadata, and frames per second as sampled."""
    import torch

    from mllm4d_verl.video.reading import read_frames

    images, metadata = read_frames(element)
    frames = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in images])
    sampled_fps = len(frames) / max(metadata["total_num_frames"], 1e-6) * metadata["fps"]
    return frames, metadata, sampled_fps


@proves(read_videos_with_pyav)
def _a_video_is_not_read(get_video_reader_backend: Callable) -> bool:
    """Whether the reader that is chosen where there are no others fails on a video."""
    import tempfile
    from pathlib import Path
    from unittest.mock import patch

    from qwen_vl_utils import vision_process

    from mllm4d_verl.verl_compat.samples import write_video

    cached = getattr(get_video_reader_backend, "cache_clear", lambda: None)
    with (
        patch.object(vision_process, "is_decord_available", lambda: False),
        patch.object(vision_process, "is_torchcodec_available", lambda: False),
        patch.object(vision_process, "FORCE_QWENVL_VIDEO_READER", None),
    ):
        cached()
        name = get_video_reader_backend()
    cached()
    with tempfile.TemporaryDirectory() as folder:
        element = {"video": write_video(Path(folder, "a.mp4")), "nframes": 4}
        try:
            frames, metadata, _ = vision_process.VIDEO_READER_BACKENDS[name](element)
        except Exception:
            return True
    return len(frames) != 4 or not metadata["fps"]

"""qwen_vl_utils without a video reader that works. No upstream thread is known."""

from __future__ import annotations

import functools
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
    """qwen_vl_utils chooses a video reader that does not work: by what is installed, not by what can be loaded.

    It takes torchcodec where that is installed (verl's extra `vllm` installs it), which fails where the machine has no
    FFmpeg libraries, and falls back to torchvision's reader, which torchvision 0.26 and later do not have. The rows of
    this package are read without it; verl's own datasets call it for theirs. Here they get the reader of this package
    where the chosen one does not work. A reader that works, or that the user chose, is left alone.
    """

    def get_video_reader_backend():
        from qwen_vl_utils import vision_process

        name = stock()
        if vision_process.FORCE_QWENVL_VIDEO_READER is not None or _works(name):
            return name
        vision_process.VIDEO_READER_BACKENDS.setdefault(_READER, read)
        return _READER

    return get_video_reader_backend


@functools.cache
def _works(reader: str) -> bool:
    """Whether a reader of qwen_vl_utils reads a video here. torchcodec's absence of FFmpeg shows at the first video."""
    import tempfile
    from pathlib import Path

    from qwen_vl_utils import vision_process

    from mllm4d_verl.verl_compat.samples import NUM_FRAMES, write_video

    with tempfile.TemporaryDirectory() as folder:
        element = {"video": write_video(Path(folder, "a.mp4")), "nframes": NUM_FRAMES}
        try:
            frames, metadata, _ = vision_process.VIDEO_READER_BACKENDS[reader](element)
        except Exception:
            return False
    return len(frames) == NUM_FRAMES and bool(metadata["fps"])


def read(element: dict[str, Any]) -> tuple[Any, dict[str, Any], float]:
    """A reader as qwen_vl_utils wants it: (T, 3, H, W) uint8 frames, metadata, and frames per second as sampled."""
    import torch

    from mllm4d_verl.video.reading import read_frames

    images, metadata = read_frames(element)
    frames = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in images])
    sampled_fps = len(frames) / max(metadata["total_num_frames"], 1e-6) * metadata["fps"]
    return frames, metadata, sampled_fps


@proves(read_videos_with_pyav)
def _the_chosen_reader_does_not_read(get_video_reader_backend: Callable) -> bool:
    """Whether the reader that is chosen where decord is not installed fails on a video."""
    from unittest.mock import patch

    from qwen_vl_utils import vision_process

    forget = getattr(get_video_reader_backend, "cache_clear", lambda: None)
    with (
        patch.object(vision_process, "is_decord_available", lambda: False),
        patch.object(vision_process, "FORCE_QWENVL_VIDEO_READER", None),
    ):
        forget()
        name = get_video_reader_backend()
    forget()
    return not _works(name)

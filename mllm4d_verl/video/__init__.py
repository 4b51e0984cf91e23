"""Videos on their way into the model: what verl is told of them, what they cost, frames that are decoded once."""

from mllm4d_verl.video.budget import QWEN2_5_VL, QWEN3_VL, VideoGeometry, video_tokens
from mllm4d_verl.video.element import resolve_video, video_element
from mllm4d_verl.video.frames import FrameCache, load_video
from mllm4d_verl.video.probe import VideoInfo, check_video, probe_video

__all__ = [
    "QWEN2_5_VL",
    "QWEN3_VL",
    "FrameCache",
    "VideoGeometry",
    "VideoInfo",
    "check_video",
    "load_video",
    "probe_video",
    "resolve_video",
    "video_element",
    "video_tokens",
]

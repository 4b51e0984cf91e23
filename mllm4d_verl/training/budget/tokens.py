"""What one video costs: tokens of the prompt, and bytes of its frames in host memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mllm4d_verl.data_tools.errors import InputError

_LONGEST_SIDE = 16_384  # pixels: above 8K video, and what a slip of the keyboard gives
_TEXT_TOKENS = 512  # st_cot system text, question and options with Qwen's tokenizer, rounded up
_DEFAULT_FRAMES = 32  # what question rows sample; [P] of the paper


@dataclass(frozen=True)
class TokenBudget:
    """Tokens of one sample.

    Attributes:
        frames: frames sampled.
        video: visual tokens, timestamps and marks.
        video_bytes: size of the frames in host memory after resizing, float32. The pixel values that the model's
            processor makes of them have the same size: it only reorders them into patches.
        prompt: video and text.
        prompt_limit: what the recipe allows.
        response_limit: what the recipe allows; 0 where the prompt's limit includes the response (SFT).
    """

    frames: int
    video: int
    video_bytes: int
    prompt: int
    prompt_limit: int
    response_limit: int

    @property
    def fits(self) -> bool:
        return self.prompt <= self.prompt_limit


def count_tokens(architecture: Any, config: Any, stage: str, frame_size: tuple[int, int]) -> TokenBudget:
    """Tokens and bytes of a sample with one video.

    Args:
        architecture: a transformers configuration.
        config: verl's configuration of the stage.
        stage: "sft", "cold-start" or "grpo".
        frame_size: (width, height) of the source videos in pixels.
    """
    from mllm4d_verl.video.budget import QWEN2_5_VL, QWEN3_VL, video_tokens

    geometry = QWEN3_VL if architecture.model_type == "qwen3_vl" else QWEN2_5_VL
    data, (width, height) = config.data, frame_size
    if not all(1 <= side <= _LONGEST_SIDE for side in frame_size):
        raise InputError(
            f"a frame has sides of 1 to {_LONGEST_SIDE} pixels, got {width}x{height}", field="--frame-size"
        )
    frames = data.num_frames or _DEFAULT_FRAMES
    tokens = video_tokens(geometry, frames, height, width, data.min_pixels, data.max_pixels)
    time, rows, columns = geometry.grid(frames, height, width, data.min_pixels, data.max_pixels)
    size = video_bytes(time, rows, columns, geometry.patch_size, geometry.temporal_patch_size)
    prompt_limit, response_limit = data.get("max_prompt_length"), data.get("max_response_length", 0)
    if stage != "grpo":
        prompt_limit, response_limit = data.max_length, 0
    return TokenBudget(frames, tokens, size, tokens + _TEXT_TOKENS, prompt_limit, response_limit)


def video_bytes(time: int, rows: int, columns: int, patch_size: int, temporal_patch_size: int) -> int:
    """Bytes of a video's pixel values: `video_grid_thw` patches of 3 channels in float32.

    >>> video_bytes(16, 32, 32, 16, 2)  # 32 frames of 512 x 512
    100663296
    """
    return time * rows * columns * 3 * temporal_patch_size * patch_size**2 * 4

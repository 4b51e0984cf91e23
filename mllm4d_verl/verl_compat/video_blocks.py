"""A Qwen3-VL video in a rollout's prompt: one block for vLLM instead of one per frame pair."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from mllm4d_verl.verl_compat.adaptation import adapts, proves
from mllm4d_verl.verl_compat.families import is_qwen3_vl
from mllm4d_verl.video.blocks import collapse_video_blocks


@adapts("verl.workers.rollout.utils", "qwen2_5_vl_dedup_image_tokens")
def send_vllm_unexpanded_videos(stock: Callable) -> Callable:
    """The rollout of a Qwen3-VL video sees another prompt than the actor, silently.

    verl hands vLLM the expanded token ids with runs of video pads merged. A Qwen3-VL video has one timestamp and one
    vision block for every two frames: vLLM expands the first block to the whole video and keeps the others. Nothing
    fails, rewards and losses look healthy, and the policy is trained on prompts it did not answer. Here each video is
    collapsed to the single block vLLM expects.

    Related upstream: verl issue 5024 (older vLLM crashed on the surplus blocks), vLLM issue 46817 (which markers each
    version of transformers and vLLM keeps around a video).
    """

    def dedup(prompt_ids: list[int], processor: Any) -> list[int]:
        if is_qwen3_vl(processor):
            prompt_ids = collapse_video_blocks(prompt_ids, processor)
        return stock(prompt_ids, processor)

    return dedup


@proves(send_vllm_unexpanded_videos)
def _stock_leaves_a_block_per_frame(stock: Callable) -> bool:
    Qwen2VLImageProcessor = type("Qwen2VLImageProcessor", (), {})  # verl looks at this name
    processor = SimpleNamespace(image_processor=Qwen2VLImageProcessor(), image_token_id=5, video_token_id=3)
    stamp, start, pad, end = 9, 1, 3, 2
    return list(stock([stamp, start, pad, pad, end] * 2, processor)).count(pad) > 1

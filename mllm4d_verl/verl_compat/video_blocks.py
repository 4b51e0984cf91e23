"""A Qwen3-VL video in a rollout's prompt: one block for vLLM instead of one per frame pair.

Upstream: verl issue 5024 (older vLLM crashed on the surplus blocks) and vLLM issue 46817 (which markers each version of
transformers and vLLM keeps around a video).
"""

from __future__ import annotations

from collections.abc import Callable

from mllm4d_verl.verl_compat.adaptation import adapts, proves
from mllm4d_verl.verl_compat.families import is_qwen3_vl
from mllm4d_verl.verl_compat.samples import VIDEO_BLOCK, qwen_processor, sample_frames, sample_metadata
from mllm4d_verl.video.blocks import collapse_video_blocks


@adapts("verl.workers.rollout.utils", "qwen2_5_vl_dedup_image_tokens", known={"verl": ">=0.9.0,<=0.9.1"})
def send_vllm_unexpanded_videos(stock: Callable) -> Callable:
    """The rollout of a Qwen3-VL video sees another prompt than the actor, silently.

    verl hands vLLM the expanded token ids with runs of video pads merged. A Qwen3-VL video has one timestamp and one
    vision block for every two frames: vLLM expands the first block to the whole video and keeps the others. Nothing
    fails, rewards and losses look healthy, and the policy is trained on prompts it did not answer. Here each video is
    collapsed to the single block vLLM expects.
    """

    def dedup(prompt_ids: list[int], processor) -> list[int]:
        if is_qwen3_vl(processor):
            prompt_ids = collapse_video_blocks(prompt_ids, processor)
        return stock(prompt_ids, processor)

    return dedup


@proves(send_vllm_unexpanded_videos)
def _an_expanded_video_does_not_become_one_block(dedup: Callable) -> bool:
    processor = qwen_processor("qwen3_vl")
    expanded = processor(
        text=[VIDEO_BLOCK], videos=[sample_frames()], video_metadata=[sample_metadata()], do_sample_frames=False
    )
    one_block = processor.tokenizer(VIDEO_BLOCK, add_special_tokens=False)["input_ids"]
    return list(dedup(list(expanded["input_ids"][0]), processor)) != one_block

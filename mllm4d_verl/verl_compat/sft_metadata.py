"""Video metadata in verl's SFT dataset."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from mllm4d_verl.verl_compat.adaptation import adapts, proves

_METADATA = "mllm4d_video_metadata"


@adapts("verl.utils.dataset.multiturn_sft_dataset", "process_video")
def decode_with_metadata(stock: Callable) -> Callable:
    """verl's SFT dataset loses the metadata of a video, so the processor assumes 24 frames a second.

    The timestamps of a Qwen3-VL prompt, and the positions of a Qwen2.5-VL one, then differ between SFT and RL. Here the
    metadata stay with the decoded frames, and `pass_metadata_to_processor` hands them on.
    """

    def process_video(video, *args, **kwargs):
        frames, metadata = stock(video, *args, **kwargs, return_video_metadata=True)
        setattr(frames, _METADATA, metadata)
        return frames

    return process_video


@adapts("verl.utils.dataset.multiturn_sft_dataset", "apply_chat_template")
def pass_metadata_to_processor(stock: Callable) -> Callable:
    """See `decode_with_metadata`: the processor gets the metadata of the videos in the messages."""

    def apply_chat_template(processor, messages, **kwargs):
        metadata = [
            getattr(item["video"], _METADATA)
            for message in messages
            if isinstance(message["content"], list)
            for item in message["content"]
            if item.get("type") == "video" and hasattr(item["video"], _METADATA)
        ]
        if metadata and kwargs.get("tokenize"):
            known = kwargs.pop("processor_kwargs", None) or {}
            kwargs["processor_kwargs"] = {"video_metadata": [metadata], "do_sample_frames": False, **known}
        return stock(processor, messages, **kwargs)

    return apply_chat_template


@proves(decode_with_metadata)
@proves(pass_metadata_to_processor)
def _stock_dataset_ignores_metadata(stock: Callable) -> bool:
    from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset

    return "metadata" not in inspect.getsource(MultiTurnSFTDataset)

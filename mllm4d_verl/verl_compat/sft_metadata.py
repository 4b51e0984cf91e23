"""Video metadata in verl's SFT dataset. No upstream thread is known."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import SimpleNamespace

from mllm4d_verl.verl_compat.adaptation import Adaptation, adapts, proves
from mllm4d_verl.verl_compat.families import is_qwen2_5_vl, is_qwen3_vl
from mllm4d_verl.verl_compat.samples import FPS, FRAME_SIDE, NUM_FRAMES, SECONDS_PER_PAIR, qwen_processor

_MODULE = "verl.utils.dataset.multiturn_sft_dataset"
_KNOWN = {"verl": ">=0.9.0,<=0.9.1"}
_METADATA = "mllm4d_video_metadata"  # attribute of the frames' tensor


@adapts(_MODULE, "process_video", known=_KNOWN)
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


@adapts(_MODULE, "apply_chat_template", known=_KNOWN)
def pass_metadata_to_processor(stock: Callable) -> Callable:
    """See `decode_with_metadata`: a Qwen3-VL or Qwen2.5-VL processor gets the metadata of the messages' videos."""

    def apply_chat_template(processor, messages, **kwargs):
        if not kwargs.get("tokenize") or not (is_qwen3_vl(processor) or is_qwen2_5_vl(processor)):
            return stock(processor, messages, **kwargs)
        metadata = [
            getattr(item["video"], _METADATA)
            for message in messages
            if isinstance(message["content"], list)
            for item in message["content"]
            if item.get("type") == "video" and hasattr(item["video"], _METADATA)
        ]
        if metadata:
            known = kwargs.pop("processor_kwargs", None) or {}
            kwargs["processor_kwargs"] = {"video_metadata": [metadata], "do_sample_frames": False, **known}
        return stock(processor, messages, **kwargs)

    return apply_chat_template


@proves(decode_with_metadata)
def _decoding_loses_the_interval(process_video: Callable) -> bool:
    return _sft_loses_the_interval(decode_with_metadata, process_video, other=pass_metadata_to_processor)


@proves(pass_metadata_to_processor)
def _the_template_loses_the_interval(apply_chat_template: Callable) -> bool:
    return _sft_loses_the_interval(pass_metadata_to_processor, apply_chat_template, other=decode_with_metadata)


def _sft_loses_the_interval(adaptation: Adaptation, tried: Callable, other: Adaptation) -> bool:
    """Whether verl's dataset gives a Qwen2.5-VL video another interval between its frame pairs than it has.

    The two adaptations mend the fault together, so `tried` runs beside the adapted callable of the other one.
    """
    from PIL import Image
    from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset

    processor = qwen_processor("qwen2_5_vl")
    dataset = SimpleNamespace(
        processor=processor,
        tokenizer=processor.tokenizer,
        messages_key="messages",
        image_key="images",
        video_key="videos",
        image_patch_size=14,
        apply_chat_template_kwargs={},
        system_prompt=[],
        generation_prompt=[],
    )
    frames = [Image.new("RGB", (FRAME_SIDE, FRAME_SIDE), (30 * k, 0, 0)) for k in range(NUM_FRAMES)]
    limits = {"min_pixels": 28**2, "max_pixels": FRAME_SIDE**2}  # else qwen_vl_utils enlarges the frames
    row = {
        "messages": [{"role": "user", "content": "<video>What moves?"}],
        "images": [],
        "videos": [{"video": frames, "sample_fps": FPS, "raw_fps": FPS, **limits}],
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(other.trying(other.adapted()))
        stack.enter_context(adaptation.trying(tried))
        messages = MultiTurnSFTDataset._build_messages(dataset, row)
        *_, inputs = MultiTurnSFTDataset._process_single_message(dataset, 0, messages[0], messages)
    return abs(float(inputs["second_per_grid_ts"][0]) - SECONDS_PER_PAIR) > 1e-6

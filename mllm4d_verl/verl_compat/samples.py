"""Small real inputs for the proofs: processors without a model, a video of eight frames, verl's trainer config."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SPECIAL_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|video_pad|>", "<|image_pad|>", "<|endoftext|>")
VIDEO_BLOCK = "<|vision_start|><|video_pad|><|vision_end|>"
FRAME_SIDE = 56  # pixels: a multiple of both families' patches (14 and 16) after their resizing, and quick to process
NUM_FRAMES = 8
# Frames per second of the sample video. 2 / 6 s between frame pairs is no number of bfloat16, and is neither the 1 s
# nor the 2 / 24 s that stock code takes where it is not told.
FPS = 6.0
SECONDS_PER_PAIR = 2 / FPS

_TEMPLATE = (
    "{% for message in messages %}{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{% if part.type == 'video' %}" + VIDEO_BLOCK + "{% else %}{{ part.text }}"
    "{% endif %}{% endfor %}{% endif %}{% endfor %}"
)


@functools.cache
def byte_tokenizer() -> Any:
    """A tokenizer with one token per byte and Qwen-VL's special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = {character: number for number, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL_TOKENS),
        clean_up_tokenization_spaces=False,
    )
    tokenizer.image_token, tokenizer.video_token = "<|image_pad|>", "<|video_pad|>"
    tokenizer.vision_bos_token, tokenizer.vision_eos_token = "<|vision_start|>", "<|vision_end|>"
    return tokenizer


def qwen_processor(family: str) -> Any:
    """A new `Qwen3VLProcessor` ("qwen3_vl") or `Qwen2_5_VLProcessor` ("qwen2_5_vl") of transformers.

    Its tokenizer is `byte_tokenizer`, its limits are those of a small frame.
    """
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

    if family == "qwen3_vl":
        from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor as Processor
        from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor as VideoProcessor

        patch = 16
    else:
        from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor as Processor
        from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor as VideoProcessor

        patch = 14
    size = {"shortest_edge": (2 * patch) ** 2, "longest_edge": NUM_FRAMES * FRAME_SIDE**2}
    return Processor(
        image_processor=Qwen2VLImageProcessor(patch_size=patch, size=size),
        tokenizer=byte_tokenizer(),
        video_processor=VideoProcessor(patch_size=patch, size=size),
        chat_template=_TEMPLATE,
    )


def sample_frames() -> Any:
    """(8, 3, 56, 56) uint8 tensor of a video: a square that gets brighter."""
    import torch

    brightness = torch.arange(NUM_FRAMES, dtype=torch.uint8).reshape(-1, 1, 1, 1) * 30
    return brightness.expand(-1, 3, FRAME_SIDE, FRAME_SIDE).contiguous()


def sample_metadata() -> dict[str, Any]:
    """Metadata of `sample_frames`, as qwen_vl_utils gives them with the frames of a file."""
    return {"fps": FPS, "total_num_frames": NUM_FRAMES, "frames_indices": list(range(NUM_FRAMES))}


def write_video(path: Path) -> str:
    """Write the sample frames as a video; returns its path."""
    from mllm4d_verl.data_tools.synthetic.mp4 import write_mp4

    write_mp4(path, sample_frames().permute(0, 2, 3, 1).numpy(), FPS)
    return str(path)


def trainer_config(changes: Mapping[str, Any]) -> Any:
    """verl's `ppo_trainer` with its defaults, read from the composed file that verl ships, and with these changes.

    Hydra is left alone: it may be at work in this process.
    """
    from omegaconf import OmegaConf, open_dict

    config = copy.deepcopy(_default_trainer_config())
    with open_dict(config):
        for key, value in changes.items():
            OmegaConf.update(config, key, value)
    return config


@functools.cache
def _default_trainer_config() -> Any:
    import verl
    from omegaconf import OmegaConf

    return OmegaConf.load(Path(verl.__file__).parent / "trainer" / "config" / "_generated_ppo_trainer.yaml")

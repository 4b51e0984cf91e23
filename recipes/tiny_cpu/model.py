"""A small Qwen3-VL or Qwen2.5-VL with random weights: the same classes, tokens and files as the real one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .corpus import composed_tokens, default_corpus, number_tokens, phrases

ARCHITECTURES = ("qwen3_vl", "qwen2_5_vl")

# The special tokens of the released Qwen-VL tokenizers that their processors and chat templates use.
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# Qwen2's own split pattern (transformers, Qwen2Tokenizer), words with their leading space and digits one by one, but
# for numbers: up to two decimals are one piece, and a digit takes its leading space.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\.\p{N}{1,2}|[^\r\n\p{L}\p{N}]?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_HEAD_DIM = 32  # the smallest head vLLM's CPU attention takes
_MROPE_SECTION = {"qwen3_vl": [6, 5, 5], "qwen2_5_vl": [4, 6, 6]}  # time, height, width; the sum is half a head
_PATCH_SIZE = {"qwen3_vl": 16, "qwen2_5_vl": 14}

_CHAT_TEMPLATE = (
    "{default_system}"
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.content is string %}{{- message.content }}{%- else %}"
    "{%- for part in message.content %}"
    "{%- if part.type == 'image' or 'image' in part %}{{- '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- elif part.type == 'video' or 'video' in part %}{{- '<|vision_start|><|video_pad|><|vision_end|>' }}"
    "{%- elif 'text' in part %}{{- part.text }}{%- endif %}"
    "{%- endfor %}{%- endif %}"
    "{{- '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
# Qwen2.5-VL's template adds this turn where a conversation has no system message; Qwen3-VL's does not.
_QWEN2_5_DEFAULT_SYSTEM = (
    "{%- if messages[0].role != 'system' %}"
    "{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}"
    "{%- endif %}"
)


def build_tiny_model(
    out: str | os.PathLike[str],
    arch: str = "qwen3_vl",
    corpus: Iterable[str] | None = None,
    seed: int = 0,
    *,
    hidden: int = 128,
    layers: int = 3,
    vision_hidden: int | None = None,
    vision_layers: int = 2,
    mlp_ratio: int = 3,
    vocab_size: int = 1536,
    max_frame_side: int = 128,
    max_frames: int = 32,
    max_positions: int = 4096,
    rope_theta: float = 10_000.0,
    head_std: float = 0.02,
    fan_in_init: bool = False,
    associative_init: bool = False,
) -> Path:
    """Write a random-weight checkpoint in Hugging Face format, float32, that transformers, verl and vLLM load.

    It differs from the released models in its sizes only: same model classes, special tokens, image and video
    processors, chat template. The same arguments give the same bytes.

    Args:
        out: folder to write; created.
        arch: "qwen3_vl" (patch 16, a timestamp before every frame pair) or "qwen2_5_vl" (patch 14, window attention).
        corpus: texts the BPE tokenizer is trained on; None means `default_corpus()`. Words that the corpus repeats
            become single tokens, and so do our fixed phrases (`corpus.phrases`).
        seed: of the weights.
        hidden: width of the language model, a multiple of 32 (heads are 32 wide).
        layers: decoder layers.
        vision_hidden: width of the vision tower, a multiple of 32; None means `hidden`.
        vision_layers: blocks of the vision tower.
        mlp_ratio: feed-forward width over width.
        vocab_size: upper bound of the vocabulary, special tokens included. The model's vocabulary is exactly the
            tokenizer's: vLLM masks a padded tail, the trainer does not, and the two would disagree.
        max_frame_side: largest frame, in pixels a side; also what vLLM profiles its memory with.
        max_frames: most frames a video may have.
        max_positions: longest sequence.
        rope_theta: base of the rotary embedding.
        head_std: standard deviation of the output layer. The rollout may not sample <|image_pad|> and <|video_pad|>
            (verl bans them) while the trainer's softmax includes them; their rows start at zero, so a larger
            `head_std` makes their share of the probability vanish. Tests that compare rollout and trainer
            probabilities of an untrained model pass 0.3; 0.02 trains better.
        fan_in_init: draw the layers' matrices with variance 1 / fan-in. transformers' 0.02 is right for widths of
            thousands; at a width of 100 it leaves every residual branch close to zero, and learning starts late. A
            learned embedding of the patches' places (Qwen3-VL) is drawn as large as the patches: at 0.02 it drowns, and
            what is left and what is right in a frame look alike for hundreds of steps.
        associative_init: Qwen3-VL only. Numbers of up to two decimals are one token, and embeddings and attention start
            near looking tokens up (`initial.start_associative`); `head_std` is not used then.

    Returns:
        The folder.

    Raises:
        ValueError: unknown `arch`, sizes that do not fit together, or `associative_init` of an architecture or a number
            of layers that it is not made for.
    """
    if arch not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {arch!r}; known: {', '.join(ARCHITECTURES)}")
    vision_hidden = hidden if vision_hidden is None else vision_hidden
    for name, width in (("hidden", hidden), ("vision_hidden", vision_hidden)):
        if width <= 0 or width % _HEAD_DIM:
            raise ValueError(f"{name} must be a positive multiple of {_HEAD_DIM}, got {width}")

    if associative_init and (arch != "qwen3_vl" or layers < 2):
        raise ValueError(f"associative_init takes a qwen3_vl of two layers or more, got {layers} of {arch}")

    import torch
    from transformers import AutoModelForImageTextToText

    from .initial import draw_by_fan_in, start_associative

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    kept = [*phrases(), *(number_tokens() if associative_init else ())]
    tokenizer = _train_tokenizer(default_corpus() if corpus is None else corpus, vocab_size, kept)
    tokenizer.chat_template = _CHAT_TEMPLATE.replace(
        "{default_system}", _QWEN2_5_DEFAULT_SYSTEM if arch == "qwen2_5_vl" else ""
    )
    tokenizer.model_max_length = max_positions
    tokenizer.save_pretrained(out)
    (out / "chat_template.jinja").write_text(tokenizer.chat_template, encoding="utf-8")
    _write_processors(out, arch, max_frame_side, max_frames)

    config = _model_config(
        arch,
        tokenizer,
        hidden,
        layers,
        vision_hidden,
        vision_layers,
        mlp_ratio,
        max_frame_side,
        max_positions,
        rope_theta,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            if fan_in_init:
                draw_by_fan_in(model)
            model.lm_head.weight.normal_(0.0, head_std)
            if associative_init:
                start_associative(model, tokenizer, composed_tokens())
            never_said = [token for token in SPECIAL_TOKENS if "vision" in token or "_pad" in token]
            model.lm_head.weight[tokenizer.convert_tokens_to_ids(never_said)] = 0.0
    model.save_pretrained(out)
    _write_generation_config(out, tokenizer)
    _name_text_architecture(out, arch)
    return out


def _train_tokenizer(corpus: Iterable[str], vocab_size: int, kept: Sequence[str]) -> Any:
    """A byte-level BPE tokenizer, nearly with Qwen's split pattern, with Qwen's special tokens; `kept` stay whole."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    added = [AddedToken(text, normalized=False) for text in kept]
    # The words beside a phrase have to become tokens as they stand beside it.
    cut = re.compile("|".join(re.escape(text) for text in sorted(kept, key=len, reverse=True)))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS) - len(added),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator((piece for text in corpus for piece in cut.split(text)), trainer)
    backend.add_tokens(added)
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL_TOKENS),
        clean_up_tokenization_spaces=False,
    )


def _model_config(
    arch: str,
    tokenizer: Any,
    hidden: int,
    layers: int,
    vision_hidden: int,
    vision_layers: int,
    mlp_ratio: int,
    max_frame_side: int,
    max_positions: int,
    rope_theta: float,
) -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen3VLConfig

    token_id = tokenizer.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": rope_theta, "mrope_section": _MROPE_SECTION[arch]}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": hidden * mlp_ratio,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // _HEAD_DIM,
        "num_key_value_heads": hidden // _HEAD_DIM,
        "max_position_embeddings": max_positions,
        "rope_parameters": rope,
        "tie_word_embeddings": False,
        "bos_token_id": token_id("<|endoftext|>"),
        "eos_token_id": token_id("<|im_end|>"),
        "pad_token_id": token_id("<|endoftext|>"),
        "dtype": "float32",
    }
    vision = {
        "depth": vision_layers,
        "hidden_size": vision_hidden,
        "intermediate_size": vision_hidden * mlp_ratio,
        "num_heads": vision_hidden // _HEAD_DIM,
        "out_hidden_size": hidden,
        "patch_size": _PATCH_SIZE[arch],
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    common = {
        "image_token_id": token_id("<|image_pad|>"),
        "video_token_id": token_id("<|video_pad|>"),
        "vision_start_token_id": token_id("<|vision_start|>"),
        "vision_end_token_id": token_id("<|vision_end|>"),
        "tie_word_embeddings": False,
        "dtype": "float32",
    }
    if arch == "qwen3_vl":
        text |= {"head_dim": _HEAD_DIM, "rope_parameters": {**rope, "mrope_interleaved": True}}
        vision |= {
            # A learned table of positions, side by side patches of the largest frame; the model interpolates it.
            "num_position_embeddings": (max_frame_side // _PATCH_SIZE[arch]) ** 2,
            "deepstack_visual_indexes": [0],
        }
        return Qwen3VLConfig(
            text_config=text, vision_config=vision, architectures=["Qwen3VLForConditionalGeneration"], **common
        )
    vision |= {"window_size": 112, "fullatt_block_indexes": [vision_layers - 1], "tokens_per_second": 2}
    return Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, architectures=["Qwen2_5_VLForConditionalGeneration"], **common
    )


def _write_processors(out: Path, arch: str, max_frame_side: int, max_frames: int) -> None:
    patch = _PATCH_SIZE[arch]
    frame_pixels = {"shortest_edge": (2 * patch) ** 2, "longest_edge": max_frame_side**2}
    if arch == "qwen3_vl":
        processor, video_processor = "Qwen3VLProcessor", "Qwen3VLVideoProcessor"
        mean, std = [0.5] * 3, [0.5] * 3
        # Qwen3-VL's video limits count the pixels of all frames together, Qwen2.5-VL's those of one frame.
        video_pixels = {"shortest_edge": 2 * (2 * patch) ** 2, "longest_edge": max_frames * max_frame_side**2}
    else:
        processor, video_processor = "Qwen2_5_VLProcessor", "Qwen2VLVideoProcessor"
        mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]  # CLIP's, as released
        video_pixels = frame_pixels
    shared = {
        "processor_class": processor,
        "patch_size": patch,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": mean,
        "image_std": std,
    }
    image = {**shared, "image_processor_type": "Qwen2VLImageProcessorFast", "size": frame_pixels}
    video = {**shared, "video_processor_type": video_processor, "size": video_pixels, "max_frames": max_frames}
    _write_json(out / "preprocessor_config.json", image)
    _write_json(out / "video_preprocessor_config.json", video)
    tokenizer_config = _read_json(out / "tokenizer_config.json")
    tokenizer_config |= {
        "processor_class": processor,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_bos_token": "<|vision_start|>",
        "vision_eos_token": "<|vision_end|>",
    }
    _write_json(out / "tokenizer_config.json", tokenizer_config)


def _write_generation_config(out: Path, tokenizer: Any) -> None:
    token_id = tokenizer.convert_tokens_to_ids
    _write_json(
        out / "generation_config.json",
        {
            "bos_token_id": token_id("<|endoftext|>"),
            "pad_token_id": token_id("<|endoftext|>"),
            "eos_token_id": [token_id("<|im_end|>"), token_id("<|endoftext|>")],
            "do_sample": True,
            "temperature": 1.0,
        },
    )


def _name_text_architecture(out: Path, arch: str) -> None:
    # vLLM's CPU platform looks at architectures[0] of the text part; transformers does not save the field there.
    config = _read_json(out / "config.json")
    config["text_config"]["architectures"] = ["Qwen3ForCausalLM" if arch == "qwen3_vl" else "Qwen2ForCausalLM"]
    _write_json(out / "config.json", config)


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

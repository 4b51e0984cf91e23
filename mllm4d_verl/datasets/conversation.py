"""A conversation with media as the tensors that SFT trains on, equal to what RL makes of its prompt."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
from verl.utils.tokenizer import build_multimodal_processor_inputs, get_processor_token_id

from mllm4d_verl.data_tools.errors import InputError

# (messages) -> images, videos, audios: the datasets' `_process_multi_modal_info`
LoadMedia = Callable[[list[dict]], tuple]

_NOT_FOR_THE_MODEL = ("input_ids", "attention_mask", "mm_token_type_ids")
_VIDEO_BLOCK = "<|vision_start|><|video_pad|><|vision_end|>"  # what Qwen's chat templates write for a video


class Encoded(NamedTuple):
    """Tensors of one conversation of L tokens.

    input_ids: (L,) int64.
    loss_mask: (L,) int64, 1 on what the assistant says and on the token that ends its turn; with loss weights float32.
    position_ids: (4, L) int64: text, time, height, width.
    multi_modal_inputs: pixel_values_videos, video_grid_thw, ..., as the model's forward takes them.
    head: the start of the prompt that this conversation shares with others, if it was asked for.
    """

    input_ids: torch.Tensor
    loss_mask: torch.Tensor
    position_ids: torch.Tensor
    multi_modal_inputs: dict[str, torch.Tensor]
    head: PromptHead | None = None


@dataclass(eq=False)
class PromptHead:
    """A prompt up to the end of its video: the same for all questions about a clip, and most of the work."""

    input_ids: torch.Tensor
    media: dict[str, torch.Tensor]


class _Segment(NamedTuple):
    text: str
    messages: list[dict]  # the turns it renders
    trained: bool


def encode_conversation(
    processor: Any,
    messages: list[dict],
    load_media: LoadMedia,
    *,
    apply_chat_template_kwargs: Mapping[str, Any] | None = None,
    mm_processor_kwargs: Mapping[str, Any] | None = None,
    heads: MutableMapping[Any, PromptHead] | None = None,
    loss_weights: Mapping[re.Pattern[str], float] | None = None,
) -> Encoded:
    """Tokenise a conversation piece by piece: prompt, reply, prompt, reply, ...

    A prompt goes through the same calls as verl's rollout (`build_initial_tokens` and what follows), a reply is
    tokenised by itself, as the rollout samples it. So the tokens are RL's even where a tokenizer would merge the end
    of a prompt with the beginning of a reply. Every video is processed once.

    Args:
        processor: of Qwen3-VL or Qwen2.5-VL, from `verl.utils.hf_processor`.
        messages: turns whose content is text or a list of parts; at least one of the assistant, not the first.
        load_media: decodes the media of some turns.
        apply_chat_template_kwargs, mm_processor_kwargs: from verl's data config.
        heads: prompt heads to look up and to add to; None processes every video anew.
        loss_weights: what a token of a reply that overlaps a match of the pattern counts instead of 1; later ones win.

    Raises:
        InputError: no assistant turn, a chat template that renders replies in another way than it prompts for them,
            or media placeholders inside a reply.
    """
    segments = _split(processor, messages, dict(apply_chat_template_kwargs or {}))
    ids: list[torch.Tensor] = []
    mask: list[torch.Tensor] = []
    media: dict[str, list[torch.Tensor]] = {}
    head = None
    for segment in segments:
        if segment.trained:
            tokens = _reply_tokens(processor, segment.text)
            trained = _up_to_last(tokens, processor.tokenizer.eos_token_id)
            if loss_weights:
                trained = trained * _weights(processor, segment.text, loss_weights)
        else:
            head = _prompt_head(processor, segment, load_media, mm_processor_kwargs, heads) if not ids else None
            if head is not None:
                tail = _text_tokens(processor, segment.text.partition(_VIDEO_BLOCK)[2])
                tokens, inputs = torch.cat([head.input_ids, tail]), head.media
            else:
                tokens, inputs = _prompt_tokens(processor, segment, load_media, mm_processor_kwargs)
            trained = torch.zeros_like(tokens, dtype=torch.float32 if loss_weights else torch.long)
            for name, value in inputs.items():
                media.setdefault(name, []).append(value)
        ids.append(tokens)
        mask.append(trained)
    input_ids = torch.cat(ids)
    multi_modal_inputs = {name: parts[0] if len(parts) == 1 else torch.cat(parts) for name, parts in media.items()}
    positions = rollout_position_ids(processor, input_ids, multi_modal_inputs)
    return Encoded(input_ids, torch.cat(mask), positions, multi_modal_inputs, head)


def rollout_position_ids(
    processor: Any, input_ids: torch.Tensor, multi_modal_inputs: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """(4, L) position ids by the function that verl's agent loop gives the actor during RL.

    verl's own SFT dataset uses Qwen2-VL's rope index for every Qwen model, which fails on Qwen3-VL videos.

    Args:
        input_ids: (L,).
    """
    batch = input_ids.unsqueeze(0)
    # The agent loop learns from this key that transformers wants token types, and computes them itself.
    inputs = {**multi_modal_inputs, "mm_token_type_ids": batch}
    worker = SimpleNamespace(processor=processor)
    return AgentLoopWorker._compute_position_ids(worker, batch, torch.ones_like(batch), inputs).squeeze(0)


def _split(processor: Any, messages: list[dict], template_kwargs: dict[str, Any]) -> list[_Segment]:
    def render(count: int, add_generation_prompt: bool = False) -> str:
        return processor.apply_chat_template(
            messages[:count], tokenize=False, add_generation_prompt=add_generation_prompt, **template_kwargs
        )

    replies = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    if not replies or replies[0] == 0:
        raise InputError(
            "a conversation needs a prompt and a reply to train on",
            field="messages",
            remedy="Begin with a user turn and end with the assistant's",
        )
    whole = render(len(messages))
    segments: list[_Segment] = []
    done_text, done_turns = 0, 0
    for index in replies:
        prompt, reply = render(index, add_generation_prompt=True), render(index + 1)
        if not (whole.startswith(reply) and reply.startswith(prompt)):
            raise InputError(
                f"the chat template renders assistant turn {index} of a conversation in another way than it prompts "
                "for it, so that SFT would train another prompt than RL uses",
                field="messages",
                remedy="Models that hide earlier reasoning do so: set data.apply_chat_template_kwargs",
            )
        segments.append(_Segment(whole[done_text : len(prompt)], messages[done_turns:index], trained=False))
        segments.append(_Segment(whole[len(prompt) : len(reply)], [messages[index]], trained=True))
        done_text, done_turns = len(reply), index + 1
    if done_text < len(whole):
        segments.append(_Segment(whole[done_text:], messages[done_turns:], trained=False))
    return segments


def _prompt_tokens(
    processor: Any, segment: _Segment, load_media: LoadMedia, mm_processor_kwargs: Mapping[str, Any] | None
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Tokens (L,) and media tensors of a prompt, by the call of verl's rollout."""
    images, videos, audios = load_media(segment.messages)
    inputs = build_multimodal_processor_inputs(
        processor,
        text=[segment.text],
        images=images,
        videos=videos,
        audio=audios,
        mm_processor_kwargs=mm_processor_kwargs,
    ).convert_to_tensors("pt")
    media = {name: value for name, value in inputs.items() if name not in _NOT_FOR_THE_MODEL}
    return inputs["input_ids"][0], media


def _prompt_head(
    processor: Any,
    segment: _Segment,
    load_media: LoadMedia,
    mm_processor_kwargs: Mapping[str, Any] | None,
    heads: MutableMapping[Any, PromptHead] | None,
) -> PromptHead | None:
    """The head of a prompt, from `heads` or put there; None where none is wanted or the prompt is not of that form.

    What follows the video begins behind a special token, so that it tokenises the same by itself.
    """
    before, block, after = segment.text.partition(_VIDEO_BLOCK)
    parts = [part for turn in segment.messages if isinstance(turn["content"], list) for part in turn["content"]]
    media = [part for part in parts if part.get("type") != "text"]
    if heads is None or not block or _VIDEO_BLOCK in after or len(media) != 1:
        return None
    key = before, json.dumps(media, sort_keys=True, default=str)
    head = heads.get(key)
    if head is None:
        tokens, inputs = _prompt_tokens(processor, segment, load_media, mm_processor_kwargs)
        tail = _text_tokens(processor, after)
        if not torch.equal(tokens[len(tokens) - len(tail) :], tail):
            return None
        head = heads[key] = PromptHead(tokens[: len(tokens) - len(tail)], inputs)
    return head


def _text_tokens(processor: Any, text: str) -> torch.Tensor:
    return torch.tensor(processor.tokenizer(text, add_special_tokens=False)["input_ids"], dtype=torch.long)


def _reply_tokens(processor: Any, text: str) -> torch.Tensor:
    tokens = _text_tokens(processor, text)
    for kind in ("image", "video"):
        if get_processor_token_id(processor, kind) in tokens:
            raise InputError(f"the reply holds the {kind} token of the model", field="response", remedy="Remove it")
    return tokens


def _weights(processor: Any, text: str, loss_weights: Mapping[re.Pattern[str], float]) -> torch.Tensor:
    """(L,) float32, what each token of a reply counts."""
    spans = processor.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    weights = torch.ones(len(spans))
    for pattern, weight in loss_weights.items():
        for match in pattern.finditer(text):
            for index, (start, end) in enumerate(spans):
                if start < match.end() and end > match.start():
                    weights[index] = weight
    return weights


def _up_to_last(tokens: torch.Tensor, end_of_turn: int | None) -> torch.Tensor:
    """1 up to the token that ends the turn, 0 on the line break behind it: the rollout stops at the former."""
    mask = torch.ones_like(tokens)
    ends = (tokens == end_of_turn).nonzero()
    if len(ends):
        mask[int(ends[-1]) + 1 :] = 0
    return mask

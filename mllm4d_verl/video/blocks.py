"""Expanded Qwen3-VL videos of a prompt, and the single block that vLLM expects in place of each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

_TIMESTAMP = re.compile(r"<(\d+(?:\.\d+)?) seconds>")
_TIMESTAMP_AT_END = re.compile(_TIMESTAMP.pattern + r"\Z")
_TIMESTAMP_MAX_TOKENS = 24  # "<12345.6 seconds>" even where every byte is a token


def _token_ids(processor: Any) -> tuple[int, int, int]:
    """Ids of vision start, vision end and video pad."""
    start, end, pad = processor.tokenizer.convert_tokens_to_ids(["<|vision_start|>", "<|vision_end|>", "<|video_pad|>"])
    return start, end, getattr(processor, "video_token_id", None) or pad


def collapse_video_blocks(prompt_ids: Sequence[int], processor: Any) -> list[int]:
    """Turn each expanded Qwen3-VL video of a prompt back into `<|vision_start|><|video_pad|><|vision_end|>`.

    An expanded video is a run of frames `<t seconds><|vision_start|><|video_pad|>...<|vision_end|>`, two input frames
    each. transformers >= 5.10 keeps the placeholder's own vision start and end around the run; earlier ones replace
    them too. In that older form two videos that touch can only be told apart by the time going back.

    Frames without a timestamp (Qwen2.5-VL), images, and text that looks like a timestamp are left as they are.
    """
    start, end, pad = _token_ids(processor)
    decode = processor.tokenizer.decode
    ids = list(prompt_ids)

    def seconds(first: int, last: int) -> float | None:
        """The time that ids[first:last] spell, if they spell a timestamp and nothing else."""
        if not 0 < last - first <= _TIMESTAMP_MAX_TOKENS:
            return None
        match = _TIMESTAMP.fullmatch(decode(ids[first:last]))
        return float(match[1]) if match else None

    def tails() -> Iterator[list[int]]:
        return (collapsed[-n:] for n in range(1, min(_TIMESTAMP_MAX_TOKENS, len(collapsed)) + 1))

    def opens_frame(position: int) -> bool:
        return position + 1 < len(ids) and ids[position] == start and ids[position + 1] == pad

    def frame_end(position: int) -> int:
        """Position after the vision end of the frame whose vision start is at `position`."""
        position += 1
        while position < len(ids) and ids[position] == pad:
            position += 1
        return position + 1 if position < len(ids) and ids[position] == end else position

    collapsed: list[int] = []
    position = 0
    while position < len(ids):
        if not opens_frame(position):
            collapsed.append(ids[position])
            position += 1
            continue
        # The timestamp of the first frame has been copied already: the shortest tail that ends in one.
        tail = next((tail for tail in tails() if _TIMESTAMP_AT_END.search(decode(tail))), None)
        if tail is None:
            collapsed.append(ids[position])
            position += 1
            continue
        text = decode(tail)
        stamp = _TIMESTAMP_AT_END.search(text)
        time = float(stamp[1])
        del collapsed[-len(tail) :]
        if stamp.start():  # the tokenizer joined the text before the video with the timestamp
            collapsed += processor.tokenizer.encode(text[: stamp.start()], add_special_tokens=False)
        wrapped = bool(collapsed) and collapsed[-1] == start
        position = frame_end(position)
        while True:
            limit = min(position + _TIMESTAMP_MAX_TOKENS, len(ids) - 1)
            following = next((i for i in range(position + 1, limit + 1) if ids[i] == start), None)
            if following is None or not opens_frame(following):
                break
            next_time = seconds(position, following)
            if next_time is None or (next_time < time and not wrapped):
                break
            time, position = next_time, frame_end(following)
        # The outer markers, where there are any, are in place: one is copied, the other comes next.
        collapsed += [pad] if wrapped else [start, pad, end]
    return collapsed

"""What the released MLLM-4D code computes, quirks included, for reproduction.

Source: https://github.com/GVCLab/MLLM-4D, qwen-vl-rft/ST-reward.py (four ms-swift reward functions). Written anew
from its behaviour: same numbers, but linear in the text, and None where that code would raise or return NaN. It works
on the raw text, not on the parsed response, because its quirks are about text.
"""

from __future__ import annotations

import ast
import math
import re
from typing import Any

import numpy as np

_CAMERA_LIST = re.compile(r"Camera Center:\s*\[")
_OBJECT_LIST = re.compile(r"Object Center:\s*\[")
_PLAIN_NUMBER = r"[ \t]{0,4}-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,17})?[ \t]{0,4}"
_PLAIN_NUMBERS = re.compile(rf"\[(?:{_PLAIN_NUMBER},)*{_PLAIN_NUMBER}\]")
# Python's parser needs a hundred bytes of memory for a character; no list of three is this long.
_MAX_LIST_CHARS = 65536


def released_format_reward(text: str) -> float:
    """0.5 [both tag pairs occur] + 0.4 [both lists occur] + 0.1 [thinking, tags included, exceeds 20 characters]."""
    thinking = _first_block(text, "<thinking>", "</thinking>")
    answer = _first_block(text, "<answer>", "</answer>")
    score = 0.0
    if thinking is not None and answer is not None:
        score += 0.5
    if _has_list(text, _OBJECT_LIST) and _has_list(text, _CAMERA_LIST):
        score += 0.4
    if thinking is not None and thinking[1] - thinking[0] > 20:
        score += 0.1
    return score


def released_accuracy_reward(text: str, truth: Any) -> float | None:
    """1 if the first answer block, stripped (without one: the whole text, stripped), equals the answer, else 0.

    None where the released code raises: a truth that is no mapping, or has no answer, or one that cannot be compared.
    """
    block = _first_block(text, "<answer>", "</answer>")
    answer = text if block is None else text[block[0] + len("<answer>") : block[1] - len("</answer>")]
    try:
        return 1.0 if answer.strip() == truth["answer"] else 0.0
    except Exception:  # as the released code, which takes the batch with it
        return None


def released_camera_center_reward(text: str, truth: Any) -> float | None:
    """`_released_center_reward` of the camera lists."""
    return _released_center_reward(text, _CAMERA_LIST, truth, "camera_center")


def released_object_center_reward(text: str, truth: Any) -> float | None:
    """`_released_center_reward` of the object lists."""
    return _released_center_reward(text, _OBJECT_LIST, truth, "object_center")


def _released_center_reward(text: str, label: re.Pattern[str], truth: Any, field: str) -> float | None:
    """exp(-mean L2 distance in metres) between the lists in the text and the true centres, nulls dropped from both.

    No true centre: 1 if no list was found, else 0. Different counts or shapes: 0. One list that is not a Python literal
    discards all. None where the released code raises (a truth that is no mapping, a field that is None, strings, huge
    integers) or returns NaN.
    """
    try:
        with np.errstate(all="ignore"):
            true = [np.array(center) for center in truth.get(field, ()) if center is not None]
            written = _written_lists(text, label)
            if true and len(written) != len(true):  # whether they are literals or not
                return 0.0
            stated = _literals(written)
            if not true:
                return 0.0 if stated else 1.0
            if not stated:
                return 0.0
            errors = []
            for point, center in zip(stated, true, strict=True):
                array = np.array(point)
                if array.shape != center.shape:
                    return 0.0
                errors.append(np.linalg.norm(array - center))
            score = float(np.exp(-np.mean(errors)))
    except Exception:
        return None
    return score if math.isfinite(score) else None


def _written_lists(text: str, label: re.Pattern[str]) -> list[str]:
    """What follows each label: up to the first `]`, on one line, those with "null" in them skipped."""
    found: list[str] = []
    start = 0
    closing = newline = -1  # looked up again only once they are behind: the whole search stays linear
    while match := label.search(text, start):
        opening = match.end() - 1
        if closing < opening:
            closing = text.find("]", opening)
            if closing < 0:
                break
        if newline < opening:
            newline = text.find("\n", opening)
            newline = len(text) if newline < 0 else newline
        if closing > newline:
            start = match.end()
            continue
        start = closing + 1
        written = text[opening:start]
        if "null" not in written.lower():
            found.append(written)
    return found


def _literals(written: list[str]) -> list[Any]:
    """The lists that these texts denote; [] if one of them denotes none."""
    found = []
    for text in written:
        literal = _literal(text)
        if literal is None:
            return []
        found.append(literal)
    return found


def _literal(written: str) -> Any:
    """The list that `written` denotes, None if Python or numpy refuses it."""
    if _PLAIN_NUMBERS.fullmatch(written):
        return [float(part) for part in written[1:-1].split(",")]
    if len(written) > _MAX_LIST_CHARS:
        return None
    try:
        literal = ast.literal_eval(written)
        np.array(literal)
    except Exception:  # as the released code does: SyntaxError, ValueError, RecursionError, MemoryError ...
        return None
    return literal


def _has_list(text: str, label: re.Pattern[str]) -> bool:
    """The label, `[`, and anywhere after it a `]`. If the first such place has none after it, no later one has."""
    match = label.search(text)
    return match is not None and text.find("]", match.end()) >= 0


def _first_block(text: str, opening: str, closing: str) -> tuple[int, int] | None:
    """Span of the first `opening` up to the first `closing` after it."""
    start = text.find(opening)
    end = text.find(closing, start + len(opening)) if start >= 0 else -1
    return (start, end + len(closing)) if end >= 0 else None

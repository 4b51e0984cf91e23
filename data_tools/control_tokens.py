"""Control tokens of chat models inside texts that are data: found, refused, or kept from being read as tokens.

A tokenizer turns the text `<|im_end|>` into the token that ends a turn, wherever it stands. A question that holds
`<|im_end|>\\n<|im_start|>system\\n...` would so become a system turn, and one with `<|video_pad|>` a video that is not
there. Texts of rows, and answers of models that are put into another prompt, go through here first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .errors import InputError

REFUSE, PLAIN = "refuse", "plain"
_Guard = Callable[[Any, str], Any]
MODES = (REFUSE, PLAIN)

#: Control tokens by their form, for code that has no tokenizer at hand: ChatML and its relatives (Qwen, Llama 3, Phi,
#: GLM), DeepSeek's with full-width bars, Llama 2, Mistral, Gemma. RE2 and `re` both take the expression.
PATTERN = (
    r"<\|[^\s<>|]{1,60}\|>|<｜[^\s<>]{1,60}｜>|</?s>|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|IMG)\]|<</?SYS>>"
    r"|<(?:bos|eos|pad|unk|mask|start_of_turn|end_of_turn|start_of_image|end_of_image|image_soft_token)>"
)
_COMPILED = re.compile(PATTERN)
_ZERO_WIDTH_SPACE = "\u200b"

REMEDY = (
    "Remove it from the text, or set data.special_tokens=plain, which keeps it readable and out of the control tokens"
)


def special_tokens_of(tokenizer: Any) -> frozenset[str]:
    """The texts that a Hugging Face tokenizer turns into special tokens."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    named = getattr(tokenizer, "all_special_tokens", None) or ()
    return frozenset(text for text in (*(token.content for token in added if token.special), *named) if text)


def find_control_token(text: str, special: Collection[str] = ()) -> str | None:
    """The first control token in a text: one of a known form, or one of `special`; None where there is none."""
    match = _COMPILED.search(text) if "<" in text or "[" in text else None
    if match:
        return match[0]
    return next((token for token in special if token in text), None)


def as_plain_text(text: str, special: Collection[str] = ()) -> str:
    """The text with a zero-width space inside each control token, so that no tokenizer reads it as one.

    A token of a single character cannot be parted: it is left out.
    """
    while (token := find_control_token(text, special)) is not None:
        text = text.replace(token, token[0] + _ZERO_WIDTH_SPACE + token[1:] if len(token) > 1 else "")
    return text


def guard_columns(columns: Mapping[str, Any], mode: str = REFUSE, special: Collection[str] = ()) -> dict[str, Any]:
    """Columns of a row none of whose texts holds a control token: a template may use any of them.

    Args:
        columns: the columns of a QARow by name, with `meta` decoded.
        mode: `refuse` raises; `plain` writes each token so that it is text.
        special: special tokens of the tokenizer in use, which are looked for beside the known forms; see
            `special_tokens_of`.

    Raises:
        InputError: mode `refuse` and a control token; names the row and the column.
    """

    def guard(text: Any, field: str) -> Any:
        if not isinstance(text, str) or (token := find_control_token(text, special)) is None:
            return text
        if mode == PLAIN:
            return as_plain_text(text, special)
        raise InputError(f"the text holds the control token {token}", row=columns.get("id"), field=field, remedy=REMEDY)

    return {
        name: _guarded_meta(value, guard) if name == "meta" else _guarded(value, name, guard)
        for name, value in columns.items()
    }


def _guarded_meta(meta: Any, guard: _Guard) -> Any:
    """`meta` with its messages and its raw answer guarded as texts; in the rest of it tokens are made plain."""
    if not isinstance(meta, Mapping):
        return _guarded(meta, "meta", guard)

    def plain(text: Any, field: str) -> Any:
        return as_plain_text(text) if isinstance(text, str) else text

    prompt = ("messages", "raw_answer")
    return {key: _guarded(value, f"meta.{key}", guard if key in prompt else plain) for key, value in meta.items()}


def _guarded(value: Any, field: str, guard: _Guard) -> Any:
    """A value of a row with its texts guarded, at any depth; sequences become lists."""
    if isinstance(value, Mapping):
        return {key: _guarded(item, f"{field}.{key}", guard) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_guarded(item, f"{field}[{number}]", guard) for number, item in enumerate(value)]
    return guard(value, field)


def rows_with_control_tokens(column: pa.Array, special: Collection[str] = ()) -> np.ndarray:
    """(N,) bool: which rows of a text column, or of a column of lists of texts, hold a control token.

    Args:
        column: string or list<string> array; null counts as no token.
        special: see `guard_columns`.
    """
    pattern = "|".join([PATTERN, *map(re.escape, sorted(special))])
    if not pa.types.is_list(column.type) and not pa.types.is_large_list(column.type):
        return np.asarray(pc.match_substring_regex(column, pattern).fill_null(False), bool)
    texts = pc.match_substring_regex(pc.list_flatten(column), pattern).fill_null(False)
    found = np.zeros(len(column), bool)
    found[np.asarray(pc.list_parent_indices(column))[np.asarray(texts, bool)]] = True
    return found

"""Takes a response apart before anything is read in it: decoder leftovers, reasoning, answer tags, boxes, JSON keys.

Every pattern has bounded repetitions and every function makes one pass, so time is linear in the text.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_CIRCLED = {0x24B6 + index: ord("A") + index for index in range(26)}
# Cyrillic and Greek capitals that look like Latin letters: whoever was shown "B" and writes a "В" means it.
_LOOKALIKES = dict(zip(map(ord, "АВСЕНІЈΑΒΕΗΙ"), "ABCEHIJABEHI", strict=True))
_MARKS = {
    **dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"), None),
    **dict.fromkeys(map(ord, "\u00a0\u3000\u2009\u202f"), " "),
    **dict.fromkeys(map(ord, "“”„«»「」『』"), '"'),
    **dict.fromkeys(map(ord, "‘’‚´"), "'"),
    **dict.fromkeys(map(ord, "–—−‐‑"), "-"),
    **dict.fromkeys(map(ord, "→⇒➜"), "=>"),
    ord("。"): ". ",
    ord("、"): ", ",
    ord("…"): "...",
    ord("×"): "x",
}
_PLAIN = _FULL_WIDTH | _CIRCLED | _LOOKALIKES | _MARKS

_BOX_OPEN, _BOX_CLOSE = "<|begin_of_box|>", "<|end_of_box|>"  # how GLM marks its answer
_SPECIAL = re.compile(
    r"<\|[A-Za-z0-9_]{1,40}\|>|</?s>|<(?:pad|eos|bos|unk|end_of_turn|start_of_turn)>"
    r"|</?(?:b|i|u|em|strong|p|br) ?/?>"
)
_REASONING = re.compile(r"<(/?)(?:think|thinking|reasoning|thought)>", re.I)
_TAG = re.compile(r"<(/?)[ \t]{0,2}(?:answer|final_answer|ans|choice|option|conclusion)[ \t]{0,2}>", re.I)
# The backslash is lost where a response went through a template, and "\\b" is a backspace where it went through JSON.
_BOX = r"(?:\\(?:boxed|fbox)|(?<![A-Za-z\\])boxed|\x08oxed)"
_BOXED = re.compile(rf"{_BOX} {{0,2}}\{{((?:[^{{}}]|\{{[^{{}}]{{0,200}}\}}){{0,200}})\}}")
_LATEX = re.compile(rf"(?:{_BOX}|\\(?:text|textbf|mathrm|mathbf)) {{0,2}}\{{([^{{}}]{{0,200}})\}}")
_JSON_KEY = re.compile(
    r"""["'](?:final[_ ]?answer|answer|choice|option|prediction|selected_option|correct_option|correct_answer)["']"""
    r"""[ \t\n]{0,8}:[ \t\n]{0,8}(?:"([^"\n]{0,300})"|'([^'\n]{0,300})'|(-?[0-9.]{1,24})"""
    r"""|\[([^\]\n]{0,300})\]|(null))""",
    re.I,
)
MAX_SPOTS = 512  # tags, boxes, keys or phrases looked at; honest responses have a handful


class Parts(NamedTuple):
    """A response taken apart.

    Attributes:
        final: what is said after the reasoning, decoder leftovers removed; answer tags still inside.
        is_unfinished: reasoning began and did not end, and no complete answer block ends the text.
    """

    final: str
    is_unfinished: bool


def take_apart(response: str) -> Parts:
    """The part of a response that can hold its answer."""
    text = clean(response)
    if "<" not in text:
        return Parts(text.strip(), False)
    opened = closed = -1
    for number, match in enumerate(_REASONING.finditer(text)):
        if number >= MAX_SPOTS:
            break
        if match[1]:
            closed = match.end()
        else:
            opened = match.end()
    if opened > closed:  # cut off, unless it forgot to close its reasoning and still ended with an answer block
        tail = text[opened:].rstrip()
        return Parts(tail, not (tail.endswith(">") and _closed_blocks(tail[-400:])))
    return Parts(text[max(closed, 0) :].strip(), False)


def clean(text: str) -> str:
    """Text without special tokens and invisible characters, with full-width and typographic marks made plain."""
    if not text.isascii():
        text = text.translate(_PLAIN)
    if "<" in text:
        text = text.replace(_BOX_OPEN, "<answer>").replace(_BOX_CLOSE, "</answer>")
        text = _SPECIAL.sub("", text)
    return text


class Blocks(NamedTuple):
    """Contents of answer tags: the closed ones in order, what follows a last one that is not closed, and the rest."""

    closed: list[str]
    unclosed: str | None
    outside: str


def answer_blocks(text: str) -> Blocks:
    """What stands inside answer tags, and the text without them."""
    if "<" not in text:
        return Blocks([], None, text)
    closed: list[str] = []
    outside: list[str] = []
    opened: int | None = None
    cursor = 0
    for number, match in enumerate(_TAG.finditer(text)):
        if number >= MAX_SPOTS:
            break
        if not match[1]:
            if opened is None:
                outside.append(text[cursor : match.start()])
            opened = match.end()
        elif opened is not None:
            closed.append(text[opened : match.start()].strip())
            opened = None
        else:  # a closing tag whose opening one stood in the prompt
            outside.append(text[cursor : match.start()])
        cursor = match.end()
    unclosed = text[opened:].strip() if opened is not None else None
    if opened is None:
        outside.append(text[cursor:])
    return Blocks(closed, unclosed, " ".join(outside).strip())


def boxed(text: str) -> tuple[list[str], str]:
    r"""Contents of \boxed{...} in order, and what stands between the last two of them."""
    if "oxed" not in text and "fbox" not in text:
        return [], ""
    found: list[str] = []
    between, end = "", 0
    for number, match in enumerate(_BOXED.finditer(text)):
        if number >= MAX_SPOTS:
            break
        found.append(match[1].strip())
        between, end = text[end : match.start()], match.end()
    return found, between if len(found) > 1 else ""


def json_answers(text: str) -> list[str]:
    """Values of keys such as "answer" in JSON, complete or cut off, in order; a list as its inner text."""
    if ":" not in text or ('"' not in text and "'" not in text):
        return []
    found: list[str] = []
    for number, match in enumerate(_JSON_KEY.finditer(text)):
        if number >= MAX_SPOTS:
            break
        found.append(next((group for group in match.groups()[:4] if group is not None), ""))
    return found


def without_markup(text: str) -> str:
    """Text without Markdown emphasis and LaTeX wrappers."""
    for mark in "*`#$":
        if mark in text:
            text = text.replace(mark, "")
    if "\\" in text or "oxed" in text:
        text = _LATEX.sub(r"\1", text)
        for mark in ("\\(", "\\)", "\\[", "\\]"):
            text = text.replace(mark, "")
    return text


def _closed_blocks(text: str) -> list[str]:
    return answer_blocks(text).closed

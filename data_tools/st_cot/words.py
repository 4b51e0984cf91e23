"""Small parts of texts: noun phrases, places in the image, choices that follow a row."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence

_DETERMINERS = ("the", "a", "an")
# What the response grammar reads as its own; in a description it would break the text around it.
_GRAMMAR_MARKS = re.compile(r"[<>\[\]()*:\s]+")
_HEADER = re.compile(r"spatial(?=[\s_]*state)", re.IGNORECASE)


class Draw:
    """Choices that depend on a key alone, the same in every process and version of Python."""

    __slots__ = ("_state",)

    def __init__(self, key: str) -> None:
        self._state = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=24).digest(), "little")

    def pick(self, choices: Sequence[str]) -> str:
        """One of them, all about equally likely."""
        self._state, place = divmod(self._state, len(choices))
        return choices[place]

    def place(self, count: int) -> int:
        """A number below `count`."""
        self._state, place = divmod(self._state, count)
        return place


@functools.lru_cache(maxsize=4096)
def noun_phrase(description: str) -> str:
    """A description with a determiner: "red ball" -> "the red ball"; "the object" where it says nothing."""
    words = description.strip() or "the object"
    return words if words.lower().split()[0] in _DETERMINERS else f"the {words}"


@functools.lru_cache(maxsize=4096)  # rows of a clip, and clips of a source, speak of the same things
def plain(text: str) -> str:
    """Text without what the response grammar would take for its own: tags, lists, labels, headers, line breaks."""
    return _HEADER.sub("space", _GRAMMAR_MARKS.sub(" ", text)).strip()


def sentence(text: str) -> str:
    """With a capital first letter; the others stay."""
    return text[0].upper() + text[1:]

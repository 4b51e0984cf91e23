"""The typed form of a response: what was thought, stated and answered, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

Point = tuple[float, float, float]
Span = tuple[int, int]


class Vector(NamedTuple):
    """Three finite coordinates in metres, as written at `span` of the text."""

    xyz: Point
    span: Span


class Null(NamedTuple):
    """An explicit "no value": it keeps its slot."""

    span: Span


class Missing(NamedTuple):
    """Nothing readable was written for this slot."""


Center = Vector | Null | Missing
MISSING = Missing()


@dataclass(frozen=True)
class State:
    """One spatial state: the two centres at one end of the clip.

    `header` is the span of its header, None when the response has no such state. `frame` is the number in a header
    such as "(Frame 14)", else None.
    """

    camera_center: Center = MISSING
    object_center: Center = MISSING
    header: Span | None = None
    frame: float | None = None


class Answer(NamedTuple):
    """The text between one pair of answer tags, stripped."""

    text: str
    span: Span


class Malformed(NamedTuple):
    """A spot that looks like part of the grammar and is not: `reason` in a few words, `span` in the text."""

    reason: str
    span: Span


@dataclass(frozen=True)
class Response:
    """What `parse_response` reads in a text.

    Attributes:
        num_chars: length of the text.
        thinking: text of the first closed thinking block that precedes any answer, without tags; else None.
        thinking_span: its place, tags included.
        answers: every closed answer block that stands outside thinking, in order.
        initial, final: the states written inside `thinking`.
        malformed: spots that were not understood, in order of the text.
        well_tagged: the text is one thinking block, then one answer block, and nothing but white space around them.
    """

    num_chars: int
    thinking: str | None
    thinking_span: Span | None
    answers: tuple[Answer, ...]
    initial: State
    final: State
    malformed: tuple[Malformed, ...]
    well_tagged: bool

    @property
    def answer(self) -> str | None:
        """The answer, if the response commits to exactly one and it is not empty."""
        if len(self.answers) == 1 and self.answers[0].text:
            return self.answers[0].text
        return None

    @property
    def camera_center(self) -> tuple[Center, Center]:
        """Camera centre at the initial and at the final frame."""
        return self.initial.camera_center, self.final.camera_center

    @property
    def object_center(self) -> tuple[Center, Center]:
        """Object centre at the initial and at the final frame."""
        return self.initial.object_center, self.final.object_center

    @property
    def written_slots(self) -> int:
        """How many of the four slots hold a vector or an explicit null."""
        return sum(not isinstance(center, Missing) for center in (*self.camera_center, *self.object_center))

"""The typed form of a response: what was thought, stated and answered, and where."""

from __future__ import annotations

from typing import Any, NamedTuple

# `make(Vector, (xyz, span))` is `Vector(xyz, span)` in half the time: a scored response makes a dozen named tuples.
make: Any = tuple.__new__

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


class State(NamedTuple):
    """One spatial state: the two centres at one frame of the clip.

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


class Response(NamedTuple):
    """What `parse_response` reads in a text. All spans are (start, end) positions in `text`.

    Attributes:
        text: the text itself.
        answer: the answer, if the response commits to exactly one and it is not empty; else None.
        answers: every closed answer block that stands outside thinking, in order.
        thinking_span: the first closed thinking block that precedes any answer, tags included; else None.
        initial, final: the states at the two ends of the clip, among those written inside the thinking block.
        states: all states written there, in order of the text, those two included.
        written_slots: how many of the four slots of `initial` and `final` hold a vector or an explicit null.
        tags: name and span of every tag in order; the names are "thinking", "/thinking", "answer", "/answer".
        malformed: spots that were not understood, in order of the text.
        well_tagged: the text is one thinking block, then one answer block, and nothing but white space around them.
    """

    text: str
    answer: str | None
    answers: tuple[Answer, ...]
    thinking_span: Span | None
    initial: State
    final: State
    states: tuple[State, ...]
    written_slots: int
    tags: tuple[tuple[str, Span], ...]
    malformed: tuple[Malformed, ...]
    well_tagged: bool

    @property
    def thinking(self) -> str | None:
        """Text of the thinking block, without tags; None if there is none."""
        if self.thinking_span is None:
            return None
        start, end = self.thinking_span
        opening = next(span for _, span in self.tags if span[0] == start)
        closing = next(span for _, span in self.tags if span[1] == end)
        return self.text[opening[1] : closing[0]]

    @property
    def num_chars(self) -> int:
        """Length of the text."""
        return len(self.text)

    @property
    def camera_center(self) -> tuple[Center, Center]:
        """Camera centre at the initial and at the final frame."""
        return self.initial.camera_center, self.final.camera_center

    @property
    def object_center(self) -> tuple[Center, Center]:
        """Object centre at the initial and at the final frame."""
        return self.initial.object_center, self.final.object_center

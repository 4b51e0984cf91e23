"""Read a response in one linear pass: tags, spatial states, centres.

Tolerant of how models write (case, bold, spacing, bullets on the header's line, `Frame 14` headers, exponents, unicode
minus, units, lists over several lines), strict about what counts: a centre counts inside the thinking block only, under
a state header, and an answer counts outside it.

Cost: a single scan finds the anchors (tags, headers, labels); what follows an anchor is read by patterns whose every
repetition is bounded and which never hand a failure back to an earlier one. So time is linear in the text, whatever the
text is. Nothing here raises on any `str`, and no number that is not finite leaves.
"""

from __future__ import annotations

import math
import re

from .grammar import FINAL_WORDS, INITIAL_WORDS, MINUS_SIGNS, NULL_WORDS, SPECIAL_TOKENS
from .response import MISSING, Answer, Center, Malformed, Null, Response, Span, State, Vector

# Runs on lower-cased text. Each alternative starts with a literal, which lets `re` skip ahead by a character set.
_ANCHOR = re.compile(
    r"<[ \t]{0,2}(?P<close>/?)[ \t]{0,2}(?P<tag>thinking|answer)[ \t]{0,2}>"
    r"|spatial[ \t_*]{1,8}(?P<header>state)\b"
    r"|camera[ \t_*]{1,8}(?P<camera>cent(?:er|re))\b"
    r"|object[ \t_*]{1,8}(?P<object>cent(?:er|re))\b"
)
# "(Initial Frame):**", "(Frame 14)", " at frame 14:", ":"
_QUALIFIER = re.compile(r"[ \t_*]{0,8}(?:[(\[](?P<bracketed>[^()\[\]\n]{1,64})[)\]]|(?P<plain>[^:\n\[\]()<]{0,48}):)")
_WORD = re.compile(r"[a-z]{1,16}")
_FRAME_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_COLON = re.compile(r"[ \t_*`]{0,8}[:=][ \t_*`]{0,8}")
_SPACE = re.compile(r"\s{0,64}")
_AXIS = re.compile(r"[xyz][ \t]{0,2}[:=][ \t]{0,2}")
_SIGN = f"[+{re.escape(MINUS_SIGNS)}]"
_NUMBER = re.compile(
    rf"({_SIGN}?)[ \t]{{0,2}}([0-9]{{1,40}}(?:\.[0-9]{{0,40}})?|\.[0-9]{{1,40}})(?:e({_SIGN}?[0-9]{{1,4}}))?"
)
_UNIT = re.compile(r"(?:meters?|metres?|m)\b")
_NULL = re.compile("(?:" + "|".join(re.escape(word) for word in NULL_WORDS) + r")(?![a-z0-9])")
# "[1, 2, 3] or null" and "[1, 2, 3] / [4, 5, 6]" commit to nothing.
_HEDGE = re.compile(r"[ \t]{0,4}(?:or\b|/|\|)[ \t]{0,4}(?:null|none|[\[(])")
# The canonical list, in one go; whatever else a list may look like is read piece by piece.
_PLAIN = r"(-?[0-9]{1,15}(?:\.[0-9]{1,15})?)"
_PLAIN_LIST = re.compile(rf"\[{_PLAIN}, ?{_PLAIN}, ?{_PLAIN}\](?!{_HEDGE.pattern})")
_ASCII_MINUS = str.maketrans(dict.fromkeys(MINUS_SIGNS, "-"))
_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_CLOSING = {"[": "]", "(": ")"}


def parse_response(text: str) -> Response:
    """Parse one response.

    Args:
        text: what the model wrote, without the prompt. Anything that is not a `str` reads as the empty text.

    Returns:
        The typed response; see `Response` for what counts.

    Example:
        >>> response = parse_response("<thinking>...</thinking><answer>B</answer>")
        >>> response.answer, response.well_tagged
        ('B', True)
    """
    if not isinstance(text, str):
        text = ""
    lowered = _lower_same_length(text)
    tags: list[tuple[str, Span]] = []
    thinking = _ThinkingReader(lowered)
    malformed: list[Malformed] = []

    for anchor in _ANCHOR.finditer(lowered):
        kind = anchor.lastgroup
        if kind == "tag":
            name = anchor["close"] + anchor["tag"]
            tags.append((name, anchor.span()))
            thinking.on_tag(name, anchor.span())
        elif thinking.is_open:
            if kind == "header":
                thinking.on_header(anchor)
            elif kind is not None:
                thinking.on_label(kind, anchor, malformed)

    block = thinking.closed_block
    answers, tag_faults = _answers(text, tags)
    initial, final = _assign_states(thinking.states) if block else (State(), State())
    return Response(
        num_chars=len(text),
        thinking=text[block[0][1] : block[1][0]] if block else None,
        thinking_span=(block[0][0], block[1][1]) if block else None,
        answers=answers,
        initial=initial,
        final=final,
        malformed=tuple(sorted(malformed + tag_faults, key=lambda spot: spot.span)),
        well_tagged=_well_tagged(text, tags),
    )


class _ThinkingReader:
    """Collects the states of the first thinking block; everything outside it is ignored."""

    def __init__(self, lowered: str) -> None:
        self._text = lowered
        self._open: Span | None = None
        self._finished = False
        self.closed_block: tuple[Span, Span] | None = None
        self.states: list[_DraftState] = []

    @property
    def is_open(self) -> bool:
        return self._open is not None and not self._finished

    def on_tag(self, name: str, span: Span) -> None:
        if self._finished:
            return
        if name == "thinking" and self._open is None:
            self._open = span
        elif name == "/thinking" and self._open is not None:
            self.closed_block = (self._open, span)
            self._finished = True
        elif name == "answer":  # what follows the answer, or stands around it, cannot have led to it
            self._finished = True

    def on_header(self, anchor: re.Match[str]) -> None:
        qualifier = _QUALIFIER.match(self._text, anchor.end())
        if qualifier is None:
            return  # "the spatial state changes": prose
        words = qualifier["bracketed"] or qualifier["plain"] or ""
        # "Initial Spatial State:" carries its word in front.
        before = self._text[max(0, anchor.start() - 12) : anchor.start()].split("\n")[-1]
        frame = _FRAME_NUMBER.search(words)
        self.states.append(
            _DraftState(
                end_of_clip=_end_of_clip(words) or _end_of_clip(before),
                frame=float(frame[0]) if frame else None,
                header=(anchor.start(), qualifier.end()),
            )
        )

    def on_label(self, kind: str, anchor: re.Match[str], malformed: list[Malformed]) -> None:
        colon = _COLON.match(self._text, anchor.end())
        if colon is None:
            return  # "the camera center moves": prose
        center, reason, end = _read_center(self._text, colon.end())
        if reason:
            malformed.append(Malformed(reason, (anchor.start(), end)))
        elif not self.states:
            malformed.append(Malformed("centre before any state header", (anchor.start(), end)))
        else:
            self.states[-1].offer(kind, center)


class _DraftState:
    """A state under construction: the first readable value of a slot counts, a restatement changes nothing."""

    def __init__(self, end_of_clip: str | None, frame: float | None, header: Span) -> None:
        self.end_of_clip = end_of_clip
        self.frame = frame
        self.header = header
        self.centers: dict[str, Center] = {}

    def offer(self, kind: str, center: Center) -> None:
        self.centers.setdefault(kind, center)

    def build(self) -> State:
        return State(
            camera_center=self.centers.get("camera", MISSING),
            object_center=self.centers.get("object", MISSING),
            header=self.header,
            frame=self.frame,
        )


def _assign_states(drafts: list[_DraftState]) -> tuple[State, State]:
    """Which draft is the initial, which the final state.

    A header that says so wins: the first of its kind with a readable centre, else the first. Otherwise the first
    remaining header is the initial state and the last remaining one the final state; one unnamed header alone is the
    initial state. Among more than two unnamed headers, those without a centre are mentions in prose.
    """
    initial = _first_filled([draft for draft in drafts if draft.end_of_clip == "initial"])
    final = _first_filled([draft for draft in drafts if draft.end_of_clip == "final"])
    unnamed = [draft for draft in drafts if draft.end_of_clip is None]
    if len(unnamed) > 2:
        unnamed = [draft for draft in unnamed if draft.centers] or unnamed
    if initial is None and unnamed:
        initial = unnamed.pop(0)
    if final is None and unnamed:
        final = unnamed[-1]
    return (initial.build() if initial else State()), (final.build() if final else State())


def _first_filled(drafts: list[_DraftState]) -> _DraftState | None:
    filled = (draft for draft in drafts if draft.centers)
    return next(filled, drafts[0] if drafts else None)


def _end_of_clip(words: str) -> str | None:
    found = set(_WORD.findall(words))
    is_initial, is_final = bool(found & INITIAL_WORDS), bool(found & FINAL_WORDS)
    if is_initial == is_final:
        return None
    return "initial" if is_initial else "final"


def _read_center(text: str, start: int) -> tuple[Center, str, int]:
    """Read `[x, y, z]` or null at `start`. Returns (center, reason it is malformed or "", end of what was read)."""
    plain = _PLAIN_LIST.match(text, start)
    if plain:
        x, y, z = plain.groups()
        return Vector((float(x), float(y), float(z)), plain.span()), "", plain.end()
    position = _skip_space(text, start)
    null = _NULL.match(text, position)
    if null:
        return Null(null.span()), "", null.end()
    opening = text[position : position + 1]
    if opening not in ("[", "("):
        return MISSING, "no coordinates after the label", position
    closing = _CLOSING[opening]
    cursor = _skip_space(text, position + 1)

    if _NULL.match(text, cursor):
        return _read_null_list(text, position, cursor, closing)

    numbers: list[float] = []
    for index in range(3):
        axis = _AXIS.match(text, cursor)
        number = _NUMBER.match(text, axis.end() if axis else cursor)
        if number is None:
            return MISSING, "not a number", cursor
        value = _to_float(number)
        if value is None:
            return MISSING, "number is not finite", number.end()
        numbers.append(value)
        cursor, separated = _skip_separator(text, number.end())
        if index < 2 and not separated:
            return MISSING, "fewer than three coordinates", cursor
    if text[cursor : cursor + 1] != closing:
        return MISSING, "list of coordinates is not closed after three", cursor
    end = cursor + 1
    if _HEDGE.match(text, end):
        return MISSING, "two values for one slot", end
    return Vector((numbers[0], numbers[1], numbers[2]), (position, end)), "", end


def _read_null_list(text: str, start: int, cursor: int, closing: str) -> tuple[Center, str, int]:
    """`[null]` and `[null, null, null]` mean null; null beside a number means nothing."""
    for _ in range(3):
        null = _NULL.match(text, cursor)
        if null is None:
            break
        cursor, _separated = _skip_separator(text, null.end())
    if text[cursor : cursor + 1] != closing:
        return MISSING, "null among coordinates", cursor
    return Null((start, cursor + 1)), "", cursor + 1


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _skip_separator(text: str, position: int) -> tuple[int, bool]:
    """Skip white space, a unit, a comma or semicolon. Says whether anything that separates two numbers was there."""
    cursor = _skip_space(text, position)
    unit = _UNIT.match(text, cursor)
    if unit:
        cursor = _skip_space(text, unit.end())
    if text[cursor : cursor + 1] in (",", ";"):
        return _skip_space(text, cursor + 1), True
    return cursor, cursor > position


def _to_float(number: re.Match[str]) -> float | None:
    sign, digits, exponent = number.groups()
    value = float(f"{sign.translate(_ASCII_MINUS)}{digits}e{(exponent or '0').translate(_ASCII_MINUS)}")
    return value if math.isfinite(value) else None


def _answers(text: str, tags: list[tuple[str, Span]]) -> tuple[tuple[Answer, ...], list[Malformed]]:
    """Closed answer blocks outside thinking, and the tags that belong to no block."""
    answers: list[Answer] = []
    faults: list[Malformed] = []
    open_thinking: Span | None = None
    open_answer: Span | None = None
    for name, span in tags:
        if name == "thinking":
            if open_thinking or open_answer:
                faults.append(Malformed("nested <thinking>", span))
            open_thinking = open_thinking or span
        elif name == "/thinking":
            if open_thinking is None or open_answer:
                faults.append(Malformed("stray </thinking>", span))
            open_thinking = None
        elif name == "answer":
            if open_thinking or open_answer:
                faults.append(Malformed("<answer> inside another block", span))
            if not open_thinking:
                open_answer = open_answer or span
        elif open_answer and not open_thinking:
            answers.append(Answer(text[open_answer[1] : span[0]].strip(), (open_answer[0], span[1])))
            open_answer = None
        else:
            faults.append(Malformed("stray </answer>", span))
    for leftover, reason in ((open_thinking, "<thinking> is not closed"), (open_answer, "<answer> is not closed")):
        if leftover:
            faults.append(Malformed(reason, leftover))
    return tuple(answers), faults


def _well_tagged(text: str, tags: list[tuple[str, Span]]) -> bool:
    if [name for name, _ in tags] != ["thinking", "/thinking", "answer", "/answer"]:
        return False
    (_, thinking), (_, thinking_end), (_, answer), (_, answer_end) = tags
    tail = text[answer_end[1] :]
    for token in SPECIAL_TOKENS:
        tail = tail.replace(token, "")
    return not (text[: thinking[0]].strip() or text[thinking_end[1] : answer[0]].strip() or tail.strip())


def _lower_same_length(text: str) -> str:
    """Lower case that keeps every character's position (str.lower turns U+0130 into two characters)."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else text.translate(_ASCII_LOWER)

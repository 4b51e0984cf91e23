"""Read a response in one linear pass: tags, spatial states, centres.

Tolerant of how models write (case, bold, spacing, bullets on the header's line, `Frame 14` headers, exponents, unicode
minus, units, lists over several lines), strict about what counts: a centre counts inside the thinking block only, under
a state header, and an answer counts outside it.

Cost: substring searches find the anchors (tags, headers, labels); what stands at an anchor is read by patterns whose
every repetition is bounded and which never hand a failure back to an earlier one. So time is linear in the text,
whatever the text is. Nothing here raises on any `str`, and no number that is not finite leaves.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from itertools import islice

from .grammar import FINAL_WORDS, INITIAL_WORDS, MINUS_SIGNS, NULL_WORDS, SPECIAL_TOKENS
from .response import MISSING, Answer, Center, Malformed, Null, Response, Span, State, Vector, make

# No honest response comes near; without a limit, a megabyte of tags or labels would be read to its end one by one.
MAX_TAGS = 256
MAX_ANCHORS = 4096

# All patterns run on lower-cased text.
_TAG = re.compile(r"<[ \t]{0,2}(/?)[ \t]{0,2}(thinking|answer)[ \t]{0,2}>")
_HEADER = re.compile(r"spatial[ \t_*]{1,8}state\b")
_LABEL_END = re.compile(r"cent(?:er|re)\b[ \t_*`]{0,8}[:=][ \t_*`]{0,8}")  # "Camera " stands in front
# "(Initial Frame):**", "(Frame 14)", " at frame 14:", ":"
_QUALIFIER = re.compile(r"[ \t_*]{0,8}(?:[(\[](?P<bracketed>[^()\[\]\n]{1,64})[)\]]|(?P<plain>[^:\n\[\]()<]{0,48}):)")
_WORD = re.compile(r"[a-z]{1,16}")
_FRAME_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
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
_PLAIN = r"(-?[0-9.]{1,24})"  # what is no number after all, such as 1.2.3, is left to the slower way
_PLAIN_VECTOR = rf"\[{_PLAIN}, ?{_PLAIN}, ?{_PLAIN}\](?!{_HEDGE.pattern})"
_PLAIN_LIST = re.compile(_PLAIN_VECTOR)
# A whole state as the prompt asks for it, camera first. What this matches, the steps below read alike, only slower.
_PLAIN_SLOT = rf"(null(?![a-z0-9])|{_PLAIN_VECTOR})"
_PLAIN_STATE = re.compile(
    r"spatial state \((?:(initial|final) frame|frame ([0-9]{1,9}(?:\.[0-9]{1,9})?))\)():?\*{0,2}:?\s{1,4}"
    rf"[-*] camera center: {_PLAIN_SLOT}\s{{1,4}}[-*] object center: {_PLAIN_SLOT}"
)
_ASCII_MINUS = str.maketrans(dict.fromkeys(MINUS_SIGNS, "-"))
_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_CLOSING = {"[": "]", "(": ")"}
_CANONICAL_TAGS = ("thinking", "/thinking", "answer", "/answer")


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
    tags = _plain_tags(lowered)
    is_canonical = tags is not None
    if tags is None:
        tags = tuple([(m[1] + m[2], m.span()) for m in islice(_TAG.finditer(lowered), MAX_TAGS + 1)])
        if len(tags) > MAX_TAGS:
            return _too_many_tags(text, tags[:MAX_TAGS])
        is_canonical = tuple([name for name, _ in tags]) == _CANONICAL_TAGS
    malformed: list[Malformed] = []
    states: list[State] = []
    initial = final = _NO_STATE
    window = _thinking_window(tags, len(text))
    if window is None:
        block = None
    else:
        start, end, block = window
        sides, states = _read_states(lowered, start, end, malformed)
        if block is None:
            states = []
        elif states:
            initial, final = _assign_states(sides, states)
    if is_canonical:
        (_, thinking), (_, thinking_end), (_, opening), (_, closing) = tags
        answer = text[opening[1] : closing[0]].strip()
        answers: tuple[Answer, ...] = (Answer(answer, (opening[0], closing[1])),)
        well_tagged = not (
            text[: thinking[0]].strip()
            or text[thinking_end[1] : opening[0]].strip()
            or _without_special_tokens(text[closing[1] :]).strip()
        )
    else:
        answers, faults = _answers(text, tags)
        malformed = sorted(malformed + faults, key=lambda spot: spot.span)
        answer = answers[0].text if len(answers) == 1 else ""
        well_tagged = False
    written = (
        (initial[0] is not MISSING)
        + (initial[1] is not MISSING)
        + (final[0] is not MISSING)
        + (final[1] is not MISSING)
    )
    return make(
        Response,
        (
            text,
            answer or None,
            answers,
            block,
            initial,
            final,
            tuple(states),
            written,
            tags,
            tuple(malformed),
            well_tagged,
        ),
    )


_NO_STATE = State()


def _plain_tags(lowered: str) -> tuple[tuple[str, Span], ...] | None:
    """The four tags of a text that has one thinking block, then one answer block, and no other "<"; else None.

    What most responses look like, found by substring searches alone.
    """
    if lowered.count("<") != 4:
        return None
    thinking = lowered.find("<thinking>")
    thinking_end = lowered.find("</thinking>", thinking)
    answer = lowered.find("<answer>", thinking_end)
    answer_end = lowered.find("</answer>", answer)
    if not 0 <= thinking < thinking_end < answer < answer_end:
        return None
    return (
        ("thinking", (thinking, thinking + 10)),
        ("/thinking", (thinking_end, thinking_end + 11)),
        ("answer", (answer, answer + 8)),
        ("/answer", (answer_end, answer_end + 9)),
    )


def _too_many_tags(text: str, tags: tuple[tuple[str, Span], ...]) -> Response:
    """Of such a text the first tags are kept to be looked at; nothing in it counts."""
    spot = Malformed(f"more than {MAX_TAGS} tags: nothing counts", tags[-1][1])
    return Response(text, None, (), None, _NO_STATE, _NO_STATE, (), 0, tags, (spot,), False)


def _thinking_window(tags: tuple[tuple[str, Span], ...], num_chars: int) -> tuple[int, int, Span | None] | None:
    """Where centres are looked for, (start, end), and the span of the thinking block if it is closed.

    It begins at the first opening tag and ends at its closing tag, or where an answer opens: what follows the answer,
    or stands around it, cannot have led to it.
    """
    opened: Span | None = None
    for name, span in tags:
        if name == "answer":
            return None if opened is None else (opened[1], span[0], None)
        if opened is None:
            if name == "thinking":
                opened = span
        elif name == "/thinking":
            return opened[1], span[0], (opened[0], span[1])
    return None if opened is None else (opened[1], num_chars, None)


def _read_states(
    lowered: str, start: int, end: int, malformed: list[Malformed]
) -> tuple[list[str | None], list[State]]:
    """The states between two positions in order, for each "initial", "final" or None, as its header says.

    Adds what looks like a centre and is none to `malformed`.
    """
    sides: list[str | None] = []
    states: list[State] = []
    find = lowered.find
    header, label = find("spatial", start, end), find("cent", start, end)
    for _ in range(MAX_ANCHORS):
        if header >= 0 and (label < 0 or header < label):
            plain = _PLAIN_STATE.match(lowered, header, end)
            state = _plain_state(plain) if plain else None
            if plain and state:
                sides.append(plain[1] or _side(_before(lowered, header)))
                states.append(state)
                position = plain.end()
                header, label = find("spatial", position, end), find("cent", position, end)
            else:
                _read_header(lowered, header, end, sides, states)
                header = find("spatial", header + 7, end)
        elif label >= 0:
            tail = _LABEL_END.match(lowered, label, end)
            if tail:
                _read_label(lowered, label, tail.end(), states, malformed)
            label = find("cent", label + 4, end)
        else:
            return sides, states
    malformed.append(Malformed(f"more than {MAX_ANCHORS} labels and headers: the rest was not read", (start, end)))
    return sides, states


def _plain_state(plain: re.Match[str]) -> State | None:
    _, frame, _, _, x, y, z, _, u, v, w = plain.groups()
    camera, object_ = plain.span(4), plain.span(8)
    try:
        fields = (
            Null(camera) if x is None else make(Vector, ((float(x), float(y), float(z)), camera)),
            Null(object_) if u is None else make(Vector, ((float(u), float(v), float(w)), object_)),
            (plain.start(), plain.start(3)),
            float(frame) if frame else None,
        )
    except ValueError:
        return None
    return make(State, fields)


def _read_header(lowered: str, position: int, end: int, sides: list[str | None], states: list[State]) -> None:
    anchor = _HEADER.match(lowered, position, end)
    qualifier = _QUALIFIER.match(lowered, anchor.end(), end) if anchor else None
    if qualifier is None:
        return  # "the spatial state changes": prose
    words = qualifier["bracketed"] or qualifier["plain"] or ""
    frame = _FRAME_NUMBER.search(words)
    sides.append(_side(words) or _side(_before(lowered, position)))
    states.append(State(MISSING, MISSING, (position, qualifier.end()), float(frame[0]) if frame else None))


def _before(lowered: str, position: int) -> str:
    """The words in front of a header on its line: "Initial Spatial State:" carries its word there."""
    return lowered[max(0, position - 12) : position].rpartition("\n")[2]


def _read_label(lowered: str, position: int, value: int, states: list[State], malformed: list[Malformed]) -> None:
    """Read the centre at `value` if "camera" or "object" stands in front of `position`, where "cent" begins.

    The first readable value of a slot counts: a restatement changes nothing.
    """
    front = lowered[max(0, position - 14) : position]
    words = front.rstrip(" \t_*")
    if len(words) == len(front) or not words.endswith(("camera", "object")):
        return  # "the center:", prose
    center, reason, end = _read_center(lowered, value)
    start = position - len(front) + len(words) - 6
    if reason:
        malformed.append(Malformed(reason, (start, end)))
    elif not states:
        malformed.append(Malformed("centre before any state header", (start, end)))
    elif words.endswith("camera"):
        if states[-1].camera_center is MISSING:
            states[-1] = states[-1]._replace(camera_center=center)
    elif states[-1].object_center is MISSING:
        states[-1] = states[-1]._replace(object_center=center)


def _assign_states(sides: list[str | None], states: list[State]) -> tuple[State, State]:
    """Which state is the initial, which the final one.

    A header that says so wins: the first of its kind with a readable centre, else the first. Otherwise the first
    remaining header is the initial state and the last remaining one the final state; one unnamed header alone is the
    initial state. Among more than two unnamed headers, those without a centre are mentions in prose.
    """
    if sides == ["initial", "final"]:
        return states[0], states[1]
    by_side: dict[str | None, list[State]] = {"initial": [], "final": [], None: []}
    for side, state in zip(sides, states, strict=True):
        by_side[side].append(state)
    unnamed = by_side[None]
    if len(unnamed) > 2:
        unnamed = [state for state in unnamed if _is_filled(state)] or unnamed
    initial, final = _first_filled(by_side["initial"]), _first_filled(by_side["final"])
    if initial is None and unnamed:
        initial = unnamed.pop(0)
    if final is None and unnamed:
        final = unnamed[-1]
    return initial or _NO_STATE, final or _NO_STATE


def _is_filled(state: State) -> bool:
    return state.camera_center is not MISSING or state.object_center is not MISSING


def _first_filled(states: list[State]) -> State | None:
    return next((state for state in states if _is_filled(state)), states[0] if states else None)


def _side(words: str) -> str | None:
    """Which end of the clip the words of a header name, "initial" or "final"; None if neither, or both."""
    found = set(_WORD.findall(words))
    is_initial, is_final = bool(found & INITIAL_WORDS), bool(found & FINAL_WORDS)
    if is_initial == is_final:
        return None
    return "initial" if is_initial else "final"


def _read_center(text: str, start: int) -> tuple[Center, str, int]:
    """Read `[x, y, z]` or null at `start`. Returns (center, reason it is malformed or "", end of what was read)."""
    plain = _PLAIN_LIST.match(text, start)
    if plain:
        with suppress(ValueError):
            x, y, z = map(float, plain.groups())
            return Vector((x, y, z), plain.span()), "", plain.end()
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


def _answers(text: str, tags: tuple[tuple[str, Span], ...]) -> tuple[tuple[Answer, ...], list[Malformed]]:
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


def _without_special_tokens(tail: str) -> str:
    if tail:
        for token in SPECIAL_TOKENS:
            tail = tail.replace(token, "")
    return tail


def _lower_same_length(text: str) -> str:
    """Lower case that keeps every character's position (str.lower turns U+0130 into two characters)."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else text.translate(_ASCII_LOWER)

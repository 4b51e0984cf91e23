"""Rule-based ST-CoT responses: five steps from the question to the answer, from metadata only.

The paper (arXiv 2603.00515) has a strong video model write the reasoning; where none is at hand, these texts teach the
grammar and its visual cues. Steps: objective and temporal anchors; start state; temporal progression by visual cues,
without arithmetic on coordinates; end state, checked against the start; synthesis. The grammar is that of the reward.
"""

from __future__ import annotations

from typing import Any

from ..errors import InputError
from ..schema import QARow
from . import phrases
from .compact import write_compact
from .cues import are_cues
from .grammar import FINAL_HEADER, INITIAL_HEADER, MOST_DECIMALS, response, state_lines
from .words import Draw, noun_phrase, plain, sentence

STYLES = ("full", "compact")
_BACK = {"left": "right", "right": "left", "up": "down", "down": "up"}
_SIZE_OF = {"closer": "larger", "farther": "smaller", "same": "same"}
_MORE_TRIES = 4  # for one more path, before its style is taken to have no more ways to say it


def write_st_cot(row: QARow, *, style: str = "full", decimals: int = 4, seed: int = 0, path: int = 0) -> str:
    """The ST-CoT response that answers `row` correctly.

    Args:
        row: a question made by this package; `row.meta["cues"]` holds the visual cues (`ClipCues.pair`).
        style: "full", or "compact" with short sentences, under 90 words.
        decimals: of the coordinates; released texts print four.
        seed, path: other numbers give other words. The words follow these and the row's id alone, so that responses do
            not change when other rows come or go.

    Raises:
        InputError: unknown style, decimals out of range, or a row without cues.
    """
    if style not in STYLES:
        raise InputError(f"unknown style {style!r}", field="cot_style", remedy=f"Known: {', '.join(STYLES)}")
    cues = row.meta.get("cues")
    if cues is None or not are_cues(cues):
        raise InputError(
            "the row carries no visual cues" if cues is None else "the row carries visual cues of another version",
            row=row.id,
            field="meta",
            remedy="Rule-based responses are for rows made by `mllm4d data questions`; or name their clips, --clips",
        )
    if not 0 <= decimals <= MOST_DECIMALS:
        raise InputError(f"must lie in 0..{MOST_DECIMALS}, got {decimals}", field="cot_decimals")
    if style == "compact":
        return write_compact(row, cues, Draw(f"{seed}/{row.id}"), decimals, path)
    return _write_full(row, cues, Draw(f"{seed}/{path}/{row.id}"), decimals)


def write_paths(row: QARow, count: int, *, style: str = "full", decimals: int = 4, seed: int = 0) -> list[str]:
    """`count` responses of one row that differ from each other; the first is that of `write_st_cot`.

    Fewer where the style has no more ways to say it: there are two compact texts about the camera alone, and four about
    an object.

    Raises:
        InputError: as `write_st_cot`.
    """
    found: dict[str, None] = {}
    for path in range(count + _MORE_TRIES):
        if len(found) < count:
            found[write_st_cot(row, style=style, decimals=decimals, seed=seed, path=path)] = None
    return list(found)


def _write_full(row: QARow, cues: dict[str, Any], draw: Draw, decimals: int) -> str:
    noun = noun_phrase(plain(row.object_description)) if row.object_description else ""
    has_object = bool(noun) and "size" in cues
    steps = (
        f"{_objective(row, noun, draw)}\n{_start(row, cues, noun if has_object else '', draw)}",
        f"{INITIAL_HEADER}\n{state_lines(row, 0, decimals)}",
        _progression(row, cues, noun if has_object else "", draw),
        f"{FINAL_HEADER}\n{state_lines(row, 1, decimals)}",
        f"{_check(row, draw)} {_synthesis(row, noun, draw)}",
    )
    return response("\n".join(steps), row.answer)


def _objective(row: QARow, noun: str, draw: Draw) -> str:
    """Step 1."""
    words = phrases.TASK_WORDS.get(row.task)
    start, end, last = row.start_frame, row.end_frame, row.num_frames - 1
    if words is None:
        question = plain(row.question)
        return draw.pick(phrases.GENERIC_OPENINGS).format(question=question, start=start, end=end, last=last)
    goal = draw.pick(words.goals).format(object=noun)
    return sentence(draw.pick(phrases.OPENINGS).format(goal=goal, start=start, end=end, last=last))


def _start(row: QARow, cues: dict[str, Any], noun: str, draw: Draw) -> str:
    """Step 2."""
    if not noun:
        return draw.pick(phrases.CAMERA_STARTS).format(start=row.start_frame)
    place = _place(cues["start_place"], cues["start_level"])
    return sentence(draw.pick(phrases.OBJECT_STARTS).format(start=row.start_frame, object=noun, place=place))


def _progression(row: QARow, cues: dict[str, Any], noun: str, draw: Draw) -> str:
    """Step 3: what moves in the image. The camera's part first as a rule, since it explains the object's."""
    if row.start_frame == row.end_frame:
        return draw.pick(phrases.ONE_MOMENT)
    camera = _camera_part(cues, draw)
    if not noun:
        return camera
    parts = (camera, _object_part(cues, noun, draw))
    return " ".join(parts if draw.pick("cco") == "c" else parts[::-1])


def _camera_part(cues: dict[str, Any], draw: Draw) -> str:
    shift, turn, drift = cues["camera_shift"], cues["camera_turn"], cues["camera_drift"]
    if shift == "still":
        text = draw.pick(phrases.STILL_SHIFTS)
    else:
        much = draw.pick(phrases.MUCH.get(cues["parallax"], ("",)))
        if shift == "forward":
            text = draw.pick(phrases.FORWARD_SHIFTS).format(much=much)
        elif shift == "backward":
            text = draw.pick(phrases.BACKWARD_SHIFTS).format(much=much)
        else:
            text = draw.pick(phrases.SIDE_SHIFTS).format(much=much, shift=shift, back=_BACK[shift])
    if drift != "none":
        text = f"{text} {draw.pick(phrases.DRIFTS).format(drift=drift)}"
    if turn != "none":
        text = f"{text} {draw.pick(phrases.TURNS).format(turn=turn)}"
    return text


def _object_part(cues: dict[str, Any], noun: str, draw: Draw) -> str:
    size, is_clear = _size(cues, draw)
    at_start, at_end = (cues["start_place"], cues["start_level"]), (cues["end_place"], cues["end_level"])
    if is_clear:
        place = draw.pick(phrases.STAYS if at_start == at_end else phrases.GOES)
    else:
        place = draw.pick(phrases.STAYS_APART if at_start == at_end else phrases.GOES_APART)
    text, place = size.format(object=noun), place.format(place=_place(*at_end))
    parts = [sentence(f"{text}{place}."), sentence(_own_motion(cues, noun, draw))]
    if cues["gap"] != "none":
        parts.append(draw.pick(phrases.COVERED if cues["gap"] == "covered" else phrases.AWAY))
    if cues["edge"] != "none":
        parts.append(draw.pick(phrases.EDGES[cues["edge"]]))
    return " ".join(parts)


def _size(cues: dict[str, Any], draw: Draw) -> tuple[str, bool]:
    """A phrase about the apparent size, and whether distance and outline agree about it."""
    size, outline, distance = cues["size"], cues["outline"], cues["distance"]
    expected = _SIZE_OF[distance]
    if size == outline == expected:
        return draw.pick(phrases.SIZES[size]), True
    if distance != "same" and outline in ("same", expected):
        return draw.pick(phrases.SLIGHT_SIZES[distance]), True
    return draw.pick(phrases.UNCLEAR_SIZES[expected]), False


def _own_motion(cues: dict[str, Any], noun: str, draw: Draw) -> str:
    """What the object does by itself; of one that does nothing, where its drift in the image comes from."""
    own, shift = cues["own_motion"], cues["image_shift"]
    if any(own):
        motion = " and ".join(phrases.MOTIONS[axis, sign] for axis, sign in enumerate(own) if sign)
        return draw.pick(phrases.OWN_MOTIONS).format(object=noun, motion=motion)
    if cues["moving"]:
        return draw.pick(phrases.SMALL_MOTIONS).format(object=noun)
    text = draw.pick(phrases.NO_MOTIONS).format(object=noun)
    if shift != "none" and (cues["camera_shift"] != "still" or cues["camera_turn"] != "none"):
        text = f"{text} {draw.pick(phrases.APPARENT_SHIFTS).format(shift=shift)}"
    return text


def _check(row: QARow, draw: Draw) -> str:
    """Step 4."""
    return draw.pick(phrases.CHECKS).format(start=row.start_frame, end=row.end_frame)


def _synthesis(row: QARow, noun: str, draw: Draw) -> str:
    """Step 5: the conclusion in the words of the option."""
    words = phrases.TASK_WORDS.get(row.task)
    answer = plain(row.answer_text)
    if row.unit and not answer.endswith(row.unit):
        answer = f"{answer} {row.unit}"
    conclusions = phrases.GENERIC_CONCLUSIONS if words is None else words.conclusions
    conclusion = draw.pick(conclusions).format(object=noun, answer=answer)
    return draw.pick(phrases.SYNTHESES).format(conclusion=conclusion, letter=row.answer)


def _place(place: str, level: str) -> str:
    if place == "outside":
        return "at the edge of sight"
    if level == "middle":
        return "in the middle of the image" if place == "middle" else f"in the {place} part of the image"
    height = "upper" if level == "top" else "lower"
    return f"in the {height} part of the image" if place == "middle" else f"in the {height} {place} of the image"

"""Rule-based ST-CoT responses: five steps from the question to the answer, from metadata only.

The paper (arXiv 2603.00515) has a strong video model write the reasoning; where none is at hand, these texts teach the
grammar and its visual cues. Steps: objective and temporal anchors; start state; temporal progression by visual cues,
without arithmetic on coordinates; end state, checked against the start; synthesis. The grammar is that of the reward:

    <thinking> ... **Spatial State (Initial Frame):** ... **Spatial State (Final Frame):** ... </thinking>
    <answer>B</answer>
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from ..schema import QARow, Vector
from .applicability import DISTANCE_TASKS
from .cues import PLACES
from .templates import noun_phrase

INITIAL_HEADER = "**Spatial State (Initial Frame):**"
FINAL_HEADER = "**Spatial State (Final Frame):**"
CAMERA_BULLET = "- Camera Center:"
OBJECT_BULLET = "- Object Center:"
STYLES = ("full", "compact")
VERDICT = "The answer is"  # of compact texts

# What near things do against far ones when the camera moves. Parallax does not depend on turns of the view.
_PARALLAX = {
    "left": "near things slide right against far ones",
    "right": "near things slide left against far ones",
    "up": "near things sink against far ones",
    "down": "near things rise against far ones",
    "forward": "the scene grows out from the middle",
    "backward": "the scene shrinks toward the middle",
    "still": "near and far things keep their places",
}
_SIZE = {"larger": "looks larger", "smaller": "looks smaller", "same": "keeps its size"}

_GOALS = {
    "camera_absolute_distance": "how far the camera moves",
    "camera_relative_direction": "which way the camera moves",
    "object_absolute_distance": "how far {object} moves",
    "object_camera_absolute_distance": "how far {object} ends up from the first camera position",
    "object_camera_relative_distance": "how the gap between {object} and the camera changes",
    "object_camera_relative_direction_lateral": "how {object} moves sideways in the first view",
    "object_camera_relative_direction_longitudinal": "how {object} moves in depth in the first view",
}

_OPENINGS = (
    "The question asks {goal}, from frame {start} to frame {end} of {last}.",
    "I need to find {goal}, comparing frame {start} with frame {end} of {last}.",
    "Goal: {goal}. The anchors are frame {start} and frame {end} of {last}.",
)
_COMPACT_OPENINGS = ("Frames {start} to {end}: {goal}.", "Find {goal}, frames {start} to {end}.")
_CHECKS = (
    "Set against the start, this end state fits what the view shows.",
    "The end state agrees with the cues seen on the way.",
    "Both states and the motion between them tell the same story.",
)


def write_st_cot(row: QARow, *, style: str = "full", decimals: int = 4) -> str:
    """The ST-CoT response that answers `row` correctly.

    Args:
        row: a question made by this package; `row.meta["cues"]` holds the visual cues (cues.find_cues).
        style: "full", or "compact" with short sentences, under 90 words.
        decimals: of the coordinates; released texts print four.

    Raises:
        InputError: unknown style, or a row without cues.
    """
    if style not in STYLES:
        raise InputError(f"unknown style {style!r}", field="cot_style", remedy=f"Known: {', '.join(STYLES)}")
    cues = row.meta.get("cues")
    if cues is None or row.task not in _GOALS:
        raise InputError(
            "the row carries no visual cues",
            row=row.id,
            field="meta",
            remedy="Rule-based responses are for rows made by `mllm4d data questions`",
        )
    # The phrasing follows the row, so that responses do not change when other rows come or go.
    rng = np.random.default_rng(zlib.crc32(row.id.encode()))
    noun = noun_phrase(row.object_description) if row.object_description else ""
    opening = _pick(_OPENINGS if style == "full" else _COMPACT_OPENINGS, rng).format(
        goal=_GOALS[row.task].format(object=noun), start=row.start_frame, end=row.end_frame, last=row.num_frames - 1
    )
    conclusion = _synthesis(row, noun, style)
    if style == "full":
        opening = f"{opening}\n{_start_sentence(row, cues, noun)}"
        conclusion = f"{_pick(_CHECKS, rng)} {conclusion}"
    lines = [
        f"<thinking>{_sentence(opening)}",
        INITIAL_HEADER,
        *_state_lines(row, 0, decimals),
        _progression(row, cues, noun, style),
        FINAL_HEADER,
        *_state_lines(row, 1, decimals),
        f"{conclusion}</thinking>",
        f"<answer>{row.answer}</answer>",
    ]
    return "\n".join(lines)


def fixed_phrases() -> list[str]:
    """The phrases that compact texts are put together from, spaces as in the text; for a tokenizer of one's own."""
    cameras = (f"{_sentence(parallax)}{_camera_conclusion(shift)}." for shift, parallax in _PARALLAX.items())
    sizes = (f" {phrase}" for phrase in _SIZE.values())
    places = (f" and ends {_place(place)}" for place in PLACES)
    goals = (part for goal in _GOALS.values() for part in f" {goal}".split(" {object}") if part)
    labels = [f"{header}\n{CAMERA_BULLET}" for header in (INITIAL_HEADER, FINAL_HEADER)]
    labels += [INITIAL_HEADER, FINAL_HEADER, CAMERA_BULLET, OBJECT_BULLET]
    return [*labels, *cameras, *sizes, *places, *goals, VERDICT]


def _state_lines(row: QARow, which: int, decimals: int) -> list[str]:
    return [
        f"{bullet} {_coordinates(states[which] if states else None, decimals)}"
        for bullet, states in ((CAMERA_BULLET, row.camera_center), (OBJECT_BULLET, row.object_center))
    ]


def _coordinates(center: Vector | None, decimals: int) -> str:
    if center is None:
        return "null"
    rounded = [round(number, decimals) + 0.0 for number in center]  # + 0.0: no "-0.0"
    return "[" + ", ".join(f"{number:.{decimals}f}" for number in rounded) + "]"


def _start_sentence(row: QARow, cues: dict[str, Any], noun: str) -> str:
    if not noun:
        return f"At frame {row.start_frame} the view before any motion is the reference."
    return _sentence(f"at frame {row.start_frame} {noun} is {_place(cues['start_place'])}.")


def _progression(row: QARow, cues: dict[str, Any], noun: str, style: str) -> str:
    """Step 3: what moves in the image. The camera's part first, since it explains the object's."""
    shift, turn = cues["camera_shift"], cues["camera_turn"]
    parts = [_sentence(f"{_PARALLAX[shift]}{_camera_conclusion(shift)}.")]
    if turn != "none" and style == "full":
        parts.append(f"The view as a whole also turns {turn}.")
    if noun:
        place = "" if cues["start_place"] == cues["end_place"] else f" and ends {_place(cues['end_place'])}"
        parts.append(_sentence(f"{noun} {_SIZE[cues['size']]}{place}."))
        if style == "full":
            own = "shifts against the ground around it" if cues["moving"] else "stays fixed to the ground around it"
            parts.append(_sentence(f"{noun} {own}."))
            if cues["hidden"]:
                parts.append("It is out of sight for part of the time.")
    return " ".join(parts)


def _camera_conclusion(shift: str) -> str:
    return ", so the camera stays" if shift == "still" else f", so the camera goes {shift}"


def _synthesis(row: QARow, noun: str, style: str) -> str:
    """Step 5: the conclusion in the words of the option."""
    text = row.answer_text
    if row.task in DISTANCE_TASKS and not text.endswith("meters"):
        text = f"{text} meters"
    if style == "compact":
        return f"{VERDICT} {row.answer_text} {row.answer}."
    subject = {
        "camera_absolute_distance": "the camera's displacement is about",
        "camera_relative_direction": "the camera's main motion in the first view is",
        "object_absolute_distance": f"the displacement of {noun} is about",
        "object_camera_absolute_distance": f"the distance to {noun} is about",
        "object_camera_relative_distance": f"relative to the camera {noun} is",
        "object_camera_relative_direction_lateral": f"the sideways motion of {noun} is",
        "object_camera_relative_direction_longitudinal": f"the motion in depth of {noun} is",
    }[row.task]
    return f"Therefore {subject} {text}, option {row.answer}."


def _place(place: str) -> str:
    if place == "outside":
        return "at the edge of sight"
    return "in the middle of the image" if place == "middle" else f"in the {place} part of the image"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]

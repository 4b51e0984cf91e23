"""Short texts in a closed wording, under 90 words, for models of a few million weights (recipes/tiny_cpu).

Every phrase is one of `fixed_phrases`, which such a model's tokenizer keeps in one piece each.
"""

from __future__ import annotations

from ..schema import QARow
from .cues import PLACES, Cues
from .grammar import CAMERA_BULLET, FINAL_HEADER, INITIAL_HEADER, OBJECT_BULLET, response, state_lines
from .words import Draw, noun_phrase, plain, sentence

VERDICT = "The answer is"
ESTIMATE = "That makes about"  # before the number of a numeric question, to one decimal

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
_OTHER_GOAL = "what is asked"
_OPENINGS = ("Frames {start} to {end}: {goal}.", "Find {goal}, frames {start} to {end}.")
_CAMERA = {
    shift: sentence(f"{parallax}, so the camera {'stays' if shift == 'still' else f'goes {shift}'}.")
    for shift, parallax in _PARALLAX.items()
}


def write_compact(row: QARow, cues: Cues, draw: Draw, decimals: int, path: int = 0) -> str:
    """The response of a row in the compact style.

    Args:
        row, cues, draw, decimals: see `writer.write_st_cot`.
        path: every other one opens in the other way, every other two tell the object's part before the camera's.
    """
    noun = noun_phrase(plain(row.object_description)) if row.object_description else ""
    goal = _GOALS.get(row.task, _OTHER_GOAL).format(object=noun)
    opening = _OPENINGS[(draw.place(len(_OPENINGS)) + path) % len(_OPENINGS)].format(
        goal=goal, start=row.start_frame, end=row.end_frame
    )
    seen = [camera_sentence(cues["camera_shift"])]
    if noun and "size" in cues:
        seen.append(sentence(f"{noun} {object_sentence(cues)}"))
    if path // 2 % 2:
        seen.reverse()
    estimate = "" if row.value is None else f"{ESTIMATE} {row.value:.1f}.\n"
    return response(
        f"{sentence(opening)}\n{INITIAL_HEADER}\n{state_lines(row, 0, decimals)}\n{' '.join(seen)}\n"
        f"{FINAL_HEADER}\n{state_lines(row, 1, decimals)}\n{estimate}{VERDICT} {plain(row.answer_text)} {row.answer}.",
        row.answer,
    )


def camera_sentence(shift: str) -> str:
    """What near things do against far ones, and so the camera; `shift` is one of the six directions or "still"."""
    return _CAMERA[shift]


def object_sentence(cues: Cues) -> str:
    """How an object's image changes: the sentence after its noun, from the cues `size`, `start_place`, `end_place`."""
    place = "" if cues["start_place"] == cues["end_place"] else f" and ends {_place(cues['end_place'])}"
    return f"{_SIZE[cues['size']]}{place}."


def fixed_phrases() -> list[str]:
    """The phrases that compact texts are put together from, spaces as in the text; for a tokenizer of one's own."""
    # Size and place in one: what an object does is then said in a single token, as what the camera does.
    ends = ("", *(f" and ends {_place(place)}" for place in PLACES))
    objects = (f" {size}{end}." for size in _SIZE.values() for end in ends)
    goals = (part for goal in _GOALS.values() for part in f" {goal}".split(" {object}") if part)
    labels = [f"{header}\n{CAMERA_BULLET}" for header in (INITIAL_HEADER, FINAL_HEADER)]
    labels += [INITIAL_HEADER, FINAL_HEADER, CAMERA_BULLET, OBJECT_BULLET]
    return [*labels, *_CAMERA.values(), *objects, *goals, ESTIMATE, VERDICT]


def _place(place: str) -> str:
    if place == "outside":
        return "at the edge of sight"
    return "in the middle of the image" if place == "middle" else f"in the {place} part of the image"

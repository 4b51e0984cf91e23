"""What the tiny model is pretrained on: captions of rendered clips, and questions with a caption for a video."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mllm4d_verl.data_tools.questions.options import draw_numbers
from mllm4d_verl.data_tools.questions.solvers import DIRECTIONS, DISTANCE_CHANGES
from mllm4d_verl.data_tools.schema import LETTERS, Clip4D, QARow, iter_clips, read_qa, write_qa
from mllm4d_verl.data_tools.st_cot.compact import ESTIMATE, VERDICT, camera_sentence, object_sentence
from mllm4d_verl.data_tools.st_cot.words import sentence

CAPTION_REQUEST = "<video>\nDescribe what moves."
EXERCISE_TEMPLATE = "brief"
_STILL_M = 0.05  # metres; a camera that moves less is called still, as the rendered ones are to rounding
# A direction in the first camera's axes, as the questions call it: for an object, forward is away from the camera.
_OBJECT_WAY = {"forward": "farther", "backward": "closer"}
# What the options of a question are drawn from, and how many there are.
_WORD_OPTIONS = (
    (DIRECTIONS, 4),
    (DISTANCE_CHANGES, 3),
    (("left", "right", "not moving"), 3),
)
_NUMBERS_M = (0.3, 8.0)  # metres; the range that drills draw numbers from
_MEASURING_ERROR = 0.03  # of an estimate, as a share: options lie a fifth apart


@dataclass(frozen=True)
class Motion:
    """What happens in a clip, in the first camera's axes, metres.

    Attributes:
        camera: (3,) displacement of the camera.
        start, end: (3,) mean of the object's visible points at the first and the last frame.
        description: the object's words, "the red sphere".
        moves: whether the object moves.
    """

    camera: NDArray[np.float64]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    description: str
    moves: bool


class Lessons(NamedTuple):
    """Texts of one world.

    Attributes:
        captions: one row per clip; its own messages in `meta` ask for a caption and give it.
        facts: of each of these clips, the lines that its caption consists of, in any order.
        exercises: (prompt, reply) of questions in which the caption stands in place of the video.
        motions: clip id -> what happens.
    """

    captions: list[QARow]
    facts: list[list[str]]
    exercises: list[tuple[str, str]]
    motions: dict[str, Motion]


def make_lessons(world: Path, questions: Path) -> Lessons:
    """Captions and exercises about the clips of a rendered world.

    Args:
        world: folder of `write_world`; its exact truth is read.
        questions: folder of `write_questions` about that world; its training rows become exercises.
    """
    from mllm4d_verl.prompts import render_conversation

    motions = {clip.clip_id: motion_of(clip) for clip in iter_clips(world / "truth") if clip.objects}
    rows = [row for row in read_qa(questions / "train.parquet") if row.clip_id in motions]
    cues: dict[str, dict[str, Any]] = {}
    for row in rows:
        found = row.meta["cues"]
        if "size" in found:
            cues[row.clip_id] = found
    rng = np.random.default_rng(len(rows))
    facts = {name: facts_of(motion, cues.get(name), rng) for name, motion in motions.items()}
    first = {row.clip_id: row for row in reversed(rows)}
    captions = [
        replace(row, id=f"{name}-caption", meta=_messages("".join(facts[name]))) for name, row in sorted(first.items())
    ]
    exercises = []
    for row in rows:
        prompt, reply = render_conversation(row, EXERCISE_TEMPLATE)
        told = "".join(rng.permutation(facts[row.clip_id])).strip()
        exercises.append((prompt["content"].replace("<video>", told), reply["content"]))
    return Lessons(captions, [facts[row.clip_id] for row in captions], exercises, motions)


def write_captions(lessons: Lessons, file: str | os.PathLike[str]) -> Path:
    """The captions as a question file whose rows bring their own messages (template `dataset`)."""
    return write_qa(file, lessons.captions)


def motion_of(clip: Clip4D) -> Motion:
    """What happens in a clip with one object."""
    thing = clip.objects[0]
    start, end = (np.asarray(thing.points[frame], np.float64) for frame in (0, -1))
    nowhere = np.zeros(3)
    return Motion(
        clip.camera_centers[-1],
        start.mean(axis=0) if len(start) else nowhere,
        end.mean(axis=0) if len(end) else nowhere,
        thing.description,
        thing.is_moving,
    )


def facts_of(motion: Motion, cues: dict[str, Any] | None, rng: np.random.Generator) -> list[str]:
    """All that the questions ask about, a fact to a line, each with its line break.

    Args:
        motion: of the clip.
        cues: how the object looks (`meta["cues"]` of one of its questions); None leaves that line out.
        rng: says of which lines the object is named by its shape, and of which it is "the red object".
    """
    travel_m = float(np.linalg.norm(motion.camera))
    names = (motion.description, f"{motion.description.rsplit(' ', 1)[0]} object")
    lines = []
    if travel_m < _STILL_M:
        lines.append(camera_sentence("still"))
    else:
        way = way_of(motion.camera)
        lines += [
            camera_sentence(way),
            f"the camera goes {way} {travel_m:.1f} meters.",
            f"the camera travels {travel_m:.1f} meters.",
            f"the camera ends at {_vector(motion.camera)}.",
        ]
    if cues is not None:
        lines.append(f"NAME {object_sentence(cues)}")
    if motion.moves:
        shift = motion.end - motion.start
        way, shift_m = way_of(shift), float(np.linalg.norm(shift))
        lines += [
            f"NAME goes {_OBJECT_WAY.get(way, way)} {shift_m:.1f} meters.",
            f"NAME travels {shift_m:.1f} meters.",
            f"NAME ends at {_vector(motion.end)}.",
        ]
    first, last = float(np.linalg.norm(motion.start)), float(np.linalg.norm(motion.end - motion.camera))
    lines += [
        f"NAME starts at {_vector(motion.start)}.",
        f"NAME is {first:.1f} meters away at first.",
        f"NAME is {last:.1f} meters away at the end.",
    ]
    return [f"{sentence(line.replace('NAME', names[int(rng.integers(2))]))}\n" for line in lines]


def way_of(shift: NDArray[np.float64]) -> str:
    """The direction word of the largest component of `shift` (3,)."""
    axis = int(np.abs(shift).argmax())
    return (("left", "right"), ("up", "down"), ("backward", "forward"))[axis][int(shift[axis] > 0)]


def drill(rng: np.random.Generator, with_numbers: bool) -> tuple[str, str]:
    """A list of options with what is to be found in it, and the option with its letter.

    The reply ends with the letter on a line of its own. To find an option and its letter is most of what a direct
    answer needs. In a question that is one token of a hundred; drills are nothing else.
    """
    if with_numbers:
        value = float(np.exp(rng.uniform(*np.log(_NUMBERS_M))))
        options = draw_numbers(value, int(rng.integers(4)), "even", rng)
        unit = ("", " meters")[int(rng.integers(2))]
        wanted = f"{ESTIMATE} {value * np.exp(rng.normal(0.0, _MEASURING_ERROR)):.1f}."
        options = [f"{option}{unit}" for option in options]
    else:
        words, count = _WORD_OPTIONS[int(rng.integers(len(_WORD_OPTIONS)))]
        options = [words[place] for place in rng.permutation(len(words))[:count]]
        wanted = f"Seen: {options[0]}."
    answer, order = options[0], rng.permutation(len(options))
    listed = [options[place] for place in order]
    letter = LETTERS[listed.index(answer)]
    lines = ", ".join(f"{option} {LETTERS[place]}" for place, option in enumerate(listed))
    return f"Options: {lines}.\n{wanted}\n{VERDICT}", f" {answer} {letter}.\n{letter}\n"


def lesson_texts(lessons: Lessons) -> list[str]:
    """All texts, for the tokenizer's vocabulary."""
    told = [json.loads(row.meta) if isinstance(row.meta, str) else row.meta for row in lessons.captions]
    texts = [message["content"] for meta in told for message in meta["messages"]]
    rng = np.random.default_rng(0)
    drills = ["".join(drill(rng, with_numbers)) for _ in range(200) for with_numbers in (False, True)]
    return [*texts, *drills, *(text for exercise in lessons.exercises for text in exercise)]


def _messages(text: str) -> dict[str, Any]:
    turns = [{"role": "user", "content": CAPTION_REQUEST}, {"role": "assistant", "content": text}]
    return {"messages": turns}


def _vector(point: NDArray[np.float64]) -> str:
    return "[" + ", ".join(f"{value:.1f}" for value in np.round(point, 1) + 0.0) + "]"


assert {"left", "right", "up", "down", "backward", "forward"} == set(DIRECTIONS)

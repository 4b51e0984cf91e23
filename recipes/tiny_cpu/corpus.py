"""Text for the tiny model's tokenizer: phrases of one token each, and a corpus when none is given."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

from mllm4d_verl.data_tools.questions.solvers import DIRECTIONS, DISTANCE_CHANGES
from mllm4d_verl.data_tools.schema import LETTERS
from mllm4d_verl.data_tools.st_cot.compact import fixed_phrases

_MOST_OPTIONS = 4
_UNITS = ("meters", "degrees")
_TAGS = ("<thinking>", "</thinking>", "<answer>", "</answer>", "</thinking>\n<answer>")


def phrases() -> list[str]:
    """What the tokenizer keeps in one piece: the grammar's labels, cues, and the fixed lines of our prompts.

    A model this small has to spend its few steps on the video, not on spelling: the system turn of st_cot is 36 tokens
    instead of 150, an answer in ST-CoT 57 instead of 120, and what is seen is told in single tokens.
    """
    lines = (line for text in _templates() for line in text.splitlines() if len(line.split()) > 1 and "{" not in line)
    options = [text for text, parts in composed_tokens() if len(parts) > 1]
    return list(dict.fromkeys([*_TAGS, *fixed_phrases(), *options, *lines]))


def composed_tokens() -> list[tuple[str, list[str]]]:
    """An option, or its unit, with its letter, as `brief` and `st_cot_short` list them, and what they are made of.

    An answer in words is then one of the prompt's own tokens, and the letter of a number stands right behind it. A
    letter alone, as in <answer>, is made of the letter after a space.
    """
    labels = (*DIRECTIONS, *DISTANCE_CHANGES, *_UNITS)
    letters = LETTERS[:_MOST_OPTIONS]
    options = [(f" {label} {letter}", [f" {label}", f" {letter}"]) for label in labels for letter in letters]
    return [*options, *((letter, [f" {letter}"]) for letter in letters)]


def number_tokens() -> list[str]:
    """Distances as options, estimates and coordinates write them, each to be one token."""
    fine = [f" {hundredth / 100:.2f}" for hundredth in range(15, 400)]
    coarse = [f"{tenth / 10:.1f}" for tenth in range(120)]
    return [*fine, *(f" {number}" for number in coarse), *coarse]


_WORDS = """
From frame 0 to frame 31 of 31, in which direction did the camera move? left right up down forward backward not moving
How far did the camera move between frame 4 and frame 27, in meters? What distance did the red cube travel from frame 2
to frame 30? How far is the blue box from the camera at the end? Is the object closer to the camera or farther from it?
Relative to the camera, does the yellow sphere move to the left, to the right, closer, farther or not at all?
A. 2.5 meters B. 1.7 meters C. 0.4 meters D. 3.9 meters A. left B. right C. up D. down closer farther null
red green blue yellow orange purple cyan magenta white black gray cube box sphere cylinder ball robot car person
The objective is to compare the initial frame with the final frame. Temporal anchors. The initial state.
Progression: the background shifts, the object grows, shrinks, scale, parallax, occlusion. The final state checked
against the start. Synthesis: the camera moved, the object moved, the distance changed, therefore the answer is A.
Option B matches. Option C matches. Option D matches. <0.2 seconds><1.0 seconds> user assistant system
You are a spatial reasoning assistant. Watch the video and answer the question. Give the option's letter only.
Coordinates are in meters, x right, y down, z forward, origin at the camera of the first frame.
- Camera Center: null
- Object Center: null
- Camera Center: [0.1234, -0.5678, 9.0000]
- Object Center: [-1.2345, 0.6789, -4.0000]
"""


def default_corpus() -> Iterator[str]:
    """Yield the built-in vocabulary text and the prompt templates of this package."""
    for _ in range(20):  # frequent enough that every word of it becomes one token
        yield _WORDS
    yield from _templates()


def _templates() -> Iterator[str]:
    for folder in sorted(files("mllm4d_verl.prompts").joinpath("templates").iterdir(), key=lambda item: item.name):
        if folder.is_dir():
            for file in sorted(folder.iterdir(), key=lambda item: item.name):
                if file.name.endswith(".jinja"):
                    yield file.read_text(encoding="utf-8")

"""Text for the tiny model's tokenizer when no corpus is given: what our prompts, questions and answers say."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

# The ST-CoT grammar's fixed strings. The tokenizer keeps each in one piece, so that a tiny model spends one token,
# not ten, on a label. `tests/recipes/test_tiny_model.py` checks that they agree with the reward's grammar.
GRAMMAR_LABELS: tuple[str, ...] = (
    "<thinking>",
    "</thinking>",
    "<answer>",
    "</answer>",
    "**Spatial State (Initial Frame):**",
    "**Spatial State (Final Frame):**",
    "- Camera Center: ",
    "- Object Center: ",
)

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
    """Yield the built-in vocabulary text, the grammar's labels and the prompt templates of this package."""
    for _ in range(20):  # frequent enough that every word of it becomes one token
        yield _WORDS
        yield "\n".join(GRAMMAR_LABELS)
    templates = files("mllm4d_verl.prompts").joinpath("templates")
    if templates.is_dir():
        for folder in sorted(templates.iterdir(), key=lambda item: item.name):
            if folder.is_dir():
                for file in sorted(folder.iterdir(), key=lambda item: item.name):
                    if file.name.endswith(".jinja"):
                        yield file.read_text(encoding="utf-8")

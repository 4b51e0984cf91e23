"""What an endpoint is asked to write, and what of it can be used."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from mllm4d_verl.data_tools.annotation.naming_pictures import image_part
from mllm4d_verl.data_tools.control_tokens import as_plain_text
from mllm4d_verl.data_tools.endpoint import BadReplyError, without_thoughts
from mllm4d_verl.data_tools.schema import LETTERS, QARow
from mllm4d_verl.reward import STReward, explain, parse_response

#: Part of the key of a written path; raised when the request changes its meaning.
VERSION = 1

SYSTEM = """You write example solutions that teach a video model to reason in space and time. You are given the frames \
of a video, a multiple-choice question about it, the right answer, and measured values. Write the reasoning of someone \
who sees the video and works the answer out, in five steps:
(1) Objective and time anchors: what is asked, and between which frames.
(2) Start state: what the start frame shows of camera and object, then their measured centres.
(3) Progression: what changes from the start to the end frame, told by what can be seen: change of apparent size, \
place in the image, parallax of near against far things, occlusion, entering or leaving the view.
(4) End state, held against the start, then the measured centres.
(5) Synthesis: what follows, and which option says so.

Rules:
- Measured centres stand in the four lines that are made for them and nowhere else; copy them digit by digit. A centre \
that is given as null is not needed: write null.
- No arithmetic on coordinates in the text: no differences, sums, squares or roots. Reason by what can be seen.
- Never say that the answer or the values were given to you.
- 80 to 250 words. Plain text without lists or headings apart from the lines below.
- Write exactly in this form:
<thinking>
steps 1 and 2
**Spatial State (Initial Frame):**
- Camera Center: [x, y, z] or null
- Object Center: [x, y, z] or null
step 3
**Spatial State (Final Frame):**
- Camera Center: [x, y, z] or null
- Object Center: [x, y, z] or null
steps 4 and 5
</thinking>
<answer>the option's letter alone</answer>"""

AGAIN = "Answer again, with the whole text in the given form."

_ARITHMETIC = re.compile(r"√|\bsqrt\b|\d\s*[+*×^=]\s*[\d(\[]|\d\s+-\s+[\d(\[]")
_STATE_LINE = re.compile(r"^\s*[-*]?\s*\**(?:camera|object) cent(?:er|re)\b.*$", re.IGNORECASE | re.MULTILINE)
_REWARD = STReward()


def messages(row: QARow, frames: list[np.ndarray]) -> list[dict[str, Any]]:
    """System and user turn about a row.

    Args:
        frames: (H, W, 3) uint8 RGB, those that the model samples, in order.
    """
    last = len(frames) - 1
    parts: list[dict[str, Any]] = [
        {"type": "text", "text": f"The {len(frames)} frames of the video, numbered from 0 to {last}:"}
    ]
    for number, frame in enumerate(frames):
        parts += [{"type": "text", "text": f"Frame {number}:"}, image_part(frame)]
    parts.append({"type": "text", "text": as_plain_text(task_text(row))})
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": parts}]


def task_text(row: QARow) -> str:
    """Question, options, answer and measured values."""
    options = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, row.options, strict=False))
    about = f"The object is {row.object_description}.\n" if row.object_description else ""
    value = f"Measured value: {row.value:g} {row.unit or ''}".rstrip() + "\n" if row.value is not None else ""
    centers = "\n".join(
        f"{name}, frame {frame}: {_center(states, which)}"
        for which, frame in enumerate((row.start_frame, row.end_frame))
        for name, states in (("Camera center", row.camera_center), ("Object center", row.object_center))
    )
    return (
        f"Question: {row.question}\n{options}\n{about}Right option: {row.answer} ({row.answer_text})\n{value}"
        "Measured centres, metres (x right, y down, z forward, origin at the camera of the first frame):\n"
        f"{centers}\nThe initial frame is frame {row.start_frame}, the final frame is frame {row.end_frame}."
    )


def read_path(content: str) -> str:
    """The response in a reply.

    Raises:
        BadReplyError: it does not have the form, or calculates with coordinates; said in words for the model.
    """
    text = without_thoughts(content)
    parsed = parse_response(text)
    if not (parsed.well_tagged and parsed.answer and parsed.written_slots == 4):
        raise BadReplyError(explain(_REWARD, text, {}).steps[0].reason)
    if parsed.malformed:
        raise BadReplyError(f"{parsed.malformed[0].reason} at character {parsed.malformed[0].span[0]}")
    if not re.fullmatch(r"[A-J]\.?", parsed.answer):
        raise BadReplyError("the answer is not a letter alone")
    found = _ARITHMETIC.search(_STATE_LINE.sub("", parsed.thinking or ""))
    if found:
        raise BadReplyError(f"it calculates in the text: {found[0]!r}")
    return text


def _center(states: list[list[float] | None] | None, which: int) -> str:
    center = states[which] if states else None
    return "null" if center is None else "[" + ", ".join(f"{number:.4f}" for number in center) + "]"

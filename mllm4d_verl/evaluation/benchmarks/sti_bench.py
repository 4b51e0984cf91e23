"""STI-Bench (arXiv 2503.23765, huggingface.co/datasets/MINT-SJTU/STI-Bench): measured space and motion in real videos.

A record of qa.parquet: ID, Video (file name), time_start and time_end (seconds), Task, Scene (absent in some
revisions), Question, Candidates (letters A to E -> text, as a struct or as JSON text), Answer (a letter). The published
prompt starts with "From {time_start} s to {time_end} s." and shows the whole video. A span that is none (it ends
before it starts, or is no number) changes nothing for the published scripts; here such a question is asked about the
whole video, counts like any other, and is reported as a faulty record.

The published scripts tell the scene by the file's name where the column is absent: "camera" in it means outdoor, a
leading "scene" indoor, six digits desktop. ID alone is not unique over videos, so the video's name stands before it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import LETTERS

from .base import CHOICE, Item, video_path
from .records import Record, read_items
from .registry import Source

_SIX_DIGITS = re.compile(r"\d{6}(?:\.|$)")

_RECORD_KEYS = frozenset({"Video", "Question", "Candidates", "Answer"})


def to_items(records: Sequence[Record]) -> list[Item]:
    """Items of STI-Bench records."""
    return read_items(records, _item, "ID", "Task")


def _item(record: Record) -> Item:
    video, id = record.text("Video"), record.text("ID")
    name = video_path(video).name
    options = _candidates(record)
    answer = record.text("Answer").upper()
    if len(answer) != 1 or answer not in LETTERS[: len(options)]:
        raise record.error(f"{answer!r} is not the letter of a candidate", "Answer")
    start_s, end_s, fault = _span(record)
    scene = record.fields.get("Scene") or record.fields.get("scene") or _scene(name)
    return Item(
        id=f"{name}/{id}",
        video=video,
        clip=PurePosixPath(name).stem,
        question=record.text("Question"),
        options=options,
        answer=answer,
        kind=CHOICE,
        task=record.text("Task"),
        splits={"scene": str(scene).casefold()},
        start_s=start_s,
        end_s=end_s,
        source_id=id,
        fault=fault,
    )


def _span(record: Record) -> tuple[float | None, float | None, str]:
    """Start and end in seconds, and what is wrong with them; None for both where something is."""
    if "time_start" not in record.fields and "time_end" not in record.fields:
        return None, None, ""  # responses need no span
    try:
        start_s, end_s = record.number("time_start"), record.number("time_end")
    except InputError as error:
        return None, None, f"{error}; the whole video is asked about"
    if not 0 <= start_s <= end_s:
        return None, None, f"{start_s:g} to {end_s:g} s is no span of time; the whole video is asked about"
    return start_s, end_s, ""


def _candidates(record: Record) -> tuple[str, ...]:
    candidates: Any = record.get("Candidates")
    if isinstance(candidates, str):
        try:
            candidates = json.loads(candidates)
        except (ValueError, RecursionError) as error:
            raise record.error(f"not JSON ({error})", "Candidates") from None
    if not isinstance(candidates, dict):
        raise record.error("candidates under letters are expected", "Candidates")
    # a parquet struct has every letter that any question has, null where this one has fewer
    present = {letter: str(text).strip() for letter, text in candidates.items() if text is not None}
    letters = LETTERS[: len(present)]
    if len(present) < 2 or set(present) != set(letters) or not all(present.values()):
        raise record.error(f"texts under A, B, ... are expected, got {', '.join(candidates)}", "Candidates")
    return tuple(present[letter] for letter in letters)


def _scene(name: str) -> str:
    if "camera" in name:
        return "outdoor"
    if name.startswith("scene"):
        return "indoor"
    return "desktop" if _SIX_DIGITS.match(name) else "unknown"


STI_BENCH = Source(
    name="sti_bench",
    version="2",
    files=("qa.parquet",),
    homepage="https://huggingface.co/datasets/MINT-SJTU/STI-Bench",
    to_items=to_items,
    record_keys=_RECORD_KEYS,
)

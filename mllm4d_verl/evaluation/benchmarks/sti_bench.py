"""STI-Bench (arXiv 2503.23765, huggingface.co/datasets/MINT-SJTU/STI-Bench): measured space and motion in real videos.

A record of qa.parquet: ID, Video (file name), time_start and time_end (seconds), Task, Scene (absent in some
revisions), Question, Candidates (letters A to E -> text, as a struct or as JSON text), Answer (a letter). The published
prompt starts with "From {time_start} s to {time_end} s.".

The published scripts tell the scene by the file's name where the column is absent: "camera" in it means outdoor, a
leading "scene" indoor, six digits desktop. ID alone is not unique over videos, so the video's name stands before it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from mllm4d_verl.data_tools.schema import LETTERS

from .base import CHOICE, Item
from .records import Record
from .registry import Source

_SIX_DIGITS = re.compile(r"\d{6}(?:\.|$)")

_RECORD_KEYS = frozenset({"Video", "Question", "Candidates", "Answer"})


def to_items(records: Sequence[Record]) -> list[Item]:
    """Items of STI-Bench records."""
    return [_item(record) for record in records]


def _item(record: Record) -> Item:
    video, id = record.text("Video"), record.text("ID")
    options = _candidates(record)
    answer = record.text("Answer").upper()
    if len(answer) != 1 or answer not in LETTERS[: len(options)]:
        raise record.error(f"{answer!r} is not the letter of a candidate", "Answer")
    start_s, end_s = record.number("time_start"), record.number("time_end")
    if not 0 <= start_s <= end_s:
        raise record.error(f"{start_s} to {end_s} s is no span of time", "time_end")
    scene = record.fields.get("Scene") or record.fields.get("scene") or _scene(video)
    return Item(
        id=f"{video}/{id}",
        video=video,
        clip=PurePosixPath(video).stem,
        question=record.text("Question"),
        options=options,
        answer=answer,
        kind=CHOICE,
        task=record.text("Task"),
        splits={"scene": str(scene).casefold()},
        start_s=start_s,
        end_s=end_s,
        source_id=id,
    )


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


def _scene(video: str) -> str:
    name = PurePosixPath(video).name
    if "camera" in name:
        return "outdoor"
    if name.startswith("scene"):
        return "indoor"
    return "desktop" if _SIX_DIGITS.match(name) else "unknown"


STI_BENCH = Source(
    name="sti_bench",
    version="1",
    files=("qa.parquet",),
    homepage="https://huggingface.co/datasets/MINT-SJTU/STI-Bench",
    to_items=to_items,
    record_keys=_RECORD_KEYS,
)

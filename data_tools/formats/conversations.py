"""Qwen conversation JSON or JSONL for SFT and cold start: video, conversations, as the MLLM-4D release has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ..released import iter_sft, write_sft
from ..schema import QARow
from .base import Format, Options, PlacedRow
from .json_keys import first_keys
from .qa import checked


def _read(path: Path, options: Options) -> Iterator[PlacedRow]:
    rows = iter_sft(
        path,
        num_frames=options.num_frames,
        on_error=options.on_error,
        keep_chat=options.keep_chat,
        check=options.check,
    )
    return ((str(path), index, row) for index, row in rows)


def _write(path: Path, rows: Iterable[QARow], options: Options) -> None:
    write_sft(path, checked(rows, path))


FORMAT = Format(
    name="sft",
    holds="Qwen conversations, JSON or JSONL: video, conversations; what these cannot hold in further keys.",
    losses=("Trainers other than ours see the chat only: the truth and `meta` stand in further keys.",),
    suffixes=(".json", ".jsonl"),
    matches=lambda path: path.suffix in (".json", ".jsonl") and "conversations" in first_keys(path),
    read=_read,
    write=_write,
)

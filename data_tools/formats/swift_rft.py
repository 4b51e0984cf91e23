"""ms-swift RFT JSONL: messages, videos, solution, one item a line, as the MLLM-4D release has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ..released import iter_rft, write_rft
from ..schema import QARow
from .base import Format, Options, PlacedRow
from .json_keys import first_keys
from .qa import checked


def _read(path: Path, options: Options) -> Iterator[PlacedRow]:
    rows = iter_rft(
        path,
        num_frames=options.num_frames,
        on_error=options.on_error,
        keep_chat=options.keep_chat,
        check=options.check,
    )
    return ((str(path), index, row) for index, row in rows)


def _write(path: Path, rows: Iterable[QARow], options: Options) -> None:
    write_rft(path, checked(rows, path))


FORMAT = Format(
    name="rft",
    holds="ms-swift RFT JSONL: messages, videos, solution; what these cannot hold in further keys.",
    losses=("Trainers other than ours see neither `response` nor `meta`: they stand in the key `qa_row`.",),
    suffixes=(".jsonl",),
    matches=lambda path: path.suffix in (".json", ".jsonl") and "solution" in first_keys(path),
    read=_read,
    write=_write,
)

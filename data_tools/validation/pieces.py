"""A question set of any format as Arrow tables with the place of every row, a few thousand rows in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import InputError
from ..formats import hf_folder, qa
from ..formats.base import Format, Options, PlacedRow
from ..qa_table import table_of

PIECE_ROWS = 32_768
OnError = Callable[[InputError], None]


class Piece(NamedTuple):
    """Rows of one file: their 0-based numbers there (N,) and a table of QA_SCHEMA, unchecked."""

    file: str
    rows: NDArray[np.int64]
    table: pa.Table


def iter_pieces(path: Path, kind: Format, options: Options, on_error: OnError) -> Iterator[Piece]:
    """Pieces of a set; rows that cannot be read at all go to `on_error`."""
    if kind.name in ("qa", "hf"):
        for file in [path] if kind.name == "qa" else hf_folder.shards(path):
            first = 0
            for batch in qa.iter_batches(file, PIECE_ROWS):
                rows = np.arange(first, first + batch.num_rows)
                yield Piece(str(file), rows, pa.Table.from_batches([batch]))
                first += batch.num_rows
        return
    stream = kind.read(path, options)
    while chunk := list(islice(stream, PIECE_ROWS)):
        yield from _piece(chunk, on_error)


def _piece(chunk: list[PlacedRow], on_error: OnError) -> Iterator[Piece]:
    file = chunk[0][0]
    try:
        table = table_of([row for _, _, row in chunk], file=file)
    except InputError as error:
        if len(chunk) == 1:
            on_error(InputError(error.problem, file=file, row=chunk[0][1], field=error.field, remedy=error.remedy))
            return
        half = len(chunk) // 2  # a value that no column can hold: find its row by halves
        yield from _piece(chunk[:half], on_error)
        yield from _piece(chunk[half:], on_error)
        return
    yield Piece(file, np.array([index for _, index, _ in chunk]), table)

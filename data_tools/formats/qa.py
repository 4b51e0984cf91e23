"""QARow parquet, the project's own format, read and written in small pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..atomic import atomic_path
from ..errors import InputError
from ..qa_table import check_table, rows_of, table_of
from ..schema import NULLABLE_COLUMNS, QA_COLUMNS, QA_SCHEMA, QARow, check_row
from .base import Format, Options, PlacedRow

#: Rows of a row group: about 5 MB in memory, and large enough to be read at full speed.
ROWS_PER_GROUP = 8192
_OPTIONAL = NULLABLE_COLUMNS | {"answer_text", "split", "meta"}  # columns a file may lack


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a parquet file.

    Raises:
        InputError: missing, or not parquet.
    """
    try:
        return pq.ParquetFile(path, pre_buffer=False)  # with it, a reader keeps all the bytes it has read
    except FileNotFoundError:
        raise InputError("the file does not exist", file=path) from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"not a readable parquet file ({error})", file=path) from error


def iter_batches(path: Path, rows: int = ROWS_PER_GROUP) -> Iterator[pa.RecordBatch]:
    """Batches of a QA file as exactly QA_SCHEMA, unchecked: absent optional columns are null, others cast or refused.

    Raises:
        InputError: naming the file, and the column that is missing or of another type.
    """
    with open_parquet(path) as file:
        present = file.schema_arrow.names
        for name in QA_COLUMNS:
            if name not in present and name not in _OPTIONAL:
                have = ", ".join(present)
                raise InputError(f"the column is missing; the file has {have}", file=path, field=name)
        try:
            columns = [name for name in QA_COLUMNS if name in present]
            # Columns decoded in threads take twice the processor time, and are no sooner used.
            for batch in file.iter_batches(batch_size=rows, columns=columns, use_threads=False):
                yield _as_schema(batch, path)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"not a readable parquet file ({error})", file=path) from error


def row_tables(rows: Iterable[QARow], file: Path | str, size: int = ROWS_PER_GROUP) -> Iterator[pa.Table]:
    """Rows as tables of QA_SCHEMA of at most `size` rows, unchecked."""
    stream = iter(rows)
    while chunk := list(islice(stream, size)):
        yield table_of(chunk, file=file)


class SeenIds:
    """Ids met so far, as hashes of 64 bits: a tenth of the memory of the texts."""

    def __init__(self) -> None:
        self._hashes: set[int] = set()

    def add(self, row_id: str, file: Path | str, index: int) -> None:
        """Remember an id. Raises InputError where it was met before."""
        key = hash(row_id)
        if key in self._hashes:
            raise InputError(f"id {row_id!r} repeats", file=file, row=index, field="id")
        self._hashes.add(key)


def checked(rows: Iterable[QARow], file: Path) -> Iterator[QARow]:
    """The rows, each held against the contract; an id that repeats is refused.

    Raises:
        InputError: naming row and field.
    """
    seen = SeenIds()
    for index, row in enumerate(rows):
        check_row(row, file=file, index=index)
        seen.add(row.id, file, index)
        yield row


def _as_schema(batch: pa.RecordBatch, path: Path) -> pa.RecordBatch:
    columns = []
    for item in QA_SCHEMA:
        position = batch.schema.get_field_index(item.name)
        if position < 0:
            columns.append(pa.nulls(batch.num_rows, item.type))
            continue
        column = batch.column(position)
        try:
            columns.append(column if column.type == item.type else column.cast(item.type))
        except pa.ArrowException:
            problem = f"the column holds {column.type}, expected {item.type}"
            raise InputError(problem, file=path, field=item.name) from None
    return pa.RecordBatch.from_arrays(columns, schema=QA_SCHEMA)


def _matches(path: Path) -> bool:
    return path.suffix == ".parquet" and {"question", "task"} <= set(open_parquet(path).schema_arrow.names)


def _read(path: Path, options: Options) -> Iterator[PlacedRow]:
    first, seen = 0, SeenIds()
    for batch in iter_batches(path):
        table = pa.Table.from_batches([batch])
        broken = {problem.row: problem for problem in check_table(table, repeats=False)}
        sound = [index for index in range(len(table)) if index not in broken]
        rows = iter(rows_of(table.take(sound) if broken else table))
        for index in range(len(table)):
            try:
                if index in broken:
                    raise broken[index]._replace(row=first + index).error(path)
                row = next(rows)
                seen.add(row.id, path, first + index)
            except InputError as error:
                if options.on_error is None:
                    raise
                options.on_error(error)
                continue
            yield str(path), first + index, row
        first += len(table)
    if first == 0:
        raise InputError("the file has no rows", file=path)


def _write(path: Path, rows: Iterable[QARow], options: Options) -> None:
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, QA_SCHEMA) as writer:
        for table in row_tables(checked(rows, path), path):
            writer.write_table(table, row_group_size=ROWS_PER_GROUP)


FORMAT = Format(
    name="qa",
    holds="QARow parquet: every field of a row.",
    losses=(),
    suffixes=(".parquet",),
    matches=_matches,
    read=_read,
    write=_write,
)

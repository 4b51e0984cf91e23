"""Question rows of training files as a sequence that stays on disk: two million rows open within seconds."""

from __future__ import annotations

import bisect
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import pyarrow as pa

from mllm4d_verl.data_tools.atomic import atomic_path
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.formats.qa import iter_batches, row_tables
from mllm4d_verl.data_tools.qa_table import check_table, rows_of
from mllm4d_verl.data_tools.schema import QA_SCHEMA, QARow

#: Files of more rows are mapped from a copy in Arrow's own format; smaller ones are held in memory (about 50 MB).
ROWS_IN_MEMORY = 50_000
_BATCH_ROWS = 16_384  # larger ones take longer to decode and to check, and more memory
_LAYOUT = "1"  # change it where the copies change, so that old ones are not read


class SourceRow(NamedTuple):
    """A question row and where it stands: `file` as the user named it, `index` 0-based."""

    file: str
    index: int
    row: QARow

    @property
    def folder(self) -> str:
        return os.path.dirname(os.path.abspath(self.file))


class FileRows:
    """The checked rows of one file as Arrow record batches; those of a large file are a mapped copy on disk."""

    def __init__(self, file: str, batches: list[pa.RecordBatch], copy: Path | None = None) -> None:
        self.file = file
        self.batches = batches
        self.starts = [0, *accumulate(batch.num_rows for batch in batches)]
        self._copy = copy

    def __len__(self) -> int:
        return self.starts[-1]

    def row(self, index: int) -> QARow:
        """One row."""
        part = bisect.bisect_right(self.starts, index) - 1
        return rows_of(self.batches[part].slice(index - self.starts[part], 1))[0]

    def column(self, name: str) -> pa.ChunkedArray:
        """One column."""
        return pa.chunked_array([batch.column(name) for batch in self.batches], QA_SCHEMA.field(name).type)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ if self._copy is None else {"file": self.file, "_copy": self._copy}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "batches" in state:
            self.__dict__.update(state)
        else:  # a worker process maps the copy itself instead of getting the rows sent
            self.__init__(state["file"], _mapped(state["_copy"]), state["_copy"])  # type: ignore[misc]


class QuestionRows(Sequence[SourceRow]):
    """Rows of several files, some or all, in an order. Each is made when it is asked for.

    Attributes:
        files: the rows of each file.
        chosen: (N,) int64 positions among all rows of `files`, one after the other.
    """

    def __init__(self, files: list[FileRows], chosen: np.ndarray | None = None) -> None:
        self.files = files
        self._starts = [0, *accumulate(map(len, files))]
        self.chosen = np.arange(self._starts[-1]) if chosen is None else chosen

    def __len__(self) -> int:
        return len(self.chosen)

    @overload
    def __getitem__(self, item: int) -> SourceRow: ...

    @overload
    def __getitem__(self, item: slice) -> QuestionRows: ...

    def __getitem__(self, item: int | slice) -> SourceRow | QuestionRows:
        if isinstance(item, slice):
            return self.select(np.arange(len(self))[item])
        position = int(self.chosen[item])
        part = bisect.bisect_right(self._starts, position) - 1
        index = position - self._starts[part]
        return SourceRow(self.files[part].file, index, self.files[part].row(index))

    def __iter__(self) -> Iterator[SourceRow]:
        if len(self.chosen) < self._starts[-1] or (np.diff(self.chosen) != 1).any():
            yield from (self[item] for item in range(len(self)))
            return
        for part in self.files:  # all of them in order: a batch at a time is several times faster
            for start, batch in zip(part.starts, part.batches, strict=False):
                for first in range(0, batch.num_rows, 4096):
                    for index, row in enumerate(rows_of(batch.slice(first, 4096)), start + first):
                        yield SourceRow(part.file, index, row)

    def select(self, items: np.ndarray) -> QuestionRows:
        """The rows of these positions, in this order."""
        return QuestionRows(self.files, self.chosen[items])

    def renamed(self, names: Mapping[str, str]) -> QuestionRows:
        """The same rows, of files that are called `names[file]`."""
        files = []
        for part in self.files:
            named = FileRows.__new__(FileRows)
            named.__dict__.update(part.__dict__, file=names[part.file])
            files.append(named)
        return QuestionRows(files, self.chosen)

    def mask(self, name: str, test: Any) -> np.ndarray:
        """(N,) bool: `test(array)` for a column, at the chosen rows; a null in what it returns counts as False."""
        parts = [_as_bools(test(chunk)) for part in self.files for chunk in part.column(name).chunks]
        return np.concatenate(parts)[self.chosen] if parts else np.zeros(0, bool)

    def table(self) -> pa.Table:
        """All rows of `files`, chosen or not, with their file (`_file`, its number) and place there (`_row`)."""
        table = pa.Table.from_batches([batch for part in self.files for batch in part.batches], QA_SCHEMA)
        numbers = np.concatenate([np.full(len(part), number, np.int16) for number, part in enumerate(self.files)])
        places = np.concatenate([np.arange(len(part), dtype=np.int32) for part in self.files])
        return table.append_column("_file", pa.array(numbers)).append_column("_row", pa.array(places))


def open_parquet_rows(file: str) -> FileRows:
    """Rows of a QA file, checked.

    Raises:
        InputError: naming file, row and field.
    """
    import pyarrow.parquet as pq

    num_rows = pq.read_metadata(file).num_rows
    if num_rows == 0:
        raise InputError("the file has no rows", file=file)
    if num_rows <= ROWS_IN_MEMORY:
        return FileRows(file, list(_checked(iter_batches(Path(file), _BATCH_ROWS), file)))
    copy = _copy_path(file)
    if not copy.exists():
        _remove_copies_of(file)
        with atomic_path(copy) as temporary:
            _write(temporary, _checked(_read_ahead(iter_batches(Path(file), _BATCH_ROWS)), file, meta=False))
    return FileRows(file, _mapped(copy), copy)


def in_memory_rows(file: str, rows: Iterable[QARow]) -> FileRows:
    """Rows that a reader of another format has checked."""
    tables = row_tables(rows, file, _BATCH_ROWS)
    return FileRows(file, [batch for table in tables for batch in table.to_batches()])


def _checked(batches: Iterable[pa.RecordBatch], file: str, meta: bool = True) -> Iterator[pa.RecordBatch]:
    """The batches, each row held against the contract; `meta=False` leaves out whether meta is JSON.

    Parsing it takes ten times as long as all other checks. It is parsed anyway when a row is read.
    """
    first = 0
    place = QA_SCHEMA.get_field_index("meta")
    for batch in batches:
        table = pa.Table.from_batches([batch])
        if not meta:
            table = table.set_column(place, QA_SCHEMA.field(place), pa.nulls(len(table), pa.string()))
        for problem in check_table(table, repeats=False):
            raise problem._replace(row=first + problem.row).error(file)
        yield batch
        first += batch.num_rows


def _read_ahead(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same batches; while one is checked, a thread decodes the next, which is most of the work."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield batch


def _write(path: Path, batches: Iterable[pa.RecordBatch]) -> None:
    """One batch is written while the next is checked."""
    with (
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_file(sink, QA_SCHEMA) as writer,
        ThreadPoolExecutor(max_workers=1) as pool,
    ):
        written: Future[None] | None = None
        for batch in batches:
            if written is not None:
                written.result()
            written = pool.submit(writer.write_batch, batch)
        if written is not None:
            written.result()


def _mapped(copy: Path) -> list[pa.RecordBatch]:
    with pa.memory_map(str(copy)) as source:
        reader = pa.ipc.open_file(source)
        return [reader.get_batch(number) for number in range(reader.num_record_batches)]


def copies_folder() -> Path:
    """Where the copies of large files are: below `$XDG_CACHE_HOME`, else `~/.cache`. They may be removed."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(root) / "mllm4d_verl" / "rows"


def _copy_path(file: str) -> Path:
    status = os.stat(file)
    state = hashlib.sha256(f"{_LAYOUT} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:16]
    return copies_folder() / f"{_name(file)}-{state}.arrow"


def _remove_copies_of(file: str) -> None:
    """Copies of what the file held before. Who has them mapped keeps them."""
    for old in copies_folder().glob(f"{_name(file)}-*.arrow"):
        old.unlink(missing_ok=True)


def _name(file: str) -> str:
    return hashlib.sha256(os.path.realpath(file).encode()).hexdigest()[:16]


def _as_bools(found: pa.Array | np.ndarray) -> np.ndarray:
    if isinstance(found, np.ndarray):
        return found
    return np.asarray(found.fill_null(False).to_numpy(zero_copy_only=False), bool)

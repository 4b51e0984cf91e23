"""Question rows as Arrow tables: the checks of the contract over whole columns, and the way to QARow and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .errors import InputError
from .schema import (
    LETTERS,
    NULLABLE_COLUMNS,
    QA_COLUMNS,
    QA_SCHEMA,
    SPLITS,
    PathLike,
    QARow,
    States,
    check_row,
    known_tasks,
    plain_number,
)

_BATCH_ROWS = 8192  # a whole table as Python values would double the peak memory
_FILLED = {"answer_text": "", "split": "train", "meta": "{}"}  # what a null in these columns means
_Bools = NDArray[np.bool_]
_Batch: TypeAlias = pa.RecordBatch


class RowProblem(NamedTuple):
    """One row that breaks the contract: its 0-based number in the table, the column, what is wrong, what helps."""

    row: int
    field: str
    problem: str
    remedy: str | None = None

    def error(self, file: PathLike | None = None) -> InputError:
        """The same as an exception."""
        return InputError(self.problem, file=file, row=self.row, field=self.field, remedy=self.remedy)


def check_table(table: pa.Table, *, repeats: bool = True) -> list[RowProblem]:
    """Rows that break the contract of QARow, in row order, each with its first problem; empty when all is well.

    Sound rows cost about a microsecond and are never turned into Python objects; memory does not grow with the table
    beyond its ids. The words of a problem are those of `schema.check_row`, which is asked about the suspects alone.

    Args:
        table: with the columns and types of QA_SCHEMA (`schema.read_qa_table` makes them so). A null answer_text, split
            or meta stands for its default.
        repeats: also report ids that occurred before.
    """
    problems: list[RowProblem] = []
    first = 0
    for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
        for index in np.flatnonzero(suspects(batch)):
            problem = _problem_of(batch.slice(int(index), 1), first + int(index))
            if problem is not None:
                problems.append(problem)
        first += batch.num_rows
    if repeats:
        broken = {problem.row for problem in problems}
        problems += [problem for problem in _repeats(table.column("id")) if problem.row not in broken]
        problems.sort(key=lambda problem: problem.row)
    return problems


def suspects(batch: _Batch) -> _Bools:
    """(N,) True where a row breaks the contract. `schema.check_row` says what is wrong with it."""
    count = batch.num_rows
    column = {name: batch.column(name) for name in QA_COLUMNS}
    bad = np.zeros(count, bool)
    for name in QA_COLUMNS:
        if column[name].null_count and name not in NULLABLE_COLUMNS and name not in _FILLED:
            bad |= _mask(pc.is_null(column[name]))
    for name in ("id", "clip_id", "video", "question", "answer"):
        bad |= _mask(pc.equal(column[name], "")) | _mask(pc.utf8_is_space(column[name]))
    bad |= ~_mask(pc.is_in(column["task"], value_set=pa.array(known_tasks(), pa.string())))
    bad |= ~_mask(pc.is_in(pc.fill_null(column["split"], "train"), value_set=pa.array(SPLITS, pa.string())))
    frames, start, end = (_ints(column[name]) for name in ("num_frames", "start_frame", "end_frame"))
    bad |= (frames < 2) | (frames % 2 != 0) | (start < 0) | (start > end) | (end >= frames)
    bad |= _bad_options(column["options"], column["answer"], column["answer_text"], column["task"])
    value = column["value"]
    bad |= _mask(pc.is_valid(value)) & ~np.isfinite(value.to_numpy(zero_copy_only=False))
    bad |= _bad_states(column["camera_center"]) | _bad_states(column["object_center"])
    return bad | _bad_meta(column["meta"])


def rows_of(table: pa.Table | _Batch) -> list[QARow]:
    """QARows of sound rows; `check_table` says which are."""
    batches = table.to_batches(max_chunksize=_BATCH_ROWS) if isinstance(table, pa.Table) else [table]
    return [row for batch in batches for row in _rows_of_batch(batch)]


def table_of(rows: Iterable[QARow], *, file: PathLike | None = None) -> pa.Table:
    """Rows as a table of QA_SCHEMA, not yet checked beyond what its types demand.

    Raises:
        InputError: a value is not of its column's type, or `meta` holds what JSON cannot.
    """
    rows = list(rows)
    columns = []
    for item in QA_SCHEMA:
        values: list[Any] = [getattr(row, item.name) for row in rows]
        if item.name == "meta":
            values = [
                json.dumps(meta, sort_keys=True, ensure_ascii=False, default=plain_number) if meta is not None else None
                for meta in values
            ]
        elif item.name == "answer_text":
            values = [text or _answer_text(row) for text, row in zip(values, rows, strict=True)]
        try:
            columns.append(pa.array(values, item.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            for index, row in enumerate(rows):  # which of them it is
                check_row(row, file=file, index=index)
            raise InputError(f"a value is not {item.type} ({error})", file=file, field=item.name) from None
    return pa.table(columns, schema=QA_SCHEMA)


# ----------------------------------------------------------------------------------------------------- whole columns


def _mask(array: pa.Array) -> _Bools:
    return np.asarray(pc.fill_null(array, False).to_numpy(zero_copy_only=False), bool)


def _ints(array: pa.Array) -> NDArray[np.int64]:
    return np.asarray(pc.fill_null(array, -1).to_numpy(zero_copy_only=False), np.int64)


def _lengths(lists: pa.Array) -> NDArray[np.int64]:
    return np.asarray(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False), np.int64)


def _bad_options(options: pa.Array, answer: pa.Array, text: pa.Array, task: pa.Array) -> _Bools:
    count = _lengths(options)
    flat = options.flatten()
    owner = np.repeat(np.arange(len(count)), count)
    bad = (count == 0) & ~_mask(pc.equal(task, "other")) | (count > len(LETTERS))
    bad[owner[_mask(pc.is_null(flat))]] = True
    place = _ints(pc.index_in(answer, value_set=pa.array(list(LETTERS))))
    listed = count > 0
    outside = listed & ((place < 0) | (place >= count))
    bad |= outside
    ask = np.flatnonzero(listed & ~outside)
    first = np.concatenate([[0], np.cumsum(count)])[:-1]
    expected = flat.take(pa.array(first[ask] + place[ask]))
    given = text.take(pa.array(ask))
    differs = _mask(pc.not_equal(given, expected)) & ~_mask(pc.equal(given, ""))
    bad[ask[differs]] = True
    return bad


def _bad_states(states: pa.Array) -> _Bools:
    count = _lengths(states)
    bad = _mask(pc.is_valid(states)) & (count != 2)
    centers = states.flatten()
    owner = np.repeat(np.arange(len(count)), count)
    lengths = _lengths(centers)
    bad[owner[_mask(pc.is_valid(centers)) & (lengths != 3)]] = True
    numbers = centers.flatten()
    finite = np.isfinite(numbers.to_numpy(zero_copy_only=False))  # a null comes as NaN
    bad[np.repeat(owner, lengths)[~finite]] = True
    return bad


def _bad_meta(meta: pa.Array) -> _Bools:
    if meta.null_count == len(meta):
        return np.zeros(len(meta), bool)
    texts = pc.fill_null(meta, "{}").to_pylist()
    try:  # all at once is several times faster than one by one
        parsed = json.loads(f"[{','.join(texts)}]")
        if len(parsed) == len(texts):
            return np.array([type(value) is not dict for value in parsed], bool)
    except (ValueError, RecursionError):
        pass
    return np.array([_meta_problem(text) is not None for text in texts], bool)


def _meta_problem(text: str) -> str | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"not JSON ({error})"
    return None if isinstance(value, dict) else f"must be a JSON object, got {type(value).__name__}"


def _problem_of(batch: _Batch, row: int) -> RowProblem | None:
    """What is wrong with the one row of `batch`."""
    record = batch.to_pylist()[0]
    record |= {name: value for name, value in _FILLED.items() if record[name] is None}
    text = record.pop("meta")
    try:
        check_row(QARow(**record), index=row)
    except InputError as error:
        return RowProblem(row, str(error.field), error.problem, error.remedy)
    problem = _meta_problem(text)
    return None if problem is None else RowProblem(row, "meta", problem)


def _repeats(ids: pa.ChunkedArray) -> list[RowProblem]:
    if pc.count_distinct(ids, mode="all").as_py() == len(ids):
        return []
    codes = ids.combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    first = np.unique(codes, return_index=True)[1]
    again = np.setdiff1d(np.arange(len(codes)), first)
    return [RowProblem(int(row), "id", f"id {ids[int(row)].as_py()!r} repeats") for row in again]


# -------------------------------------------------------------------------------------------------- rows and columns


def _rows_of_batch(batch: _Batch) -> list[QARow]:
    columns: list[Sequence[Any]] = []
    for name in QA_COLUMNS:
        array = batch.column(name)
        if name in _FILLED:
            array = pc.fill_null(array, _FILLED[name])
        if name == "options":
            columns.append(_lists(array))
        elif name in ("camera_center", "object_center"):
            columns.append(_states(array))
        elif name == "meta":
            columns.append([json.loads(text) for text in array.to_pylist()])
        else:
            columns.append(_scalars(array))
    rows = [QARow(*values) for values in zip(*columns, strict=True)]
    for row in rows:
        row.answer_text = row.answer_text or _answer_text(row)
    return rows


def _scalars(array: pa.Array) -> list[Any]:
    if array.null_count == 0 or pa.types.is_string(array.type):
        values: list[Any] = array.to_numpy(zero_copy_only=False).tolist()  # faster than to_pylist
        return values
    plain: list[Any] = array.to_pylist()
    return plain


def _lists(array: pa.Array) -> list[list[Any]]:
    flat = _scalars(array.flatten())
    ends = np.cumsum(_lengths(array)).tolist()
    return [flat[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _states(array: pa.Array) -> list[States | None]:
    centers = array.flatten()
    vectors = iter(_lists(centers))
    states = [vector if valid else None for vector, valid in zip(vectors, _mask(pc.is_valid(centers)), strict=True)]
    ends = np.cumsum(_lengths(array)).tolist()
    valid = _mask(pc.is_valid(array)).tolist()
    return [states[s:e] if ok else None for s, e, ok in zip([0, *ends], ends, valid, strict=False)]


def _answer_text(row: QARow) -> str:
    if not row.options:
        return row.answer
    place = LETTERS.find(row.answer) if row.answer else -1
    return row.options[place] if 0 <= place < len(row.options) else ""  # the check says what is wrong

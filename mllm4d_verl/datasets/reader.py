"""Which kind of file a training file is, and its question rows with the place each came from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.formats.verl_rows import ground_truth
from mllm4d_verl.data_tools.released import DEFAULT_NUM_FRAMES, iter_rft, iter_sft
from mllm4d_verl.data_tools.schema import QA_COLUMNS
from mllm4d_verl.datasets.options import PromptOptions
from mllm4d_verl.datasets.question_rows import FileRows, QuestionRows, SourceRow, in_memory_rows, open_parquet_rows

Rows = TypeVar("Rows", bound=Sequence)

__all__ = [
    "FileKind",
    "SourceRow",
    "as_file_list",
    "at",
    "choose_rows",
    "file_kind",
    "ground_truth",
    "order_rows",
    "read_rows",
]


class FileKind(Enum):
    """What a training file holds."""

    QA = "question rows"
    RELEASED_RFT = "released RFT records"
    RELEASED_SFT = "released SFT or cold-start records"
    VERL = "verl rows"  # verl's own columns: `prompt` for RL, `messages` for SFT


def as_file_list(files: str | os.PathLike[str] | Sequence[str]) -> list[str]:
    """One path or several, as a list; user folders expanded.

    Raises:
        InputError: no file at all.
    """
    listed = [files] if isinstance(files, str | os.PathLike) else list(files or [])
    if not listed:
        raise InputError("no data file is given", remedy="Set data.train_files and data.val_files")
    return [os.path.expanduser(os.fspath(file)) for file in listed]


def file_kind(file: str) -> FileKind:
    """Tell what a file holds from its columns or its first record, not from its name.

    Raises:
        InputError: missing, unreadable, empty, or neither parquet nor JSON.
    """
    if not os.path.isfile(file):
        raise InputError("the file does not exist", file=file, remedy="Check data.train_files and data.val_files")
    if file.endswith(".parquet"):
        try:
            columns = set(pq.read_schema(file).names)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"not a readable parquet file ({error})", file=file) from error
    elif file.endswith((".json", ".jsonl")):
        columns = set(_first_record(file))
        if "solution" in columns:
            return FileKind.RELEASED_RFT
        if "conversations" in columns:
            return FileKind.RELEASED_SFT
    else:
        raise InputError("neither .parquet nor .json nor .jsonl", file=file, remedy="Convert it with `mllm4d data`")
    if columns & {"prompt", "messages"} and not {"question", "task"} <= columns:
        return FileKind.VERL
    if file.endswith(".parquet"):
        return FileKind.QA
    raise InputError(
        f"a record with the keys {', '.join(sorted(columns))} is neither the released format nor verl's",
        file=file,
        row=0,
        remedy="Released records have `messages` and `solution`, or `conversations`; verl's have `prompt`",
    )


def read_rows(files: Sequence[str], options: PromptOptions) -> QuestionRows:
    """Question rows of all files, in order, of the chosen tasks. Every row is checked against the contract of QARow.

    Raises:
        InputError: naming file, row and field; or no row is left.
    """
    rows = QuestionRows([_open_file(file, options.num_frames) for file in files])
    if options.tasks is not None:
        tasks = pa.array(options.tasks, pa.string())
        rows = rows.select(np.flatnonzero(rows.mask("task", lambda names: pc.is_in(names, value_set=tasks))))
    if not len(rows):
        raise InputError(
            f"no row of the tasks {', '.join(options.tasks or ())} is in {', '.join(files)}", field="data.tasks"
        )
    return rows


def choose_rows(rows: Rows, max_samples: int, shuffle: bool = False, seed: int | None = None) -> Rows:
    """At most `max_samples` rows (all if not positive): the first, or random ones with `shuffle`, as verl chooses."""
    if not 0 < max_samples < len(rows):
        return rows
    if not shuffle:
        return rows[:max_samples]
    return _at(rows, np.random.default_rng(seed).choice(len(rows), size=max_samples, replace=False))


def order_rows(rows: Rows, seed: int) -> Rows:
    """All rows in the random order of a seed."""
    return _at(rows, np.random.default_rng(seed).permutation(len(rows)))


def _at(rows: Rows, chosen: np.ndarray) -> Rows:
    return rows.select(chosen) if isinstance(rows, QuestionRows) else [rows[index] for index in chosen]


def at(source: SourceRow, error: InputError) -> InputError:
    """The same error, placed at the row of the data file that it arose from; another file, a video, stays named."""
    other = error.file is not None and error.file != source.file
    return InputError(
        f"{error.file}: {error.problem}" if other else error.problem,
        file=source.file,
        row=source.index,
        field=error.field,
        remedy=error.remedy,
    )


def _open_file(file: str, num_frames: int | None) -> FileRows:
    kind = file_kind(file)
    if kind is FileKind.QA:
        return open_parquet_rows(file)
    if kind in (FileKind.RELEASED_RFT, FileKind.RELEASED_SFT):
        read = iter_rft if kind is FileKind.RELEASED_RFT else iter_sft
        # the release does not say how many frames; it samples 32
        return in_memory_rows(file, (row for _, row in read(file, num_frames=num_frames or DEFAULT_NUM_FRAMES)))
    raise InputError(
        "the file holds verl rows where question rows are expected",
        file=file,
        remedy=f"Do not mix kinds of files; question rows have the columns {', '.join(QA_COLUMNS)}",
    )


def _first_record(file: str) -> dict:
    try:
        with open(file, encoding="utf-8") as lines:
            record = next(_records(lines), None)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"not JSON ({error})", file=file, row=0) from error
    if record is None:
        raise InputError("the file has no rows", file=file)
    if not isinstance(record, dict):
        raise InputError(f"a record must be an object, got {type(record).__name__}", file=file, row=0)
    return record


def _records(lines) -> Iterator[dict]:
    """First records of JSONL, or of a JSON list (which has to be read whole)."""
    for line in lines:
        if not line.strip():
            continue
        if line.lstrip().startswith("["):
            yield from json.loads(line + lines.read())
        else:
            yield json.loads(line)
        return

"""Reads a file of records, whatever its layout, and tells errors by file, row and field."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mllm4d_verl.data_tools.errors import InputError

from .base import Item, unreadable_item

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Record:
    """One record of a file, with the place it stands at, for messages.

    `key` methods raise InputError where the field is missing or of another kind.
    """

    fields: Mapping[str, Any]
    file: str
    row: int

    def error(self, problem: str, field: str | None = None, remedy: str | None = None) -> InputError:
        return InputError(problem, file=self.file, row=self.row, field=field, remedy=remedy)

    def get(self, key: str) -> Any:
        """The value of a field that must be there and not null."""
        value = self.fields.get(key)
        if value is None:
            raise self.error(f"the field is missing; the record has {', '.join(map(str, self.fields))}", key)
        return value

    def text(self, key: str) -> str:
        """A field as text: numbers are printed, other kinds refused."""
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self.error(f"text is expected, got {type(value).__name__}", key)
        text = str(value).strip()
        if not text:
            raise self.error("must not be empty", key)
        return text

    def number(self, key: str) -> float:
        """A field as a finite number, from a number or its text."""
        value = self.get(key)
        try:
            number = float(value) if not isinstance(value, bool) else math.nan
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise self.error(f"a finite number is expected, got {value!r:.80}", key)
        return number


def read_records(path: PathLike) -> list[Record]:
    """Records of a JSON list, of JSON lines or of a parquet file, told apart by content, not by name.

    Raises:
        InputError: no such file, not readable, no record, or a record that is not an object.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError("the file does not exist", file=path) from None
    except OSError as error:
        raise InputError(f"not readable ({error})", file=path) from None
    values = _parquet(path) if content[:4] == b"PAR1" else _json(content, path)
    for row, value in enumerate(values):
        if not isinstance(value, dict):
            raise InputError(f"a record must be an object, got {type(value).__name__}", file=path, row=row)
    if not values:
        raise InputError("the file has no records", file=path)
    return [Record(value, str(path), row) for row, value in enumerate(values)]


def read_items(
    records: Sequence[Record], to_item: Callable[[Record], Item], id_key: str = "id", task_key: str = ""
) -> list[Item]:
    """An item of every record; one that cannot be read becomes an unreadable item, see `base.UNREADABLE`.

    Args:
        records: of the source.
        to_item: raises InputError where a record is not what the source publishes.
        id_key, task_key: fields that name an unreadable record's question and task, where they are there.

    Raises:
        InputError: the first one raised, where fewer than half of the records can be read: the file is another's then.
    """
    items, errors = [], []
    for record in records:
        try:
            items.append(to_item(record))
        except InputError as error:
            errors.append(error)
            id, task = record.fields.get(id_key), record.fields.get(task_key)
            place = f"row {record.row} of {Path(record.file).name}"
            name = f"{id} ({place})" if isinstance(id, str | int) else place  # a part of the source may repeat the id
            items.append(unreadable_item(name, str(id or ""), task if isinstance(task, str) else "", str(error)))
    if errors and 2 * len(errors) > len(records):
        raise errors[0]
    return items


def file_sha256(path: PathLike) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _parquet(path: Path) -> list[Any]:
    try:
        return pq.read_table(path, partitioning=None).to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"not a readable parquet file ({error})", file=path) from error


def _json(content: bytes, path: Path) -> list[Any]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"neither parquet nor UTF-8 text ({error})", file=path) from None
    if text.lstrip().startswith("["):
        try:
            return list(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise InputError(f"not a JSON list ({error})", file=path) from None
    values = []
    # not splitlines(): it also splits at U+2028 and other characters that are legal inside JSON strings
    for row, line in enumerate(text.split("\n")):
        if not line.strip():
            continue
        try:
            values.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"not JSON ({error})", file=path, row=row, remedy="A JSON list, JSON lines or parquet is expected"
            ) from None
    return values

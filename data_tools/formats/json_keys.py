"""The keys of a JSON file's first record, without reading the file whole."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..released import json_items


def first_keys(path: Path) -> set[str]:
    """Keys of the first record of JSONL or of a JSON list.

    Raises:
        InputError: unreadable, not JSON, empty, or the record is no object.
    """
    for index, record in json_items(path):
        if not isinstance(record, dict):
            problem = f"a record must be an object, got {type(record).__name__}"
            raise InputError(problem, file=path, row=index)
        return set(record)
    raise InputError("the file has no rows", file=path)

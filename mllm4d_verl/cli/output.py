"""How every command speaks: tables for people, one JSON line for programs."""

from __future__ import annotations

import json
from typing import Any


def emit_json(record: dict[str, Any]) -> None:
    """Print `record` as one line of JSON: with `--json`, the last line of standard output."""
    print(json.dumps(record, sort_keys=True, default=_plain, allow_nan=False), flush=True)


def _plain(value: Any) -> Any:
    # numpy scalars and arrays, paths, dataclass leaves
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)

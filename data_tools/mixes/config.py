"""What a mix is: how many rows, of which tasks, from which sources."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from ..errors import InputError
from ..schema import SPLITS, known_tasks

_NAMED = Path(__file__).parent / "named"
_KEYS = ("rows", "split", "tasks", "sources", "licenses")


@dataclass(frozen=True)
class Mix:
    """Shares are relative: they need not add up to 1 or 100.

    Attributes:
        tasks: task -> share.
        rows: how many in all; None for as many as the shares allow.
        split: rows of this split are taken.
        sources: name of a source -> share; empty when tasks may come from any.
        licenses: name of a source -> licence of its videos, written into `meta` of its rows.
    """

    tasks: Mapping[str, float]
    rows: int | None = None
    split: str = "train"
    sources: Mapping[str, float] = field(default_factory=dict)
    licenses: Mapping[str, str] = field(default_factory=dict)


def named_mixes() -> list[str]:
    """Names of the mixes that come with the package."""
    return sorted(file.stem for file in _NAMED.glob("*.yaml"))


def load_mix(name: str | Path) -> Mix:
    """A mix by name, or from a YAML file.

    Raises:
        InputError: neither a known name nor a file, or naming the file and the field that does not fit.
    """
    file = _NAMED / f"{name}.yaml" if str(name) in named_mixes() else Path(name)
    if not file.is_file():
        raise InputError(f"no mix of that name, and no file: {name}", remedy=f"Known: {', '.join(named_mixes())}")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"not YAML ({error})", file=file) from None
    if not isinstance(content, dict):
        raise InputError("must be a mapping", file=file, remedy=f"Keys: {', '.join(_KEYS)}")
    for key in content:
        if key not in _KEYS:
            raise InputError("unknown key", file=file, field=str(key), remedy=f"Known: {', '.join(_KEYS)}")
    tasks = _shares(content.get("tasks"), file, "tasks")
    if not tasks:
        raise InputError("names no task", file=file, field="tasks", remedy="Give a share of each task")
    for task in tasks:
        if task not in known_tasks():
            raise InputError(f"no task {task!r}", file=file, field="tasks", remedy=f"Known: {', '.join(known_tasks())}")
    rows, split = content.get("rows"), content.get("split", "train")
    if rows is not None and (type(rows) is not int or rows < 1):
        raise InputError(f"must be a positive integer, got {rows!r}", file=file, field="rows")
    if split not in SPLITS:
        raise InputError(f"must be one of {', '.join(SPLITS)}, got {split!r}", file=file, field="split")
    licenses = content.get("licenses") or {}
    if not isinstance(licenses, dict):
        raise InputError("must map sources to licences", file=file, field="licenses")
    return Mix(
        tasks,
        rows,
        split,
        _shares(content.get("sources"), file, "sources"),
        {str(source): str(text) for source, text in licenses.items()},
    )


def _shares(value: Any, file: Path, key: str) -> dict[str, float]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError("must map names to shares", file=file, field=key)
    for name, share in value.items():
        is_number = isinstance(share, (int, float)) and not isinstance(share, bool)
        if not is_number or not math.isfinite(share) or share <= 0:
            raise InputError(f"the share of {name} must be a positive number, got {share!r}", file=file, field=key)
    return {str(name): float(share) for name, share in value.items()}

"""verl's own step metrics, as its file logger writes them: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def read_metrics(folder: Path) -> dict[int, dict[str, Any]]:
    """Metrics of a run by step, over all its launches.

    verl truncates its metrics file when it starts, so every launch of a run has a file of its own
    (`launch_metrics_file`); where two have the same step, the later launch counts: it resumed before that step.
    """
    steps: dict[int, dict[str, Any]] = {}
    for file in sorted(folder.glob("launch_*.jsonl")):
        for step, data in _lines(file):
            steps[step] = {**steps.get(step, {}), **data}
    return dict(sorted(steps.items()))


def last_step(file: Path) -> int | None:
    """The last step one launch has logged, None before the first."""
    return max((step for step, _ in _lines(file)), default=None)


def launch_metrics_file(folder: Path) -> Path:
    """A new file name for the next launch of a run."""
    return folder / f"launch_{len(list(folder.glob('launch_*.jsonl'))):03d}.jsonl"


def series(steps: dict[int, dict[str, Any]], keys: Iterable[str]) -> list[tuple[int, float]]:
    """(step, value) of the first of `keys` that a step has."""
    names = list(keys)
    found = ((step, next((data[name] for name in names if name in data), None)) for step, data in steps.items())
    return [(step, float(value)) for step, value in found if value is not None]


def _lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if not file.is_file():
        return
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
            yield int(record["step"]), record["data"]
        except (ValueError, KeyError, TypeError):
            continue  # a line cut short by a kill

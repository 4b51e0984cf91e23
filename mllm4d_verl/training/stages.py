"""Work that is done once: a stage that finished with the same settings is not repeated."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mllm4d_verl.data_tools.atomic import atomic_path

from .process_tree import MemoryMeter


class StageLog:
    """Stamps of finished stages in a folder, each with a hash of its settings and of the stage it builds on.

    Args:
        folder: where the stamps are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.records: dict[str, dict[str, Any]] = {}

    def run(
        self,
        name: str,
        settings: Any,
        after: tuple[str, ...],
        product: Path,
        work: Callable[[], dict[str, Any] | None],
    ) -> dict[str, Any]:
        """Do `work` unless its stamp and its product are there.

        Args:
            name: of the stage.
            settings: all that decides the result, as plain data.
            after: stages whose results it uses; they have run.
            product: file or folder it leaves.
            work: does it, and returns figures to remember.

        Returns:
            The record: `hash`, `started` (seconds since 1970), `seconds`, `peak_memory_bytes`, `reused`, and `figures`,
            which `work` returned.
        """
        fingerprint = content_hash([name, settings, [self.records[earlier]["hash"] for earlier in after]])
        stamp = self._folder / f"{name}.json"
        if stamp.is_file() and product.exists():
            record = json.loads(stamp.read_text(encoding="utf-8"))
            if record["hash"] == fingerprint:
                self.records[name] = {**record, "reused": True}
                return self.records[name]
        started, began = time.time(), time.monotonic()
        with MemoryMeter() as meter:
            figures = work()
        record = {
            "hash": fingerprint,
            "started": started,
            "seconds": round(time.monotonic() - began, 2),
            "peak_memory_bytes": meter.peak_bytes,
            "figures": figures or {},
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(stamp) as part:
            Path(part).write_text(json.dumps(record, indent=2, default=str), encoding="utf-8")
        self.records[name] = {**record, "reused": False}
        return self.records[name]


def covered_seconds(records: Iterable[dict[str, Any]]) -> float:
    """Time in which one of the stages, or several beside each other, was running."""
    total, end = 0.0, -math.inf
    for started, seconds in sorted((record.get("started", 0.0), record["seconds"]) for record in records):
        total += max(0.0, started + seconds - max(started, end))
        end = max(end, started + seconds)
    return total


def content_hash(content: Any) -> str:
    """Sixteen hex digits of plain data; the order of keys does not count."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]

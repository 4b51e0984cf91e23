"""Rows of QA files copied without loss, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..atomic import atomic_path
from ..errors import InputError
from ..formats.qa import iter_batches
from ..released import rebase_video
from ..schema import QA_SCHEMA, SPLITS


def qa_files(path: Path) -> list[Path]:
    """The file, or train, val and test of a folder.

    Raises:
        InputError: a folder without any of them.
    """
    if not path.is_dir():
        return [path]
    files = [path / f"{split}.parquet" for split in SPLITS if (path / f"{split}.parquet").is_file()]
    if not files:
        raise InputError("the folder holds no train, val or test parquet", file=path)
    return files


def moved_videos(batch: pa.RecordBatch, old: Path, new: Path, known: dict[str, str]) -> pa.RecordBatch:
    """The batch with video paths that start from `new` where they started from `old`."""
    place = QA_SCHEMA.get_field_index("video")
    videos = batch.column(place).to_pylist()
    for video in set(videos) - known.keys():
        known[video] = rebase_video(video, old, new)
    return batch.set_column(place, QA_SCHEMA.field(place), pa.array([known[video] for video in videos], pa.string()))


def copy_rows(source: Path, out: Path, keep: Callable[[pa.RecordBatch], Sequence[bool]]) -> int:
    """Copy the kept rows of a file to a file, or of a folder to a folder; returns their number."""
    count = 0
    for file in qa_files(source):
        target = out / file.name if source.is_dir() else out
        if target.resolve() == file.resolve():
            raise InputError("IN and OUT are the same", file=target, remedy="Choose another name")
        known: dict[str, str] = {}
        with atomic_path(target) as temporary, pq.ParquetWriter(temporary, QA_SCHEMA) as writer:
            for batch in iter_batches(file):
                kept = batch.filter(pa.array(keep(batch), pa.bool_()))
                if kept.num_rows:
                    writer.write_batch(moved_videos(kept, file.parent, target.parent, known))
                count += kept.num_rows
    return count

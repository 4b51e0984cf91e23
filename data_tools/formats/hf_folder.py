"""A Hugging Face dataset folder: QARow parquet shards per split and a filled-in dataset card."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import InputError
from ..qa_table import table_of
from ..schema import QA_SCHEMA, SPLITS, QARow
from . import qa
from .base import Format, Options, PlacedRow
from .card import CardFigures, write_card

ROWS_PER_SHARD = 250_000
CARD = "README.md"


def shards(folder: Path) -> list[Path]:
    """Parquet files of a dataset folder, in the order of splits and shards.

    Where there are files named after splits, as `data questions` and the hub name them, other files are left out: its
    cold_start.parquet holds rows of train once more.

    Raises:
        InputError: there are none.
    """
    found = [path for split in SPLITS for path in sorted(folder.glob(f"{split}-*-of-*.parquet"))]
    found = found or [path for split in SPLITS if (path := folder / f"{split}.parquet").is_file()]
    found = found or sorted(path for path in folder.rglob("*.parquet") if not path.name.startswith("."))
    if not found:
        raise InputError("the folder holds no parquet files", file=folder)
    return found


def _matches(folder: Path) -> bool:
    return bool(next(folder.rglob("*.parquet"), None))


def _read(folder: Path, options: Options) -> Iterator[PlacedRow]:
    seen = qa.SeenIds()
    for path in shards(folder):
        for file, index, row in qa.FORMAT.read(path, replace(options)):
            try:
                seen.add(row.id, file, index)
            except InputError as error:
                if options.on_error is None:
                    raise
                options.on_error(error)
                continue
            yield file, index, row


def _write(folder: Path, rows: Iterable[QARow], options: Options) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise InputError("the folder is not empty", file=folder, remedy="Choose another, or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    figures = CardFigures(options.sources)
    try:
        temporary.mkdir()
        counts = _write_shards(temporary, qa.checked(rows, folder), figures)
        _number_shards(temporary, counts)
        write_card(temporary / CARD, figures, options.title or folder.name)
        if folder.exists():
            folder.rmdir()
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_shards(folder: Path, rows: Iterable[QARow], figures: CardFigures) -> dict[str, int]:
    """Write `<split>-<shard>.parquet` as rows come, in any order of splits; returns shards per split."""
    waiting: dict[str, list[QARow]] = {split: [] for split in SPLITS}
    written = dict.fromkeys(SPLITS, 0)
    writers: dict[str, pq.ParquetWriter] = {}

    with ExitStack() as open_writers:

        def flush(split: str) -> None:
            if not waiting[split]:
                return
            if written[split] % ROWS_PER_SHARD == 0:
                if split in writers:
                    writers[split].close()
                path = folder / f"{split}-{written[split] // ROWS_PER_SHARD:05d}.parquet"
                writers[split] = open_writers.enter_context(pq.ParquetWriter(path, QA_SCHEMA))
            table: pa.Table = table_of(waiting[split], file=folder)
            writers[split].write_table(table, row_group_size=qa.ROWS_PER_GROUP)
            written[split] += len(table)
            waiting[split] = []

        for row in rows:
            figures.add(row)
            waiting[row.split].append(row)
            room = ROWS_PER_SHARD - written[row.split] % ROWS_PER_SHARD
            if len(waiting[row.split]) == min(room, qa.ROWS_PER_GROUP):
                flush(row.split)
        for split in SPLITS:
            flush(split)
    if not any(written.values()):
        raise InputError("there are no rows to write", file=folder)
    return {split: -(-count // ROWS_PER_SHARD) for split, count in written.items() if count}


def _number_shards(folder: Path, counts: dict[str, int]) -> None:
    for split, count in counts.items():
        for shard in range(count):
            name = f"{split}-{shard:05d}"
            (folder / f"{name}.parquet").rename(folder / f"{name}-of-{count:05d}.parquet")


FORMAT = Format(
    name="hf",
    holds="Hugging Face dataset folder: QARow parquet per split, README.md as dataset card.",
    losses=("Videos are not copied: rows keep their paths.", "Rows are ordered by split."),
    suffixes=(),
    matches=_matches,
    read=_read,
    write=_write,
)

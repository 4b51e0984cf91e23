"""Rows drawn from question files in the shares of a mix, spread over clips; two passes, neither holds the rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..atomic import atomic_path
from ..errors import InputError
from ..formats.qa import SeenIds, iter_batches
from ..questions.candidates import ranks_within
from ..questions.chance import mix as mix_bits
from ..schema import QA_SCHEMA
from .config import Mix
from .copying import moved_videos, qa_files

_META = QA_SCHEMA.get_field_index("meta")


@dataclass(frozen=True)
class Source:
    """A question file or folder. With a name, ids and clips of its rows start with it, and `meta` says it."""

    path: Path
    name: str = ""


@dataclass(frozen=True)
class Cell:
    """Rows of one task, from one source where the mix has shares of sources.

    Attributes:
        task, source: source is "" where any will do.
        wanted, found, drawn: rows by the shares, rows there are, rows taken.
        clips: that the drawn rows are about.
    """

    task: str
    source: str
    wanted: int
    found: int
    drawn: int
    clips: int


@dataclass(frozen=True)
class Drawn:
    """What was drawn."""

    file: Path
    rows: int
    clips: int
    cells: tuple[Cell, ...]

    @property
    def short(self) -> tuple[Cell, ...]:
        """Cells with fewer rows than their share."""
        return tuple(cell for cell in self.cells if cell.drawn < cell.wanted)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "file": str(self.file)}


def parse_source(text: str) -> Source:
    """A source from `PATH` or `NAME=PATH`."""
    name, mark, path = text.partition("=")
    if mark and not Path(text).exists():
        if not name or "/" in name:
            raise InputError(f"the name of a source is not {name!r}", remedy="Write NAME=PATH")
        return Source(Path(path), name)
    return Source(Path(text))


def draw_mix(mix: Mix, sources: Sequence[Source], out: str | Path, *, seed: int = 0, strict: bool = False) -> Drawn:
    """Write the mix as the parquet file `out`, in the order of the sources.

    Of each task (and source) as many rows as its share; of these, first one of every clip, then a second, and so on;
    which of a clip's rows, the seed decides. The same sources and seed give the same bytes.

    Args:
        mix: shares; with `rows` None, the largest number of rows that has all shares.
        sources: files, or folders of train, val and test.
        out: parquet file.
        seed: of the choice.
        strict: refuse to write a mix whose shares are not all met.

    Raises:
        InputError: no row fits, a share or licence names a source that is not given, two rows share an id, a share
            cannot be met and `strict` is set, or a file is broken.
    """
    out = Path(out)
    files = [(source, file) for source in sources for file in qa_files(source.path)]
    for _, file in files:
        if file.resolve() == out.resolve():
            raise InputError("a source and OUT are the same", file=out, remedy="Choose another name")
    names = [source.name for source in sources]
    for name in (*mix.sources, *mix.licenses):
        if name not in names:
            what = "share" if name in mix.sources else "licence"
            raise InputError(f"the mix has a {what} of {name!r}, which is no source", remedy=f"Write {name}=PATH")
    table = _index(files, mix, seed)
    cells, take = _choose(table, mix)
    absent = ", ".join(f"{cell.task} {cell.source}".strip() for cell in cells if not cell.found)
    if not take.any():
        problem = (
            f"no rows of split {mix.split!r} are of {absent}" if absent else "there are too few rows for any share"
        )
        raise InputError(problem, file=files[0][1], remedy="Leave such shares out, or add sources")
    drawn = Drawn(out, int(take.sum()), len(np.unique(table["clip"][take])), cells)
    if strict and drawn.short:
        tasks = ", ".join(f"{cell.task} ({cell.drawn} of {cell.wanted})" for cell in drawn.short)
        raise InputError(f"a share cannot be met: {tasks}", file=out, field="--strict", remedy="Use --rows 0")
    _copy(files, take, mix, out)
    return drawn


#: Of every row of the sources: task and source as places in the mix (-1 for not wanted), clip as a hash, chance.
_ROW = np.dtype([("clip", np.uint64), ("key", np.uint64), ("task", np.int16), ("source", np.int16)])


def _index(files: list[tuple[Source, Path]], mix: Mix, seed: int) -> NDArray[np.void]:
    from pandas.util import hash_array

    tasks, names = pa.array(list(mix.tasks)), list(mix.sources)
    seen, parts = SeenIds(), []
    for source, file in files:
        first = 0
        for batch in iter_batches(file):
            part = np.zeros(batch.num_rows, _ROW)
            ids = _prefixed(batch.column("id"), source)
            wanted = batch.column("split").fill_null("train").to_numpy(zero_copy_only=False) == mix.split
            place = pc.index_in(batch.column("task"), value_set=tasks).fill_null(-1).to_numpy()
            part["task"] = np.where(wanted, place, -1)
            part["source"] = names.index(source.name) if source.name in names else -1 if names else 0
            part["clip"] = hash_array(_prefixed(batch.column("clip_id"), source))
            part["key"] = mix_bits(hash_array(ids), seed)
            for index in np.flatnonzero(part["task"] >= 0).tolist():
                seen.add(ids[index], file, first + index)
            parts.append(part)
            first += batch.num_rows
    return np.concatenate(parts) if parts else np.zeros(0, _ROW)


def _prefixed(texts: pa.Array, source: Source) -> NDArray[np.object_]:
    values: NDArray[np.object_] = texts.to_numpy(zero_copy_only=False)
    return values if not source.name else np.array([f"{source.name}/{text}" for text in values], object)


def _choose(table: NDArray[np.void], mix: Mix) -> tuple[tuple[Cell, ...], NDArray[np.bool_]]:
    names, sources = list(mix.tasks), list(mix.sources) or [""]
    shares = np.outer(list(mix.tasks.values()), list(mix.sources.values()) or [1.0]).astype(np.float64)
    shares /= shares.sum()
    members = [
        [np.flatnonzero((table["task"] == t) & (table["source"] == s)) for s in range(len(sources))]
        for t in range(len(names))
    ]
    found = np.array([[len(rows) for rows in line] for line in members])
    total = int(np.floor((found / shares).min() + 1e-9)) if mix.rows is None else mix.rows
    wanted = _parts(total, shares.ravel()).reshape(shares.shape)
    if mix.rows is None:  # rounding may ask for one more than there is
        wanted = np.minimum(wanted, found)
    take = np.zeros(len(table), bool)
    cells = []
    for t, task in enumerate(names):
        for s, source in enumerate(sources):
            rows = members[t][s]
            turn = ranks_within(_codes(table["clip"][rows]), table["key"][rows])
            chosen = rows[np.lexsort((table["key"][rows], turn))[: wanted[t, s]]]
            take[chosen] = True
            clips = len(np.unique(table["clip"][chosen]))
            cells.append(Cell(task, source, int(wanted[t, s]), len(rows), len(chosen), clips))
    return tuple(cells), take


def _codes(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    codes: NDArray[np.int64] = np.unique(values, return_inverse=True)[1]
    return codes


def _parts(total: int, shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """`total` in whole parts by the shares, the largest remainders rounded up."""
    exact = total * shares
    parts = np.floor(exact).astype(np.int64)
    parts[np.argsort(parts - exact, kind="stable")[: total - int(parts.sum())]] += 1
    return parts


def _copy(files: list[tuple[Source, Path]], take: NDArray[np.bool_], mix: Mix, out: Path) -> None:
    known: dict[Path, dict[str, str]] = {}
    first = 0
    with atomic_path(out) as temporary, pq.ParquetWriter(temporary, QA_SCHEMA) as writer:
        for source, file in files:
            before = first
            for batch in iter_batches(file):
                places = np.flatnonzero(take[first : first + batch.num_rows])
                kept = batch.take(pa.array(places))
                places += first - before
                first += batch.num_rows
                if not kept.num_rows:
                    continue
                kept = moved_videos(kept, file.parent, out.parent, known.setdefault(file.parent, {}))
                writer.write_batch(_marked(kept, source, mix, file, places.tolist()))


def _marked(batch: pa.RecordBatch, source: Source, mix: Mix, file: Path, rows: list[int]) -> pa.RecordBatch:
    """Rows of a named source: its name before ids and clips, and in `meta` with the licence, which cards state.

    A row that says another source already keeps that, and gets no licence of this one.
    """
    if not source.name:
        return batch
    for name in ("id", "clip_id"):
        place = QA_SCHEMA.get_field_index(name)
        batch = batch.set_column(place, QA_SCHEMA.field(place), pa.array(_prefixed(batch.column(name), source)))
    metas = []
    for text, row in zip(batch.column(_META).to_pylist(), rows, strict=True):
        try:
            meta = {"source": source.name, **json.loads(text or "{}")}
        except (ValueError, TypeError):
            raise InputError("must be a JSON object", file=file, row=row, field="meta") from None
        if meta["source"] == source.name and source.name in mix.licenses:
            meta.setdefault("license", mix.licenses[source.name])
        metas.append(json.dumps(meta, sort_keys=True))
    return batch.set_column(_META, QA_SCHEMA.field(_META), pa.array(metas, pa.string()))

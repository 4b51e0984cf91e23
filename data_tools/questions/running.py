"""The two passes over clip files: in this process, in several, or through Ray; resumable after a kill."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..atomic import atomic_path
from ..schema import QA_SCHEMA, SPLITS, read_clip
from .candidates import Candidates, Skipped, clip_candidates, gather, geometry_of, join
from .chance import mix
from .config import QuestionConfig
from .facts import ClipFacts
from .phrasing import CHOICE_DTYPE, Chosen, phrase

if TYPE_CHECKING:
    from .engine import QuestionReport

_CHUNK_CLIPS = 128  # of one piece of work, and of one batch of shuffled rows
_GROUP_ROWS = 20_000  # of a row group of the parquet files
_RESPONSE = QA_SCHEMA.get_field_index("response")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Plan:
    """One run.

    Attributes:
        files, ids: of all clips, sorted by id.
        order: (clips,) the order in which clips' rows are written: a shuffle that follows from the seed.
        video_prefix: folder that videos start from, relative to the output.
        config: of the questions.
        work: folder of intermediate files, named after clips and config, so that another run does not find it.
        workers: processes or actors.
        ray: address of a Ray cluster, or None.
    """

    files: list[str]
    ids: list[str]
    order: NDArray[np.int64]
    video_prefix: str
    config: QuestionConfig
    work: Path
    workers: int
    ray: str | None

    @property
    def num_chunks(self) -> int:
        """Pieces of work of a pass."""
        return -(-len(self.files) // _CHUNK_CLIPS)

    def clips_of(self, chunk: int) -> list[int]:
        """Numbers of the clips of a piece of work."""
        numbers: list[int] = self.order[chunk * _CHUNK_CLIPS : (chunk + 1) * _CHUNK_CLIPS].tolist()
        return numbers

    def candidates_file(self, chunk: int) -> Path:
        return self.work / f"candidates-{chunk:06d}.npz"

    def chosen_file(self, chunk: int) -> Path:
        return self.work / f"chosen-{chunk:06d}.npz"

    def rows_file(self, chunk: int) -> Path:
        return self.work / f"rows-{chunk:06d}.arrow"

    def clean(self) -> None:
        """Remove intermediate files, those of earlier runs in the same folder too."""
        for folder in self.work.parent.glob(".questions-*"):
            shutil.rmtree(folder, ignore_errors=True)


Choose = Callable[[Candidates, Skipped], "tuple[Chosen, QuestionReport]"]


def run_passes(plan: Plan, choose: Choose, out: Path, progress: Progress | None) -> QuestionReport:
    """Candidates of all clips, the choice, and the rows as `out`/{train,val,test,cold_start}.parquet."""
    plan.work.mkdir(parents=True, exist_ok=True)
    chunks, total = range(plan.num_chunks), 2 * len(plan.files)
    done = 0

    def note(chunk: int) -> None:
        nonlocal done
        done += len(plan.clips_of(chunk))
        if progress:
            progress(done, total)

    with ExitStack() as stack:
        spread = _spreader(plan, stack)
        for chunk in spread(find_chunk, [c for c in chunks if not plan.candidates_file(c).is_file()]):
            note(chunk)
        done = len(plan.files)
        found, skipped = _collect(plan)
        chosen, report = choose(found, skipped)
        del found
        left = [chunk for chunk in chunks if not plan.rows_file(chunk).is_file()]
        _hand_out(plan, chosen, left)
        del chosen
        for chunk in spread(phrase_chunk, left):
            note(chunk)
    _assemble(plan, out)
    return report


# ------------------------------------------------------------------------------------------------- pieces of work


def find_chunk(plan: Plan, chunk: int) -> int:
    """First pass over some clips: candidates, reasons of what is not asked, and the clips' facts, into a file."""
    skipped: Skipped = {}
    numbers = plan.clips_of(chunk)
    parts, facts = [], []
    for number in numbers:
        geometry = geometry_of(read_clip(plan.files[number]), plan.config)
        parts.append(clip_candidates(geometry, plan.config, skipped))
        facts.append(ClipFacts.of(geometry, number))
    with atomic_path(plan.candidates_file(chunk)) as temporary:
        arrays: dict[str, Any] = ClipFacts.join(facts).arrays()
        found = gather(parts, numbers, [plan.ids[number] for number in numbers], plan.config)
        np.savez(temporary, found=found, skipped=np.array(json.dumps(skipped)), **arrays)
    return chunk


def phrase_chunk(plan: Plan, chunk: int) -> int:
    """Second pass: rows of the chosen questions about some clips, shuffled among themselves, into a file."""
    with np.load(plan.chosen_file(chunk)) as arrays:
        chosen = Chosen(arrays["found"], arrays["choice"])
    with np.load(plan.candidates_file(chunk)) as arrays:
        facts = ClipFacts.from_arrays(arrays)
    prefix = plan.video_prefix
    chosen = chosen.take(np.argsort(mix(chosen.found["key"], 5), kind="stable"))
    table = phrase(chosen, facts, plan.config, lambda video: Path(os.path.normpath(f"{prefix}/{video}")).as_posix())
    with atomic_path(plan.rows_file(chunk)) as temporary, pa.ipc.new_file(str(temporary), QA_SCHEMA) as writer:
        writer.write_table(table)
    return chunk


def _collect(plan: Plan) -> tuple[Candidates, Skipped]:
    skipped: Skipped = {}
    parts = []
    for chunk in range(plan.num_chunks):
        with np.load(plan.candidates_file(chunk)) as arrays:
            parts.append(arrays["found"])
            for task, reasons in json.loads(str(arrays["skipped"])).items():
                skipped.setdefault(task, Counter()).update(reasons)
    return join(parts), skipped


def _hand_out(plan: Plan, chosen: Chosen, chunks: Sequence[int]) -> None:
    first = np.searchsorted(chosen.found["clip"], np.arange(len(plan.files) + 1))
    for chunk in chunks:
        spans = [np.arange(first[number], first[number + 1]) for number in plan.clips_of(chunk)]
        own = chosen.take(np.concatenate(spans)) if spans else chosen.take(slice(0))
        with atomic_path(plan.chosen_file(chunk)) as temporary:
            np.savez(temporary, found=own.found, choice=own.choice.astype(CHOICE_DTYPE))


def _assemble(plan: Plan, out: Path) -> None:
    """One file per split and the cold start, in row groups; memory holds one row group of each."""
    with ExitStack() as stack:
        files = {name: _Groups(stack, out / f"{name}.parquet") for name in (*SPLITS, "cold_start")}
        for chunk in range(plan.num_chunks):
            with pa.memory_map(str(plan.rows_file(chunk))) as source:
                table = pa.ipc.open_file(source).read_all()
                cold = table.filter(pc.is_valid(table["response"]))
                files["cold_start"].add(cold)
                table = table.set_column(_RESPONSE, QA_SCHEMA.field(_RESPONSE), pa.nulls(len(table), pa.string()))
                for split in SPLITS:
                    files[split].add(table.filter(pc.equal(table["split"], split)))
        for file in files.values():
            file.flush()


class _Groups:
    """A parquet file that is written in row groups of even size, whole or not at all."""

    def __init__(self, stack: ExitStack, path: Path) -> None:
        temporary = stack.enter_context(atomic_path(path))
        self._writer = stack.enter_context(pq.ParquetWriter(temporary, QA_SCHEMA))
        self._held: list[pa.Table] = []
        self._count = 0

    def add(self, table: pa.Table) -> None:
        self._held.append(table)
        self._count += len(table)
        if self._count >= _GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        if self._count:
            self._writer.write_table(pa.concat_tables(self._held), row_group_size=2 * _GROUP_ROWS)
        self._held, self._count = [], 0


# ------------------------------------------------------------------------------------------------------- who works

Work = Callable[[Plan, int], int]
Spread = Callable[[Work, Sequence[int]], Iterator[int]]


def _spreader(plan: Plan, stack: ExitStack) -> Spread:
    """How pieces of work are done: a function from work and pieces to the pieces as they are finished."""
    if plan.ray is not None:
        return lambda work, chunks: _run_ray(plan, stack, work, chunks)
    if plan.workers == 1 or plan.num_chunks == 1:
        return lambda work, chunks: (work(plan, chunk) for chunk in chunks)
    # Spawned, not forked: a fork of a process with threads (Arrow has some) may hang.
    context = multiprocessing.get_context("spawn")
    pool = stack.enter_context(ProcessPoolExecutor(min(plan.workers, plan.num_chunks), mp_context=context))
    return lambda work, chunks: _run_pool(pool, plan, work, chunks)


def _run_pool(pool: ProcessPoolExecutor, plan: Plan, work: Work, chunks: Sequence[int]) -> Iterator[int]:
    waiting: set[Future[int]] = set()
    left = iter(chunks)
    try:
        while True:
            while len(waiting) < 2 * plan.workers and (chunk := next(left, None)) is not None:
                waiting.add(pool.submit(work, plan, chunk))
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        for future in waiting:
            future.cancel()


def _run_ray(plan: Plan, stack: ExitStack, work: Work, chunks: Sequence[int]) -> Iterator[int]:
    """Through Ray Data; the machines share a file system, as for annotation. `stack` keeps Ray for the second pass."""
    from ..ray_session import ray_session

    if not chunks:
        return
    ray = stack.enter_context(ray_session(str(plan.ray), plan.workers))
    items = [{"chunk": int(chunk)} for chunk in chunks]
    rows = ray.data.from_items(items, override_num_blocks=len(items)).map(
        lambda row: {"chunk": work(plan, row["chunk"])}, num_cpus=1, concurrency=plan.workers
    )
    for row in rows.iter_rows():
        yield int(row["chunk"])

"""Annotate many stereo clips: a pool of processes, resumable, where one bad clip never stops the rest."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..readers import find_reader, recognise
from ..schema import write_clip_index
from ..stereo.clip import ClipRef
from .config import AnnotateConfig
from .learned import check_learned
from .naming import Breaker, EntityNamer
from .store import AnnotationFolder, Status
from .worker import DiskFullError, Setup, Worker

Progress = Callable[[int, int], None]


@dataclass
class AnnotateReport:
    """What a run did, and what the folder holds after it.

    Attributes:
        clips: clips of the source.
        skipped: finished by an earlier run.
        kept: Clip4D records of these clips.
        frames: annotated frames in them.
        rejected: name of the fault -> stretches kept out for it; one stretch may have several faults.
        num_rejected: stretches kept out.
        quarantined: kind of failure -> clips.
        seconds: that this run took.
        new_frames: frames of the source that this run went through.
        names_given_up: why the endpoint that names objects was not asked any more; empty where it was to the end.
    """

    clips: int
    skipped: int
    kept: int = 0
    frames: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    num_rejected: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    new_frames: int = 0
    names_given_up: str = ""


@dataclass(frozen=True)
class Source:
    """Clips to annotate, found and not opened.

    Attributes:
        path: the folder or file, absolute.
        reader: name of the reader.
        reason: how it was recognised, or that it was asked for.
        options: of the reader.
        refs: the clips.
    """

    path: Path
    reader: str
    reason: str
    options: dict[str, Any]
    refs: list[ClipRef]


def find_source(path: str | os.PathLike[str], reader: str = "auto", options: dict[str, Any] | None = None) -> Source:
    """Find the clips under `path`.

    Raises:
        InputError: no reader knows the folder, it holds no clips, or two clips would share a name.
    """
    absolute = Path(os.path.abspath(path))  # not resolved: names of links are what the user sees
    if not absolute.exists():
        raise InputError("the path does not exist", file=path)
    if reader == "auto":
        chosen, reason = recognise(absolute)
    else:
        chosen, reason = find_reader(reader), "asked for"
    refs = chosen.find(absolute, **(options or {}))
    names = Counter(ref.clip_id for ref in refs)
    # "a" split at its cuts gives "a_s0"
    twice = [name for name, count in names.items() if count > 1 or re.sub(r"_s\d+$", "", name) in names.keys() - {name}]
    if twice:
        raise InputError(f"two clips would be named {twice[0]!r}", file=path, remedy="Annotate them apart")
    return Source(absolute, chosen.name, reason, dict(options or {}), refs)


def annotate(
    source: Source,
    out: str | os.PathLike[str],
    config: AnnotateConfig | None = None,
    workers: int = 1,
    retry_quarantine: bool = False,
    progress: Progress | None = None,
    ray: str | None = None,
) -> AnnotateReport:
    """Annotate the clips of `source` into the folder `out`; clips that are finished there are kept.

    What is written for a clip depends on the clip and the settings alone, not on the workers, so a run that was killed
    and run again leaves the same bytes.

    Args:
        source: see `find_source`.
        out: folder; created. See docs/annotate.md for what is in it.
        config: settings; those of an earlier run into the same folder must be the same.
        workers: processes. OpenCV's threads are shared out among them.
        retry_quarantine: take clips again that failed.
        progress: called as progress(done, total) after each clip, first with the clips found finished.
        ray: address of a Ray cluster that shares the file system, "local" to start one here, None for no Ray.

    Raises:
        InputError: the folder was made with other settings, another run is writing into it, or the disk is full.
    """
    config = config or AnnotateConfig()
    if config.naming.is_on:
        EntityNamer(config.naming)  # a key or package that is missing is told once, not by every clip
    if config.learned.is_on:
        check_learned(config.learned)
    folder = AnnotationFolder(Path(os.path.abspath(out)))
    report_progress = progress or (lambda done, total: None)
    started = time.monotonic()
    with _disk_errors(folder.root), folder.alone():
        folder.claim(source.path, source.reader, source.options, config)
        pending = [ref for ref in source.refs if _is_pending(folder, ref, retry_quarantine)]
        skipped = len(source.refs) - len(pending)
        report_progress(skipped, len(source.refs))
        threads = max(1, _num_cores() // max(1, workers))
        setup = Setup(source.path, folder.root, config, threads)
        new_frames = 0
        breaker = Breaker(config.naming.max_unanswered)
        try:
            if ray is None:
                finished = run_pool(pending, setup, workers, breaker)
            else:
                from .ray_run import run_ray

                finished = run_ray(pending, setup, workers, ray)
            for done, status in enumerate(finished, start=skipped + 1):
                new_frames += status.num_frames
                breaker.note([outcome.figures for outcome in status.outcomes])
                report_progress(done, len(source.refs))
        finally:
            folder.clear_leftovers()
            with contextlib.suppress(OSError):  # a full disk is told already
                folder.write_lists()
        report = _report(folder, source.refs, skipped)
        if any(folder.clips.glob("[!.]*.npz")):
            write_clip_index(folder.clips)
    report.seconds, report.new_frames = time.monotonic() - started, new_frames
    report.names_given_up = breaker.given_up
    return report


def run_pool(refs: Sequence[ClipRef], setup: Setup, workers: int, breaker: Breaker) -> Iterator[Status]:
    """Statuses of clips as they are finished, by `workers` processes.

    Args:
        refs: the clips.
        setup: what the processes need to know.
        workers: processes.
        breaker: says from which clip on the endpoint that names objects is not asked; the caller tells it of statuses.

    Raises:
        DiskFullError: at once when a process meets it; the others are ended.
    """
    if not refs:
        return
    waiting = deque(refs)
    pool = [Worker(setup, breaker) for _ in range(min(workers, len(refs)))]
    try:
        while True:
            for worker in pool:
                if worker.ref is None and waiting:
                    worker.give(waiting.popleft())
            busy = [worker for worker in pool if worker.ref is not None]
            if not busy:
                return
            nearest = min(busy, key=lambda worker: worker.deadline)
            heard = set(wait([worker.connection for worker in busy], nearest.seconds_left()))
            for worker in busy:
                if worker.connection in heard or time.monotonic() >= worker.deadline:
                    status = worker.collect()
                    if status is not None:
                        yield status
    finally:
        for worker in pool:
            worker.close()


def _is_pending(folder: AnnotationFolder, ref: ClipRef, retry_quarantine: bool) -> bool:
    status = folder.read_status(ref.clip_id)
    return status is None or (retry_quarantine and status.failure is not None)


def _report(folder: AnnotationFolder, refs: Sequence[ClipRef], skipped: int) -> AnnotateReport:
    report = AnnotateReport(clips=len(refs), skipped=skipped)
    rejected: Counter[str] = Counter()
    quarantined: Counter[str] = Counter()
    for ref in refs:
        status = folder.read_status(ref.clip_id)
        if status is None:
            continue
        if status.failure:
            quarantined[status.failure["kind"]] += 1
        for outcome in status.outcomes:
            if outcome.is_kept:
                start, stop, step = outcome.frames
                report.kept += 1
                report.frames += len(range(start, stop, step))
            else:
                report.num_rejected += 1
                rejected.update(reason.name for reason in outcome.reasons)
    report.rejected, report.quarantined = dict(sorted(rejected.items())), dict(sorted(quarantined.items()))
    return report


@contextlib.contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not isinstance(error, DiskFullError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"the disk is full ({error})",
            file=root,
            remedy="Free some room and run the same command again: finished clips are kept",
        ) from error


def _num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

"""`mllm4d data annotate` at scale: frames per second with one and two workers, and memory over many clips.

    python benchmarks/annotate_scaling.py [--clips 8] [--size 256] [--frames 24] [--long 0] [--json]

One worker is held to one core, two workers have two, so that the ratio is that of the cores; one worker with both
cores, where OpenCV's own threads use the second, stands beside them. Other work on the machine lowers the ratio; CPU
time per frame, the same in all rows, tells that the processes do not hinder each other. With `--long N` the same clips
are annotated again and again under N names by one worker, which is never replaced, and its memory is sampled: the
median of the last tenth over that of the second.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import threading
import time
from pathlib import Path

import psutil

from mllm4d_verl.data_tools.annotation.config import load_config
from mllm4d_verl.data_tools.annotation.run import annotate, find_source
from mllm4d_verl.data_tools.synthetic import write_world


class WorkerMemory:
    """Samples the resident memory of the children of this process, bytes."""

    def __init__(self, every_seconds: float = 0.5) -> None:
        self.samples: list[int] = []
        self._every_seconds = every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> WorkerMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        own = psutil.Process()
        while not self._stop.wait(self._every_seconds):
            total = 0
            for child in own.children():
                try:
                    total += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            if total:
                self.samples.append(total)


def run(world: Path, out: Path, workers: int, cores: set[int], changes: dict) -> tuple[float, float]:
    """Frames per second without the time that processes need to start, and CPU seconds per frame with it."""
    everything = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    beats: list[float] = []
    before = cpu_seconds()
    try:
        report = annotate(
            find_source(world),
            out,
            load_config(None, changes),
            workers=workers,
            progress=lambda done, total: beats.append(time.monotonic()),
        )
    finally:
        os.sched_setaffinity(0, everything)
    if report.quarantined:
        raise SystemExit(f"clips failed: {report.quarantined}, see {out / 'quarantine.jsonl'}")
    # The first clip of each worker pays for imports; from then on the beat is even.
    counted = report.clips - workers
    seconds = beats[-1] - beats[workers]
    return counted * report.new_frames / report.clips / seconds, (cpu_seconds() - before) / report.new_frames


def cpu_seconds() -> float:
    """Of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--long", type=int, default=0, help="clips of the memory run")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    record: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        world = Path(folder) / "world"
        size = {"width": options.size, "height": options.size, "num_frames": options.frames}
        write_world(world, options.clips, seed=11, dense=False, workers=len(cores), **size)
        changes = {"quality.allow_static": True}
        settings = [("1 worker, 1 core", 1, set(cores[:1]))]
        if len(cores) > 1:
            settings += [("2 workers, 2 cores", 2, set(cores[:2])), ("1 worker, 2 cores", 1, set(cores[:2]))]
        for number, (name, workers, own) in enumerate(settings):
            rate, cpu = run(world, Path(folder) / f"out{number}", workers, own, changes)
            record[name] = rate
            print(f"{name:>20}: {rate:6.1f} frames/s, {1000 * cpu:.0f} ms of CPU a frame")
        if len(settings) > 1:
            record["ratio"] = record["2 workers, 2 cores"] / record["1 worker, 1 core"]
            print(f"two workers over one: {record['ratio']:.2f}")
        if options.long:
            record |= measure_memory(world, Path(folder), options.long, changes)
    if options.json:
        print(json.dumps(record, sort_keys=True))


def measure_memory(world: Path, folder: Path, clips: int, changes: dict) -> dict[str, float]:
    many = folder / "many"
    many.mkdir()
    sources = sorted(path for path in world.iterdir() if (path / "left.mp4").is_file())
    for number in range(clips):
        (many / f"clip_{number:05d}").symlink_to(sources[number % len(sources)])
    with WorkerMemory() as memory:
        # never replaced: what leaks shows
        report = annotate(
            find_source(many), folder / "many_out", load_config(None, {**changes, "run.clips_per_worker": clips + 1})
        )
    share = max(1, len(memory.samples) // 10)
    early, late = (statistics.median(part) for part in (memory.samples[share : 2 * share], memory.samples[-share:]))
    print(
        f"{clips} clips by one process in {report.seconds:.0f} s: {early / 2**20:.0f} MiB early, "
        f"{late / 2**20:.0f} MiB late, {max(memory.samples) / 2**20:.0f} MiB at most"
    )
    return {"early_mib": early / 2**20, "late_mib": late / 2**20, "memory_ratio": late / early}


if __name__ == "__main__":
    main()

"""How fast `mllm4d data questions` goes from Clip4D files to parquet, and where its time goes.

    python benchmarks/questions_speed.py --clips 2500            # one core, with the share of each stage
    python benchmarks/questions_speed.py --rows 2000000 --workers 2 --folder speed   # what a whole training set takes

Clips are made of random tracks, without images. Rows per clip is asked for; what was written is printed. Figures per
core are of processor time, so that other work on the machine changes them little.
"""

from __future__ import annotations

import argparse
import functools
import os
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mllm4d_verl.data_tools.questions import QuestionConfig, engine, facts, running, write_questions
from mllm4d_verl.data_tools.schema import VIDEO_ABSENT, VIDEO_KEY, Clip4D, ObjectTrack, write_clip, write_clip_index

COLOURS = ("red", "green", "blue", "black", "white")
#: Stage -> the functions whose time it is, where the engine looks them up.
STAGES: dict[str, tuple[tuple[ModuleType, str], ...]] = {
    "read clips": ((running, "read_clip"),),
    "geometry": ((running, "geometry_of"),),
    "candidates": ((running, "clip_candidates"), (running, "gather")),
    "facts for phrasing": ((facts, "sights_of"),),
    "choice": ((engine, "choose"),),
    "phrasing": ((running, "phrase"),),
    "parquet": ((running, "_assemble"),),
    "index, fingerprint": ((engine, "data_root"), (engine, "fingerprint")),
}


def random_clip(number: int, num_frames: int, num_objects: int, num_points: int) -> Clip4D:
    """A camera on a curve, objects that stand or drive."""
    rng = np.random.default_rng(number)
    share = np.linspace(0, 1, num_frames)[:, None]
    poses = np.tile(np.eye(4), (num_frames, 1, 1))
    turn = rng.uniform(-0.6, 0.6) * share[:, 0]
    poses[:, 0, 0] = poses[:, 2, 2] = np.cos(turn)
    poses[:, 0, 2], poses[:, 2, 0] = np.sin(turn), -np.sin(turn)
    poses[:, :3, 3] = share * rng.normal(size=3) * rng.choice([0.3, 2.0], 3) + share**2 * rng.normal(size=3)
    objects = []
    for m in range(num_objects):
        start = np.array([rng.uniform(-3, 3), rng.uniform(-0.5, 0.5), rng.uniform(3, 12)])
        moves = bool(rng.integers(2))
        path = start + share * rng.normal(size=3) * [2, 0.1, 2] * moves
        shape = rng.uniform(-0.3, 0.3, (num_points, 3))
        points = list((path[:, None] + shape).astype(np.float32))
        objects.append(ObjectTrack(m + 1, "ball", f"the {COLOURS[m]} ball", moves, points))
    return Clip4D(
        f"clip_{number:07d}", "random", "CC0-1.0", f"clip_{number:07d}/left.mp4", 8.0, num_frames, 512, 512,
        np.array([[443.0, 0, 256], [0, 443, 256], [0, 0, 1]]), 0.06, poses, objects, {VIDEO_KEY: VIDEO_ABSENT},
    )  # fmt: skip


def write_random_clips(folder: Path, numbers: range, num_frames: int, num_objects: int, num_points: int) -> None:
    for number in numbers:
        write_clip(folder, random_clip(number, num_frames, num_objects, num_points))


def random_clip_config(num_frames: int, per_clip: int, cold_start: int = 0) -> QuestionConfig:
    each = -(-per_clip // 7)
    return QuestionConfig(
        num_frames=num_frames, max_per_clip=per_clip, max_per_clip_task=2 * each, inner_pairs=max(4, 2 * each),
        cold_start=cold_start,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=500)
    parser.add_argument("--rows", type=int, help="instead of --clips: so many rows in all")
    parser.add_argument("--per-clip", type=int, default=100, help="rows asked for per clip")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--objects", type=int, default=3)
    parser.add_argument("--points", type=int, default=64, help="per object and frame")
    parser.add_argument("--cold-start", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep clips and rows here, and find the clips of an earlier run")
    arguments = parser.parse_args()
    count = arguments.clips if arguments.rows is None else -(-arguments.rows // (arguments.per_clip - 1))
    shape = arguments.frames, arguments.objects, arguments.points
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        clips = folder / f"clips_{count}_{arguments.points}"
        if not (clips / "clips.parquet").is_file():
            cores = os.cpu_count() or 1
            with ProcessPoolExecutor(cores) as pool:
                numbers = (range(core, count, cores) for core in range(cores))
                list(pool.map(write_random_clips, *zip(*((clips, own, *shape) for own in numbers), strict=True)))
                pool.submit(write_clip_index, clips).result()  # not here: what it imports counts where it is used
        config = random_clip_config(arguments.frames, arguments.per_clip, arguments.cold_start)
        spent = time_stages() if arguments.workers == 1 else {}
        began, began_cpu = time.perf_counter(), cpu_seconds()
        report = write_questions(clips, folder / "qa", config, workers=arguments.workers)
        seconds, cpu = time.perf_counter() - began, cpu_seconds() - began_cpu
    rows = sum(report.rows.values())
    print(f"{rows} rows of {count} clips, {rows / count:.1f} a clip, {arguments.workers} workers")
    print(f"{seconds:.1f} s, {rows / seconds:.0f} rows/s; load of the machine {os.getloadavg()[0]:.1f}")
    print(f"processor {cpu:.1f} s, {rows / cpu:.0f} rows/s per core")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"peak memory {own:.0f} MiB, of the largest other process {child:.0f} MiB")
    for stage, stage_cpu in spent.items():
        print(f"{stage:24} {stage_cpu:7.2f} s {100 * stage_cpu / cpu:5.1f}%")
    if spent:
        rest = cpu - sum(spent.values())
        print(f"{'imports, files, the rest':24} {rest:7.2f} s {100 * rest / cpu:5.1f}%")


def cpu_seconds() -> float:
    """Processor time of this process and those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def time_stages() -> dict[str, float]:
    """Stage -> processor seconds, added to as the engine runs in this process. A profiler would slow Python alone."""
    spent = dict.fromkeys(STAGES, 0.0)

    def timed(function: Any, stage: str) -> Any:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent[stage] += time.process_time() - began

        return run

    for stage, functions in STAGES.items():
        for module, name in functions:
            setattr(module, name, timed(getattr(module, name), stage))
    return spent


if __name__ == "__main__":
    main()

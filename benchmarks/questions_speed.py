"""How fast `mllm4d data questions` goes from Clip4D files to parquet, and where its time goes.

    python benchmarks/questions_speed.py --clips 500 --per-clip 100          # one core, with the share of each stage
    python benchmarks/questions_speed.py --clips 20000 --per-clip 100 --workers 2 --no-stages   # 2M rows

Clips are made of random tracks, without images. Rows per clip is asked for; what was written is printed.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mllm4d_verl.data_tools.questions import QuestionConfig, write_questions
from mllm4d_verl.data_tools.schema import VIDEO_ABSENT, VIDEO_KEY, Clip4D, ObjectTrack, write_clip, write_clip_index

COLOURS = ("red", "green", "blue", "black", "white")
#: Stage -> functions (file, name) whose cumulative time it is.
STAGES = {
    "read clips": [("schema.py", "read_clip")],
    "geometry": [("geometry.py", "__init__")],
    "candidates": [("candidates.py", "clip_candidates")],
    "choice": [("engine.py", "choose")],
    "phrasing with cues": [("phrasing.py", "_phrase_clip")],
    "of it cues": [("cues.py", "pair"), ("cues.py", "__init__")],
    "columns and responses": [("phrasing.py", "_table")],
    "parquet": [("running.py", "_assemble")],
    "fingerprint": [("engine.py", "fingerprint")],
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=500)
    parser.add_argument("--per-clip", type=int, default=100, help="rows asked for per clip")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--objects", type=int, default=3)
    parser.add_argument("--points", type=int, default=64, help="per object and frame")
    parser.add_argument("--cold-start", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--no-stages", action="store_true", help="without the profiler, which costs time")
    parser.add_argument("--folder", type=Path, help="keep clips and rows here, and find the clips of an earlier run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        clips = folder / f"clips_{arguments.clips}_{arguments.points}"
        if not (clips / "clips.parquet").is_file():
            for number in range(arguments.clips):
                write_clip(clips, random_clip(number, arguments.frames, arguments.objects, arguments.points))
            write_clip_index(clips)
        each = -(-arguments.per_clip // 7)
        config = QuestionConfig(
            num_frames=arguments.frames, max_per_clip=arguments.per_clip, max_per_clip_task=2 * each,
            inner_pairs=max(4, 2 * each), cold_start=arguments.cold_start,
        )  # fmt: skip
        profile = cProfile.Profile()
        # Wall and processor time: other work on the machine lengthens the first, not the second.
        began, began_cpu = time.perf_counter(), _cpu_seconds()
        if not arguments.no_stages:
            profile.enable()
        report = write_questions(clips, folder / "qa", config, workers=arguments.workers)
        profile.disable()
        seconds, cpu = time.perf_counter() - began, _cpu_seconds() - began_cpu
        rows = sum(report.rows.values())
        print(
            f"{rows} rows of {arguments.clips} clips, {rows / arguments.clips:.1f} a clip, {arguments.workers} workers"
        )
        print(f"{seconds:.1f} s, {rows / seconds:.0f} rows/s; processor {cpu:.1f} s, {rows / cpu:.0f} rows/s per core")
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"peak memory {own:.0f} MiB, of the largest worker {child:.0f} MiB")
        if not arguments.no_stages:
            _print_stages(pstats.Stats(profile), seconds)


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _print_stages(stats: pstats.Stats, seconds: float) -> None:
    for stage, functions in STAGES.items():
        spent = sum(
            entry[3]
            for (file, _, name), entry in stats.stats.items()  # type: ignore[attr-defined]
            if (Path(file).name, name) in functions
        )
        print(f"{stage:24} {spent:7.2f} s {100 * spent / seconds:5.1f}%", file=sys.stdout)


if __name__ == "__main__":
    main()

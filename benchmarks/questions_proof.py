"""Proves the solvers: every question about random clips against slow, readable references (tests/data_tools).

    python benchmarks/questions_proof.py                    # 10,000 clips
    python benchmarks/questions_proof.py --clips 200 --workers 1

Thresholds are so low that nearly everything is asked. The exit code is 1 where a measure differs by more than the
tolerance, an answer is another word, or a task was hardly asked.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "data_tools"))

from clip_samples import make_clip, make_wild_clip
from solver_references import ALL_TASKS, Tally, compare

from mllm4d_verl.data_tools.questions import Thresholds
from mllm4d_verl.data_tools.questions.tasks import task_of

LIMITS = Thresholds(
    min_points=1, min_motion_m=0.01, axis_margin=1.001, tau_m=0.02, tau_relative=0.01, dead_zone=0.001,
    min_distance_m=0.01,
)  # fmt: skip
_FRAMES = 8
_PAIRS = 2  # of frames, per clip
_LEAST_ASKED = 0.05  # questions per clip of a task, or its agreement says little


def check_clips(numbers: range) -> dict[str, Tally]:
    """Task -> Tally over clips by their numbers; every other one is mild, with straight motion."""
    total: dict[str, Tally] = defaultdict(Tally)
    every_pair = np.array(list(itertools.combinations(range(_FRAMES), 2)))
    for number in numbers:
        clip = make_wild_clip(number, _FRAMES) if number % 2 else make_clip(number, _FRAMES)
        pairs = np.random.default_rng(number).choice(every_pair, _PAIRS, replace=False).tolist()
        for task, tally in compare(clip, range(_FRAMES), pairs, LIMITS).items():
            total[task].add(tally)
    return total


def _unit(task: str) -> str:
    return task_of(task).unit or ("objects" if task == "moving_object_count" else "meters")


def _batches(clips: int, size: int = 100) -> Iterator[range]:
    return (range(first, min(clips, first + size)) for first in range(0, clips, size))


def failures(total: dict[str, Tally], clips: int, tolerance: float) -> list[str]:
    """What is wrong, one sentence each."""
    problems = []
    for task in ALL_TASKS:
        tally = total.get(task, Tally())
        if tally.worst > tolerance:
            problems.append(f"{task}: differs by {tally.worst:.2e} {_unit(task)}")
        if tally.wrong_words:
            problems.append(f"{task}: {tally.wrong_words} answers are other words")
        if tally.asked < _LEAST_ASKED * clips:
            problems.append(f"{task}: only {tally.asked} questions")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--tolerance", type=float, default=1e-6, help="in the unit of each task")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    began = time.perf_counter()
    total: dict[str, Tally] = defaultdict(Tally)
    with ProcessPoolExecutor(arguments.workers) as pool:
        for found in pool.map(check_clips, _batches(arguments.clips)):
            for task, tally in found.items():
                total[task].add(tally)
    print(f"{'task':46} {'asked':>8} {'refused':>8} {'worst':>9}  unit               wrong words")
    for task in ALL_TASKS:
        tally: Any = total.get(task, Tally())
        words = str(tally.wrong_words) if task_of(task).labels else "-"
        print(f"{task:46} {tally.asked:8} {tally.refused:8} {tally.worst:9.1e}  {_unit(task):18} {words}")
    asked = sum(tally.asked for tally in total.values())
    problems = failures(total, arguments.clips, arguments.tolerance)
    print(f"{asked} questions about {arguments.clips} clips in {time.perf_counter() - began:.0f} s")
    print("\n".join(problems) or f"all agree within {arguments.tolerance:g}")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())

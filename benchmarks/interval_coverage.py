"""How often the intervals of `mllm4d_verl.evaluation.statistics` hold the truth, in simulated benchmarks.

A benchmark of G clips is drawn many times: clips differ in difficulty (a beta distribution with the given intra-clip
correlation), questions about a clip depend on it. For each figure that the tables print, the share of draws whose
interval holds the true value is counted, and the share of intervals that the code itself marks as unreliable.

    python benchmarks/interval_coverage.py                    # the table of docs/evaluation.md, a minute
    python benchmarks/interval_coverage.py --draws 5000 --all # every case
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from mllm4d_verl.evaluation.statistics import (
    Interval,
    group_share_interval,
    paired_difference,
    pass_at_k,
    proportion_interval,
)

CLIPS = (5, 20, 100)
#: Questions about a clip, repeated over the clips.
QUESTIONS = {
    "1": (1,),
    "6": (6,),
    "20": (20,),
    "1 to 14": (1, 4, 14, 2, 6, 1, 9, 3),
}
SAMPLES, K = 8, 4  # responses to a question, and the k of pass@k
TASKS = np.array([0.3, 0.5, 0.6, 0.8])  # true accuracy of each task of the macro average
TASK_SPREAD = 0.4  # how far a clip moves its accuracy in all tasks, from the least to the most


@dataclass(frozen=True)
class Case:
    """A benchmark that is drawn, and the figure whose interval is checked.

    Attributes:
        figure: "accuracy", "macro", "pass@4" or "difference".
        clips: how many.
        questions: key of QUESTIONS.
        truth: true accuracy; for a difference the true gain.
        correlation: how much two answers about one clip agree beyond chance, from 0 to 1.
    """

    figure: str
    clips: int
    questions: str
    truth: float
    correlation: float

    @property
    def clip_of(self) -> np.ndarray:
        """(N,) clip of each question."""
        return np.repeat(np.arange(self.clips), np.resize(QUESTIONS[self.questions], self.clips))


@dataclass(frozen=True)
class Coverage:
    """Shares of the draws: intervals that hold the truth among all intervals, intervals marked, draws without any."""

    held: float
    marked: float
    none: float


def cases(everything: bool) -> Iterator[Case]:
    """Cases of the documented table, or all of them."""
    kinds = QUESTIONS if everything else ("6", "1 to 14")
    shares = (0.25, 0.5, 0.8, 0.95) if everything else (0.5, 0.8, 0.95)
    correlations = (0.0, 0.3, 0.7) if everything else (0.3,)
    for clips in CLIPS:
        for kind in kinds:
            for share in shares:
                yield from (Case("accuracy", clips, kind, share, c) for c in correlations)
            yield from (Case("difference", clips, kind, gain, 0.3) for gain in (0.0, 0.1))
            if kind != "1":  # a clip has questions of several tasks
                yield Case("macro", clips, kind, float(TASKS.mean()), 0.3)
            yield Case("pass@4", clips, kind, _true_pass(0.3), 0.3)


def coverage(case: Case, draws: int) -> Coverage:
    """Coverage over so many draws; the seed is fixed by the case."""
    rng = np.random.default_rng(zlib.crc32(repr(case).encode()))
    draw = _FIGURES[case.figure]
    intervals = [draw(case, rng) for _ in range(draws)]
    given = [interval for interval in intervals if interval.low is not None]
    held = sum(interval.low - 1e-12 <= case.truth <= interval.high + 1e-12 for interval in given)
    marked = sum(interval.unreliable is not None for interval in intervals)
    return Coverage(held / max(1, len(given)), marked / draws, 1 - len(given) / draws)


def _difficulty(rng: np.random.Generator, mean: np.ndarray | float, correlation: float, size: int) -> np.ndarray:
    """(size,) chances of a right answer with that mean, as different as the correlation says."""
    mean = np.broadcast_to(mean, size)
    if correlation == 0:
        return mean
    strength = 1 / correlation - 1
    return rng.beta(mean * strength, (1 - mean) * strength)


def _accuracy(case: Case, rng: np.random.Generator) -> Interval:
    clips = case.clip_of
    chance = _difficulty(rng, case.truth, case.correlation, case.clips)[clips]
    return proportion_interval(rng.random(len(clips)) < chance, clips)


def _macro(case: Case, rng: np.random.Generator) -> Interval:
    clips = case.clip_of
    tasks = np.arange(len(clips)) % len(TASKS)
    moved = TASK_SPREAD * (_difficulty(rng, 0.5, case.correlation, case.clips) - 0.5)
    return group_share_interval(rng.random(len(clips)) < TASKS[tasks] + moved[clips], clips, tasks)


def _pass_chances(rng: np.random.Generator, clips: np.ndarray, correlation: float) -> np.ndarray:
    """(N,) chance of each question that one response is right: around 0.4, by clip and by question."""
    of_clip = _difficulty(rng, 0.4, correlation, int(clips[-1]) + 1).clip(0.01, 0.99)
    return _difficulty(rng, of_clip[clips], 0.3, len(clips))


def _pass_at(case: Case, rng: np.random.Generator) -> Interval:
    clips = case.clip_of
    right = rng.binomial(SAMPLES, _pass_chances(rng, clips, case.correlation))
    return proportion_interval([pass_at_k(SAMPLES, int(count), K) for count in right], clips)


@cache
def _true_pass(correlation: float) -> float:
    """Mean chance that one of K responses is right, to three digits."""
    chances = _pass_chances(np.random.default_rng(0), np.arange(1_000_000), correlation)
    return float(np.mean(1 - (1 - chances) ** K))


def _difference(case: Case, rng: np.random.Generator) -> Interval:
    """Two runs that find the same clips difficult; the second one is right `truth` more often."""
    clips = case.clip_of
    chance = _difficulty(rng, 0.5, case.correlation, case.clips)[clips] * (1 - case.truth)
    before = rng.random(len(clips)) < chance
    return paired_difference(before, rng.random(len(clips)) < chance + case.truth, clips)


_FIGURES: dict[str, Callable[[Case, np.random.Generator], Interval]] = {
    "accuracy": _accuracy,
    "macro": _macro,
    "pass@4": _pass_at,
    "difference": _difference,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=2000, help="simulated benchmarks of each case")
    parser.add_argument("--all", action="store_true", help="every case, not those of the documented table alone")
    arguments = parser.parse_args()
    print("| figure | clips | questions a clip | truth | correlation | interval holds it, % | marked, % | none, % |")
    print("|---|---:|---|---:|---:|---:|---:|---:|")
    for case in cases(arguments.all):
        found = coverage(case, arguments.draws)
        print(
            f"| {case.figure} | {case.clips} | {case.questions} | {case.truth:.2f} | {case.correlation} "
            f"| {100 * found.held:.1f} | {100 * found.marked:.0f} | {100 * found.none:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

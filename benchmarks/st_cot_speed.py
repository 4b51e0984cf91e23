"""ST-CoT by rule: cues, texts, scores and the whole command, in rows per second of one core.

python benchmarks/st_cot_speed.py [--clips 200] [--runs 5]

Processor time of the best of the runs counts, since other work may share the machine. Every text is checked: it
parses, and the default reward gives it full marks.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np

from mllm4d_verl.cold_start import CotConfig, SelectionConfig, make_cold_start, score_paths
from mllm4d_verl.data_tools.questions import QuestionConfig, build_questions
from mllm4d_verl.data_tools.schema import Clip4D, ObjectTrack, QARow, write_qa
from mllm4d_verl.data_tools.st_cot import ClipCues, write_paths, write_st_cot
from mllm4d_verl.reward import STReward

NUM_FRAMES, NUM_OBJECTS, NUM_POINTS = 32, 3, 256


def random_clip(seed: int) -> Clip4D:
    """A camera on a straight line that turns, and three objects of 256 points, some of them moving."""
    rng = np.random.default_rng(seed)
    share = np.linspace(0, 1, NUM_FRAMES)
    poses = np.tile(np.eye(4), (NUM_FRAMES, 1, 1))
    poses[:, 0, 0] = poses[:, 2, 2] = np.cos(0.4 * share)
    poses[:, 0, 2] = np.sin(0.4 * share)
    poses[:, 2, 0] = -poses[:, 0, 2]
    velocity = rng.normal(size=3)
    velocity[rng.permutation(3)[:2]] *= 0.2
    poses[:, :3, 3] = 1.5 * share[:, None] * velocity
    objects = []
    for number in range(NUM_OBJECTS):
        start = rng.uniform((-1.5, -0.5, 3), (1.5, 0.5, 6))
        is_moving = bool(rng.integers(2))
        step = rng.normal(size=3) * (1.5, 0.1, 1.5) if is_moving else np.zeros(3)
        cloud = rng.uniform(-0.2, 0.2, (NUM_POINTS, 3))
        points = [(cloud + start + step * at).astype(np.float32) for at in share]
        objects.append(
            ObjectTrack(number + 1, "ball", f"the {('red', 'blue', 'green')[number]} ball", is_moving, points)
        )
    return Clip4D(
        f"clip_{seed:05d}", "benchmark", "CC0-1.0", f"videos/clip_{seed:05d}.mp4", 8.0, NUM_FRAMES, 512, 512,
        np.array([[443.4, 0, 256], [0, 443.4, 256], [0, 0, 1]]), 0.063, poses, objects,
    )  # fmt: skip


def best_s(work: Callable[[], object], runs: int) -> float:
    """Processor seconds of the quickest run: they do not count the time that others have the core."""
    times = []
    for _ in range(runs):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def show(name: str, count: int, seconds: float, unit: str) -> None:
    print(f"{name:44}{1e6 * seconds / count:9.1f} us a {unit:7}{count / seconds:12,.0f} {unit}s/s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    clips = [random_clip(seed) for seed in range(options.clips)]
    config = QuestionConfig(max_per_clip=30, max_per_clip_task=5, val_fraction=0, test_fraction=0, balance_ratio=9)
    rows = build_questions(clips, config)
    print(
        f"{len(clips)} clips of {NUM_FRAMES} frames and {NUM_OBJECTS} objects of {NUM_POINTS} points, {len(rows)} rows"
    )

    centers = np.array([[cloud.mean(0) for cloud in track.points] for track in clips[0].objects], np.float64)
    nearest = np.linalg.norm(centers - clips[0].camera_centers, axis=2)
    pairs = list(combinations(range(NUM_FRAMES), 2))

    def all_objects(**known: np.ndarray) -> None:
        for _ in range(20):
            cues = ClipCues(clips[0], **known)
            for number in range(NUM_OBJECTS):
                cues.pair(0, NUM_FRAMES - 1, number)

    show("cues: projections of a clip", 20, best_s(all_objects, options.runs), "clip")
    known = {"nearest_m": nearest, "centers_m": centers}
    show("cues: the same, distances known", 20, best_s(lambda: all_objects(**known), options.runs), "clip")
    cues = ClipCues(clips[0])
    show(
        "cues: a pair of frames, one object of three",
        3 * len(pairs),
        best_s(lambda: [cues.pair(i, j, number) for i, j in pairs for number in range(3)], options.runs),
        "pair",
    )
    for style in ("full", "compact"):
        seconds = best_s(lambda style=style: [write_st_cot(row, style=style) for row in rows], options.runs)
        show(f"writer, {style}", len(rows), seconds, "row")
    seconds = best_s(lambda: [write_paths(row, 3) for row in rows], options.runs)
    show("writer, full, three paths", len(rows), seconds, "row")
    _score(rows, options.runs)
    _command(rows, options.runs)


def _score(rows: list[QARow], runs: int) -> None:
    reward = STReward()
    paths = [list(enumerate(write_paths(row, 3))) for row in rows]
    seconds = best_s(lambda: [score_paths(row, texts, reward) for row, texts in zip(rows, paths, strict=True)], runs)
    show("reward of three paths", len(rows), seconds, "row")
    worst = min(
        path.score for row, texts in zip(rows, paths, strict=True) for path in score_paths(row, texts, reward).paths
    )
    texts = [text for found in paths for _, text in found]
    print(f"{len(texts)} texts, {len(set(texts))} of them distinct, lowest score {worst:.5f}")
    assert worst > 0.999


def _command(rows: list[QARow], runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        qa = write_qa(Path(folder) / "train.parquet", rows)
        config = CotConfig(selection=SelectionConfig(max_per_sample=0))
        seconds = best_s(lambda: make_cold_start(qa, Path(folder) / "out", config), max(1, runs // 2))
        show("data cot: read, 3 paths, score, write 3 rows", len(rows), seconds, "row")


if __name__ == "__main__":
    main()

"""Builds an MLLM4D-style bench: held-out clips only, the six published tasks at equal shares, spread over clips.

MLLM4D-Bench holds 6000 questions, six tasks at 16.7 % each (arXiv 2603.00515); the relative direction of object and
camera is one of them, of which we ask two kinds. Its questions are not published; this makes one of the same make-up.
"""

from __future__ import annotations

import heapq
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mllm4d_verl.data_tools.atomic import atomic_path
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.questions import QuestionConfig, build_questions
from mllm4d_verl.data_tools.questions.engine import data_root
from mllm4d_verl.data_tools.released import rebase_video
from mllm4d_verl.data_tools.schema import QARow, iter_clips, read_qa, write_qa

from .mllm4d import GROUPS
from .records import PathLike, file_sha256

PUBLISHED_ITEMS = 6000
VERSION = "1"
_TEST_FILE, _TRAINING_FILES = "test.parquet", ("train.parquet", "val.parquet", "cold_start.parquet")


@dataclass(frozen=True)
class BuiltBench:
    """What was built.

    Attributes:
        file: the question rows.
        items, clips: counts.
        tasks: task -> questions.
        letters: right letter -> questions.
        left_out: clips that training files use too, left out.
        sha256: of the file.
    """

    file: Path
    items: int
    clips: int
    tasks: dict[str, int]
    letters: dict[str, int]
    left_out: int
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**self.__dict__, "file": str(self.file)}


def build_bench(
    source: PathLike,
    out: PathLike,
    items: int = PUBLISHED_ITEMS,
    *,
    training: Sequence[PathLike] = (),
    seed: int = 0,
    num_frames: int = 32,
) -> BuiltBench:
    """Write a bench of `items` questions, and a card beside it (`<out>.json`).

    Args:
        source: a question file, of which the rows of split "test" are taken; a folder of `mllm4d data questions`, of
            which test.parquet is, and whose other files count as training files; or a data root of clips, about which
            questions are made.
        out: parquet file of question rows.
        training: question files that are trained on: their clips and videos are left out. A data root of clips needs
            them, since clips do not say whether they are held out.
        seed: decides which questions, and for clips the questions themselves. Same input and seed, same bytes.
        num_frames: frames sampled, for questions made here.

    Raises:
        InputError: not enough questions for the shares, a held-out clip that is trained on in the same file, or input
            that is none of the three.
    """
    out, source = Path(out), Path(source)
    if items < len(set(GROUPS.values())):
        raise InputError(f"must be at least {len(set(GROUPS.values()))}, one a task, got {items}", field="--items")
    candidates, trained = _held_out(source, out, [Path(file) for file in training], seed, num_frames)
    kept = [
        row
        for row in candidates
        if row.task in GROUPS
        and not (row.clip_id in trained[0] or os.path.realpath(out.parent / row.video) in trained[1])
    ]
    left_out = len({row.clip_id for row in candidates} - {row.clip_id for row in kept})
    chosen = _choose(kept, items, seed, source, left_out)
    mark = {"benchmark": "mllm4d", "benchmark_version": VERSION}
    write_qa(out, [replace(row, split="test", response=None, meta={**row.meta, **mark}) for row in chosen])
    built = BuiltBench(
        file=out,
        items=len(chosen),
        clips=len({row.clip_id for row in chosen}),
        tasks=dict(sorted(Counter(row.task for row in chosen).items())),
        letters=dict(sorted(Counter(row.answer for row in chosen).items())),
        left_out=left_out,
        sha256=file_sha256(out),
    )
    card = {key: value for key, value in built.to_dict().items() if key != "file"}
    card |= {"name": "mllm4d", "version": VERSION, "seed": seed, "source": source.name}
    with atomic_path(out.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return built


Trained = tuple[frozenset[str], frozenset[str]]  # clip ids and real paths of videos


def _held_out(source: Path, out: Path, training: list[Path], seed: int, num_frames: int) -> tuple[list[QARow], Trained]:
    """Rows to choose from, with videos relative to `out`, and what is trained on."""
    if source.is_file() or (source / _TEST_FILE).is_file():
        file = source if source.is_file() else source / _TEST_FILE
        if source.is_dir():
            training = [*training, *(source / name for name in _TRAINING_FILES if (source / name).is_file())]
        rows = read_qa(file)
        test = [row for row in rows if row.split == "test"]
        if not test:
            raise InputError("no row has the split test", file=file, field="split", remedy="Give held-out questions")
        both = {row.clip_id for row in test} & {row.clip_id for row in rows if row.split != "test"}
        if both:
            raise InputError(
                f"{len(both)} clips are both held out and trained on, such as {min(both)!r}", file=file, field="split"
            )
        return [replace(row, video=rebase_video(row.video, file.parent, out.parent)) for row in test], _trained(
            training
        )
    if not training:
        raise InputError(
            "clips do not say whether they are held out",
            file=source,
            field="--training",
            remedy="Name the question files that are trained on, or give the folder of `mllm4d data questions`",
        )
    root, trained = data_root(source), _trained(training)
    clips = (
        clip
        for clip in iter_clips(source)
        if clip.clip_id not in trained[0] and os.path.realpath(root / clip.video) not in trained[1]
    )
    config = QuestionConfig(seed=seed, num_frames=num_frames, val_fraction=0.0, test_fraction=0.0)
    rows = build_questions(clips, config)
    return [replace(row, video=Path(os.path.relpath(root / row.video, out.parent)).as_posix()) for row in rows], trained


def _trained(files: Iterable[Path]) -> Trained:
    clips: set[str] = set()
    videos: set[str] = set()
    for file in files:
        for row in read_qa(file):
            clips.add(row.clip_id)
            videos.add(os.path.realpath(file.parent / row.video))
    return frozenset(clips), frozenset(videos)


def _choose(rows: Sequence[QARow], items: int, seed: int, source: Path, left_out: int) -> list[QARow]:
    """Equal numbers of each published task, clips in turn, so that few questions share a video."""
    by_group: dict[str, list[QARow]] = {group: [] for group in dict.fromkeys(GROUPS.values())}
    for row in rows:
        by_group[GROUPS[row.task]].append(row)
    least = min(len(group) for group in by_group.values())
    quotas = [items // len(by_group) + (number < items % len(by_group)) for number in range(len(by_group))]
    if max(quotas) > least:
        scarce = min(by_group, key=lambda name: len(by_group[name]))
        remedy = f"At most --items {least * len(by_group)} keeps the shares" if least else "Hold out more clips"
        raise InputError(
            f"{items} questions at equal shares need {max(quotas)} of each task, and there are {least} of {scarce}"
            + (f" ({left_out} clips are trained on)" if left_out else ""),
            file=source,
            field="--items",
            remedy=remedy,
        )
    rng = np.random.default_rng([seed, 3])
    used: Counter[str] = Counter()
    chosen: list[QARow] = []
    for quota, (_, group) in zip(quotas, sorted(by_group.items(), key=lambda pair: len(pair[1])), strict=True):
        chosen += _spread(group, quota, used, rng)
    return [chosen[index] for index in rng.permutation(len(chosen))]


def _spread(rows: Sequence[QARow], quota: int, used: Counter[str], rng: np.random.Generator) -> list[QARow]:
    """`quota` rows, kinds of a task in turn, from the clips that were asked about least so far."""
    kinds: dict[str, list[tuple[int, int]]] = defaultdict(list)  # heaps of (questions about the clip, row)
    for index in rng.permutation(len(rows)):
        kinds[rows[index].task].append(
            (used[rows[index].clip_id], len(kinds[rows[index].task]) * len(rows) + int(index))
        )
    for heap in kinds.values():
        heapq.heapify(heap)
    chosen: list[QARow] = []
    while len(chosen) < quota:
        for kind in sorted(kinds):
            if len(chosen) == quota or not kinds[kind]:
                continue
            chosen.append(_least_asked(kinds[kind], rows, used))
            used[chosen[-1].clip_id] += 1
    return chosen


def _least_asked(heap: list[tuple[int, int]], rows: Sequence[QARow], used: Counter[str]) -> QARow:
    """Take the row whose clip was asked about least; counts in the heap may be out of date, never too high."""
    while True:
        count, place = heapq.heappop(heap)
        row = rows[place % len(rows)]
        if count == used[row.clip_id]:
            return row
        heapq.heappush(heap, (used[row.clip_id], place))

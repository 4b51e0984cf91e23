"""Questions as a TSV of VLMEvalKit's video multiple-choice sets.

VLMEvalKit (github.com/open-compass/VLMEvalKit) keeps a set in one TSV that `vlmeval/smp/file.py` reads by
`pandas.read_csv(sep="\\t")`. Every video set needs `question` and `video` (`vlmeval/dataset/video_base.py`: frames are
cached in a folder of that name); sets whose videos lie in folders have `video_path` beside it. Options stand in the
columns A, B, ... (`utils/multiple_choice.py`) or in `candidates`, a Python list of "A. text" (`videomme.py`,
`vsibench.py`); both are written. `answer` is the letter, `category` and `split` are what `report_acc` groups by.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from mllm4d_verl.data_tools.atomic import atomic_path
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import LETTERS

from ..benchmark_questions import find_videos
from ..benchmarks.base import CHOICE, Benchmark, Item


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        file: the TSV.
        questions: rows.
        reworded: option cells that pandas gives back as an equal number of other digits, "0.50" as 0.5; `candidates`
            keeps the text.
    """

    file: Path
    questions: int
    reworded: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"file": str(self.file), "questions": self.questions, "reworded": self.reworded}


def export_tsv(benchmark: Benchmark, out: str | Path, media_root: str | Path | None = None) -> Exported:
    """Write the questions of `benchmark` to the TSV `out`.

    With `media_root`, the folder of the videos, `video_path` is relative to it; else it is as the questions have it.

    Columns: index (0-based), video, video_path, question, A and so on, candidates, answer, category, split, id.

    Raises:
        InputError: a question without options, one that asks for a number, or an option that pandas would read as a
            missing cell ("None", "NA"), so that VLMEvalKit would drop it; videos that are not in `media_root`.
    """
    import pandas as pd

    width = max((len(item.options) for item in benchmark.items), default=0)
    if media_root is not None:
        found = find_videos(benchmark, Path(media_root).expanduser())
        items = tuple(replace(item, video=os.path.relpath(path, Path(media_root).expanduser())) for item, path in found)
        benchmark = replace(benchmark, items=items)
    rows = [_row(index, item, width, benchmark.name) for index, item in enumerate(benchmark.items)]
    with atomic_path(out) as temporary:
        frame = pd.DataFrame(rows)
        frame.to_csv(temporary, sep="\t", index=False, encoding="utf-8", quoting=csv.QUOTE_ALL)
        read = pd.read_csv(temporary, sep="\t")  # as VLMEvalKit does
        reworded = 0
        for index, item in enumerate(benchmark.items):
            for letter, text in zip(LETTERS, item.options, strict=False):
                if pd.isna(read.at[index, letter]):
                    raise InputError(
                        f"the option {text!r} would be read as a missing cell",
                        file=benchmark.name,
                        row=item.id,
                        field="options",
                        remedy="Word it otherwise, 'none of them' say",
                    )
                reworded += str(read.at[index, letter]) != text
    return Exported(Path(out), len(rows), reworded)


def _row(index: int, item: Item, width: int, name: str) -> dict[str, Any]:
    if item.kind != CHOICE or not item.options or item.answer not in LETTERS[: len(item.options)]:
        raise InputError(
            "not a multiple-choice question that lists its options and answer",
            file=name,
            row=item.id,
            field="options",
            remedy="VLMEvalKit's video MCQ layout holds no other",
        )
    path = PurePosixPath(urlsplit(item.video).path if "://" in item.video else item.video)
    options = [*item.options, *[""] * (width - len(item.options))]
    return {
        "index": index,
        # names the folder of cached frames, so it holds no slash
        "video": "__".join(part for part in path.with_suffix("").parts if part not in ("/", "..")),
        "video_path": item.video,
        "question": item.question,
        **dict(zip(LETTERS, options, strict=False)),
        "candidates": repr([f"{letter}. {text}" for letter, text in zip(LETTERS, item.options, strict=False)]),
        "answer": item.answer,
        "category": item.task,
        "split": "test",
        "id": item.id,
    }

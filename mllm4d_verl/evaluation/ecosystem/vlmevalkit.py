"""Questions as a TSV of VLMEvalKit's video multiple-choice sets.

VLMEvalKit (github.com/open-compass/VLMEvalKit) keeps a set in one TSV that `vlmeval/smp/file.py` reads by
`pandas.read_csv(sep="\\t")`. Every video set needs `question` and `video`. To sample frames the base class opens
`root/<video>.mp4` and caches them in a folder of that name (`vlmeval/dataset/video_base.py`, save_video_frames), so
`video` is the path below the folder of the videos without `.mp4`; `video_path` beside it has the whole name. Options
stand in the columns A, B, ... (`utils/multiple_choice.py`) or in `candidates`, a Python list of "A. text"
(`videomme.py`, `vsibench.py`); both are written. `answer` is the letter, or the number of a question without options,
whose `candidates` are empty; `category` and `split` are what `report_acc` groups by. `vlmevalkit_set` holds a set that
reads all of it.
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
from ..benchmarks.base import CHOICE, NUMBER, UNREADABLE, Benchmark, Item

_SUFFIX = ".mp4"  # the only one that VLMEvalKit's base class opens


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        file: the TSV.
        questions: rows.
        numbers: rows that ask for a number, which sets of multiple choice cannot score; `ExportedVideoSet` can.
        left_out: records of the benchmark that hold no question.
        other_suffix: rows whose video is no `.mp4`: the base class cannot sample its frames.
        reworded: option cells that pandas gives back as an equal number of other digits, "0.50" as 0.5; `candidates`
            keeps the text.
    """

    file: Path
    questions: int
    numbers: int
    left_out: int
    other_suffix: int
    reworded: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**self.__dict__, "file": str(self.file)}


def export_tsv(benchmark: Benchmark, out: str | Path, media_root: str | Path | None = None) -> Exported:
    """Write the questions of `benchmark` to the TSV `out`.

    With `media_root`, the folder of the videos, `video_path` is relative to it; else it is as the questions have it.

    Columns: index (0-based), video, video_path, question, A and so on, candidates, answer, unit (of a number),
    category, split, id.

    Raises:
        InputError: a question with neither options nor a number, or an option that pandas would read as a missing cell
            ("None", "NA"), so that VLMEvalKit would drop it; videos that are not in `media_root`; nothing to write.
    """
    import pandas as pd

    asked = tuple(item for item in benchmark.items if item.kind != UNREADABLE)
    left_out = len(benchmark.items) - len(asked)
    benchmark = replace(benchmark, items=asked)
    if not asked:
        raise InputError("no record holds a question", file=benchmark.name)
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
    return Exported(
        Path(out),
        len(rows),
        numbers=sum(item.kind == NUMBER for item in asked),
        left_out=left_out,
        other_suffix=sum(not row["video_path"].endswith(_SUFFIX) for row in rows),
        reworded=reworded,
    )


def _row(index: int, item: Item, width: int, name: str) -> dict[str, Any]:
    is_choice = item.kind == CHOICE and item.options and item.answer in LETTERS[: len(item.options)]
    if not is_choice and (item.kind != NUMBER or item.value is None):
        raise InputError(
            "neither a multiple-choice question that lists its options and answer nor one for a number",
            file=name,
            row=item.id,
            field="options",
            remedy="VLMEvalKit's layout for videos holds no other",
        )
    path = PurePosixPath(urlsplit(item.video).path if "://" in item.video else item.video)
    options = [*item.options, *[""] * (width - len(item.options))]
    return {
        "index": index,
        "video": _stem(path),
        "video_path": item.video,
        "question": item.question,
        **dict(zip(LETTERS, options, strict=False)),
        "candidates": repr([f"{letter}. {text}" for letter, text in zip(LETTERS, item.options, strict=False)]),
        "answer": item.answer if item.kind == CHOICE else repr(item.value),
        "unit": item.unit if item.kind == NUMBER else None,
        "category": item.task,
        "split": "test",
        "id": item.id,
    }


def _stem(path: PurePosixPath) -> str:
    """The path without `.mp4`, and in a form that pandas does not read as a number: "000123" would become 123."""
    stem = "/".join(part for part in path.parts if part not in ("/", "..")).removesuffix(_SUFFIX)
    try:
        float(stem)
    except ValueError:
        return stem
    return f"./{stem}"

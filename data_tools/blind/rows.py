"""The text of questions, without video, as columns that baselines read."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..errors import InputError
from ..formats.qa import iter_batches
from ..schema import LETTERS

_COLUMNS = ("id", "clip_id", "task", "question", "options", "answer", "object_description")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


@dataclass
class BlindRows:
    """Questions of one task or of several.

    Attributes:
        ids, clips, tasks, questions, descriptions: (N,) strings.
        options: N lists of texts.
        answers: (N,) place of the right option.
    """

    ids: np.ndarray
    clips: np.ndarray
    tasks: np.ndarray
    questions: np.ndarray
    descriptions: np.ndarray
    options: list[list[str]]
    answers: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: np.ndarray) -> BlindRows:
        """The rows at `places`."""
        return BlindRows(
            self.ids[places],
            self.clips[places],
            self.tasks[places],
            self.questions[places],
            self.descriptions[places],
            [self.options[place] for place in places],
            self.answers[places],
        )

    def templates(self) -> list[str]:
        """Questions without their numbers and objects: what is left is the phrasing."""
        pairs = zip(self.questions, self.descriptions, strict=True)
        return [_NUMBER.sub("#", q.replace(d, "OBJECT") if d else q) for q, d in pairs]


def chance_of(seed: int, texts: np.ndarray) -> np.ndarray:
    """(N,) numbers in 0..1 that depend on the seed and the text alone."""
    salt = str(seed).encode()
    return np.array([zlib.crc32(str(text).encode(), zlib.crc32(salt)) for text in texts]) / 2**32


def number_in(text: str) -> float:
    """The first number of an option, or NaN."""
    match = _NUMBER.search(text)
    return float(match.group()) if match else float("nan")


def of_table(table: pa.Table) -> BlindRows:
    """Rows with options and a lettered answer; others cannot be guessed among."""
    columns = {name: table.column(name).to_pylist() for name in _COLUMNS}
    keep = [
        n
        for n, (options, answer) in enumerate(zip(columns["options"], columns["answer"], strict=True))
        if options and answer and answer in LETTERS[: len(options)]
    ]

    def column(name: str) -> np.ndarray:
        return np.array([columns[name][n] or "" for n in keep], dtype=object)

    return BlindRows(
        column("id"),
        column("clip_id"),
        column("task"),
        column("question"),
        column("object_description"),
        [columns["options"][n] for n in keep],
        np.array([LETTERS.index(columns["answer"][n]) for n in keep], int),
    )


def read_blind_rows(*paths: Path) -> BlindRows:
    """Rows of QA files, or of train, val and test of a folder.

    Raises:
        InputError: missing, not QA parquet, or no row has lettered options.
    """
    files: list[Path] = []
    for path in paths:
        files += [path / f"{s}.parquet" for s in ("train", "val", "test") if (path / f"{s}.parquet").is_file()] or [
            path
        ]
    tables = [
        pa.Table.from_batches([batch]).select(list(_COLUMNS)) for file in files for batch in iter_batches(Path(file))
    ]
    rows = of_table(pa.concat_tables(tables)) if tables else None
    if rows is None or not len(rows):
        raise InputError("no row has options and a lettered answer", file=paths[0], field="options")
    return rows

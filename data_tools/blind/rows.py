"""The text of questions, without video, as columns that baselines read."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import InputError
from ..formats.qa import iter_batches
from ..mixes.copying import qa_files
from ..schema import LETTERS

_COLUMNS = ("id", "clip_id", "task", "question", "options", "answer", "object_description", "split")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


@dataclass
class BlindRows:
    """Questions of one task or of several.

    Attributes:
        ids, clips, tasks, questions, descriptions, splits: (N,) strings.
        options: N lists of texts.
        answers: (N,) place of the right option.
    """

    ids: np.ndarray
    clips: np.ndarray
    tasks: np.ndarray
    questions: np.ndarray
    descriptions: np.ndarray
    splits: np.ndarray
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
            self.splits[places],
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


def numbers_in(text: str) -> list[float]:
    """All numbers of a text."""
    return [float(number) for number in _NUMBER.findall(text)]


def read_blind_rows(*paths: str | Path, max_rows: int | None = None, seed: int = 0) -> BlindRows:
    """Rows of QA files, or of train, val and test of a folder, that have options and a lettered answer.

    Args:
        paths: files or folders.
        max_rows: about so many per task, drawn by id; all if None.
        seed: of the draw.

    Raises:
        InputError: missing, not QA parquet, an answer that is not the letter of an option, an id that repeats, or no
            row has options.
    """
    files = [file for path in paths for file in qa_files(Path(path))]
    share = _shares(files, max_rows) if max_rows is not None else {}
    columns: dict[str, list[object]] = {name: [] for name in (*_COLUMNS, "place")}
    seen: set[str] = set()
    for file in files:
        for first, batch in _numbered(file):
            table = {name: batch.column(name).to_pylist() for name in _COLUMNS}
            chance = chance_of(seed, np.array(table["id"], object)) if share else np.zeros(len(batch))
            for n, (options, answer) in enumerate(zip(table["options"], table["answer"], strict=True)):
                if not options:
                    continue
                if table["id"][n] in seen:
                    raise InputError(f"id {table['id'][n]!r} repeats", file=file, row=first + n, field="id")
                seen.add(table["id"][n])
                place = LETTERS.find(answer) if answer and len(answer) == 1 else -1
                if not 0 <= place < len(options):
                    raise InputError(
                        f"{answer!r} is not the letter of one of {len(options)} options",
                        file=file,
                        row=first + n,
                        field="answer",
                        remedy="`mllm4d data validate` lists all such rows",
                    )
                if any(option is None for option in options) or table["question"][n] is None:
                    raise InputError("a text is missing", file=file, row=first + n, field="question, options")
                if chance[n] < share.get(table["task"][n], 1.0):
                    for name in _COLUMNS:
                        columns[name].append(table[name][n])
                    columns["place"].append(place)
    if not columns["id"]:
        raise InputError("no row has options and a lettered answer", file=paths[0], field="options")
    texts = {name: np.array([text or "" for text in columns[name]], object) for name in _COLUMNS if name != "options"}
    return BlindRows(
        texts["id"],
        texts["clip_id"],
        texts["task"],
        texts["question"],
        texts["object_description"],
        texts["split"],
        columns["options"],  # type: ignore[arg-type]
        np.array(columns["place"], int),
    )


def _numbered(file: Path) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches with the number of their first row."""
    first = 0
    for batch in iter_batches(file):
        yield first, batch
        first += len(batch)


def _shares(files: list[Path], max_rows: int) -> dict[str, float]:
    """Task -> share of its rows to read."""
    counts: Counter[str] = Counter()
    for file in files:
        next(iter_batches(file), None)  # refuses what is not a QA file
        for batch in pq.ParquetFile(file).iter_batches(columns=["task"]):
            counts.update(batch.column(0).to_pylist())
    return {task: max_rows / max(1, count) for task, count in counts.items()}

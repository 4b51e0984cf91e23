"""Validate a question set of any format: name every broken row, and write the sound ones if asked."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..atomic import atomic_path
from ..control_tokens import REMEDY, find_control_token, rows_with_control_tokens
from ..errors import InputError
from ..formats import detect, find_format, qa
from ..formats.base import Options, PathLike
from ..qa_table import RowProblem, check_table
from ..released import DEFAULT_NUM_FRAMES, rebase_video
from ..schema import QA_SCHEMA
from ..video.location import exists, is_remote, join
from .across import ClipSplits, Repeats, question_keys, repeated_options
from .pieces import Piece, iter_pieces

#: frames of a video file; raises InputError where it is none
Probe = Callable[[str], int]
MAX_SHOWN = 20


@dataclass
class SetReport:
    """What was found.

    Attributes:
        format: name of the format.
        rows: rows of the set.
        broken: rows with a problem.
        fields: broken rows per field.
        splits: sound rows per split.
        videos: distinct videos; `missing_videos` of them are not there.
        shared_clips: clips that more than one split has.
        shown: the first problems, explained: file, row, field, problem, remedy.
    """

    format: str
    rows: int = 0
    broken: int = 0
    fields: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    videos: int = 0
    missing_videos: int = 0
    shared_clips: int = 0
    shown: list[InputError] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "shown": [_record(error) for error in self.shown]}


def validate_set(
    path: PathLike,
    *,
    origin: str = "auto",
    num_frames: int = DEFAULT_NUM_FRAMES,
    media: bool = True,
    media_root: PathLike | None = None,
    probe: Probe | None = None,
    out: PathLike | None = None,
    rejects: PathLike | None = None,
) -> SetReport:
    """Check every row of a set, in pieces; memory grows by some 20 bytes a row only.

    A row is broken that cannot be read, breaks the contract of QARow, has options that read the same, an id or a
    question (same clip, same words, same response) that occurred before, a clip that occurred in another split, a
    control token of chat models in a text, or whose video is not there. The first problem of a row is reported.

    Args:
        path: file or dataset folder.
        origin: name of its format; `auto` looks.
        num_frames: frames sampled per video, where the file does not say.
        media: look for the videos; `media_root` replaces the folder of the file.
        probe: also ask every video for its number of frames.
        out: QARow parquet to write the sound rows to.
        rejects: JSONL to write every problem to: file, row, field, problem, remedy.

    Raises:
        InputError: the set as a whole cannot be read.
    """
    path = Path(path)
    kind = detect(path) if origin == "auto" else find_format(origin, "--from")
    with ExitStack() as files:
        list_file = None
        if rejects is not None:
            temporary = files.enter_context(atomic_path(rejects))
            list_file = files.enter_context(open(temporary, "w", encoding="utf-8"))
        writer = None
        if out is not None:
            if Path(out).resolve() == path.resolve():
                raise InputError("would overwrite the set itself", file=out, field="--out", remedy="Choose another")
            temporary = files.enter_context(atomic_path(out))
            writer = files.enter_context(pq.ParquetWriter(temporary, QA_SCHEMA))
        run = _Run(SetReport(kind.name), list_file)
        folder = path if path.is_dir() else path.parent
        videos = _Videos(media_root or folder, probe) if media else None
        options = Options(num_frames=num_frames, on_error=run.unreadable, check=False)
        try:
            for piece in iter_pieces(path, kind, options, run.unreadable):
                sound = run.check(piece, videos)
                if writer is not None and out is not None and len(sound):
                    moved = _moved(sound, media_root or folder, Path(out).parent)
                    writer.write_table(moved, row_group_size=qa.ROWS_PER_GROUP)
        except InputError:
            if not run.report.broken:
                raise  # nothing of the set can be read
        if run.report.rows == 0:
            raise InputError("the file has no rows", file=path)
        run.report.shared_clips = len(run.clips.shared)
        if videos is not None:
            run.report.videos, run.report.missing_videos = len(videos.frames), videos.missing
    return run.report


class _Run:
    def __init__(self, report: SetReport, rejects: TextIO | None) -> None:
        self.report = report
        self.ids, self.questions, self.clips = Repeats(), Repeats(), ClipSplits()
        self._rejects = rejects

    def unreadable(self, error: InputError) -> None:
        """Count a row that could not be read."""
        self.report.rows += 1
        self._reject(error)

    def check(self, piece: Piece, videos: _Videos | None) -> pa.Table:
        """Report the broken rows of a piece; return the sound ones."""
        table = piece.table
        problems = {problem.row: problem for problem in check_table(table, repeats=False)}
        _add(problems, ((row, "options", f"option {letter} reads as another one") for row, letter in _sorted(table)))
        again = np.flatnonzero(self.ids.add(table["id"].combine_chunks()))
        names = table["id"]
        _add(problems, ((int(row), "id", f"id {names[int(row)].as_py()!r} repeats") for row in again))
        again = np.flatnonzero(self.questions.add(question_keys(table)))
        _add(problems, ((int(row), "question", "the question was asked about this clip before") for row in again))
        clips = self.clips.add(table["clip_id"].combine_chunks(), table["split"].combine_chunks())
        _add(problems, ((row, "split", f"the clip is in {split} as well") for row, split in clips.items()))
        _add_control_tokens(problems, table)
        if videos is not None:
            _add(problems, videos.problems(table))
        for row in sorted(problems):
            problem = problems[row]._replace(row=int(piece.rows[row]))
            self._reject(problem.error(piece.file))
        sound = table
        if problems:
            keep = np.ones(len(table), bool)
            keep[list(problems)] = False
            sound = table.filter(pa.array(keep))
        self.report.rows += len(table)
        for entry in pc.value_counts(pc.fill_null(sound["split"], "train")).to_pylist():
            self.report.splits[entry["values"]] += entry["counts"]
        return sound

    def _reject(self, error: InputError) -> None:
        self.report.broken += 1
        self.report.fields[error.field or "row"] += 1
        if len(self.report.shown) < MAX_SHOWN:
            self.report.shown.append(error)
        if self._rejects is not None:
            self._rejects.write(json.dumps(_record(error), ensure_ascii=False) + "\n")


class _Videos:
    """The videos of a set: whether each is there and, with a probe, its frames."""

    def __init__(self, folder: PathLike, probe: Probe | None) -> None:
        self._folder, self._probe = folder, probe
        self.frames: dict[str, int | str] = {}  # frames (0 where not asked), or what is wrong
        self.missing = 0

    def problems(self, table: pa.Table) -> list[tuple[int, str, str]]:
        videos = table["video"].combine_chunks().dictionary_encode()
        known = [self._look(name) if name else 0 for name in videos.dictionary.to_pylist()]
        codes = pc.fill_null(videos.indices, -1).to_numpy(zero_copy_only=False)
        asked = pc.fill_null(table["num_frames"], 0).to_numpy()
        wrong = np.array([isinstance(state, str) for state in known] + [False])  # the last stands for null
        frames = np.array([state if isinstance(state, int) and state else 2**62 for state in known] + [2**62])
        found = [(int(row), "video", str(known[codes[row]])) for row in np.flatnonzero(wrong[codes])]
        short = np.flatnonzero(~wrong[codes] & (asked > frames[codes]))
        return found + [
            (int(row), "num_frames", f"{asked[row]} frames of a video of {frames[codes[row]]}") for row in short
        ]

    def _look(self, name: str) -> int | str:
        if name not in self.frames:
            self.frames[name] = self._state(join(self._folder, name))
        return self.frames[name]

    def _state(self, path: str) -> int | str:
        if not exists(path):
            self.missing += 1
            return f"the video {path} does not exist"
        if self._probe is None:
            return 0
        try:
            return self._probe(path)
        except InputError as error:
            return f"{path}: {error.problem}"


_REMEDIES = {
    "options": "Make options that differ",
    "id": "Give every row its own id",
    "question": "Keep one of the two",
    "split": "Keep all questions about a clip in one split",
    "video": "Restore it, or say with --media-root where paths start from",
    "num_frames": "Make questions with fewer frames, or drop the clip",
}


def _add(problems: dict[int, RowProblem], found: Iterable[tuple[int, str, str]]) -> None:
    for row, name, problem in found:
        problems.setdefault(row, RowProblem(row, name, problem, _REMEDIES[name]))


def _add_control_tokens(problems: dict[int, RowProblem], table: pa.Table) -> None:
    for name in ("question", "options", "response"):
        column = table[name].combine_chunks()
        for row in np.flatnonzero(rows_with_control_tokens(column)):
            text = column[int(row)].as_py()
            token = find_control_token(text if isinstance(text, str) else "\n".join(text))
            problem = f"the text holds the control token {token}"
            problems.setdefault(int(row), RowProblem(int(row), name, problem, REMEDY))


def _sorted(table: pa.Table) -> list[tuple[int, str]]:
    return sorted(repeated_options(table).items())


def _moved(table: pa.Table, old: PathLike, new: Path) -> pa.Table:
    """The table with video paths that start from `new`, or with whole addresses where `old` is one."""
    remote = is_remote(old)
    if not remote and Path(old).resolve() == new.resolve():
        return table
    videos = table["video"].combine_chunks().dictionary_encode()
    moved = [
        join(old, name) if remote else rebase_video(name, Path(old), new) for name in videos.dictionary.to_pylist()
    ]
    names = pa.array(moved, pa.string())
    position = table.schema.get_field_index("video")
    return table.set_column(position, "video", names.take(videos.indices))


def _record(error: InputError) -> dict[str, Any]:
    return {
        "file": error.file,
        "row": error.row,
        "field": error.field,
        "problem": error.problem,
        "remedy": error.remedy,
    }

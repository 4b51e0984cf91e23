"""The file of model responses: one JSON object per line, self-contained, so that it can be scored again anywhere.

A question may have several responses, drawn independently: they have its `id` and `sample` 0, 1, 2 and so on. Together
`id` and `sample` occur once in a file. Files of other origin may leave `sample` out; it is 0.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllm4d_verl.data_tools.atomic import atomic_path
from mllm4d_verl.data_tools.errors import InputError

RESPONSES_NAME = "responses.jsonl"
_REQUIRED = ("id", "task", "truth", "response")

PathLike = str | os.PathLike[str]


@dataclass
class ResponseRecord:
    """What a model answered to one question.

    Attributes:
        id, clip_id, task: of the question; `clip_id` is the unit of resampling.
        truth: what STReward takes: answer, options, camera_center, object_center (metres) and so on.
        response: decoded text, special tokens left out.
        sample: which response to the question this is, 0-based.
        prompt_tokens, response_tokens: counts; None for files of other origin.
        finish_reason: "stop" or "length" (cut off at max_tokens); None for files of other origin.
        scores: what `scoring.score_record` computed; None before scoring.
    """

    id: str
    clip_id: str
    task: str
    truth: dict[str, Any]
    response: str
    sample: int = 0
    prompt_tokens: int | None = None
    response_tokens: int | None = None
    finish_reason: str | None = None
    scores: dict[str, Any] | None = None

    @property
    def key(self) -> tuple[str, int]:
        """What tells this response from all others of a run."""
        return self.id, self.sample

    @property
    def num_options(self) -> int:
        """Number of options of the question; 0 when the row does not list them."""
        return len(self.truth.get("options") or ())

    def to_json(self) -> str:
        return json.dumps(self.__dict__, ensure_ascii=False, allow_nan=False)


def write_responses(path: PathLike, records: Iterable[ResponseRecord]) -> Path:
    """Write all records, or leave what was there."""
    path = Path(path)
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(record.to_json() + "\n" for record in records)
    return path


def read_responses(path: PathLike) -> list[ResponseRecord]:
    """Read a responses file, or the one in a run's folder.

    Raises:
        InputError: no such file, no rows, a line that is not a response record, or an id that occurs twice.
    """
    path = responses_path(path)
    records, seen = [], set()
    with open(path, encoding="utf-8") as file:
        for row, line in enumerate(file):
            if not line.strip():
                continue
            record = parse_record(line, path, row)
            if record.key in seen:
                again = f" with sample {record.sample}" if record.sample else ""
                raise InputError(f"the id {record.id!r} occurs twice{again}", file=path, row=row, field="id")
            seen.add(record.key)
            records.append(record)
    if not records:
        raise InputError("the file holds no responses", file=path, remedy="Make it with `mllm4d eval run`")
    return records


def responses_path(path: PathLike) -> Path:
    """The responses file that `path` (a file or the folder of a run) means."""
    path = Path(path)
    file = path / RESPONSES_NAME if path.is_dir() else path
    if file.is_file():
        return file
    if path.is_dir():
        raise InputError(
            f"the folder has no {RESPONSES_NAME}", file=path, remedy="The run may be unfinished: run the same command"
        )
    raise InputError("no such file or folder", file=path)


def read_unfinished(path: PathLike) -> Iterator[ResponseRecord]:
    """Records of a file that a killed run may have left with a torn last line; none if there is no file."""
    path = Path(path)
    if not path.is_file():
        return
    with open(path, "rb") as file:
        for row, line in enumerate(file):
            if not line.endswith(b"\n"):
                return
            yield parse_record(line.decode("utf-8"), path, row)


def drop_torn_line(path: PathLike) -> None:
    """Cut off the last line of a file if it has no end, so that the next line is not appended to it."""
    path = Path(path)
    if path.is_file():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)


def parse_record(line: str, file: PathLike, row: int) -> ResponseRecord:
    """One line of a responses file. `clip_id` defaults to the id: every question is then its own clip."""
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error}", file=file, row=row) from error
    if not isinstance(fields, dict):
        raise InputError(f"expected a JSON object, got {type(fields).__name__}", file=file, row=row)
    for name in _REQUIRED:
        if name not in fields:
            raise InputError(
                "the field is missing", file=file, row=row, field=name, remedy=f"A line needs {', '.join(_REQUIRED)}"
            )
    for name, kind in (("truth", dict), ("response", str)):
        if not isinstance(fields[name], kind):
            raise InputError(
                f"expected {kind.__name__}, got {type(fields[name]).__name__}", file=file, row=row, field=name
            )
    if not isinstance(fields["truth"].get("answer"), str):
        raise InputError("the truth has no answer text", file=file, row=row, field="truth.answer")
    known = {name: fields[name] for name in ResponseRecord.__dataclass_fields__ if name in fields}
    known["id"], known["task"] = str(fields["id"]), str(fields["task"])
    if not isinstance(known.get("sample", 0), int) or known.get("sample", 0) < 0:
        raise InputError(f"expected a number from 0 on, got {known['sample']!r}", file=file, row=row, field="sample")
    known["clip_id"] = str(fields.get("clip_id") or fields["id"])
    return ResponseRecord(**known)

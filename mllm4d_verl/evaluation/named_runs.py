"""Runs that are shown side by side: each with a name of its own, its responses scored alike."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllm4d_verl.data_tools.errors import InputError

from .responses import ResponseRecord, read_responses, responses_path
from .scoring import score_records

_RUN_NAME = "run.json"


@dataclass(frozen=True)
class NamedRun:
    """A run to be shown.

    Attributes:
        name: unique among the runs shown.
        records: scored responses.
        job: what run.json says of the run; empty for files of other origin.
    """

    name: str
    records: list[ResponseRecord]
    job: dict[str, Any]

    @property
    def question_ids(self) -> frozenset[str]:
        """Ids of the questions it answered."""
        return frozenset(record.id for record in self.records)


def read_runs(arguments: Sequence[str]) -> list[NamedRun]:
    """Runs as a user names them: a folder, a responses file, or NAME=PATH to call it NAME.

    Without a name a run is called after its folder, or its file where that is no `responses.jsonl`; equal names get
    their folder in front.

    Raises:
        InputError: no such run, or two of them by the same given name or path; a question that two runs ask with
            different right answers.
    """
    runs: list[NamedRun] = []
    for argument, (name, path) in zip(arguments, _names(arguments), strict=True):
        if any(run.name == name for run in runs):
            raise InputError(f"two runs are called {name!r}", field=argument, remedy="Give NAME=PATH")
        file = responses_path(path)
        runs.append(NamedRun(name, score_records(read_responses(file)), _job(file.parent / _RUN_NAME)))
    _check_same_truth(runs)
    return runs


def _names(arguments: Sequence[str]) -> list[tuple[str, Path]]:
    given: list[tuple[str | None, Path]] = []
    for argument in arguments:
        name, separator, path = argument.partition("=")
        if separator and name and path and not Path(argument).exists():
            given.append((name, Path(path)))
        else:
            given.append((None, Path(argument)))
    parts = [_parts(path) for _, path in given]
    short = [names[-1] for names in parts]
    return [
        (name or (short[index] if short.count(short[index]) == 1 else "/".join(parts[index][-2:])), path)
        for index, (name, path) in enumerate(given)
    ]


def _parts(path: Path) -> tuple[str, ...]:
    file = responses_path(path)
    whole = file.parent if path.is_dir() or file.name == "responses.jsonl" else file.with_suffix("")
    return whole.absolute().parts[1:] or (file.stem,)


def _job(file: Path) -> dict[str, Any]:
    try:
        job = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return job if isinstance(job, dict) else {}


def _check_same_truth(runs: Sequence[NamedRun]) -> None:
    """Figures of runs over different questions by the same ids would look comparable and not be."""
    first: dict[str, tuple[str, Any]] = {}
    for run in runs:
        for record in run.records:
            asked = (record.task, record.truth["answer"], record.truth.get("options"))
            name, known = first.setdefault(record.id, (run.name, asked))
            if known != asked:
                raise InputError(
                    f"{name!r} and {run.name!r} answered different questions by this id",
                    row=record.id,
                    field="truth",
                    remedy="Show runs over the same question file",
                )

"""Marks: held-out accuracies at which a supervised stage ends, and the file that says what was reached.

`trainer.marks` of an SFT or cold-start config is null (the number of steps decides) or a mapping, see `Marks`. The
questions are those of `data.held_out_file`, which `mllm4d train` sets to the question folder's val.parquet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mllm4d_verl.data_tools.atomic import atomic_path
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import known_tasks

MARKS_NAME = "marks.json"
ALL = "all"


@dataclass(frozen=True)
class Marks:
    """When a supervised stage is good enough.

    Attributes:
        accuracy: task -> accuracy within 0 and 1 that its held-out questions have to reach; `all` is over all of them.
        every: steps between two checks.
        first: step of the first check.
        questions: number of questions asked at a check, spread over the tasks of data.held_out_file.
        max_tokens: longest response.
        batch_size: responses generated at a time.
    """

    accuracy: Mapping[str, float]
    every: int = 50
    first: int = 50
    questions: int = 140
    max_tokens: int = 128
    batch_size: int = 70

    def __post_init__(self) -> None:
        if not isinstance(self.accuracy, Mapping) or not self.accuracy:
            raise InputError(
                "no accuracy to reach", field="trainer.marks.accuracy", remedy="Write {all: 0.6}, or name tasks"
            )
        for task, mark in self.accuracy.items():
            if task != ALL and task not in known_tasks():
                raise InputError(
                    f"unknown task {task!r}",
                    field="trainer.marks.accuracy",
                    remedy=f"Choose from {ALL}, {', '.join(known_tasks())}",
                )
            if isinstance(mark, bool) or not isinstance(mark, int | float) or not 0 < mark <= 1:
                raise InputError(f"{task} has the mark {mark!r}", field="trainer.marks.accuracy", remedy="Use 0.6")
        for name in ("every", "first", "questions", "max_tokens", "batch_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"must be a number of at least 1, got {value!r}", field=f"trainer.marks.{name}")

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | None) -> Marks | None:
        """From `trainer.marks`; None where it is null."""
        if config is None:
            return None
        known = [item.name for item in fields(cls)]
        for name in config:
            if name not in known:
                raise InputError(f"unknown key {name!r}", field="trainer.marks", remedy=f"Known: {', '.join(known)}")
        settings = {name: config[name] for name in config}
        accuracy = settings.get("accuracy")
        return cls(**{**settings, "accuracy": dict(accuracy) if isinstance(accuracy, Mapping) else {}})

    def is_check(self, step: int) -> bool:
        """Whether accuracies are measured after this step."""
        return step >= self.first and (step - self.first) % self.every == 0

    def missed(self, accuracy: Mapping[str, float]) -> dict[str, float]:
        """The marks that these accuracies do not reach; a task without held-out questions has no mark to miss."""
        return {task: mark for task, mark in self.accuracy.items() if task in accuracy and accuracy[task] < mark}


@dataclass(frozen=True)
class MarksReached:
    """Where a stage stands.

    Attributes:
        step: of the last check.
        accuracy: task -> accuracy at that check, `all` among them.
        missed: marks that were not reached.
        checks: (step, accuracy over all questions) of every check.
    """

    step: int
    accuracy: dict[str, float]
    missed: dict[str, float]
    checks: list[tuple[int, float]]

    @property
    def ended_by_marks(self) -> bool:
        """Whether all marks were reached at the last check."""
        return not self.missed

    def write(self, folder: Path) -> None:
        """Write marks.json into the folder of the checkpoints."""
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / MARKS_NAME) as part:
            Path(part).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def read_marks(folder: Path) -> MarksReached | None:
    """What marks.json in the folder of the checkpoints says; None where there is none."""
    file = folder / MARKS_NAME
    if not file.is_file():
        return None
    content = json.loads(file.read_text(encoding="utf-8"))
    return MarksReached(**{**content, "checks": [tuple(check) for check in content["checks"]]})

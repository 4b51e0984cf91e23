"""Runs that follow each other, the stages of a training: each against the one before, controls against the full run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from .comparison import TaskComparison, compare_records
from .named_runs import NamedRun
from .statistics import Interval
from .summary import Summary, TaskSummary, summarise
from .wording import p_text, percent_text

__all__ = ["Step", "SuccessiveRuns", "p_text", "percent_text", "successive_runs"]


@dataclass(frozen=True)
class Step:
    """One run against another on the same questions; differences are `after` minus `before`."""

    before: str
    after: str
    overall: TaskComparison
    tasks: list[TaskComparison]


@dataclass(frozen=True)
class SuccessiveRuns:
    """What a final table shows.

    Attributes:
        summaries: name of the run -> its figures: the stages in their order, then the controls.
        steps: each stage against the one before it, then each control against the last stage.
        text_only: task -> accuracy of the best guess from the text alone; no entry where it is not known.
        control_names: runs that are controls.
        templates: name of the run -> prompt template it was asked with, where run.json says so.
    """

    summaries: dict[str, Summary]
    steps: list[Step]
    text_only: dict[str, Interval]
    control_names: tuple[str, ...]
    templates: dict[str, str]

    @property
    def text_only_accuracy(self) -> Interval | None:
        """Mean over the questions of the stages; None where a task has no guess. Tasks are guessed independently."""
        tasks = next(iter(self.summaries.values())).tasks
        guesses = [self.text_only.get(task.task) for task in tasks]
        known = [guess for guess in guesses if guess is not None and guess.estimate is not None]
        if len(known) < len(tasks):
            return None
        counts = np.array([task.questions for task in tasks])
        shares = counts / counts.sum()
        mean = float(shares @ [guess.estimate for guess in known])
        low = high = None
        if all(guess.low is not None for guess in known):
            half = float(np.linalg.norm(shares * [guess.estimate - guess.low for guess in known]))
            low, high = mean - half, mean + half
        return Interval(mean, low, high, sum(guess.n for guess in known), 0, "normal")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: runs, steps and tasks, with all intervals and counts."""
        return {
            "runs": {
                name: {
                    "control": name in self.control_names,
                    "template": self.templates.get(name),
                    "overall": _figures(summary.overall),
                    "mean_of_tasks": summary.mean_of_tasks.to_dict(),
                    "tasks": {task.task: _figures(task) for task in summary.tasks},
                }
                for name, summary in self.summaries.items()
            },
            "steps": [asdict(step) for step in self.steps],
            "text_only": {
                "overall": None if (overall := self.text_only_accuracy) is None else overall.to_dict(),
                "tasks": {task: guess.to_dict() for task, guess in self.text_only.items()},
            },
        }


def successive_runs(
    stages: Sequence[NamedRun], controls: Sequence[NamedRun] = (), text_only: Mapping[str, Interval] | None = None
) -> SuccessiveRuns:
    """Figures and paired tests of the stages of a training.

    Args:
        stages: in their order, over the same questions.
        controls: runs of the last stage's model with a control, over the questions of `stages` or some of them.
        text_only: task -> accuracy from text alone: `TaskAccuracy.accuracy` of `data_tools.blind.blind_accuracy`, with
            its interval.

    Raises:
        InputError: two runs have no question in common, or differ in what is right.
    """
    pairs = [*pairwise(stages), *((stages[-1], control) for control in controls)]
    steps = []
    for before, after in pairs:
        comparison = compare_records(before.records, after.records)
        steps.append(Step(before.name, after.name, comparison.overall, comparison.tasks))
    return SuccessiveRuns(
        {run.name: summarise(run.records) for run in (*stages, *controls)},
        steps,
        dict(text_only or {}),
        tuple(control.name for control in controls),
        {run.name: Path(run.job["template"]).name for run in (*stages, *controls) if "template" in run.job},
    )


def _figures(task: TaskSummary) -> dict[str, Any]:
    content = asdict(task)
    content.pop("task")
    return content

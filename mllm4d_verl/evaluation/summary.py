"""Figures of one run: accuracy per task against chance, form, centre errors, reward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mllm4d_verl.data_tools.schema import TASKS

from .benchmarks.base import UNREADABLE, count_options
from .benchmarks.registry import all_macro_groups
from .responses import ResponseRecord
from .statistics import Interval, group_share_interval, mean_interval, pass_at_k, proportion_interval

# Entries of the reward's dict that say something as a mean over all responses.
COMPONENTS = (
    "accuracy",
    "camera_center",
    "object_center",
    "st",
    "has_answer",
    "well_tagged",
    "written_slots",
    "malformed_spots",
)


@dataclass(frozen=True)
class TaskSummary:
    """Figures of the questions of one task, or of all questions.

    Attributes:
        questions, clips, responses: counts; several responses to a question count each.
        accuracy: share of right answers; an invalid response is wrong.
        chance: accuracy of guessing, the mean of 1 / number of different options; None when a question lists none.
        invalid: responses that commit to no option.
        accuracy_of_valid: share of right answers among the valid responses; None without any.
        reward: mean ST-reward score of the preset.
        format: mean format component of the preset.
    """

    task: str
    questions: int
    clips: int
    responses: int
    accuracy: Interval
    chance: float | None
    invalid: int
    accuracy_of_valid: float | None
    reward: Interval
    format: Interval


@dataclass(frozen=True)
class CenterSummary:
    """Error of the camera or object centres that responses state.

    Attributes:
        due: responses to questions whose truth has such centres.
        stated: those among them that state at least one of them, at the frame it belongs to.
        mean_m, median_m: over the stated ones, of the distance in metres to the true centre, averaged within a response
            over start and end; None without any.
    """

    due: int
    stated: int
    mean_m: float | None
    median_m: float | None

    @property
    def coverage(self) -> float | None:
        return self.stated / self.due if self.due else None


@dataclass(frozen=True)
class SampleSummary:
    """Figures of runs with several responses to each question.

    Attributes:
        per_question: responses to each question, the fewest of any.
        pass_at: k -> chance that one of k responses is right, for k of 1, 2, 4 .. and `per_question`.
        majority: share of questions whose commonest answer is right; tied answers share the question. Questions for a
            number, which have no answers to count, enter with their mean score.
    """

    per_question: int
    pass_at: dict[int, Interval]
    majority: Interval


@dataclass(frozen=True)
class Summary:
    """Figures of one run.

    Attributes:
        preset: of the reward.
        tasks: one entry per task, in the order of `TASKS`.
        overall: over all questions.
        mean_of_tasks: accuracy with every task weighing the same, but for tasks that their benchmark averages first:
            see `Benchmark.macro_groups`. `mllm4d eval score --benchmark` calls it macro.
        chance_of_tasks: accuracy of guessing, averaged in the same way; None where that of a task is not known.
        camera_center, object_center: errors.
        truncated: responses cut off at max_tokens; None when the file does not say.
        mean_response_tokens: None when the file does not say.
        components: means of the reward's COMPONENTS over all responses.
        samples: None where each question has one response. `accuracy` is then the mean over all responses.
    """

    preset: str
    tasks: list[TaskSummary]
    overall: TaskSummary
    mean_of_tasks: Interval
    chance_of_tasks: float | None
    camera_center: CenterSummary
    object_center: CenterSummary
    truncated: int | None
    mean_response_tokens: float | None
    components: dict[str, float]
    samples: SampleSummary | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {
            name: asdict(center) | {"coverage": center.coverage}
            for name, center in (("camera_center", self.camera_center), ("object_center", self.object_center))
        }


def summarise(records: Sequence[ResponseRecord], preset: str = "mllm4d_st") -> Summary:
    """Figures of scored records; see `scoring.score_records`."""
    by_task: dict[str, list[ResponseRecord]] = {}
    for record in records:
        by_task.setdefault(record.task, []).append(record)
    rank = {task: index for index, task in enumerate(TASKS)}
    names = sorted(by_task, key=lambda task: (rank.get(task, len(TASKS)), task))
    lengths = [record.response_tokens for record in records if record.response_tokens is not None]
    reasons = [record.finish_reason for record in records if record.finish_reason is not None]
    rewards = [record.scores["reward"] for record in records]
    groups = all_macro_groups()
    of_task = [record for record in records if record.task != UNREADABLE] or records
    tasks = [_task_summary(name, by_task[name]) for name in names]
    return Summary(
        preset=preset,
        tasks=tasks,
        overall=_task_summary("all", records),
        mean_of_tasks=group_share_interval(
            [record.scores["correct"] for record in of_task],
            [record.clip_id for record in of_task],
            [record.task for record in of_task],
            groups,
        ),
        chance_of_tasks=macro_mean({task.task: task.chance for task in tasks if task.task != UNREADABLE}, groups),
        camera_center=_center_summary(records, "camera_center"),
        object_center=_center_summary(records, "object_center"),
        truncated=sum(reason == "length" for reason in reasons) if reasons else None,
        mean_response_tokens=float(np.mean(lengths)) if lengths else None,
        components={key: float(np.mean([reward[key] for reward in rewards])) for key in COMPONENTS},
        samples=_sample_summary(records),
    )


def macro_mean(per_task: Mapping[str, float | None], groups: Mapping[str, str]) -> float | None:
    """Mean over tasks; those of one group (see `Benchmark.macro_groups`) are averaged first. None where a figure is."""
    by_group: dict[str, list[float]] = {}
    for task, figure in per_task.items():
        if figure is None:
            return None
        by_group.setdefault(groups.get(task, task), []).append(figure)
    means = [sum(group) / len(group) for group in by_group.values()]
    return sum(means) / len(means) if means else None


def by_question(records: Sequence[ResponseRecord]) -> dict[str, list[ResponseRecord]]:
    """Responses of each question, questions in their first order."""
    questions: dict[str, list[ResponseRecord]] = {}
    for record in records:
        questions.setdefault(record.id, []).append(record)
    return questions


def _sample_summary(records: Sequence[ResponseRecord]) -> SampleSummary | None:
    questions = list(by_question(records).values())
    fewest = min((len(samples) for samples in questions), default=0)
    if fewest < 2:
        return None
    clips = [samples[0].clip_id for samples in questions]
    sizes = sorted({k for k in (1, 2, 4, 8, 16, 32, 64) if k < fewest} | {fewest})
    right = [sum(record.scores["correct"] == 1 for record in samples) for samples in questions]
    return SampleSummary(
        per_question=fewest,
        pass_at={
            k: proportion_interval([pass_at_k(len(s), c, k) for s, c in zip(questions, right, strict=True)], clips)
            for k in sizes
        },
        majority=proportion_interval([_majority_score(samples) for samples in questions], clips),
    )


def _majority_score(samples: Sequence[ResponseRecord]) -> float:
    votes = Counter(record.scores["choice"] for record in samples if record.scores["choice"] is not None)
    if not votes:
        return float(np.mean([record.scores["correct"] for record in samples]))
    most = max(votes.values())
    winners = [choice for choice, count in votes.items() if count == most]
    score_of = {record.scores["choice"]: record.scores["correct"] for record in samples}
    return float(np.mean([score_of[choice] for choice in winners]))


def _task_summary(task: str, records: Sequence[ResponseRecord]) -> TaskSummary:
    clips = [record.clip_id for record in records]
    correct = [record.scores["correct"] for record in records]
    valid = [r.scores["correct"] for r in records if r.scores.get("valid", r.scores["choice"] is not None)]
    options = [count_options(record.truth.get("options") or ()) for record in records]
    return TaskSummary(
        task=task,
        questions=len({record.id for record in records}),
        clips=len(set(clips)),
        responses=len(records),
        accuracy=proportion_interval(correct, clips),
        chance=float(np.mean([1 / number for number in options])) if all(options) else None,
        invalid=len(records) - len(valid),
        accuracy_of_valid=float(np.mean(valid)) if valid else None,
        reward=mean_interval([record.scores["reward"]["score"] for record in records], clips),
        format=mean_interval([record.scores["reward"]["format"] for record in records], clips),
    )


def _center_summary(records: Sequence[ResponseRecord], name: str) -> CenterSummary:
    rewards = [record.scores["reward"] for record in records]
    due = [reward for reward in rewards if reward[f"{name}_needed"] > 0]
    errors = [error for reward in due if (error := reward[f"{name}_error_m"]) >= 0]  # -1: nothing to measure
    return CenterSummary(
        due=len(due),
        stated=len(errors),
        mean_m=float(np.mean(errors)) if errors else None,
        median_m=float(np.median(errors)) if errors else None,
    )

"""Two runs on the same questions: the paired difference, which is far sharper than two separate intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import TASKS
from mllm4d_verl.reward import DEFAULT_PRESET

from .responses import ResponseRecord
from .scoring import score_records
from .statistics import Interval, mcnemar_p, paired_difference
from .summary import by_question


@dataclass(frozen=True)
class TaskComparison:
    """Paired differences B minus A over the questions of one task, or of all.

    Attributes:
        accuracy_a, accuracy_b: shares of right answers.
        accuracy: difference of accuracy with its interval.
        only_a, only_b: questions that only one run answers right; with several responses to a question, that one run
            answers right more often.
        mcnemar_p: McNemar's exact test of only_a against only_b, see `statistics.mcnemar_p`.
        reward: difference of the mean reward with its interval.
    """

    task: str
    questions: int
    accuracy_a: float
    accuracy_b: float
    accuracy: Interval
    only_a: int
    only_b: int
    mcnemar_p: float
    reward: Interval


@dataclass(frozen=True)
class Comparison:
    """Run B against run A.

    Attributes:
        left_out_a, left_out_b: questions that the other run did not answer.
    """

    preset: str
    tasks: list[TaskComparison]
    overall: TaskComparison
    left_out_a: int
    left_out_b: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def compare_records(
    a: Sequence[ResponseRecord], b: Sequence[ResponseRecord], preset: str = DEFAULT_PRESET
) -> Comparison:
    """Compare two runs over the questions both answered; both are scored anew with `preset`.

    Raises:
        InputError: no question in common, or the truth of a question differs between the runs.
    """
    questions_a, questions_b = by_question(a), by_question(b)
    shared = [question for question in questions_a if question in questions_b]
    if not shared:
        raise InputError("the two runs have no question in common", remedy="Compare runs over the same question file")
    for question in shared:
        left, right = questions_a[question][0], questions_b[question][0]
        if (left.task, left.truth) != (right.task, right.truth):
            raise InputError(
                "the two runs were asked different questions under the same id",
                row=left.id,
                field="truth",
                remedy="Compare runs over the same question file",
            )
    scored_a, scored_b = (
        by_question(score_records([record for question in shared for record in run[question]], preset))
        for run in (questions_a, questions_b)
    )
    scored = [(scored_a[question], scored_b[question]) for question in shared]
    names = list(dict.fromkeys([*TASKS, *sorted({left[0].task for left, _ in scored})]))
    by_task = {name: [pair for pair in scored if pair[0][0].task == name] for name in names}
    return Comparison(
        preset=preset,
        tasks=[_compare(name, some) for name, some in by_task.items() if some],
        overall=_compare("all", scored),
        left_out_a=len(questions_a) - len(shared),
        left_out_b=len(questions_b) - len(shared),
    )


def _compare(task: str, pairs: Sequence[tuple[list[ResponseRecord], list[ResponseRecord]]]) -> TaskComparison:
    clips = [left[0].clip_id for left, _ in pairs]
    right_a, right_b = ([_mean(run, _correct) for run in runs] for runs in zip(*pairs, strict=True))
    rewards_a, rewards_b = ([_mean(run, _reward) for run in runs] for runs in zip(*pairs, strict=True))
    only_a = sum(x > y for x, y in zip(right_a, right_b, strict=True))
    only_b = sum(y > x for x, y in zip(right_a, right_b, strict=True))
    return TaskComparison(
        task=task,
        questions=len(pairs),
        accuracy_a=sum(right_a) / len(pairs),
        accuracy_b=sum(right_b) / len(pairs),
        accuracy=paired_difference(right_a, right_b, clips),
        only_a=only_a,
        only_b=only_b,
        mcnemar_p=mcnemar_p(only_a, only_b),
        reward=paired_difference(rewards_a, rewards_b, clips),
    )


def _mean(records: Sequence[ResponseRecord], figure: Callable[[ResponseRecord], float]) -> float:
    return sum(map(figure, records)) / len(records)


def _correct(record: ResponseRecord) -> float:
    return record.scores["correct"]


def _reward(record: ResponseRecord) -> float:
    return record.scores["reward"]["score"]

"""Two runs on the same questions: the paired difference, which is far sharper than two separate intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import TASKS
from mllm4d_verl.reward import DEFAULT_PRESET

from .responses import ResponseRecord
from .scoring import score_records
from .statistics import Interval, paired_difference


@dataclass(frozen=True)
class TaskComparison:
    """Paired differences B minus A over the questions of one task, or of all.

    Attributes:
        accuracy_a, accuracy_b: shares of right answers.
        accuracy: difference of accuracy with its interval.
        only_a, only_b: questions that only one run answers right.
        reward: difference of the mean reward with its interval.
    """

    task: str
    questions: int
    accuracy_a: float
    accuracy_b: float
    accuracy: Interval
    only_a: int
    only_b: int
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
    by_id = {record.id: record for record in b}
    pairs = [(record, by_id[record.id]) for record in a if record.id in by_id]
    if not pairs:
        raise InputError("the two runs have no question in common", remedy="Compare runs over the same question file")
    for left, right in pairs:
        if (left.task, left.truth) != (right.task, right.truth):
            raise InputError(
                "the two runs were asked different questions under the same id",
                row=left.id,
                field="truth",
                remedy="Compare runs over the same question file",
            )
    scored = list(
        zip(
            score_records([left for left, _ in pairs], preset),
            score_records([right for _, right in pairs], preset),
            strict=True,
        )
    )
    names = list(dict.fromkeys([*TASKS, *sorted({left.task for left, _ in pairs})]))
    by_task = {name: [pair for pair in scored if pair[0].task == name] for name in names}
    return Comparison(
        preset=preset,
        tasks=[_compare(name, some) for name, some in by_task.items() if some],
        overall=_compare("all", scored),
        left_out_a=len(a) - len(pairs),
        left_out_b=len(b) - len(pairs),
    )


def _compare(task: str, pairs: Sequence[tuple[ResponseRecord, ResponseRecord]]) -> TaskComparison:
    clips = [left.clip_id for left, _ in pairs]
    right_a = [left.scores["correct"] for left, _ in pairs]
    right_b = [right.scores["correct"] for _, right in pairs]
    return TaskComparison(
        task=task,
        questions=len(pairs),
        accuracy_a=sum(right_a) / len(pairs),
        accuracy_b=sum(right_b) / len(pairs),
        accuracy=paired_difference(right_a, right_b, clips),
        only_a=sum(x > y for x, y in zip(right_a, right_b, strict=True)),
        only_b=sum(y > x for x, y in zip(right_a, right_b, strict=True)),
        reward=paired_difference(
            [left.scores["reward"]["score"] for left, _ in pairs],
            [right.scores["reward"]["score"] for _, right in pairs],
            clips,
        ),
    )

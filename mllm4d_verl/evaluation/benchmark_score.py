"""Figures of a model on a benchmark: strict accuracy, invalid responses, splits, tasks, macro and micro, intervals."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mllm4d_verl.data_tools.atomic import atomic_path

from .answers.judge import Judgement, agreement
from .answers.score import Score, score_answers
from .benchmarks.answered import Answered
from .benchmarks.base import CHOICE, UNREADABLE, Item, count_options
from .statistics import Interval, group_share_interval, proportion_interval

SCORER_VERSION = "2"  # raised when the rules would read some response differently


@dataclass(frozen=True)
class Figures:
    """Figures of a group of questions. Accuracies are in percent.

    Attributes:
        n: questions.
        correct: right ones among them; for numbers the sum of their mean relative accuracies.
        strict: accuracy with an invalid response counted as wrong, with its interval.
        invalid: responses that commit to no answer, or to several.
        accuracy_over_valid: accuracy over the other ones; None without any.
        chance: accuracy of guessing, the mean of 1 / number of different options, 0 for an unreadable question; None
            with numbers, or where options are unknown.
    """

    n: int
    correct: float
    strict: Interval
    invalid: int
    accuracy_over_valid: float | None
    chance: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; whole counts as integers, accuracies in percent."""
        return {
            "n": self.n,
            "correct": int(self.correct) if self.correct == int(self.correct) else self.correct,
            "strict": self.strict.estimate,
            "interval": _ends(self.strict),
            "invalid": self.invalid,
            "accuracy_over_valid": self.accuracy_over_valid,
            "chance": self.chance,
        }


@dataclass(frozen=True)
class BenchmarkScore:
    """A model's responses to a benchmark, scored.

    Attributes:
        answered: questions and responses.
        scores: in their order.
        overall: all questions, each weighing the same ("micro").
        per_task, per_split: by task, and by value of every split.
        macro: mean over tasks (after `Benchmark.macro_groups`), percent.
        judgements: of a judge model, in the same order; None where none was asked.
        judge: what the result file says of the judge.
    """

    answered: Answered
    scores: tuple[Score, ...]
    overall: Figures
    per_task: dict[str, Figures]
    per_split: dict[str, Figures]
    macro: Interval
    judgements: tuple[Judgement, ...] | None = None
    judge: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the responses. Accuracies are in percent."""
        answered, n = self.answered, self.overall.n
        reasons = Counter(score.verdict.reason for score in self.scores if score.verdict.reason)
        record = self.overall.to_dict() | {
            "benchmark": answered.benchmark.describe(),
            "scorer": {"name": "rule", "version": SCORER_VERSION},
            "unit": "percent",
            "responses_sha256": answered.responses_sha256,
            "questions_from": answered.questions_from,
            "altered_questions": None if answered.altered is None else list(answered.altered),
            "missing": None if answered.missing is None else len(answered.missing),
            "micro": self.overall.strict.estimate,
            "macro": self.macro.estimate,
            "macro_interval": _ends(self.macro),
            "invalid_reasons": dict(sorted(reasons.items())),
            "rules": dict(sorted(Counter(s.verdict.rule for s in self.scores if s.verdict.rule).items())),
            "per_task": {name: figures.to_dict() for name, figures in self.per_task.items()},
            "per_split": {name: figures.to_dict() for name, figures in self.per_split.items()},
        }
        if answered.missing:
            record["strict_with_missing"] = 100 * self.overall.correct / (n + len(answered.missing))
        if self.judge is not None:
            record["judge"] = self.judge
        return record


def score_benchmark(
    answered: Answered,
    workers: int | None = None,
    judgements: Sequence[Judgement] | None = None,
    judge: dict[str, Any] | None = None,
) -> BenchmarkScore:
    """Score responses by rule. `judgements` and `judge` are reported beside it and change nothing."""
    items, scores = answered.items, score_answers(answered.items, answered.responses, workers)
    by_task: dict[str, list[int]] = defaultdict(list)
    by_split: dict[str, list[int]] = defaultdict(list)
    values: dict[str, set[str]] = defaultdict(set)
    for item in items:
        for name, value in item.splits.items():
            values[value].add(name)
    for index, item in enumerate(items):
        by_task[item.task].append(index)
        for name, value in item.splits.items():
            by_split[value if len(values[value]) == 1 else f"{name}={value}"].append(index)

    def of(indices: Sequence[int]) -> Figures:
        return _figures([items[index] for index in indices], [scores[index] for index in indices])

    per_task = {task: of(indices) for task, indices in by_task.items()}
    return BenchmarkScore(
        answered=answered,
        scores=tuple(scores),
        overall=of(range(len(items))),
        per_task=per_task,
        per_split={name: of(indices) for name, indices in by_split.items()},
        macro=_macro(items, scores, answered.benchmark.macro_groups),
        judgements=None if judgements is None else tuple(judgements),
        judge=judge if judgements is None else {**(judge or {}), **agreement(scores, judgements, items)},
    )


def write_scored(path: str | Path, result: BenchmarkScore) -> Path:
    """Write one line of JSON per response: what was read in it, by which rule, and the judge's verdict beside it."""
    answered, judgements = result.answered, result.judgements
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for index, (item, response, score) in enumerate(
            zip(answered.items, answered.responses, result.scores, strict=True)
        ):
            record: dict[str, Any] = {
                "id": item.id,
                "clip_id": item.clip,
                "task": item.task,
                "splits": dict(item.splits),
                "truth": _truth(item),
                "response": response,
                "sample": answered.samples[index],
                "choice": score.verdict.choice,
                "number": score.verdict.number,
                "rule": score.verdict.rule,
                "reason": score.verdict.reason,
                "correct": score.correct,
            }
            if judgements is not None:
                record["judge"] = judgements[index]._asdict()
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
    return Path(path)


def _truth(item: Item) -> dict[str, Any]:
    """All that another scoring of the line needs: the centres for the reward, and the unit of a number."""
    own = {"answer": item.answer, "options": list(item.options), "value": item.value, "unit": item.unit}
    return {**(item.truth or {}), **{key: value for key, value in own.items() if value is not None or key == "value"}}


def _figures(items: Sequence[Item], scores: Sequence[Score]) -> Figures:
    n, correct = len(items), sum(score.correct for score in scores)
    valid = [score.correct for score in scores if score.verdict.is_valid]
    readable = [item for item in items if item.kind != UNREADABLE]
    known = readable and all(item.kind == CHOICE and item.options for item in readable)
    return Figures(
        n=n,
        correct=correct,
        strict=_percent(proportion_interval([score.correct for score in scores], [item.clip for item in items])),
        invalid=n - len(valid),
        accuracy_over_valid=100 * sum(valid) / len(valid) if valid else None,
        chance=100 * sum(1 / count_options(item.options) for item in readable) / n if known else None,
    )


def _macro(items: Sequence[Item], scores: Sequence[Score], groups: Mapping[str, str]) -> Interval:
    """Mean over tasks, percent; records whose task is not known are in no task."""
    of_task = [(score.correct, item.clip, item.task) for item, score in zip(items, scores, strict=True)]
    of_task = [entry for entry in of_task if entry[2] != UNREADABLE] or of_task
    return _percent(group_share_interval(*zip(*of_task, strict=True), groups))


def _percent(interval: Interval) -> Interval:
    ends = [None if end is None else 100 * end for end in (interval.estimate, interval.low, interval.high)]
    return replace(interval, estimate=ends[0], low=ends[1], high=ends[2])


def _ends(interval: Interval) -> dict[str, Any]:
    return {
        "low": interval.low,
        "high": interval.high,
        "method": interval.method,
        "clips": interval.clusters,
        "unreliable": interval.unreliable,
    }

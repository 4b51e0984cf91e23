"""The answers of a study's models, and their figures: each arm by itself, and against another on the same questions."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mllm4d_verl.evaluation import ResponseRecord, Summary, compare_records, read_responses, summarise
from mllm4d_verl.evaluation.comparison import TaskComparison
from mllm4d_verl.evaluation.scoring import score_record
from mllm4d_verl.evaluation.statistics import Interval, crossed_interval
from mllm4d_verl.evaluation.summary import CenterSummary, by_question
from mllm4d_verl.reward import STReward, Vector, parse_response

from .planning import StudyPlan

ALL = "all"  # name of all tasks together, as in `evaluation.summary`
_AGREEMENT = "consistency"


def common_reward(preset: str) -> STReward:
    """The reward that all arms are scored by: a preset, with the agreement of geometry and answer observed."""
    return STReward(preset, components=[{"use": _AGREEMENT, "kind": "metric"}])


@dataclass(frozen=True)
class ArmAnswers:
    """Scored answers of an arm's models to one evaluation.

    Attributes:
        arm, evaluation: which.
        runs: key of the job -> answers; seeds whose model is the same share a job.
        keys: seed -> key of its job; seeds that are not answered yet are left out.
    """

    arm: str
    evaluation: str
    runs: dict[str, list[ResponseRecord]]
    keys: dict[int, str]

    def pooled(self, seeds: Iterable[int] | None = None) -> list[ResponseRecord]:
        """Answers of all models, or of those of some seeds; each model once."""
        keys = dict.fromkeys(self.keys[seed] for seed in (self.keys if seeds is None else seeds))
        return [record for key in keys for record in self.runs[key]]


@dataclass(frozen=True)
class ArmFigures:
    """Figures of an arm on one evaluation, over all its seeds.

    Attributes:
        arm, evaluation: which.
        seeds: those that are answered.
        models: number of different models among them.
        questions, clips, responses: counts.
        accuracy: by task, with "all" for all questions; intervals over clips and, with several models, over seeds.
        accuracy_by_seed: of all questions.
        chance: accuracy of guessing, by task; None where a question does not list its options.
        reward, format: of the common reward.
        camera_center, object_center: errors of stated centres, metres.
        agreement: share of responses whose stated centres entail the option they choose, of those that it can be told
            of; component `consistency`.
        response_tokens, response_chars: means; tokens are None where the answers' file does not say.
        invalid, truncated: shares of responses that commit to no option, and that were cut off.
        constant: share of the commonest stated centres among the responses that state any.
    """

    arm: str
    evaluation: str
    seeds: tuple[int, ...]
    models: int
    questions: int
    clips: int
    responses: int
    accuracy: dict[str, Interval]
    accuracy_by_seed: dict[int, float]
    chance: dict[str, float | None]
    reward: Interval
    format: Interval
    camera_center: CenterSummary
    object_center: CenterSummary
    agreement: Interval
    response_tokens: float | None
    response_chars: float
    invalid: float
    truncated: float | None
    constant: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """An arm minus another on the same questions of one evaluation.

    Attributes:
        arm, against, evaluation, seeds: which; seeds that both have.
        tasks: by task, "all" last: paired over questions, the seeds of each arm pooled, intervals over clips. They say
            how these models differ.
        crossed: by task: the same difference with an interval over clips and seeds. It says what new seeds would give.
        by_seed: accuracy of all questions, seed by seed.
    """

    arm: str
    against: str
    evaluation: str
    seeds: tuple[int, ...]
    tasks: dict[str, TaskComparison]
    crossed: dict[str, Interval]
    by_seed: dict[int, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def read_answers(plan: StudyPlan) -> dict[str, dict[str, ArmAnswers]]:
    """Evaluation -> arm -> answers, as far as jobs are done. Arms without any are left out."""
    reward = common_reward(plan.study.preset)

    @functools.cache
    def scored(key: str) -> list[ResponseRecord] | None:
        job = plan.jobs[key]
        if not job.is_done:
            return None
        records = read_responses(job.path)
        for record in records:
            record.scores = score_record(record, reward)
        return records

    found: dict[str, dict[str, ArmAnswers]] = {name: {} for name in plan.study.evaluations}
    for run in plan.runs:
        for name, key in run.evaluations.items():
            records = scored(key)
            if records is not None:
                answers = found[name].setdefault(run.arm, ArmAnswers(run.arm, name, {}, {}))
                answers.runs[key] = records
                answers.keys[run.seed] = key
    return found


def arm_figures(answers: ArmAnswers, preset: str) -> ArmFigures:
    """Figures of an arm on one evaluation."""
    records = answers.pooled()
    replicates = [key for key, some in answers.runs.items() for _ in some]
    summary = summarise(records, preset)
    chars = [len(record.response) for record in records]
    return ArmFigures(
        arm=answers.arm,
        evaluation=answers.evaluation,
        seeds=tuple(answers.keys),
        models=len(answers.runs),
        questions=summary.overall.questions,
        clips=summary.overall.clips,
        responses=summary.overall.responses,
        accuracy=_accuracies(records, replicates, summary),
        accuracy_by_seed={seed: _accuracy(answers.runs[key]) for seed, key in answers.keys.items()},
        chance={task.task: task.chance for task in (*summary.tasks, summary.overall)},
        reward=_interval(records, replicates, [_rewards(record)["score"] for record in records]),
        format=_interval(records, replicates, [_rewards(record)["format"] for record in records]),
        camera_center=summary.camera_center,
        object_center=summary.object_center,
        agreement=_agreement(records, replicates),
        response_tokens=summary.mean_response_tokens,
        response_chars=float(np.mean(chars)),
        invalid=summary.overall.invalid / len(records),
        truncated=None if summary.truncated is None else summary.truncated / len(records),
        constant=constant_share([record.response for record in records]),
    )


def compare_arms(arm: ArmAnswers, against: ArmAnswers, preset: str) -> Difference | None:
    """An arm minus another; None where they share no seed."""
    seeds = tuple(seed for seed in arm.keys if seed in against.keys)
    if not seeds:
        return None
    pooled = compare_records(against.pooled(seeds), arm.pooled(seeds), preset)
    crossed, by_seed = _crossed(arm, against, seeds)
    return Difference(
        arm=arm.arm,
        against=against.arm,
        evaluation=arm.evaluation,
        seeds=seeds,
        tasks={**{task.task: task for task in pooled.tasks}, ALL: pooled.overall},
        crossed=crossed,
        by_seed=by_seed,
    )


def constant_share(responses: Sequence[str]) -> float | None:
    """Share of the commonest stated centres, all four slots together, among the responses that state any."""
    stated = []
    for response in responses:
        parsed = parse_response(response)
        slots = (*parsed.camera_center, *parsed.object_center)
        points = tuple(slot.xyz if isinstance(slot, Vector) else None for slot in slots)
        if any(point is not None for point in points):
            stated.append(points)
    return Counter(stated).most_common(1)[0][1] / len(stated) if stated else None


def _accuracies(records: Sequence[ResponseRecord], replicates: Sequence[str], summary: Summary) -> dict[str, Interval]:
    """By task. Where a bootstrap says too little, the interval of the summary stands: Wilson's."""
    found = {}
    for task in (*summary.tasks, summary.overall):
        own = [i for i, record in enumerate(records) if task.task in (ALL, record.task)]
        some = [records[i] for i in own]
        interval = _interval(some, [replicates[i] for i in own], [record.scores["correct"] for record in some])
        found[task.task] = task.accuracy if len(set(replicates)) < 2 or interval.low is None else interval
    return found


def _interval(records: Sequence[ResponseRecord], replicates: Sequence[str], values: Sequence[float]) -> Interval:
    return crossed_interval(values, [record.clip_id for record in records], replicates)


def _agreement(records: Sequence[ResponseRecord], replicates: Sequence[str]) -> Interval:
    applies = [i for i, record in enumerate(records) if _rewards(record)[f"{_AGREEMENT}_applies"]]
    some = [records[i] for i in applies]
    return _interval(some, [replicates[i] for i in applies], [_rewards(record)[_AGREEMENT] for record in some])


def _crossed(
    arm: ArmAnswers, against: ArmAnswers, seeds: Sequence[int]
) -> tuple[dict[str, Interval], dict[int, float]]:
    """Differences by task with intervals over clips and seeds, and the difference of each seed."""
    rows: list[tuple[str, str, int, float]] = []  # task, clip, seed, difference
    for seed in seeds:
        before, after = (by_question(answers.runs[answers.keys[seed]]) for answers in (against, arm))
        for question, records in after.items():
            if question in before:
                difference = _accuracy(records) - _accuracy(before[question])
                rows.append((records[0].task, records[0].clip_id, seed, difference))
    tasks = (*dict.fromkeys(task for task, *_ in rows), ALL)
    crossed = {}
    for name in tasks:
        own = [row for row in rows if name in (ALL, row[0])]
        crossed[name] = crossed_interval([row[3] for row in own], [row[1] for row in own], [row[2] for row in own])
    by_seed = {seed: float(np.mean([row[3] for row in rows if row[2] == seed])) for seed in seeds}
    return crossed, by_seed


def _accuracy(records: Sequence[ResponseRecord]) -> float:
    return float(np.mean([record.scores["correct"] for record in records]))


def _rewards(record: ResponseRecord) -> Mapping[str, float]:
    return record.scores["reward"]

"""What happened in a study's trainings step by step, from the rollouts that verl dumped and the metrics it logged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.reward import STReward
from mllm4d_verl.training.metrics import read_metrics, series

from .answers import common_reward
from .planning import StudyPlan
from .work import METRICS, ROLLOUTS, VALIDATION

Series = list[tuple[int, float]]  # (step, value)

#: Figures of a training by step, with what they are.
FIGURES: dict[str, str] = {
    "own_reward": "mean reward that the arm was trained with",
    "reward": "mean common reward of the rollouts",
    "accuracy": "accuracy of the rollouts, by the common reward",
    "format": "format of the rollouts, by the common reward",
    "agreement": "share of rollouts whose stated centres entail their answer",
    "no_gradient": "share of groups whose rollouts all have one reward",
    "response_tokens": "tokens of a rollout",
    "held_out_accuracy": "accuracy on the validation questions, by the common reward",
    "held_out_reward": "mean common reward on the validation questions",
    "loss": "training loss (SFT and cold start)",
}
_TOKENS = ("response_length/mean",)
_LOSS = ("train/loss",)


@dataclass(frozen=True)
class TrainingRun:
    """The last training of an arm with one seed.

    Attributes:
        arm, seed: which.
        job: key of its job.
        folder: with logs, metrics (verl's, by launch), rollouts, hf; relative to the study's.
        steps: number of training steps.
        seconds, processor_seconds: of all its processes, over all launches.
        launches: how often it was started.
        peak_memory_bytes: summed over its processes, at its highest; of the last launch.
        matched: what the number of steps was worked out from, where the arm matches the time of another.
        versions: of what it ran with.
        series: figure -> values by step; see `FIGURES`.
    """

    arm: str
    seed: int
    job: str
    folder: str
    steps: int
    seconds: float
    processor_seconds: float
    launches: int
    peak_memory_bytes: int
    matched: dict[str, float] | None
    versions: dict[str, str]
    series: dict[str, Series]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def read_trainings(plan: StudyPlan) -> list[TrainingRun]:
    """The last training of every arm and seed, as far as it is done."""
    reward = common_reward(plan.study.preset)
    known: dict[str, dict[str, Series]] = {}
    found = []
    for run in plan.runs:
        job = plan.jobs[run.trainings[-1]] if run.trainings else None
        record = None if job is None else job.record()
        if job is None or record is None:
            continue
        if job.key not in known:
            known[job.key] = training_series(job.path, reward)
        figures = record["figures"]
        found.append(
            TrainingRun(
                arm=run.arm,
                seed=run.seed,
                job=job.key,
                folder=str(job.path.relative_to(plan.out)),
                **{name: figures[name] for name in ("steps", "seconds", "processor_seconds", "launches")},
                peak_memory_bytes=record["peak_memory_bytes"],
                matched=figures["matched"],
                versions=figures["versions"],
                series=known[job.key],
            )
        )
    return found


def training_series(folder: Path, reward: STReward) -> dict[str, Series]:
    """Figures of a training by step; those that its folder says nothing of are left out."""
    metrics = read_metrics(folder / METRICS)
    found = {
        **_rollout_series(folder / ROLLOUTS, reward),
        **_held_out_series(folder / VALIDATION, reward),
        "response_tokens": series(metrics, _TOKENS),
        "loss": series(metrics, _LOSS),
    }
    return {name: values for name, values in found.items() if values}


def mean_and_range(runs: Iterable[Series]) -> list[tuple[int, float, float, float]]:
    """(step, mean, lowest, highest) over runs, at the steps that all of them have."""
    by_run = [dict(values) for values in runs]
    steps = sorted(set.intersection(*map(set, by_run))) if by_run else []
    values = [[run[step] for run in by_run] for step in steps]
    return [(step, float(np.mean(some)), min(some), max(some)) for step, some in zip(steps, values, strict=True)]


def _rollout_series(folder: Path, reward: STReward) -> dict[str, Series]:
    from mllm4d_verl.rollouts import score_file
    from mllm4d_verl.rollouts.summary import group_figures

    if not _has_dumps(folder):
        return {}
    table = score_file(folder, reward)
    found: dict[str, Series] = {}
    for step, rows in table.groupby("step"):
        applies = rows[rows["consistency_applies"] > 0]
        same = group_figures(rows.assign(score=rows["recorded_score"])).same_score
        values = {
            "own_reward": rows["recorded_score"].mean(),
            "reward": rows["score"].mean(),
            "accuracy": rows["accuracy"].mean(),
            "format": rows["format"].mean(),
            "agreement": applies["consistency"].mean() if len(applies) else None,
            "no_gradient": same,
        }
        for name, value in values.items():
            if value is not None:
                found.setdefault(name, []).append((int(step), float(value)))
    return found


def _held_out_series(folder: Path, reward: STReward) -> dict[str, Series]:
    from mllm4d_verl.rollouts import score_file

    if not _has_dumps(folder):
        return {}
    by_step = score_file(folder, reward).groupby("step")[["accuracy", "score"]].mean()
    return {
        "held_out_accuracy": [(int(step), float(value)) for step, value in by_step["accuracy"].items()],
        "held_out_reward": [(int(step), float(value)) for step, value in by_step["score"].items()],
    }


def _has_dumps(folder: Path) -> bool:
    from mllm4d_verl.rollouts.reading import rollout_files

    try:
        return bool(rollout_files(folder))
    except InputError:
        return False

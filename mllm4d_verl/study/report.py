"""The report of a study: figures of all that is done, as results.json, results.md, results.csv and pictures."""

from __future__ import annotations

import csv
import json
import math
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from mllm4d_verl.data_tools.atomic import atomic_path
from mllm4d_verl.evaluation.statistics import Interval
from mllm4d_verl.evaluation.tables import escape_csv

from .answers import ALL, ArmAnswers, ArmFigures, Difference, arm_figures, compare_arms, read_answers
from .curves import draw_accuracy, draw_curves
from .planning import StudyPlan
from .settings import START
from .signs import Sign, signs_of
from .training_series import TrainingRun, read_trainings

RESULTS = "results"
CURVES = "curves"


@dataclass(frozen=True)
class StudyReport:
    """All figures of a study.

    Attributes:
        name: of the study.
        preset: of the reward that all arms are scored by.
        baseline: the arm that the others are compared with.
        figures: evaluation -> arm -> figures.
        differences: arms minus the baseline, and minus the start model.
        trainings: last training of each arm and seed.
        signs: arm -> signs of reward hacking, on the first evaluation without a control.
        unfinished: jobs that are not done, with why they failed, or None.
        machine: that the report was made on.
        files: what was written.
    """

    name: str
    preset: str
    baseline: str
    figures: dict[str, dict[str, ArmFigures]]
    differences: list[Difference]
    trainings: list[TrainingRun]
    signs: dict[str, list[Sign]]
    unfinished: dict[str, str | None]
    machine: dict[str, Any]
    files: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; numbers that are not finite are null."""
        content: dict[str, Any] = _plain(asdict(self))
        return content

    def difference(self, evaluation: str, arm: str, against: str) -> Difference | None:
        """The difference of two arms on one evaluation, if it was computed."""
        wanted = (evaluation, arm, against)
        return next((d for d in self.differences if (d.evaluation, d.arm, d.against) == wanted), None)


def report_study(plan: StudyPlan) -> StudyReport:
    """Compute the figures of all jobs that are done, and write them to the study's folder."""
    from .markdown import study_markdown

    study, out = plan.study, plan.out
    answers = read_answers(plan)
    figures = {
        name: {arm: arm_figures(some, study.preset) for arm, some in arms.items()} for name, arms in answers.items()
    }
    trainings = read_trainings(plan)
    differences = list(_differences(answers, study.baseline_arm, study.preset))
    report = StudyReport(
        name=study.name,
        preset=study.preset,
        baseline=study.baseline_arm,
        figures=figures,
        differences=differences,
        trainings=trainings,
        signs=_signs(plan, figures, differences, trainings),
        unfinished={job.key: job.failure() for job in plan.jobs.values() if not job.is_done},
        machine=_machine(),
        files=[],
    )
    pictures = [*draw_curves(trainings, out / CURVES), *draw_accuracy(figures, out / CURVES)]
    names = [f"{RESULTS}.{suffix}" for suffix in ("json", "md", "csv")]
    report.files.extend([*names, *(str(file.relative_to(out)) for file in pictures)])
    _write(out / names[0], json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n")
    _write(out / names[1], study_markdown(report, plan))
    _write_csv(out / names[2], report)
    return report


def _differences(answers: dict[str, dict[str, ArmAnswers]], baseline: str, preset: str) -> Iterator[Difference]:
    """Every arm against the start model, and against the baseline."""
    for arms in answers.values():
        for against in (START, baseline):
            for name, arm in arms.items():
                if against in arms and name not in (START, against):
                    difference = compare_arms(arm, arms[against], preset)
                    if difference is not None:
                        yield difference


def _signs(
    plan: StudyPlan,
    figures: dict[str, dict[str, ArmFigures]],
    differences: list[Difference],
    trainings: list[TrainingRun],
) -> dict[str, list[Sign]]:
    plain = [name for name, asked in plan.study.evaluations.items() if asked.control is None]
    if not plain:
        return {}
    arms = figures[plain[0]]
    gains = {d.arm: d for d in differences if d.evaluation == plain[0] and d.against == START}
    return {
        name: signs_of(arm, arms.get(START), gains.get(name), [run for run in trainings if run.arm == name])
        for name, arm in arms.items()
        if name != START
    }


def _write_csv(file: Path, report: StudyReport) -> None:
    """One figure a row, unrounded."""
    columns = ("evaluation", "arm", "against", "task", "figure", "estimate", "low", "high", "method", "n", "clips")
    with atomic_path(file) as part, open(part, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow((*columns, "seeds"))
        for evaluation, arms in report.figures.items():
            for arm, figures in arms.items():
                for task, name, value in _arm_values(figures):
                    writer.writerow(escape_csv((evaluation, arm, "", task, name, *_cells(value), len(figures.seeds))))
        for difference in report.differences:
            place = (difference.evaluation, difference.arm, difference.against)
            for task, compared in difference.tasks.items():
                for name, value in (("accuracy", compared.accuracy), ("reward", compared.reward)):
                    cells = (*place, task, f"{name} difference", *_cells(value), len(difference.seeds))
                    writer.writerow(escape_csv(cells))
            for task, value in difference.crossed.items():
                cells = (*place, task, "accuracy difference", *_cells(value), len(difference.seeds))
                writer.writerow(escape_csv(cells))


def _arm_values(figures: ArmFigures) -> Iterator[tuple[str, str, Interval | float | None]]:
    """(task, figure, value)."""
    for task, interval in figures.accuracy.items():
        yield task, "accuracy", interval
    for name in (
        "reward",
        "format",
        "agreement",
        "response_tokens",
        "response_chars",
        "invalid",
        "truncated",
        "constant",
    ):
        yield ALL, name, getattr(figures, name)
    for name in ("camera_center", "object_center"):
        yield ALL, f"{name} median error m", getattr(figures, name).median_m
        yield ALL, f"{name} coverage", getattr(figures, name).coverage


def _cells(value: Interval | float | None) -> tuple[Any, ...]:
    if isinstance(value, Interval):
        return value.estimate, value.low, value.high, value.method, value.n, value.clusters
    return value, "", "", "", "", ""


def _machine() -> dict[str, Any]:
    memory = psutil.virtual_memory().total
    return {"cores": psutil.cpu_count(), "memory_gib": round(memory / 2**30, 1), "system": platform.platform()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(file: Path, text: str) -> None:
    with atomic_path(file) as part:
        Path(part).write_text(text, encoding="utf-8")

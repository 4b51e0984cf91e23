"""A study's report as a page: what was run, what came out, and how sure it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mllm4d_verl.evaluation.statistics import Interval
from mllm4d_verl.evaluation.successive import p_text, percent_text

from .answers import ALL, ArmFigures, Difference
from .planning import StudyPlan
from .report import CURVES, StudyReport
from .settings import START, ArmSettings, StudySettings
from .training_series import TrainingRun

_Row = Sequence[str]
_MATCHED_WITHIN = 0.1  # of the time to take


def study_markdown(report: StudyReport, plan: StudyPlan) -> str:
    """The whole page."""
    study = plan.study
    parts: list[str] = [f"# {study.name}", *_head(report, study), *_notes(report, plan)]
    parts += ["## Arms", _table(_arm_rows(report, study))]
    for name, arms in report.figures.items():
        if arms:
            parts += _evaluation(report, study, name, arms)
    parts += ["## Signs of reward hacking", *_signs(report)]
    parts += ["## Training", *_training(report)]
    pictures = [file for file in report.files if file.startswith(CURVES)]
    parts += ["## Curves", *(f"![{file}]({file})" for file in pictures)] if pictures else []
    return "\n\n".join(parts) + "\n"


def _head(report: StudyReport, study: StudySettings) -> list[str]:
    machine = report.machine
    return [
        f"Command: `mllm4d study run {study.file}`. Recipe {study.recipe}, start model `{study.model}`, questions "
        f"`{study.data}`, seeds {', '.join(map(str, study.seeds))}. Report made on a machine with {machine['cores']} "
        f"cores and {machine['memory_gib']} GiB.",
        f"All arms are scored by the same reward, `{report.preset}`, whatever they were trained with. Intervals are "
        "95%; clips are resampled whole.",
    ]


def _notes(report: StudyReport, plan: StudyPlan) -> Iterator[str]:
    """What the reader has to know before the figures."""
    if len(plan.study.seeds) == 1:
        yield "**One seed only**: no figure on this page says what another seed would give."
    if report.unfinished:
        failed = {key: why for key, why in report.unfinished.items() if why is not None}
        yield f"**Not finished**: {len(report.unfinished)} of {len(plan.jobs)} jobs are not done, {len(failed)} failed."
        if failed:
            yield "\n".join(f"* `{key}`: {' '.join(why.split())[:300]}" for key, why in failed.items())
    found = [tuple(sorted(run.versions.items())) for run in report.trainings]
    if len(set(found)) > 1:
        yield "**Versions differ** between trainings; results.json has them."
    yield from _unmatched(report, plan.study)
    resumed = [f"{run.arm}/{run.seed}" for run in report.trainings if run.launches > 1]
    if resumed:
        yield f"Interrupted and resumed, so that their times count some steps twice: {', '.join(resumed)}."


def _unmatched(report: StudyReport, study: StudySettings) -> Iterator[str]:
    """Trainings that did not take the time that they were to take."""
    for run in report.trainings:
        if run.matched is not None and run.arm in study.arms:
            took = run.processor_seconds if study.arms[run.arm].match_cpu_seconds_of is not None else run.seconds
            target = run.matched["target"]
            if abs(took - target) > _MATCHED_WITHIN * target:
                yield (
                    f"**Times differ**: {run.arm}/{run.seed} took {took:.0f} s in place of the {target:.0f} s of "
                    f"{study.arms[run.arm].matched_arm}; a larger `pilot_steps` measures better."
                )


def _arm_rows(report: StudyReport, study: StudySettings) -> Iterator[_Row]:
    yield "arm", "what it is", "seeds", "steps", "processor seconds", "wall seconds"
    for name, arm in study.arms.items():
        runs = [run for run in report.trainings if run.arm == name]
        yield (
            f"{name} (baseline)" if name == report.baseline else name,
            _described(arm),
            ", ".join(str(run.seed) for run in runs) or "-",
            _range([run.steps for run in runs]),
            _range([run.processor_seconds for run in runs]),
            _range([run.seconds for run in runs]),
        )


def _described(arm: ArmSettings) -> str:
    parts = [] if arm.stage == "grpo" else [arm.stage]
    parts += [f"reward {arm.reward}"] if arm.reward is not None else []
    parts += [f"components {', '.join(map(str, arm.components))}"] if arm.components else []
    parts += [f"{key} {value:g}" for key, value in arm.weights.items()]
    parts += [f"`{override}`" for override in arm.overrides]
    parts += [f"after {', '.join(stage.stage for stage in arm.stages)}"] if arm.stages else []
    parts += [f"as long as {arm.matched_arm}"] if arm.matched_arm is not None else []
    return "; ".join(parts) or "the recipe"


def _evaluation(report: StudyReport, study: StudySettings, name: str, arms: dict[str, ArmFigures]) -> Iterator[str]:
    asked = study.evaluations[name]
    counts = "; ".join(dict.fromkeys(f"{one.questions} questions, {one.clips} clips" for one in arms.values()))
    how = "greedy" if asked.temperature == 0 else f"{asked.samples} at temperature {asked.temperature:g}"
    control = f", **{asked.control}**" if asked.control else ""
    yield f"## Evaluation {name}"
    yield f"`{asked.data}`, prompt {asked.template}, answers {how}{control}: {counts}."
    yield "### Accuracy, %, over clips and seeds"
    yield _table(_accuracy_rows(arms))
    yield "### Accuracy of each seed, %"
    yield _table(_seed_rows(study, arms))
    for against in (START, report.baseline):
        some = [d for d in report.differences if (d.evaluation, d.against) == (name, against)]
        if some:
            yield f"### Points above {'the start model' if against == START else against}, on the same questions"
            yield _table(_difference_rows(some))
            several = any(len(difference.seeds) > 1 for difference in some)
            yield f"By task, intervals over clips{' and seeds' if several else ''}:"
            yield _table(_task_difference_rows(some))
    yield (
        "*These models*: the difference of the models that were trained, interval over clips. *New seeds*: the same "
        "with seeds resampled too; with two or three seeds a rough guide. A difference whose interval holds 0 was not "
        "shown. McNemar takes questions for independent; trust the interval where several are about one clip."
    )
    yield "### Geometry and form"
    yield _table(_form_rows(arms))


def _accuracy_rows(arms: dict[str, ArmFigures]) -> Iterator[_Row]:
    yield "task", "chance", *(_with_models(one) for one in arms.values())
    tasks = dict.fromkeys(task for one in arms.values() for task in one.accuracy if task != ALL)
    for task in (*tasks, ALL):
        chance = next((one.chance[task] for one in arms.values() if task in one.chance), None)
        cells = (percent_text(one.accuracy[task]) if task in one.accuracy else "-" for one in arms.values())
        yield task.replace("_", " "), _percent(chance), *cells


def _seed_rows(study: StudySettings, arms: dict[str, ArmFigures]) -> Iterator[_Row]:
    yield "seed", *arms
    for seed in study.seeds:
        yield str(seed), *(_percent(one.accuracy_by_seed.get(seed)) for one in arms.values())


def _difference_rows(differences: Sequence[Difference]) -> Iterator[_Row]:
    yield "arm", "these models", "new seeds", "each seed", "McNemar p", "reward"
    for difference in differences:
        overall = difference.tasks[ALL]
        yield (
            difference.arm,
            percent_text(overall.accuracy, signed=True),
            percent_text(difference.crossed[ALL], signed=True) if len(difference.seeds) > 1 else "one seed",
            " ".join(f"{100 * value:+.1f}" for value in difference.by_seed.values()),
            p_text(overall.mcnemar_p),
            _interval(overall.reward, "+"),
        )


def _task_difference_rows(differences: Sequence[Difference]) -> Iterator[_Row]:
    yield "task", *(difference.arm for difference in differences)
    for task in dict.fromkeys(task for difference in differences for task in difference.tasks if task != ALL):
        cells = (one.crossed.get(task) for one in differences)
        yield task.replace("_", " "), *("-" if cell is None else percent_text(cell, signed=True) for cell in cells)


def _form_rows(arms: dict[str, ArmFigures]) -> Iterator[_Row]:
    yield (
        "arm",
        "camera error, m (stated)",
        "object error, m (stated)",
        "geometry agrees with answer, %",
        "format",
        "reward",
        "tokens",
        "invalid, %",
        "cut off, %",
    )
    for name, one in arms.items():
        tokens = one.response_tokens
        yield (
            name,
            *(f"{_number(c.median_m)} ({_percent(c.coverage)}%)" for c in (one.camera_center, one.object_center)),
            percent_text(one.agreement),
            _interval(one.format),
            _interval(one.reward),
            f"{one.response_chars:.0f} characters" if tokens is None else f"{tokens:.0f}",
            _percent(one.invalid),
            _percent(one.truncated),
        )


def _signs(report: StudyReport) -> Iterator[str]:
    if not report.signs:
        yield "There is no evaluation without a control to tell them from."
        return
    names = [sign.name for sign in next(iter(report.signs.values()))]
    rows: list[_Row] = [("arm", *names)]
    for arm, signs in report.signs.items():
        words = {True: "**seen**", False: "not seen", None: "not known"}
        rows.append((arm, *(f"{words[sign.seen]}: {sign.why}" for sign in signs)))
    yield _table(rows)
    yield "A sign is a reason to read answers (`mllm4d reward explain`), no proof. docs/study.md has the thresholds."


def _training(report: StudyReport) -> Iterator[str]:
    if not report.trainings:
        yield "No training is done."
        return
    rows: list[_Row] = [
        (
            "arm/seed",
            "own reward, first to last third",
            "groups without gradient, %",
            "tokens, first to last third",
            "held-out accuracy, %, first to last",
            "folder",
        )
    ]
    for run in report.trainings:
        series = run.series
        rows.append(
            (
                f"{run.arm}/{run.seed}",
                _thirds(run, "own_reward", 1.0, 3),
                _percent(_mean([value for _, value in series.get("no_gradient", [])])),
                _thirds(run, "response_tokens", 1.0, 0),
                " to ".join(_percent(series["held_out_accuracy"][i][1]) for i in (0, -1))
                if "held_out_accuracy" in series
                else "-",
                f"`{run.folder}`",
            )
        )
    yield _table(rows)


def _thirds(run: TrainingRun, name: str, factor: float, decimals: int) -> str:
    values = [value for _, value in run.series.get(name, [])]
    if not values:
        return "-"
    third = max(1, len(values) // 3)
    first, last = _mean(values[:third]), _mean(values[-third:])
    return " to ".join(f"{factor * value:.{decimals}f}" for value in (first, last) if value is not None)


def _with_models(figures: ArmFigures) -> str:
    return f"{figures.arm} ({figures.models} model{'s' if figures.models > 1 else ''})"


def _range(values: Sequence[float]) -> str:
    if not values:
        return "-"
    low, high = (f"{value:,.0f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _interval(interval: Interval, sign: str = "") -> str:
    if interval.estimate is None:
        return "-"
    text = f"{interval.estimate:{sign}.3f}"
    if interval.low is None or interval.high is None:
        return text
    return f"{text} ({interval.low:{sign}.3f} to {interval.high:{sign}.3f})"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _table(rows: Iterable[_Row]) -> str:
    head, *rest = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    columns = head.replace("\\|", "").count("|") - 1
    return "\n".join([head, "|" + "---|" * columns, *rest])

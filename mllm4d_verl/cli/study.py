"""`mllm4d study`: compare rewards, or any settings, from one YAML: arms x seeds, tables, curves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mllm4d_verl.cli.output import emit_json, open_console

if TYPE_CHECKING:
    from mllm4d_verl.study import StudyPlan, StudyReport
    from mllm4d_verl.study.executors import Finished

app = typer.Typer(
    help="Compare rewards, or any settings, from one YAML: arms x seeds, tables and curves.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_StudyArgument = Annotated[Path, typer.Argument(metavar="STUDY", help="YAML of the study, see docs/study.md.")]
_OutOption = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder for everything. Default: outputs/study/<name>.", show_default=False),
]
_ExecutorOption = Annotated[
    str | None, typer.Option(help="local or ray, in the place of the YAML's.", show_default=False)
]
_JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON line at the end.")]

_EXIT_FAULT = 1


@app.command()
def plan(study: _StudyArgument, out: _OutOption = None, json_line: _JsonOption = False) -> None:
    """Print the jobs of a study: what is done, what would run, and which arms share it."""
    planned = _planned(study, out)
    _print_plan(planned)
    if json_line:
        emit_json({"out": planned.out, "jobs": [_job_record(planned, key) for key in planned.jobs]})


@app.command()
def run(
    study: _StudyArgument,
    out: _OutOption = None,
    executor: _ExecutorOption = None,
    json_line: _JsonOption = False,
) -> None:
    """Run whatever of a study is not done yet, then write its report. The same command goes on after any end."""
    from dataclasses import replace

    from mllm4d_verl.study import load_study, report_study, run_study
    from mllm4d_verl.study.settings import check_executor

    settings = load_study(study)
    if executor is not None:
        settings = replace(settings, executor=check_executor(executor))
    result = run_study(settings, _folder(settings.name, out), on_start=_say_start, on_finished=_say_finished)
    report = report_study(result.plan)
    _print_report(report, result.plan)
    if json_line:
        failed = {one.job.key: one.error for one in result.failed}
        emit_json({"out": result.plan.out, "failed": failed, "results": report.to_dict()})
    if result.failed:
        raise typer.Exit(_EXIT_FAULT)


@app.command()
def report(study: _StudyArgument, out: _OutOption = None, json_line: _JsonOption = False) -> None:
    """Write the report of what is done so far: results.md, results.json, results.csv, curves."""
    from mllm4d_verl.study import report_study

    planned = _planned(study, out)
    result = report_study(planned)
    _print_report(result, planned)
    if json_line:
        emit_json({"out": planned.out, "results": result.to_dict()})


def _folder(name: str, out: Path | None) -> Path:
    return (out or Path("outputs", "study", name)).absolute()


def _planned(study: Path, out: Path | None) -> StudyPlan:
    from mllm4d_verl.study import load_study, plan_study

    settings = load_study(study)
    return plan_study(settings, _folder(settings.name, out))


def _job_record(planned: StudyPlan, key: str) -> dict[str, Any]:
    job = planned.jobs[key]
    return {"key": key, "kind": job.kind, "done": job.is_done, "after": job.after, "for": planned.users(key)}


def _print_plan(planned: StudyPlan) -> None:
    from rich.table import Table

    table = Table(title=f"{planned.study.name}: {planned.out}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("", "job", "for arm/seed"):
        table.add_column(heading, overflow="fold")
    for key in planned.jobs:
        record = _job_record(planned, key)
        table.add_row("done" if record["done"] else "to do", key, ", ".join(record["for"]))
    open_console().print(table)
    done = sum(job.is_done for job in planned.jobs.values())
    wanted = sum(len(run.trainings) + len(run.evaluations) for run in planned.runs)
    print(f"{len(planned.jobs)} jobs, {done} done; sharing saves {wanted - len(planned.jobs)} more")


def _say_start(job: Any) -> None:
    from mllm4d_verl.training.console import console

    console.print(f"{job.key}: {job.folder}", style="dim", highlight=False, soft_wrap=True)


def _say_finished(finished: Finished) -> None:
    from mllm4d_verl.training.console import console, done_line

    job = finished.job
    if finished.error is not None:
        console.print(f"✗ {job.key}: {finished.error}", style="red", highlight=False, soft_wrap=True)
        return
    record = job.record() or {"seconds": 0.0}
    state = f"{record['seconds']:.0f} s" if finished.was_run else "done before"
    console.print(done_line(f"{job.key} {state}"), soft_wrap=True)


def _print_report(report: StudyReport, planned: StudyPlan) -> None:
    from rich.table import Table

    from mllm4d_verl.evaluation.successive import percent_text
    from mllm4d_verl.study.answers import ALL
    from mllm4d_verl.study.settings import START

    console = open_console()
    for name, arms in report.figures.items():
        table = Table(title=name, title_justify="left", box=None, padding=(0, 2, 0, 0))
        for heading in ("arm", "accuracy %", "above start", f"above {report.baseline}", "models"):
            table.add_column(heading)
        for arm, figures in arms.items():
            gains = [report.difference(name, arm, against) for against in (START, report.baseline)]
            points = ["-" if gain is None else percent_text(gain.crossed[ALL], signed=True) for gain in gains]
            table.add_row(arm, percent_text(figures.accuracy[ALL]), *points, str(figures.models))
        if arms:
            console.print(table)
    print(f"Report: {planned.out / 'results.md'}")

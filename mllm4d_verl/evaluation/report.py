"""Tables for people, narrow enough for 80 columns."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .comparison import Comparison, TaskComparison
from .statistics import Interval
from .summary import CenterSummary, Summary, TaskSummary
from .wording import mark, p_text, reliability_note


def print_summary(summary: Summary, console: Console, title: str = "") -> None:
    """One line per task, then what the numbers mean."""
    table = Table(title=Text(title) if title else None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("task", min_width=14)
    for heading in ("n", "accuracy", "95% interval", "chance", "invalid", "reward"):
        table.add_column(heading, justify="right", no_wrap=True)
    for task in summary.tasks:
        table.add_row(*_task_cells(task))
    table.add_section()
    table.add_row(*_task_cells(summary.overall), style="bold")
    tasks_mean = summary.mean_of_tasks
    table.add_row("mean of tasks", "", _percent(tasks_mean.estimate), _range(tasks_mean), "", "", "")
    console.print(table)
    for line in _notes(summary):
        console.print(line, highlight=False)


def print_comparison(comparison: Comparison, console: Console, name_a: str = "A", name_b: str = "B") -> None:
    """One line per task: both accuracies, the difference, and who is right alone."""
    table = Table(title=Text(f"A: {name_a}\nB: {name_b}"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("task", min_width=14)
    for heading in ("n", "A", "B", "B-A", "95% interval", "only A", "only B", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for task in comparison.tasks:
        table.add_row(*_comparison_cells(task))
    table.add_section()
    table.add_row(*_comparison_cells(comparison.overall), style="bold")
    console.print(table)
    reward = comparison.overall.reward
    console.print(
        f"ST-reward, preset {comparison.preset}: B-A {reward.estimate:+.3f} ({_plain_range(reward, signed=True)}).",
        highlight=False,
    )
    console.print(
        "Differences are paired by question; intervals take whole clips for independent. An interval that holds 0 "
        "shows no difference. p: McNemar's exact test of only A against only B.",
        highlight=False,
    )
    note = reliability_note([task.accuracy for task in [*comparison.tasks, comparison.overall]])
    if note is not None:
        console.print(note, highlight=False, markup=False)
    if comparison.left_out_a or comparison.left_out_b:
        console.print(
            f"Left out, answered by one run only: {comparison.left_out_a} of A, {comparison.left_out_b} of B.",
            highlight=False,
        )


def _task_cells(task: TaskSummary) -> list[str]:
    return [
        task.task.replace("_", " "),
        str(task.questions),
        _percent(task.accuracy.estimate),
        _range(task.accuracy),
        _percent(task.chance),
        str(task.invalid),
        _number(task.reward.estimate),
    ]


def _comparison_cells(task: TaskComparison) -> list[str]:
    return [
        task.task.replace("_", " "),
        str(task.questions),
        _percent(task.accuracy_a),
        _percent(task.accuracy_b),
        f"{100 * task.accuracy.estimate:+.1f}",
        _range(task.accuracy, signed=True),
        str(task.only_a),
        str(task.only_b),
        p_text(task.mcnemar_p),
    ]


def _notes(summary: Summary) -> list[str]:
    lines = [
        "Accuracy counts an invalid response (no option, or several) as wrong; "
        f"over the {_valid(summary)} valid ones it is {_percent(summary.overall.accuracy_of_valid)}.",
        "Intervals take whole clips for independent, and questions about one clip not.",
        f"ST-reward, preset {summary.preset}: {_number(summary.overall.reward.estimate)} "
        f"({_plain_range(summary.overall.reward)}); format {_number(summary.overall.format.estimate)}; "
        f"{summary.overall.questions} questions about {summary.overall.clips} clips.",
        _center_line("camera", summary.camera_center),
        _center_line("object", summary.object_center),
    ]
    if summary.samples is not None:
        chances = ", ".join(
            f"pass@{k} {_percent(value.estimate)} ({_range(value)})" for k, value in summary.samples.pass_at.items()
        )
        lines.append(
            f"{summary.samples.per_question} responses to a question: {chances}; majority vote "
            f"{_percent(summary.samples.majority.estimate)} ({_range(summary.samples.majority)})."
        )
    if summary.mean_response_tokens is not None:
        lines.append(f"Response length: {summary.mean_response_tokens:.0f} tokens on average.")
    shown = [task.accuracy for task in [*summary.tasks, summary.overall]] + [summary.mean_of_tasks]
    if summary.samples is not None:
        shown += [*summary.samples.pass_at.values(), summary.samples.majority]
    if (note := reliability_note(shown)) is not None:
        lines.append(note)
    if summary.truncated:
        lines.append(f"{summary.truncated} responses were cut off at the token limit: raise --max-tokens.")
    return lines


def _center_line(name: str, center: CenterSummary) -> str:
    if not center.due:
        return f"Stated {name} centres: no question has them."
    stated = f"{center.stated} of {center.due} responses ({_percent(center.coverage)})"
    if not center.stated:
        return f"Stated {name} centres: {stated}."
    return f"Stated {name} centres: {stated}, error median {center.median_m:.3f} m, mean {center.mean_m:.3f} m."


def _valid(summary: Summary) -> int:
    return summary.overall.responses - summary.overall.invalid


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _range(interval: Interval, signed: bool = False) -> str:
    """In percent, marked where it cannot be relied on."""
    if interval.low is None or interval.high is None:
        return f"-{mark(interval)}"
    sign = "+" if signed else ""
    return f"{100 * interval.low:{sign}.1f} to {100 * interval.high:{sign}.1f}{mark(interval)}"


def _plain_range(interval: Interval, signed: bool = False) -> str:
    if interval.low is None or interval.high is None:
        return f"no interval{mark(interval)}"
    sign = "+" if signed else ""
    return f"{interval.low:{sign}.3f} to {interval.high:{sign}.3f}{mark(interval)}"

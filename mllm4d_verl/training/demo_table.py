"""The demo's final table: every stage and control on the same held-out questions, and the paired tests between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mllm4d_verl.evaluation.successive import SuccessiveRuns, p_text, percent_text

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table


def demo_table(results: SuccessiveRuns) -> Group:
    """Three rich tables that fit 80 columns: the models, the steps between them, the tasks."""
    from rich.console import Group

    return Group(_models(results), _steps(results), _tasks(results))


def _models(results: SuccessiveRuns) -> Table:
    questions = next(iter(results.summaries.values())).overall.questions
    guess = results.text_only_accuracy
    table = _table(
        f"Held-out clips, {questions} questions, 95% intervals",
        ("model", "accuracy %", "chance", "text\nonly", "format", "ST-reward", "invalid"),
    )
    for name, summary in results.summaries.items():
        overall = summary.overall
        is_control = name in results.control_names
        if is_control and overall.questions != questions:
            name = f"{name}, {overall.questions} questions"
        table.add_row(
            name,
            percent_text(overall.accuracy),
            _percent(overall.chance),
            _percent(None if guess is None else guess.estimate),
            _number(overall.format.estimate),
            _number(overall.reward.estimate) + _span(overall.reward.low, overall.reward.high),
            str(overall.invalid),
        )
    table.caption = (
        "chance: 1 / options; text only: the best guess learnt from other clips' questions without video"
        f"{'' if guess is None else f', {percent_text(guess)}'}"
        f"{_prompts(results)}; ?: too few clips or answers of a kind for the interval\n"
    )
    return table


def _prompts(results: SuccessiveRuns) -> str:
    """Which models were asked with which prompt template."""
    asked: dict[str, list[str]] = {}
    for name, template in results.templates.items():
        if name not in results.control_names:
            asked.setdefault(template, []).append(name)
    return "".join(f"; {template}: prompt of {', '.join(names)}" for template, names in asked.items())


def _steps(results: SuccessiveRuns) -> Table:
    table = _table(
        "Paired on the same questions: intervals over whole clips, McNemar's exact test",
        ("step", "accuracy, points", "only\nbefore/after", "McNemar\np", "ST-reward"),
    )
    for step in results.steps:
        overall = step.overall
        reward = overall.reward
        table.add_row(
            f"{step.before} → {step.after.removeprefix(step.before).strip()}",
            percent_text(overall.accuracy, signed=True),
            f"{overall.only_a} / {overall.only_b}",
            p_text(overall.mcnemar_p),
            _number(reward.estimate, "+") + _span(reward.low, reward.high, "+"),
        )
    return table


def _tasks(results: SuccessiveRuns) -> Table:
    summaries = results.summaries
    by_task = {name: {task.task: task for task in summary.tasks} for name, summary in summaries.items()}
    table = _table(
        "Accuracy % by task", ("task", "n", "chance", "text\nonly", *(_in_lines(name) for name in summaries))
    )
    for task in next(iter(summaries.values())).tasks:
        own = (cells.get(task.task) for cells in by_task.values())
        table.add_row(
            task.task.replace("_", " "),
            str(task.questions),
            _percent(task.chance),
            _percent(None if (guess := results.text_only.get(task.task)) is None else guess.estimate),
            *("-" if cell is None else _percent(cell.accuracy.estimate) for cell in own),
        )
    return table


def demo_comparison(summary: dict[str, Any]) -> str:
    """What GRPO brought, in words and figures."""
    overall = summary["comparison"]["overall"]
    return (
        f"GRPO minus its cold start, {overall['questions']} held-out questions of the tasks it was trained on, answers "
        f"sampled as in training: ST-reward {_difference(overall['reward'], 1, 3)}, "
        f"accuracy {_difference(overall['accuracy'], 100, 1)} points"
    )


def _table(title: str, headings: tuple[str, ...]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(
        title=title,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column(headings[0], overflow="fold")
    for heading in headings[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _in_lines(name: str) -> str:
    """A heading that is no wider than its longest word."""
    return "\n".join(name.split())


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.2f}"


def _span(low: float | None, high: float | None, sign: str = "") -> str:
    if low is None or high is None:  # too few clips for an interval
        return ""
    return f" ({low:{sign}.2f}{', ' if sign else '-'}{high:{sign}.2f})"


def _difference(interval: dict[str, Any], factor: float, decimals: int) -> str:
    estimate, low, high = (interval[name] for name in ("estimate", "low", "high"))
    text = f"{factor * estimate:+.{decimals}f}"
    return text if low is None else f"{text} ({factor * low:+.{decimals}f} to {factor * high:+.{decimals}f})"

"""Tables of several runs side by side, for papers and reports: Markdown, CSV, LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import TASKS

from .named_runs import NamedRun
from .statistics import Interval
from .summary import Summary, TaskSummary, summarise
from .wording import mark, reliability_note

FORMATS = ("md", "csv", "latex")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what spreadsheets read a cell as code by, when it begins so
MICRO, MACRO = "all (micro)", "mean of tasks (macro)"
_HEADINGS = ("n", "accuracy (95%)", "invalid", "over valid", "chance")
_BASELINE_HEADING = "accuracy (95%)"
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


@dataclass(frozen=True)
class Cell:
    """Figures of one run over one row of the table; accuracies and their ends are shares in 0..1.

    Attributes:
        questions: how many; None for the mean of tasks.
        accuracy: with its interval.
        invalid: responses that commit to no answer; None for the mean of tasks.
        over_valid: accuracy over the other ones.
        chance: accuracy of guessing; None where a question does not list its options.
    """

    questions: int | None
    accuracy: Interval
    invalid: int | None
    over_valid: float | None
    chance: float | None


@dataclass(frozen=True)
class ResultTable:
    """What a table shows, before any format.

    Attributes:
        rows: tasks in the order of `TASKS`, then others by name, then MICRO and MACRO.
        runs: name -> row -> cell; a run has no cell for a task it was not asked.
        baseline: the same of the baseline, of which accuracy alone is shown; None without one.
        baseline_name: "blind" and the like, with the name of its run.
        notes: sentences that a reader of the figures should know.
    """

    rows: tuple[str, ...]
    runs: dict[str, dict[str, Cell]]
    baseline: dict[str, Cell] | None
    baseline_name: str
    notes: tuple[str, ...]


def make_table(runs: Sequence[NamedRun], baseline: NamedRun | None = None) -> ResultTable:
    """Figures of all runs by task.

    Args:
        runs: at least one.
        baseline: another run over the same questions, such as one with `--control blind`.
    """
    columns = {run.name: _cells(summarise(run.records)) for run in runs}
    base = None if baseline is None else _cells(summarise(baseline.records))
    found = {row for cells in [*columns.values(), *([base] if base else [])] for row in cells} - {MICRO, MACRO}
    rank = {task: index for index, task in enumerate(TASKS)}
    tasks = sorted(found, key=lambda task: (rank.get(task, len(TASKS)), task))
    name = "" if baseline is None else _baseline_name(baseline)
    every = [cell.accuracy for cells in [*columns.values(), base or {}] for cell in cells.values()]
    marks = reliability_note(every)
    notes = _notes(runs, baseline) + ([marks] if marks else [])
    return ResultTable((*tasks, MICRO, MACRO), columns, base, name, tuple(notes))


def render(table: ResultTable, format: str) -> str:
    """The table as text that ends in a newline.

    Markdown and LaTeX give percent with one decimal; LaTeX needs the package booktabs. CSV gives percent unrounded, the
    ends of the interval in columns of their own, and no notes.

    Raises:
        InputError: unknown format.
    """
    writers = {"md": _markdown, "csv": _csv, "latex": _latex}
    if format not in writers:
        raise InputError(f"must be one of {', '.join(FORMATS)}, got {format!r}", field="--format")
    return writers[format](table)


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def escape_csv(cells: Iterable[object]) -> list[object]:
    """Cells of a CSV row that no spreadsheet takes for formulas: texts such as `=1+1` begin with an apostrophe."""
    return [f"'{cell}" if isinstance(cell, str) and cell[:1] in _FORMULA else cell for cell in cells]


def escape_markdown(text: str) -> str:
    """Text that stays in its table cell and is not taken for markup."""
    marked = "".join(f"\\{character}" if character in "\\|`*_<[" else character for character in text)
    return " ".join(marked.split())


def _cells(summary: Summary) -> dict[str, Cell]:
    cells = {task.task: _cell(task) for task in summary.tasks}
    macro = Cell(None, summary.mean_of_tasks, None, None, summary.chance_of_tasks)
    return cells | {MICRO: _cell(summary.overall), MACRO: macro}


def _cell(task: TaskSummary) -> Cell:
    return Cell(task.questions, task.accuracy, task.invalid, task.accuracy_of_valid, task.chance)


def _baseline_name(baseline: NamedRun) -> str:
    control = baseline.job.get("control")
    return f"{control}: {baseline.name}" if control and control not in baseline.name else baseline.name


def _notes(runs: Sequence[NamedRun], baseline: NamedRun | None) -> list[str]:
    notes = [
        "Accuracy in percent counts an invalid response (no option, or several) as wrong; intervals take whole clips "
        "for independent."
    ]
    everyone = [*runs, *([baseline] if baseline is not None else [])]
    asked = [run.question_ids for run in everyone]
    if len(set(asked)) > 1:
        common = len(frozenset.intersection(*asked))
        counts = ", ".join(f"{run.name} {len(ids)}" for run, ids in zip(everyone, asked, strict=True))
        notes.append(f"The runs answered different questions ({counts}; {common} in common): figures do not compare.")
    return notes


def _groups(table: ResultTable) -> list[tuple[str, tuple[str, ...]]]:
    """Heading of every column group, and of its columns."""
    groups = [(name, _HEADINGS) for name in table.runs]
    return groups if table.baseline is None else [*groups, (table.baseline_name, (_BASELINE_HEADING,))]


def _texts(table: ResultTable, row: str) -> list[str]:
    """The cells of a row, behind its name."""
    texts: list[str] = []
    for cells in table.runs.values():
        cell = cells.get(row)
        texts += ["-"] * len(_HEADINGS) if cell is None else _run_texts(cell)
    if table.baseline is not None:
        cell = table.baseline.get(row)
        texts.append("-" if cell is None else _with_interval(cell.accuracy))
    return texts


def _run_texts(cell: Cell) -> list[str]:
    count, invalid = ("-" if number is None else str(number) for number in (cell.questions, cell.invalid))
    return [count, _with_interval(cell.accuracy), invalid, _percent(cell.over_valid), _percent(cell.chance)]


def _with_interval(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"{_percent(interval.estimate)}{mark(interval)}"
    return f"{_percent(interval.estimate)} ({_percent(interval.low)} to {_percent(interval.high)}){mark(interval)}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _row_title(row: str) -> str:
    return row.replace("_", " ")


def _markdown(table: ResultTable) -> str:
    groups = _groups(table)
    headings = ["task"] + [f"{escape_markdown(name)}: {column}" for name, columns in groups for column in columns]
    lines = [headings, ["---"] + ["---:"] * (len(headings) - 1)]
    lines += [[escape_markdown(_row_title(row)), *_texts(table, row)] for row in table.rows]
    body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return body + "".join(f"\n{escape_markdown(note)}\n" for note in table.notes)


def _csv(table: ResultTable) -> str:
    columns = ("n", "accuracy", "low", "high", "interval", "unreliable", "invalid", "over valid", "chance")
    of_baseline = ("accuracy", "low", "high", "interval", "unreliable")
    headings = ["task"] + [f"{name}: {column}" for name in table.runs for column in columns]
    if table.baseline is not None:
        headings += [f"{table.baseline_name}: {column}" for column in of_baseline]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(escape_csv(headings))
    for row in table.rows:
        line: list[object] = [row]
        for cells in table.runs.values():
            cell = cells.get(row)
            if cell is None:
                line += [None] * len(columns)
            else:
                line += [cell.questions, *_interval_values(cell.accuracy), cell.invalid]
                line += [_value(cell.over_valid), _value(cell.chance)]
        if table.baseline is not None:
            cell = table.baseline.get(row)
            line += [None] * len(of_baseline) if cell is None else _interval_values(cell.accuracy)
        writer.writerow(escape_csv(line))
    return text.getvalue()


def _interval_values(interval: Interval) -> list[object]:
    return [
        _value(interval.estimate),
        _value(interval.low),
        _value(interval.high),
        interval.method,
        interval.unreliable,
    ]


def _value(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 6)


def _latex(table: ResultTable) -> str:
    groups = _groups(table)
    spans, rules, first = [], [], 2
    for name, columns in groups:
        spans.append(f"\\multicolumn{{{len(columns)}}}{{c}}{{{escape_latex(name)}}}")
        rules.append(f"\\cmidrule(lr){{{first}-{first + len(columns) - 1}}}")
        first += len(columns)
    headings = [""] + [escape_latex(column) for _, columns in groups for column in columns]
    lines = [f"% {' '.join(note.split())}" for note in table.notes]
    lines += ["% needs \\usepackage{booktabs}", f"\\begin{{tabular}}{{l{'r' * (first - 2)}}}", "\\toprule"]
    lines += [f" & {' & '.join(spans)} \\\\", " ".join(rules), f"{' & '.join(headings)} \\\\", "\\midrule"]
    for row in table.rows:
        if row == MICRO:
            lines.append("\\midrule")
        lines.append(f"{escape_latex(_row_title(row))} & {' & '.join(map(escape_latex, _texts(table, row)))} \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"

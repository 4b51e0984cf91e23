"""`mllm4d data stats`: figures of clips, or of question sets in any format."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mllm4d_verl.cli.data_annotate import show_clip_stats
from mllm4d_verl.cli.output import emit_json, open_console
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.terminal import say

if TYPE_CHECKING:
    from mllm4d_verl.data_tools.formats.stats import SetStats


def stats(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="Question rows of any format, a folder of them, or of clips.")
    ],
    plot: Annotated[Path | None, typer.Option(help="Write the figures as PNG.", show_default=False)] = None,
    json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Shares per task, split, source, answer, letter and difficulty; or quality figures of clips."""
    from mllm4d_verl.data_tools.annotation.stats import holds_clips

    if holds_clips(path):
        show_clip_stats(path, plot, json)
        return
    from mllm4d_verl.data_tools.formats import Options, detect
    from mllm4d_verl.data_tools.formats.stats import plot_set, set_stats

    files = sorted(path.glob("[!.]*.parquet")) if path.is_dir() else [path]
    if not files:
        raise InputError("the folder holds no parquet files", file=path)
    sets = {}
    for file in files:
        rows = detect(file).read(file, Options())
        sets[file.stem] = set_stats(row for _, _, row in rows)
    _print_answers(sets)
    for name, found in sets.items():
        _print_set(name, found)
    if plot is not None:
        for name, found in sets.items():
            target = plot if len(sets) == 1 else plot.with_name(f"{plot.stem}-{name}{plot.suffix}")
            plot_set(found, target)
            say(f"plots in {target}")
    if json:
        emit_json({name: found.to_dict() for name, found in sets.items()})


def _print_answers(sets: dict[str, SetStats]) -> None:
    """One line per task and answer, one column per file."""
    from rich.table import Table

    table = Table()
    table.add_column("task", overflow="fold")
    table.add_column("answer")
    for name in sets:
        table.add_column(name, justify="right")
    listed = (found.answers.items() for found in sets.values())
    keys = sorted({(task, answer) for tasks in listed for task, counts in tasks for answer in counts})
    for task, answer in keys:
        numbers = [str(found.answers.get(task, Counter())[answer]) for found in sets.values()]
        table.add_row(task, answer, *numbers)
    open_console().print(table)


def _print_set(name: str, found: SetStats) -> None:
    say(f"{name}: {found.rows} rows, {len(found.clips)} clips, {found.responses} responses")
    for heading, counts in found.shares().items():
        if set(counts) != {"not recorded"}:
            listed = ", ".join(f"{key} {100 * count / found.rows:.1f} %" for key, count in sorted(counts.items()))
            say(f"  {heading}: {listed}")
    for task, figures in found.distances().items():
        say(f"  {task}: " + ", ".join(f"{key} {value:.3g}" for key, value in figures.items()))

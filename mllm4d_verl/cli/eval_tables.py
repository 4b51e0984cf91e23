"""`mllm4d eval table`: runs side by side, as Markdown, CSV or LaTeX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllm4d_verl.terminal import say

Runs = Annotated[
    list[str],
    typer.Argument(metavar="RUN...", help="Folder of a run or responses file; NAME=PATH to choose the name shown."),
]


def table(
    runs: Runs,
    baseline: Annotated[
        str | None, typer.Option(help="One more run, shown by its accuracy alone: a `--control blind` run, say.")
    ] = None,
    format: Annotated[str, typer.Option(help="md, csv or latex (with booktabs).")] = "md",
    out: Annotated[Path | None, typer.Option(help="Write to this file. Default: standard output.")] = None,
) -> None:
    """Table of one or more runs: a row per task, micro and macro; a group of columns per run."""
    from mllm4d_verl.data_tools.atomic import atomic_path
    from mllm4d_verl.data_tools.errors import InputError
    from mllm4d_verl.evaluation.named_runs import read_runs
    from mllm4d_verl.evaluation.tables import FORMATS, make_table, render

    if format not in FORMATS:
        raise InputError(f"must be one of {', '.join(FORMATS)}, got {format!r}", field="--format")
    named = read_runs([*runs, *([baseline] if baseline else [])])
    made = make_table(named[: len(runs)], named[-1] if baseline else None)
    text = render(made, format)
    if format == "csv":  # has no place for notes
        for note in made.notes[1:]:
            say(note, err=True)
    if out is None:
        say(text, nl=False)
        return
    with atomic_path(out) as temporary:
        temporary.write_text(text, encoding="utf-8")

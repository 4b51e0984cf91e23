"""`mllm4d eval plot`: accuracy by task, distance and duration, and confused directions, as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllm4d_verl.cli.eval_tables import Runs


def plot(runs: Runs, out: Annotated[Path, typer.Option(help="Folder to write the PNG files to.")]) -> None:
    """Plots of one or more runs."""
    from mllm4d_verl.evaluation.named_runs import read_runs
    from mllm4d_verl.evaluation.plots import plot_runs

    for file in plot_runs(read_runs(runs), out):
        typer.echo(file)

"""`mllm4d eval plot`: accuracy by task, distance and duration, and confused directions, as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllm4d_verl.cli.eval_tables import Runs
from mllm4d_verl.terminal import say


def plot(
    runs: Runs,
    out: Annotated[Path, typer.Option(help="Folder to write the PNG files to.")],
    questions: Annotated[
        Path | None, typer.Option(help="Question file that was answered: its start and end frames give the duration.")
    ] = None,
) -> None:
    """Plots of one or more runs."""
    from mllm4d_verl.evaluation.benchmarks import load_benchmark
    from mllm4d_verl.evaluation.named_runs import read_runs
    from mllm4d_verl.evaluation.plots import duration_frames, durations_of, plot_runs

    duration = duration_frames if questions is None else durations_of(load_benchmark(questions))
    for file in plot_runs(read_runs(runs), out, duration):
        say(file)

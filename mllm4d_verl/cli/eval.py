"""`mllm4d eval`: answer a question file with a model, score responses again, compare two runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllm4d_verl.cli.eval_bench import build_bench
from mllm4d_verl.cli.eval_export import export
from mllm4d_verl.cli.eval_plots import plot
from mllm4d_verl.cli.eval_run import run
from mllm4d_verl.cli.eval_score import score
from mllm4d_verl.cli.eval_tables import table
from mllm4d_verl.cli.output import emit_json, open_console

app = typer.Typer(help="Generate answers and score them.", no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(run)
app.command()(score)
app.command("build-bench")(build_bench)
app.command()(table)
app.command()(plot)
app.command()(export)

Preset = Annotated[str, typer.Option(help="Reward preset: mllm4d_st, official or paper.")]
Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON as the last line.")]


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="Folder or responses file of the first run.")],
    b: Annotated[Path, typer.Argument(help="Folder or responses file of the second run.")],
    preset: Preset = "mllm4d_st",
    as_json: Json = False,
) -> None:
    """Difference of two runs over the same questions, with intervals: B minus A."""
    from mllm4d_verl.evaluation import compare_records, read_responses
    from mllm4d_verl.evaluation.report import print_comparison

    comparison = compare_records(read_responses(a), read_responses(b), preset)
    print_comparison(comparison, open_console(), str(a), str(b))
    if as_json:
        emit_json(comparison.to_dict())

"""`mllm4d demo`: world, questions, tiny model, SFT, cold start, GRPO, evaluation, table. Run it again to go on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="World, questions, tiny model, SFT, cold start, GRPO, table: the whole way.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything the demo makes.")] = Path("demo_out"),
    seed: Annotated[int, typer.Option(help="Of world, questions and model.")] = 0,
    scale: Annotated[str, typer.Option(help="full learns; quick walks through every stage.")] = "full",
    recipe: Annotated[str, typer.Option("--recipe", "-r", help="Recipe with a demo.yaml.")] = "tiny_cpu",
    stall_minutes: Annotated[float, typer.Option(help="Give up when a training stands still for so long.")] = 15.0,
    json_line: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON line at the end.")] = False,
) -> None:
    """Teach a tiny model to see and to reason, on a CPU, and show what each stage brought."""
    from mllm4d_verl.cli.output import emit_json
    from mllm4d_verl.training.console import console
    from mllm4d_verl.training.demo import run_demo
    from mllm4d_verl.training.demo_table import demo_comparison, demo_table
    from mllm4d_verl.training.recipe import find_recipe
    from mllm4d_verl.training.run import TrainingError

    try:
        result = run_demo(find_recipe(recipe), out, seed, scale, stall_minutes)
    except TrainingError as error:
        console.print(f"mllm4d: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    console.print(demo_table(result.results))
    console.print(demo_comparison(result.summary), highlight=False)
    minutes, gib = result.summary["seconds"] / 60, result.summary["peak_memory_bytes"] / 2**30
    console.print(f"{minutes:.1f} minutes in all stages, at most {gib:.1f} GiB of memory", highlight=False)
    console.print(f"figures: {result.summary_file}\nreward curve: {result.curve_file}", highlight=False)
    if json_line:
        emit_json(result.summary)

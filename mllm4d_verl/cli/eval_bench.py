"""`mllm4d eval build-bench`: a bench of held-out questions in the published shares."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllm4d_verl.cli.output import emit_json, open_console


def build_bench(
    source: Annotated[
        Path,
        typer.Argument(help="Question file (its test rows), folder of `mllm4d data questions`, or data root of clips."),
    ],
    out: Annotated[Path, typer.Argument(help="Parquet file of question rows to write.")],
    items: Annotated[int, typer.Option(help="Questions, in six equal shares. Published: 6000.")] = 6000,
    training: Annotated[
        list[Path] | None, typer.Option(help="Question file that is trained on: its clips are left out. Repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same input and seed, same bytes.", min=0)] = 0,
    num_frames: Annotated[int, typer.Option(help="Frames sampled, for questions made from clips.")] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON as the last line.")] = False,
) -> None:
    """Build a bench from held-out clips, the published tasks at equal shares; never from clips that are trained on."""
    from mllm4d_verl.evaluation.benchmarks.build import build_bench as build

    console = open_console()
    built = build(source, out, items, training=training or (), seed=seed, num_frames=num_frames)
    for task, count in built.tasks.items():
        console.print(f"{count:6d} {task}", highlight=False)
    left_out = f"; {built.left_out} clips left out, which are trained on" if built.left_out else ""
    console.print(f"{built.items} questions about {built.clips} clips in {built.file}{left_out}", highlight=False)
    if as_json:
        emit_json(built.to_dict())

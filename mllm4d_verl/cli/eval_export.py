"""`mllm4d eval export`: questions in the layout of another evaluation framework."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllm4d_verl.cli.output import emit_json, open_console


def export(
    qa: Annotated[str, typer.Argument(help="Question file, or the name of a benchmark.")],
    out: Annotated[Path, typer.Argument(help="TSV to write.")],
    to: Annotated[str, typer.Option(help="vlmevalkit.")] = "vlmevalkit",
    questions: Annotated[Path | None, typer.Option(help="Question file or folder of a named benchmark.")] = None,
    media_root: Annotated[Path | None, typer.Option(help="Folder of the videos: paths become relative to it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON as the last line.")] = False,
) -> None:
    """Write multiple-choice questions as VLMEvalKit's TSV for video sets."""
    from mllm4d_verl.data_tools.errors import InputError
    from mllm4d_verl.evaluation.benchmarks import load_benchmark
    from mllm4d_verl.evaluation.ecosystem.vlmevalkit import export_tsv

    if to != "vlmevalkit":
        raise InputError(f"must be vlmevalkit, got {to!r}", field="--to")
    done = export_tsv(load_benchmark(qa, questions), out, media_root)
    console = open_console()
    console.print(f"{done.questions} questions in {done.file}", highlight=False, markup=False)
    if done.reworded:
        console.print(f"{done.reworded} numbers lose digits in A, B ... when read; candidates keeps them.")
    if as_json:
        emit_json(done.to_dict())

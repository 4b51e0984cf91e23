"""`mllm4d eval export`: questions in the layout of another evaluation framework."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllm4d_verl.cli.output import emit_json, open_console


def export(
    qa: Annotated[str, typer.Argument(help="Question file, or the name of a benchmark.")],
    out: Annotated[Path, typer.Argument(help="TSV to write; for lmms-eval the folder of the task.")],
    to: Annotated[str, typer.Option(help="vlmevalkit or lmms-eval.")] = "vlmevalkit",
    questions: Annotated[Path | None, typer.Option(help="Question file or folder of a named benchmark.")] = None,
    media_root: Annotated[
        Path | None, typer.Option(help="Folder of the videos: a TSV's paths become relative to it.")
    ] = None,
    template: Annotated[str, typer.Option(help="Prompt of a task for lmms-eval.")] = "direct",
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON as the last line.")] = False,
) -> None:
    """Write questions as VLMEvalKit's TSV for video sets, or as a task of lmms-eval that our rules score."""
    from mllm4d_verl.data_tools.errors import InputError
    from mllm4d_verl.evaluation.benchmarks import load_benchmark

    console = open_console()
    if to == "vlmevalkit":
        from mllm4d_verl.evaluation.ecosystem.vlmevalkit import export_tsv

        tsv = export_tsv(load_benchmark(qa, questions), out, media_root)
        console.print(f"{tsv.questions} questions in {tsv.file}", highlight=False, markup=False)
        if tsv.numbers:
            console.print(f"{tsv.numbers} ask for a number: ExportedVideoSet scores them, sets of choices cannot.")
        if tsv.left_out:
            console.print(f"{tsv.left_out} records of the benchmark hold no question and are left out.")
        if tsv.other_suffix:
            console.print(f"{tsv.other_suffix} videos are no .mp4: VLMEvalKit cannot sample their frames.")
        if tsv.reworded:
            console.print(f"{tsv.reworded} numbers lose digits in A, B ... when read; candidates keeps them.")
        content = tsv.to_dict()
    elif to == "lmms-eval":
        from mllm4d_verl.evaluation.ecosystem.lmms import export_task

        if media_root is None:
            raise InputError("a task needs its videos", field="--media-root", remedy="Give the folder of the videos")
        task = export_task(load_benchmark(qa, questions), out, media_root, template)
        console.print(
            f"{task.questions} questions; run lmms-eval with --include_path {task.folder} --tasks {task.name}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        if task.num_frames is not None:
            console.print(f"The questions count in {task.num_frames} frames: let the model sample as many.")
        content = task.to_dict()
    else:
        raise InputError(f"must be vlmevalkit or lmms-eval, got {to!r}", field="--to")
    if as_json:
        emit_json(content)

"""`mllm4d data leaks`: videos that training and a benchmark have in common."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from mllm4d_verl.cli.output import emit_json, open_console
from mllm4d_verl.training.console import count_progress

_SHOWN = 20


def leaks(
    train: Annotated[Path, typer.Argument(help="Question file or folder that is trained on.")],
    bench: Annotated[
        str, typer.Argument(help="Question file or folder, or a benchmark by name: vlm4d, vsi_bench, ...")
    ],
    questions: Annotated[Path | None, typer.Option(help="Question file or folder of a named benchmark.")] = None,
    videos: Annotated[
        Path | None, typer.Option(help="Folder of the benchmark's videos, to compare files and looks.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSONL file for the list.", show_default="none")] = None,
    workers: Annotated[int, typer.Option(help="Threads.", min=1)] = os.cpu_count() or 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON as the last line.")] = False,
) -> None:
    """List videos of a training set that a benchmark has too; exit code 1 where there are any.

    By clip id, by bytes of the file, by what they show (near-duplicates), and by name, which alone is a suspicion.
    """
    import json

    from mllm4d_verl.data_tools.atomic import atomic_path
    from mllm4d_verl.data_tools.mixes import VideoUse, find_leaks, place_videos, read_videos

    if Path(bench).exists() and questions is None:
        theirs = read_videos(bench)
    else:
        from mllm4d_verl.evaluation.benchmarks import load_benchmark

        named = {item.video for item in load_benchmark(bench, questions).items}
        theirs = [VideoUse("", video) for video in sorted(named)]
    if videos is not None:
        theirs = place_videos(theirs, videos)
    ours = read_videos(train)
    with count_progress("videos") as progress:
        found = find_leaks(ours, theirs, workers=workers, progress=progress)
    console = open_console()
    for leak in found[:_SHOWN]:
        console.print(f"{leak.how}: {leak.train} is {leak.bench} ({leak.detail})", highlight=False, markup=False)
    if len(found) > _SHOWN:
        console.print(f"and {len(found) - _SHOWN} more", highlight=False)
    here = [sum(use.path is not None for use in uses) for uses in (ours, theirs)]
    counts = dict(Counter(leak.how for leak in found))
    told = ", ".join(f"{count} by {how}" for how, count in counts.items()) or "none"
    compared = f"{here[0]} of {len(ours)} and {here[1]} of {len(theirs)} videos are here and were looked at"
    console.print(f"leaks: {told}; {compared}", highlight=False)
    if out is not None:
        with atomic_path(out) as temporary:
            temporary.write_text("".join(json.dumps(leak.to_dict()) + "\n" for leak in found), encoding="utf-8")
    if as_json:
        emit_json(
            {"leaks": counts, "train": len(ours), "bench": len(theirs), "train_here": here[0], "bench_here": here[1]}
        )
    if found:
        raise typer.Exit(1)

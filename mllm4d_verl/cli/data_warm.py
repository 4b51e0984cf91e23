"""`mllm4d data warm`: videos decoded ahead of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllm4d_verl.cli.output import emit_json
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.terminal import PlainConsole, say

_SHOWN = 20  # faults that are printed; the others are counted


def warm(
    files: Annotated[list[Path], typer.Argument(help="Question files that the run will read.")],
    min_pixels: Annotated[int, typer.Option(help="The run's data.min_pixels: frames are enlarged to it.")] = 784,
    max_pixels: Annotated[int, typer.Option(help="The run's data.max_pixels: frames are reduced to it.")] = 50176,
    patch_size: Annotated[
        int, typer.Option(help="Side of a patch, pixels: 16 for Qwen3-VL, 14 for Qwen2.5-VL.", min=1)
    ] = 16,
    media_root: Annotated[
        str | None,
        typer.Option(help="The run's data.media_root: video paths start from it.", show_default="folders of FILES"),
    ] = None,
    size_gb: Annotated[
        float | None,
        typer.Option(help="The run's data.frame_store_gb: GiB that the store may take.", show_default="16"),
    ] = None,
    workers: Annotated[int, typer.Option(help="Threads that decode; 0 for all cores.", min=0)] = 0,
    json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Decode the videos of question files into this machine's frame store, so that a run need not; exit code 2 if a
    video cannot be read."""
    import os

    from mllm4d_verl.cli.output import progress_bar
    from mllm4d_verl.datasets.options import PromptOptions
    from mllm4d_verl.datasets.warm import warm_videos
    from mllm4d_verl.video.store import OFF, PLACE, open_store

    store = open_store(size_gb)
    if store is None:
        raise InputError(
            "the frame store is off",
            field=f"{PLACE}={OFF}" if os.environ.get(PLACE) == OFF else "--size-gb",
            remedy=f"Unset {PLACE}, or name a folder with it; and give --size-gb above 0",
        )
    options = PromptOptions(
        media_root=media_root, min_pixels=min_pixels, max_pixels=max_pixels, prompt_template="direct"
    )
    with progress_bar(PlainConsole(stderr=True), "videos", "reading rows") as progress:
        report = warm_videos(
            [str(file) for file in files], options, patch_size, store, workers or os.cpu_count() or 1, progress
        )
    for fault in report.faults[:_SHOWN]:
        say(str(fault), err=True)
    if len(report.faults) > _SHOWN:
        say(f"... and {len(report.faults) - _SHOWN} more", err=True)
    entries, size = store.size()
    say(
        f"{report.videos} videos: {report.decoded} decoded, {report.videos - report.decoded - len(report.faults)} were "
        f"there, {len(report.faults)} cannot be read; {store.root} holds {entries} ({size / 2**30:.2f} GB)"
    )
    if json:
        emit_json(
            {
                "videos": report.videos,
                "decoded": report.decoded,
                "unreadable": len(report.faults),
                "store": str(store.root),
                "entries": entries,
                "bytes": size,
            }
        )
    if report.faults:
        raise typer.Exit(2)

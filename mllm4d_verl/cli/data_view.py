"""`mllm4d data view`: a clip as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllm4d_verl.cli.output import emit_json
from mllm4d_verl.terminal import say


def view(
    clip: Annotated[str, typer.Argument(help="Id of a clip in the data root, or the path of its .npz.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Data root, as `mllm4d data annotate` or `mllm4d data synth` writes it.",
            show_default="the current folder, or that of the .npz",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for <clip>.png and <clip>.mp4.")] = Path("."),
    json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Draw a clip: masks, depth, camera path and object tracks, as a contact sheet and a video."""
    from mllm4d_verl.data_tools.annotation.view import view_clip

    report = view_clip(clip, data, out)
    for note in report.notes:
        say(f"note: {note}", err=True)
    say(f"{report.png}\n{report.mp4}")
    if json:
        emit_json({"clip_id": report.clip_id, "png": str(report.png), "mp4": str(report.mp4), "notes": report.notes})

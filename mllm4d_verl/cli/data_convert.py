"""`mllm4d data convert`: question rows from one file format to another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mllm4d_verl.cli.output import emit_json
from mllm4d_verl.terminal import say

if TYPE_CHECKING:
    from mllm4d_verl.data_tools.errors import InputError


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="File or dataset folder to read.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File or folder to write.")],
    to: Annotated[
        str, typer.Option(help="qa (QARow parquet), verl (its RL parquet), rft (ms-swift JSONL), sft (Qwen JSON), hf.")
    ],
    origin: Annotated[str, typer.Option("--from", help="Format of IN; auto looks into it.")] = "auto",
    template: Annotated[
        str | None,
        typer.Option(help="Prompt template of verl rows: st_cot, direct, dataset or a path.", show_default="st_cot"),
    ] = None,
    num_frames: Annotated[int, typer.Option(help="Frames sampled per video, where IN does not say.")] = 32,
    media_root: Annotated[
        Path | None, typer.Option(help="Folder that video paths of IN start from.", show_default="that of IN")
    ] = None,
    clips: Annotated[
        Path | None, typer.Option(help="Clip index, for sources and licences in the card of hf.", show_default="none")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the card of hf.", show_default="name of OUT")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad rows out and report them.")] = False,
    json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Write question rows in another format, row by row; says what the format does not give back."""
    from mllm4d_verl.data_tools.formats import FORMATS, Options, find_format
    from mllm4d_verl.data_tools.formats import convert as convert_rows
    from mllm4d_verl.data_tools.schema import read_clip_index
    from mllm4d_verl.prompts import DATASET_TEMPLATE, load_template, render_messages

    target = find_format(to)
    if template not in (None, DATASET_TEMPLATE):
        load_template(template)
    num_bad = 0

    def report(error: InputError) -> None:
        nonlocal num_bad
        num_bad += 1
        if num_bad <= 10:
            say(f"left out: {error}", err=True)

    options = Options(
        num_frames=num_frames,
        on_error=report if skip_bad else None,
        keep_chat=template == DATASET_TEMPLATE,
        render=lambda row: render_messages(row, template or "st_cot"),
        sources={row["clip_id"]: (row["source"], row["license"]) for row in read_clip_index(clips)} if clips else {},
        title=title,
    )
    if out.exists() and target.suffixes:
        say(f"overwriting {out}")
    splits = convert_rows(source, out, to, origin, options, media_root)
    rows = sum(splits.values())
    for loss in FORMATS[to].losses:
        say(f"note: {loss}")
    say(f"{rows} rows in {out}, {num_bad} left out")
    if json:
        emit_json({"out": str(out), "format": to, "rows": rows, "splits": dict(splits), "left_out": num_bad})

"""`mllm4d data preview`: one question as a model sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllm4d_verl.cli.output import emit_json
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.terminal import say


def preview(
    file: Annotated[Path, typer.Argument(help="Question rows of any format.")],
    row: Annotated[int | None, typer.Option(help="Number of the row, from 0.", min=0, show_default="0")] = None,
    id: Annotated[str | None, typer.Option(help="Id of the row, instead.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="PNG to write.", show_default="text only")] = None,
    template: Annotated[str, typer.Option(help="Prompt template: st_cot, direct, dataset or a path.")] = "st_cot",
    model: Annotated[
        str | None, typer.Option(help="Model whose processor counts tokens.", show_default="Qwen3-VL's sizes")
    ] = None,
    min_pixels: Annotated[int | None, typer.Option(help="Of a frame, as in training.", show_default="none")] = None,
    max_pixels: Annotated[int | None, typer.Option(help="Of a frame, as in training.", show_default="none")] = None,
    media_root: Annotated[
        str | None, typer.Option(help="Folder that video paths start from.", show_default="that of FILE")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Show prompt, options, truth, pixels and tokens of one question; with --out also its frames."""
    from dataclasses import asdict

    from mllm4d_verl.data_tools.formats import Options, detect
    from mllm4d_verl.video.element import video_element
    from mllm4d_verl.video.preview import describe, draw_preview, preview_row

    if row is not None and id is not None:
        raise InputError("--row and --id exclude each other", field="--id")
    options = Options(check=False, keep_chat=True)
    rows = enumerate(detect(file).read(file, options))
    wanted = (entry for number, entry in rows if (entry[2].id == id if id is not None else number == (row or 0)))
    found = next(wanted, None)
    if found is None:
        name = f"id {id!r}" if id is not None else f"row {row or 0}"
        raise InputError(f"there is no {name}", file=file, field="--id" if id is not None else "--row")
    place, _, question = found
    processor = None
    if model is not None:
        from transformers import AutoProcessor

        try:
            processor = AutoProcessor.from_pretrained(model)
        except (OSError, ValueError) as error:
            raise InputError(
                f"no processor there ({str(error).splitlines()[0]})", file=model, field="--model"
            ) from None
    folder = Path(place).resolve().parent
    made = preview_row(question, folder, template, media_root, processor, min_pixels, max_pixels)
    for line in describe(question, made):
        say(line)
    if out is not None:
        draw_preview(out, question, made, video_element(question, media_root, folder))
        say(str(out))
    if json:
        emit_json({"id": question.id, "out": out and str(out), **asdict(made)})

"""`mllm4d data mix`, `split`, `duplicates`: training sets in shares, split so that near-duplicates stay together."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mllm4d_verl.cli.output import emit_json, open_console
from mllm4d_verl.training.console import count_progress

Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON as the last line.")]
Seed = Annotated[int, typer.Option(help="Same input and seed, same bytes.", min=0)]


def mix(
    name: Annotated[str, typer.Argument(metavar="MIX", help="2m, cold_start, r1_30k, bench, or a YAML file.")],
    out: Annotated[Path, typer.Argument(help="Parquet file of question rows to write.")],
    sources: Annotated[
        list[str], typer.Argument(help="Question files or folders; NAME=PATH to mark ids, clips and meta by a source.")
    ],
    rows: Annotated[
        int | None, typer.Option(help="Rows in all; 0: as many as the shares allow.", min=0, show_default="of the mix")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail where a share cannot be met.")] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Draw questions in the shares of a mix, spread over clips; says which share could not be met."""
    from mllm4d_verl.data_tools.mixes import draw_mix, load_mix, parse_source

    shares = load_mix(name)
    if rows is not None:
        shares = replace(shares, rows=rows or None)
    drawn = draw_mix(shares, [parse_source(text) for text in sources], out, seed=seed, strict=strict)
    console = open_console()
    for cell in drawn.cells:
        of = f" of {cell.source}" if cell.source else ""
        short = f", {cell.wanted} wanted" if cell.drawn < cell.wanted else ""
        console.print(f"{cell.drawn:8d} {cell.task}{of}, of {cell.found}, {cell.clips} clips{short}", highlight=False)
    console.print(f"{drawn.rows} rows about {drawn.clips} clips in {drawn.file}", highlight=False, markup=False)
    if drawn.short:
        tasks = ", ".join(cell.task for cell in drawn.short)
        console.print(f"too few rows for the share of: {tasks}; --rows 0 keeps the shares", highlight=False)
    if as_json:
        emit_json(drawn.to_dict())


def split(
    out: Annotated[Path, typer.Argument(help="Folder for train, val and test.parquet.")],
    sources: Annotated[list[Path], typer.Argument(help="Question files or folders.")],
    by: Annotated[str, typer.Option(help="clip, or source: then whole sources are held out.")] = "clip",
    groups: Annotated[
        Path | None, typer.Option(help="Groups that stay together, of `data duplicates`.", show_default="none")
    ] = None,
    val: Annotated[float, typer.Option(help="Share of the groups.", min=0, max=0.9)] = 0.02,
    test: Annotated[float, typer.Option(help="Share of the groups.", min=0, max=0.9)] = 0.05,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Split questions anew, by clip or by source; near-duplicate clips stay in one split."""
    from mllm4d_verl.data_tools.mixes import read_groups, split_rows

    known = read_groups(groups) if groups else None
    done = split_rows(sources, out, by=by, groups=known, val_fraction=val, test_fraction=test, seed=seed)
    for name, count in done.rows.items():
        text = f"{name}: {count} rows, {done.clips[name]} clips in {done.groups[name]} groups"
        open_console().print(text, highlight=False)
    if as_json:
        emit_json(done.to_dict())


def duplicates(
    qa: Annotated[Path, typer.Argument(metavar="QA", help="Question file or folder, whose videos are here.")],
    out: Annotated[Path, typer.Argument(help="JSON file to write: clip id -> group, of clips that have duplicates.")],
    workers: Annotated[int, typer.Option(help="Threads.", min=1)] = os.cpu_count() or 1,
    as_json: Json = False,
) -> None:
    """Find clips that show nearly the same, for `data split --groups`."""
    import json

    from mllm4d_verl.data_tools.atomic import atomic_path
    from mllm4d_verl.data_tools.errors import InputError
    from mllm4d_verl.data_tools.mixes import group_sizes, group_videos, hash_videos, read_videos

    uses = list({use.clip: use for use in read_videos(qa)}.values())
    for use in uses:
        if use.path is None:
            raise InputError(f"the video {use.video} does not exist", file=qa, row=use.clip, field="video")
    with count_progress("videos") as progress:
        hashes = hash_videos([use.path for use in uses if use.path], workers, progress)
    groups = group_videos([use.clip for use in uses], hashes)
    with atomic_path(out) as temporary:
        temporary.write_text(json.dumps(groups, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    sizes = group_sizes(groups)
    text = f"{len(uses)} clips, {len(groups)} of them in {len(sizes)} groups, the largest of {max(sizes, default=0)}"
    open_console().print(f"{text}: {out}", highlight=False, markup=False)
    if as_json:
        emit_json({"clips": len(uses), "grouped": len(groups), "groups": len(sizes), "sizes": sizes, "file": str(out)})

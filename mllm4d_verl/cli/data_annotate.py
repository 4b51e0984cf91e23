"""`mllm4d data annotate`: stereo clips in, Clip4D records out."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mllm4d_verl.cli.output import emit_json, key_values, open_console
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.terminal import say

if TYPE_CHECKING:
    from mllm4d_verl.data_tools.annotation.run import AnnotateReport
    from mllm4d_verl.data_tools.annotation.stats import ClipStats

#: Some clips could not be annotated; the rest was. Bad input of the whole command ends with the same code.
EXIT_QUARANTINED = 2


def annotate(
    source: Annotated[
        Path | None, typer.Argument(metavar="IN", help="Folder or file of stereo clips.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Argument(metavar="OUT", help="Folder to write; a rerun adds what is missing.", show_default=False),
    ] = None,
    reader: Annotated[str, typer.Option(help="Layout of IN; auto recognises it.")] = "auto",
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", metavar="KEY=VALUE", help="Option of the reader; repeatable.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes; 0 for all cores.", min=0)] = 0,
    config: Annotated[Path | None, typer.Option(help="YAML of settings, see --print-config.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One setting: --set quality.min_valid_depth=0.2; repeatable."),
    ] = None,
    masks: Annotated[
        bool, typer.Option("--masks", help="Also write masks and depth, for `data view` and `data check`.")
    ] = False,
    retry_quarantine: Annotated[
        bool, typer.Option("--retry-quarantine", help="Take clips again that failed before.")
    ] = False,
    ray: Annotated[
        bool, typer.Option("--ray", help="Run on Ray Data: on this machine, or on the cluster of --ray-address.")
    ] = False,
    ray_address: Annotated[
        str | None, typer.Option(help="Cluster that shares the file system: auto, or host:port. Implies --ray.")
    ] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the settings as YAML and exit.")] = False,
    list_readers: Annotated[bool, typer.Option("--list-readers", help="List the layouts and exit.")] = False,
    json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Estimate depth, camera poses and moving objects of stereo clips; keep what passes the quality limits.

    Exit code: 0 when every clip was annotated or kept out for its quality, 2 when some failed; see quarantine.jsonl.
    """
    from mllm4d_verl.data_tools.annotation.config import dump_config, load_config

    if list_readers:
        _print_readers(json)
        return
    changes = key_values(set_, "--set") | ({"write_masks": True} if masks else {})
    settings = load_config(config, changes)
    if print_config:
        say(dump_config(settings), nl=False)
        return
    if source is None or out is None:
        missing = "IN" if source is None else "OUT"
        raise InputError("is missing", field=missing, remedy="mllm4d data annotate IN OUT; --help says more")

    from mllm4d_verl.cli.data import _progress
    from mllm4d_verl.data_tools.annotation.run import annotate as run
    from mllm4d_verl.data_tools.annotation.run import find_source

    found = find_source(source, reader, key_values(option, "--option"))
    say(f"{source}: reader {found.reader} ({found.reason}), {len(found.refs)} clips")
    with _progress("clips") as progress:
        report = run(
            found,
            out,
            settings,
            workers=workers or os.cpu_count() or 1,
            retry_quarantine=retry_quarantine,
            progress=progress,
            ray=ray_address or ("local" if ray else None),
        )
    _print_report(report, out)
    if json:
        emit_json({"out": str(out), "reader": found.reader, "reason": found.reason, **asdict(report)})
    if report.quarantined:
        raise typer.Exit(EXIT_QUARANTINED)


def _print_report(report: AnnotateReport, out: Path) -> None:
    if report.skipped:
        say(f"{report.skipped} clips were finished by an earlier run")
    say(
        f"{report.clips} clips: {report.kept} records of {report.frames} frames kept, {report.num_rejected} kept out, "
        f"{sum(report.quarantined.values())} failed"
    )
    for reason, count in sorted(report.rejected.items(), key=lambda item: -item[1]):
        say(f"  kept out: {reason} {count}")
    for kind, count in sorted(report.quarantined.items(), key=lambda item: -item[1]):
        say(f"  failed: {kind} {count}, see {out / 'quarantine.jsonl'}")
    if report.new_frames:
        rate = report.new_frames / report.seconds
        say(f"{report.new_frames} source frames in {report.seconds:.1f} s, {rate:.1f} frames/s")


def _print_readers(json: bool) -> None:
    from rich.table import Table

    from mllm4d_verl.data_tools.readers import describe_readers

    readers = describe_readers()
    table = Table()
    for column in ("reader", "layout", "options (-o)", "tried on"):
        table.add_column(column, overflow="fold")
    for item in readers:
        options = "\n".join(f"{name}: {text}" for name, text in item.options.items())
        table.add_row(item.name, item.summary, options, item.tried_on or "files written by the tests")
    open_console().print(table)
    if json:
        emit_json(
            {
                item.name: {"summary": item.summary, "options": item.options, "tried_on": item.tried_on}
                for item in readers
            }
        )


def show_clip_stats(folder: Path, plot: Path | None, json: bool) -> None:
    """`mllm4d data stats` of a folder of clips."""
    from mllm4d_verl.data_tools.annotation.stats import clip_stats, plot_stats

    stats = clip_stats(folder)
    _print_figures(stats)
    say(
        f"{stats.kept} records of {stats.frames} frames, {stats.objects} objects, {stats.moving_objects} of them moving"
    )
    if stats.num_rejected:
        reasons = ", ".join(f"{name} {count}" for name, count in stats.rejected.items())
        say(f"{stats.num_rejected} kept out: {reasons}")
    if stats.quarantined:
        kinds = ", ".join(f"{name} {count}" for name, count in stats.quarantined.items())
        say(f"{sum(stats.quarantined.values())} clips failed: {kinds}")
    record: dict[str, Any] = stats.to_dict()
    if plot is not None:
        plot_stats(stats, plot)
        say(f"histograms in {plot}")
        record["plot"] = str(plot)
    if json:
        emit_json(record)


def _print_figures(stats: ClipStats) -> None:
    from rich.table import Table

    table = Table()
    table.add_column("figure of kept clips")
    for column in ("clips", "min", "median", "max", "limit"):
        table.add_column(column, justify="right")
    for name, row in stats.summary().items():
        limit = f"{stats.limits[name]:g}" if name in stats.limits else ""
        numbers = [f"{row[key]:.4g}" for key in ("min", "median", "max")]
        table.add_row(name, f"{row['clips']:.0f}", *numbers, limit)
    open_console().print(table)

"""`mllm4d data`: clips, questions, released formats, counts."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from mllm4d_verl.cli.data_annotate import annotate
from mllm4d_verl.cli.data_blind import blind
from mllm4d_verl.cli.data_calibrate import calibrate
from mllm4d_verl.cli.data_check import check
from mllm4d_verl.cli.data_convert import convert
from mllm4d_verl.cli.data_cot import cot
from mllm4d_verl.cli.data_leaks import leaks
from mllm4d_verl.cli.data_mix import duplicates, mix, split
from mllm4d_verl.cli.data_preview import preview
from mllm4d_verl.cli.data_stats import stats
from mllm4d_verl.cli.data_units import units
from mllm4d_verl.cli.data_validate import validate
from mllm4d_verl.cli.data_view import view
from mllm4d_verl.cli.data_warm import warm
from mllm4d_verl.cli.output import emit_json
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.terminal import say

app = typer.Typer(
    help="Make clips, questions and training files; convert released formats; count.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="End with one line of JSON.")]


class Format(str, Enum):
    """Released file formats."""

    rft = "rft"
    sft = "sft"


class Spread(str, Enum):
    """How numeric options lie around the truth."""

    even = "even"
    wide = "wide"


class CotStyle(str, Enum):
    """Length of rule-based responses."""

    full = "full"
    compact = "compact"


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="Folder to write; a rerun adds what is missing.")],
    clips: Annotated[int, typer.Option(help="Number of clips.", min=1)] = 100,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.", min=0)] = 0,
    size: Annotated[str, typer.Option(help="Pixels of a frame, WIDTHxHEIGHT, even.")] = "128x128",
    frames: Annotated[int, typer.Option(help="Frames per clip.", min=2)] = 32,
    fps: Annotated[float, typer.Option(help="Frames per second.", min=0.1)] = 8.0,
    preset: Annotated[
        str, typer.Option(help="World: default, or tiny for models of a few million weights.")
    ] = "default",
    dense: Annotated[bool, typer.Option(help="Also write depth and instance masks.")] = True,
    workers: Annotated[int, typer.Option(help="Processes; 0 for all cores.", min=0)] = 0,
    json: Json = False,
) -> None:
    """Render a procedural stereo world: left and right videos, calibration, and the exact truth apart."""
    from mllm4d_verl.data_tools.synthetic import write_world

    width, height = _parse_size(size)
    with _progress("clips") as progress:
        ids = write_world(
            out,
            clips=clips,
            seed=seed,
            width=width,
            height=height,
            num_frames=frames,
            fps=fps,
            config=preset,
            dense=dense,
            workers=workers or os.cpu_count() or 1,
            progress=progress,
        )
    say(f"{len(ids)} clips in {out}")
    if json:
        emit_json({"out": str(out), "clips": len(ids), "seed": seed, "width": width, "height": height})


app.command()(calibrate)
app.command()(annotate)
app.command()(view)
app.command()(check)
app.command()(cot)
app.command()(convert)
app.command()(validate)
app.command()(blind)
app.command()(mix)
app.command()(split)
app.command()(duplicates)
app.command()(leaks)
app.command()(stats)
app.command()(units)
app.command()(preview)
app.command()(warm)


@app.command()
def questions(
    clips: Annotated[Path, typer.Argument(help="Data root with a clip index, as `mllm4d data synth` writes it.")],
    out: Annotated[Path, typer.Argument(help="Folder for {train,val,test,cold_start}.parquet.")],
    seed: Annotated[int, typer.Option(help="Same clips and seed, same bytes.", min=0)] = 0,
    num_frames: Annotated[int, typer.Option(help="Frames sampled for the model, even.")] = 32,
    task: Annotated[list[str] | None, typer.Option(help="Ask only these tasks; repeat the option.")] = None,
    tasks: Annotated[
        str | None, typer.Option(help="The same as a list with commas; `all` adds the eleven beside the seven.")
    ] = None,
    max_per_clip: Annotated[int, typer.Option(help="Questions per clip.")] = 14,
    max_per_clip_task: Annotated[int, typer.Option(help="Questions per clip and task.")] = 2,
    whole_clip_share: Annotated[float, typer.Option(help="Share of questions from first to last frame.")] = 0.6,
    inner_pairs: Annotated[int, typer.Option(help="Frame pairs looked at per clip beside first to last.")] = 4,
    difficulty: Annotated[
        list[str] | None, typer.Option(help="Ask only hard, medium or easy questions; repeat the option.")
    ] = None,
    balance_difficulty: Annotated[
        bool, typer.Option("--balance-difficulty", help="As many hard, medium and easy questions as clips allow.")
    ] = False,
    option_spread: Annotated[
        Spread, typer.Option(help="Numeric options: even hides the truth, wide is easier but can be guessed.")
    ] = Spread.even,
    val_fraction: Annotated[float, typer.Option(help="Share of clips for validation.")] = 0.1,
    test_fraction: Annotated[float, typer.Option(help="Share of clips for testing.")] = 0.1,
    cold_start: Annotated[int | None, typer.Option(help="Train rows that get a response.", show_default="all")] = None,
    cot_style: Annotated[CotStyle, typer.Option(help="Length of responses.")] = CotStyle.full,
    cot_decimals: Annotated[int, typer.Option(help="Decimals of coordinates in responses.")] = 4,
    workers: Annotated[int, typer.Option(help="Processes; 0 for all cores. The output is the same.", min=0)] = 0,
    ray: Annotated[
        str | None, typer.Option(help="Run through Ray Data: local, auto, or host:port of a cluster.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write again even if finished.")] = False,
    json: Json = False,
) -> None:
    """Ask spatio-temporal questions about clips; split by clip, balanced, with ST-CoT responses.

    A run that was killed goes on where it stopped. Beside the seven tasks there are others, off by default (--tasks).
    """
    from dataclasses import asdict

    from mllm4d_verl.data_tools.questions import QuestionConfig, finished_report, write_questions
    from mllm4d_verl.data_tools.questions.config import BANDS
    from mllm4d_verl.data_tools.schema import EXTRA_TASKS, TASKS

    named = [*(task or ()), *(part.strip() for part in (tasks or "").split(",") if part.strip())]
    if named == ["all"]:
        named = [*TASKS, *EXTRA_TASKS]
    config = QuestionConfig(
        seed=seed,
        num_frames=num_frames,
        tasks=tuple(dict.fromkeys(named)) or TASKS,
        max_per_clip=max_per_clip,
        max_per_clip_task=max_per_clip_task,
        whole_clip_share=whole_clip_share,
        inner_pairs=inner_pairs,
        difficulties=tuple(difficulty) if difficulty else BANDS,
        balance_difficulty=balance_difficulty,
        option_spread=option_spread.value,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        cold_start=cold_start,
        cot_style=cot_style.value,
        cot_decimals=cot_decimals,
    )
    report = None if overwrite else finished_report(clips, out, config)
    skipped = report is not None
    if report is not None:
        say(f"{out} is finished for these clips and settings; nothing to do (--overwrite writes it again)")
    else:
        if (out / "train.parquet").exists():
            say(f"overwriting the questions in {out}")
        with _progress("clips") as progress:
            report = write_questions(clips, out, config, progress, workers=workers or os.cpu_count() or 1, ray=ray)
    _print_counts(report.tasks)
    say(
        f"{sum(report.rows.values())} questions about {sum(report.clips.values())} clips, "
        f"{report.cold_start} with a response, in {out}"
    )
    if report.absent_videos:
        say(f"{report.absent_videos} clips have no video yet: put it where their rows say before training")
    if json:
        emit_json({"out": str(out), "already_done": skipped, **asdict(report)})


@app.command("import")
def import_released(
    file: Annotated[Path, typer.Argument(help="RFT JSONL, or SFT / cold-start JSON or JSONL.")],
    out: Annotated[Path, typer.Argument(help="QA parquet to write.")],
    format: Annotated[Format, typer.Option(help="Format of FILE.")],
    num_frames: Annotated[int, typer.Option(help="Frames sampled per video, where FILE does not say.")] = 32,
    media_root: Annotated[
        Path | None, typer.Option(help="Folder that video paths start from.", show_default="that of FILE")
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad rows out and report them.")] = False,
    json: Json = False,
) -> None:
    """Turn a released MLLM-4D file into QA rows; chats are kept for `data.prompt_template=dataset`."""
    from mllm4d_verl.data_tools.released import read_rft, read_sft, rebase_video
    from mllm4d_verl.data_tools.schema import write_qa

    bad: list[InputError] = []
    read = read_rft if format is Format.rft else read_sft
    rows = read(file, num_frames=num_frames, on_error=bad.append if skip_bad else None)
    for row in rows:
        row.video = rebase_video(row.video, media_root or file.parent, out.parent)
    if out.exists():
        say(f"overwriting {out}")
    write_qa(out, rows)
    for error in bad[:10]:
        say(f"left out: {error}", err=True)
    say(f"{len(rows)} rows in {out}, {len(bad)} left out")
    if json:
        emit_json({"out": str(out), "rows": len(rows), "left_out": len(bad)})


@app.command("export")
def export_released(
    qa: Annotated[Path, typer.Argument(help="QA parquet.")],
    out: Annotated[Path, typer.Argument(help="JSONL (rft, sft) or JSON (sft) to write.")],
    format: Annotated[Format, typer.Option(help="Format of OUT.")],
    json: Json = False,
) -> None:
    """Write QA rows in a released MLLM-4D format."""
    from mllm4d_verl.data_tools.released import rebase_video, write_rft, write_sft
    from mllm4d_verl.data_tools.schema import read_qa

    if format is Format.rft and out.suffix != ".jsonl":
        raise InputError("RFT files are JSON lines", file=out, field="OUT", remedy="Let the name end in .jsonl")
    rows = read_qa(qa)
    for row in rows:
        row.video = rebase_video(row.video, qa.parent, out.parent)
    if out.exists():
        say(f"overwriting {out}")
    (write_rft if format is Format.rft else write_sft)(out, rows)
    say(f"{len(rows)} rows in {out}")
    if json:
        emit_json({"out": str(out), "rows": len(rows)})


def _print_counts(counts: dict[str, dict[str, dict[str, int]]]) -> None:
    """A table of rows: one line per task and answer, one column per split or file."""
    from rich.table import Table

    from mllm4d_verl.terminal import PlainConsole

    table = Table()
    table.add_column("task", overflow="fold")
    table.add_column("answer")
    for name in counts:
        table.add_column(name, justify="right")
    keys = sorted({(task, answer) for tasks in counts.values() for task in tasks for answer in tasks[task]})
    for task, answer in keys:
        numbers = [str(tasks.get(task, {}).get(answer, 0)) for tasks in counts.values()]
        table.add_row(task, answer, *numbers)
    PlainConsole().print(table)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, called as progress(done, total)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from mllm4d_verl.terminal import PlainConsole

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=PlainConsole(stderr=True)) as bar:
        line = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(line, completed=done, total=total)


def _parse_size(size: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)[xX](\d+)", size)
    if not match:
        raise InputError(f"size {size!r} is not WIDTHxHEIGHT", field="--size", remedy="For example --size 128x128")
    return int(match.group(1)), int(match.group(2))

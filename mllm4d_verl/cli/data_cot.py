"""`mllm4d data cot`: reasoning paths for question rows, scored by the reward, the better ones kept."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mllm4d_verl.cli.output import emit_json, open_console, progress_bar
from mllm4d_verl.terminal import say

if TYPE_CHECKING:
    from mllm4d_verl.cold_start import CotReport

EXIT_GIVEN_UP = 1


class Writer(str, Enum):
    """Who writes."""

    rule = "rule"
    endpoint = "endpoint"


class Style(str, Enum):
    """Length of rule-based texts."""

    full = "full"
    compact = "compact"


def cot(
    qa: Annotated[Path, typer.Argument(help="Question rows, such as train.parquet; rows of the split train are used.")],
    out: Annotated[Path, typer.Argument(help="Folder for cold_start.parquet and cold_start.json.")],
    writer: Annotated[Writer, typer.Option(help="rule: from metadata; endpoint: a vision model.")] = Writer.rule,
    paths: Annotated[int, typer.Option(help="Ways of reasoning per question.", min=1)] = 3,
    samples_per_task: Annotated[
        int, typer.Option(help="Questions of each task to write about; 0 for all. The paper has 2000.", min=0)
    ] = 0,
    keep_per_sample: Annotated[
        int, typer.Option(help="Texts of one question that are kept at most; 0 for all.", min=0)
    ] = 1,
    target: Annotated[int, typer.Option(help="Texts in all, tasks taking turns; 0 for all.", min=0)] = 0,
    tolerance: Annotated[float, typer.Option(help="A score so far below the threshold is at it.", min=0)] = 1e-3,
    preset: Annotated[str, typer.Option(help="Reward that scores: mllm4d_st, official, paper.")] = "mllm4d_st",
    seed: Annotated[int, typer.Option(help="Of wording, sampling and the choice of questions.", min=0)] = 0,
    workers: Annotated[int, typer.Option(help="Processes (rule) or requests at a time (endpoint).", min=1)] = 1,
    style: Annotated[Style, typer.Option(help="rule: length of texts.")] = Style.full,
    decimals: Annotated[int, typer.Option(help="rule: decimals of coordinates.", min=0, max=6)] = 4,
    clips: Annotated[
        Path | None, typer.Option(help="rule: data root for the visual cues of rows that carry none.")
    ] = None,
    base_url: Annotated[str, typer.Option(help="endpoint: its address, such as http://localhost:8000/v1.")] = "",
    model: Annotated[str, typer.Option(help="endpoint: name of the model as it knows it.")] = "",
    api_key_env: Annotated[str, typer.Option(help="endpoint: environment variable that holds the key.")] = "",
    temperature: Annotated[float, typer.Option(help="endpoint: of sampling.", min=0)] = 1.0,
    max_tokens: Annotated[int, typer.Option(help="endpoint: of a reply.", min=1)] = 4096,
    requests_per_minute: Annotated[float, typer.Option(help="endpoint: at most; 0 for no limit.", min=0)] = 0.0,
    timeout: Annotated[float, typer.Option(help="endpoint: seconds for a request.")] = 120.0,
    retries: Annotated[int, typer.Option(help="endpoint: further requests per path.", min=0)] = 3,
    max_unanswered: Annotated[
        int, typer.Option(help="endpoint: paths in a row without an answer after which it is given up.", min=1)
    ] = 5,
    max_pixels: Annotated[
        int, typer.Option(help="endpoint: of a frame; larger ones are made smaller.", min=1)
    ] = 100352,
    cache: Annotated[Path | None, typer.Option(help="endpoint: folder of replies, shared by runs.")] = None,
    json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Write reasoning for questions, score it with the reward, and keep what is at or above its task's threshold.

    Exit code 1: the endpoint was given up; what is there is written, and a rerun goes on.
    """
    from mllm4d_verl.cold_start import CotConfig, EndpointConfig, SelectionConfig, make_cold_start

    endpoint = None
    if writer is Writer.endpoint:
        endpoint = EndpointConfig(
            base_url=base_url,
            model=model,
            api_key_env=api_key_env,
            timeout_s=timeout,
            max_retries=retries,
            temperature=temperature,
            max_tokens=max_tokens,
            requests_per_minute=requests_per_minute,
            max_unanswered=max_unanswered,
            max_pixels=max_pixels,
            workers=workers,
            cache_dir=os.fspath(cache) if cache else "",
        )
    config = CotConfig(
        writer=writer.value,
        paths=paths,
        style=style.value,
        decimals=decimals,
        preset=preset,
        samples_per_task=samples_per_task,
        seed=seed,
        selection=SelectionConfig(tolerance, keep_per_sample, target, seed),
        endpoint=endpoint,
        workers=workers,
    )
    with progress_bar(open_console(), "questions") as progress:
        report = make_cold_start(qa, out, config, clips, progress)
    _print_report(report, out)
    if json:
        emit_json({"out": str(out / "cold_start.parquet"), "writer": writer.value, **report.to_dict()})
    if report.given_up:
        raise typer.Exit(EXIT_GIVEN_UP)


def _print_report(report: CotReport, out: Path) -> None:
    from rich.table import Table

    table = Table()
    table.add_column("task", overflow="fold")
    for column in ("samples", "paths", "right", "mean score", "threshold", "passing", "of samples", "kept"):
        table.add_column(column, justify="right")
    for task, figures in report.tasks.items():
        table.add_row(
            task,
            str(figures.samples),
            str(figures.paths),
            _percent(figures.right_share),
            _number(figures.mean_score),
            _number(figures.threshold),
            _percent(figures.passing_share),
            _percent(figures.passing_samples / figures.samples),
            str(figures.kept),
        )
    open_console().print(table)
    if report.left_out:
        say(f"{report.left_out} rows of other splits than train left out")
    if report.asked or report.from_store:
        say(f"{report.asked} paths written now, {report.from_store} were there already")
    for problem, count in report.problems.items():
        say(f"{count} paths missing: {problem}", err=True)
    if report.given_up:
        say(f"The endpoint is given up: {report.given_up}. Run the same command again to go on.", err=True)
    say(f"{report.rows} texts in {out / 'cold_start.parquet'}")


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}%"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"

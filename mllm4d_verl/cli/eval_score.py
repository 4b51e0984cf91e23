"""`mllm4d eval score`: responses of any origin, scored again, against a benchmark or with a reward preset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mllm4d_verl.cli.output import emit_json, open_console, progress_bar
from mllm4d_verl.data_tools.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from mllm4d_verl.evaluation.benchmark_score import BenchmarkScore, Figures
    from mllm4d_verl.evaluation.statistics import Interval


def score(
    responses: Annotated[
        Path, typer.Argument(help="responses.jsonl, the folder of a run, or benchmark items with a `response` field.")
    ],
    benchmark: Annotated[
        str | None,
        typer.Option(help="vlm4d, vlm4d_real, vlm4d_synthetic, vsi_bench, sti_bench, mllm4d, or a question file."),
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option(help="Question file (or its folder) of a named benchmark. Default: look in $MLLM4D_BENCHMARKS."),
    ] = None,
    response_field: Annotated[str, typer.Option(help="Key of the response in each record.")] = "response",
    preset: Annotated[
        str, typer.Option(help="Without --benchmark: reward preset, mllm4d_st, official or paper.")
    ] = "mllm4d_st",
    judge_url: Annotated[
        str, typer.Option(help="Also ask a judge model: OpenAI-compatible address, http://localhost:8000/v1.")
    ] = "",
    judge_model: Annotated[str, typer.Option(help="Name of the judge model at that address.")] = "",
    judge_key_env: Annotated[str, typer.Option(help="Environment variable that holds the judge's key.")] = "",
    judge_cache: Annotated[str, typer.Option(help="Folder that keeps the judge's replies for the next time.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write the scored responses to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON as the last line.")] = False,
) -> None:
    """Score responses again: against a benchmark by rule, or with another reward preset.

    With --benchmark the last line of --json holds n, correct, strict, invalid, accuracy_over_valid (percent), per split
    and per task. Without, a line of the file needs id, task, truth and response.
    """
    if benchmark is None:
        for name, value in (("--questions", questions), ("--judge-url", judge_url)):
            if value:
                raise InputError("needs --benchmark", field=name, remedy="Name the benchmark that was answered")
        _score_with_reward(responses, preset, out, as_json)
        return
    from mllm4d_verl.evaluation.benchmark_score import score_benchmark, write_scored
    from mllm4d_verl.evaluation.benchmarks.answered import read_answered
    from mllm4d_verl.evaluation.responses import responses_path

    console = open_console()
    answered = read_answered(responses_path(responses), benchmark, questions, response_field)
    judgements = judge = None
    if judge_url:
        from mllm4d_verl.data_tools.endpoint import Endpoint
        from mllm4d_verl.evaluation.answers.judge import describe_judge, judge_responses

        endpoint = Endpoint(judge_url, judge_model, judge_key_env)
        with progress_bar(console, "judging") as progress:
            judgements = judge_responses(
                answered.items, answered.responses, endpoint, cache_dir=judge_cache, progress=progress
            )
        judge = describe_judge(endpoint)
    result = score_benchmark(answered, judgements=judgements, judge=judge)
    _print(result, console, str(responses))
    if out is not None:
        write_scored(out, result)
    if as_json:
        emit_json(result.to_dict())


def _score_with_reward(responses: Path, preset: str, out: Path | None, as_json: bool) -> None:
    from mllm4d_verl.evaluation import read_responses, score_records, summarise, write_responses
    from mllm4d_verl.evaluation.report import print_summary

    scored = score_records(read_responses(responses), preset)
    summary = summarise(scored, preset)
    print_summary(summary, open_console(), title=str(responses))
    if out is not None:
        write_responses(out, scored)
    if as_json:
        emit_json(summary.to_dict())


def _print(result: BenchmarkScore, console: Console, title: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    benchmark = result.answered.benchmark
    table = Table(title=Text(f"{title} on {benchmark.name}"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("group", min_width=14)
    for heading in ("n", "strict", "95% interval", "chance", "invalid", "over valid"):
        table.add_column(heading, justify="right", no_wrap=True)
    for groups in (result.per_split, result.per_task):
        for name, figures in groups.items():
            table.add_row(*_cells(name, figures))
        table.add_section()
    table.add_row(*_cells("all (micro)", result.overall), style="bold")
    macro = result.macro
    table.add_row("mean of tasks (macro)", "", _percent(macro.estimate), _range(macro), "", "", "")
    console.print(table)
    for line in _notes(result):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _notes(result: BenchmarkScore) -> list[str]:
    answered = result.answered
    benchmark = answered.benchmark
    from mllm4d_verl.evaluation.wording import reliability_note

    lines = [
        "Strict counts an invalid response (no answer, or several) as wrong. Intervals take whole videos for "
        "independent."
    ]
    groups = [*result.per_split.values(), *result.per_task.values(), result.overall]
    if (note := reliability_note([*(figures.strict for figures in groups), result.macro])) is not None:
        lines.append(note)
    if result.overall.invalid:
        reasons = result.to_dict()["invalid_reasons"]
        lines.append("Invalid: " + ", ".join(f"{reason} {count}" for reason, count in reasons.items()) + ".")
    known = (
        f"the published ones ({benchmark.revision[:12]})"
        if benchmark.revision
        else "not known to be the published ones"
    )
    lines.append(f"Questions: {len(answered.items)}, from the {answered.questions_from}, {known}.")
    if answered.missing:
        lines.append(
            f"{len(answered.missing)} questions have no response; counted as wrong they leave "
            f"{_percent(result.to_dict()['strict_with_missing'])}."
        )
    if answered.altered:
        lines.append(f"{len(answered.altered)} questions differ from the question file: {_some(answered.altered)}.")
    lines += [f"{odd.kind.replace('_', ' ')}: {_some(odd.ids)}: {odd.note}." for odd in benchmark.oddities[:5]]
    if len(benchmark.oddities) > 5:
        lines.append(f"{len(benchmark.oddities) - 5} further oddities are in the JSON.")
    if (judge := result.judge) is not None:
        lines.append(
            f"Judge {judge['model']}: {judge['judged']} judged, agrees with the rule on {_percent(judge['agree'])}; an "
            f"answer only by the judge {judge['only_judge']}, only by the rule {judge['only_rule']}; accuracy by the "
            f"judge {_percent(judge['strict'])}, by the rule {_percent(judge['strict_by_rule'])}."
        )
    return lines


def _cells(name: str, figures: Figures) -> list[str]:
    strict = figures.strict
    return [
        name.replace("_", " "),
        str(figures.n),
        _percent(strict.estimate),
        _range(strict),
        _percent(figures.chance),
        str(figures.invalid),
        _percent(figures.accuracy_over_valid),
    ]


def _percent(value: Any) -> str:
    return "-" if value is None else f"{value:.1f}%"


def _range(interval: Interval) -> str:
    from mllm4d_verl.evaluation.wording import mark

    low, high = interval.low, interval.high
    text = "-" if low is None or high is None else f"{low:.1f} to {high:.1f}"
    return text + mark(interval)


def _some(ids: Any) -> str:
    return ", ".join(list(ids)[:3]) + (" ..." if len(ids) > 3 else "")

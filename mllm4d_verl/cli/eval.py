"""`mllm4d eval`: answer a question file with a model, score responses again, compare two runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mllm4d_verl.cli.eval_bench import build_bench
from mllm4d_verl.cli.eval_score import score
from mllm4d_verl.cli.output import emit_json, key_values, open_console, progress_bar

app = typer.Typer(
    help="Generate answers with vLLM and score them.", no_args_is_help=True, pretty_exceptions_enable=False
)
app.command()(score)
app.command("build-bench")(build_bench)

_EXIT_FAULT = 1

Preset = Annotated[str, typer.Option(help="Reward preset: mllm4d_st, official or paper.")]
Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON as the last line.")]


@app.command()
def run(
    model: Annotated[str, typer.Option(help="Folder of a Hugging Face checkpoint (merged), or a hub name.")],
    data: Annotated[Path, typer.Option(help="Questions: QA parquet of `mllm4d data`, or released RFT JSONL.")],
    template: Annotated[str, typer.Option(help="Prompt template the model was trained with: st_cot, direct.")] = (
        "st_cot"
    ),
    preset: Preset = "mllm4d_st",
    out: Annotated[Path | None, typer.Option(help="Folder of the run. Default: outputs/eval/<names>.")] = None,
    limit: Annotated[int | None, typer.Option(help="Number of questions, spread over the tasks.")] = None,
    temperature: Annotated[float, typer.Option(help="0 decodes greedily.")] = 0.0,
    max_tokens: Annotated[
        int | None, typer.Option(help="Longest response. Default: 16 for direct, 1024 otherwise.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of sampling at temperatures above 0.")] = 0,
    dtype: Annotated[str, typer.Option(help="Of the weights: auto, bfloat16, float16, float32.")] = "auto",
    dataset: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Key of the data config that training changed: max_pixels=..."),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Option of vllm.LLM, e.g. tensor_parallel_size=4. Repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Answer the questions of DATA with MODEL, score the responses, print the table.

    A run that is complete is not repeated; one that was interrupted goes on where it stopped.
    """
    from mllm4d_verl.evaluation import GenerationError, evaluate
    from mllm4d_verl.evaluation.report import print_summary

    console = open_console()
    try:
        with progress_bar(console, "answering", waiting="starting vLLM") as progress:
            result = evaluate(
                model,
                data,
                template=template,
                preset=preset,
                out=out,
                limit=limit,
                temperature=temperature,
                max_tokens=max_tokens,
                seed=seed,
                dtype=dtype,
                dataset=key_values(dataset, "--set"),
                engine=key_values(engine, "--engine"),
                progress=progress,
            )
    except GenerationError as error:
        print(f"mllm4d: {error}", file=sys.stderr)
        raise SystemExit(_EXIT_FAULT) from None
    if result.reused:
        console.print("Complete already: nothing was generated.")
    print_summary(result.summary, console, title=f"{Path(model).name or model} on {data.name}, template {template}")
    console.print(f"Responses and figures: {result.folder}", soft_wrap=True, highlight=False, markup=False)
    if as_json:
        emit_json(result.to_dict())


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="Folder or responses file of the first run.")],
    b: Annotated[Path, typer.Argument(help="Folder or responses file of the second run.")],
    preset: Preset = "mllm4d_st",
    as_json: Json = False,
) -> None:
    """Difference of two runs over the same questions, with intervals: B minus A."""
    from mllm4d_verl.evaluation import compare_records, read_responses
    from mllm4d_verl.evaluation.report import print_comparison

    comparison = compare_records(read_responses(a), read_responses(b), preset)
    print_comparison(comparison, open_console(), str(a), str(b))
    if as_json:
        emit_json(comparison.to_dict())

"""`mllm4d eval run`: answer a question file or a benchmark with a model, and score the responses."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mllm4d_verl.cli.output import emit_json, key_values, open_console, progress_bar
from mllm4d_verl.data_tools.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

_FAULTS_SHOWN = 5  # records of a benchmark that are named; the others are counted
_EXIT_FAULT = 1
_LINE_EVERY_S = 30.0  # a log without a terminal gets one line of progress so often
_WAITING = "starting the model"


def run(
    model: Annotated[
        str, typer.Option(help="Folder of a Hugging Face checkpoint (merged), a hub name, or the name a server knows.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="Questions: QA parquet of `mllm4d data`, or released RFT JSONL.")
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option(help="Instead of --data: vlm4d, vsi_bench, sti_bench, ..., or a question file.")
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="Question file of the benchmark. Default: look in $MLLM4D_BENCHMARKS.")
    ] = None,
    media_root: Annotated[Path | None, typer.Option(help="Folder of the benchmark's videos.")] = None,
    num_frames: Annotated[
        int, typer.Option(help="Frames of a benchmark's video, where its questions do not say; with --fps, at most.")
    ] = 32,
    fps: Annotated[
        float | None, typer.Option(help="Frames per second of a benchmark's video. Default: always --num-frames.")
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="vllm, transformers or openai. Default: vllm where it is installed.")
    ] = None,
    base_url: Annotated[
        str, typer.Option(help="Of an OpenAI-compatible server: http://localhost:8000/v1. Implies --backend openai.")
    ] = "",
    template: Annotated[str, typer.Option(help="Prompt template the model was trained with: st_cot, direct.")] = (
        "st_cot"
    ),
    preset: Annotated[str, typer.Option(help="Reward preset: mllm4d_st, official or paper.")] = "mllm4d_st",
    out: Annotated[Path | None, typer.Option(help="Folder of the run. Default: outputs/eval/<names>.")] = None,
    limit: Annotated[int | None, typer.Option(help="Number of questions, spread over the tasks.")] = None,
    samples: Annotated[int, typer.Option(help="Responses to every question; needs a temperature.")] = 1,
    temperature: Annotated[float, typer.Option(help="0 decodes greedily.")] = 0.0,
    max_tokens: Annotated[
        int | None, typer.Option(help="Longest response. Default: 16 for direct, 1024 otherwise.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of sampling at temperatures above 0, and of shuffled frames.")] = 0,
    control: Annotated[
        str | None, typer.Option(help="blind, shuffled or single-frame: what the model may not see.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of the weights: auto, bfloat16, float16, float32.")] = "auto",
    dataset: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Key of the data config that training changed: max_pixels=..."),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Option of the backend, e.g. tensor_parallel_size=4. Repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON as the last line.")] = False,
) -> None:
    """Answer the questions of DATA or of a BENCHMARK with MODEL, score the responses, print the table.

    A run that is complete is not repeated; one that was interrupted goes on where it stopped.
    """
    from mllm4d_verl.evaluation import GenerationError, evaluate
    from mllm4d_verl.evaluation.benchmark_questions import FrameRule
    from mllm4d_verl.evaluation.report import print_summary

    if (data is None) == (benchmark is None):
        raise InputError("give one of --data and --benchmark", field="--data")
    options = key_values(engine, "--engine")
    if base_url:
        if backend not in (None, "openai"):
            raise InputError(f"the backend {backend} asks no server", field="--base-url")
        backend, options = "openai", {**options, "base_url": base_url}
    console = open_console()
    try:
        with _progress(console) as progress:
            result = evaluate(
                model,
                data,
                benchmark=benchmark,
                questions=questions,
                media_root=media_root,
                frames=FrameRule(num_frames, fps),
                backend=backend,
                template=template,
                preset=preset,
                out=out,
                limit=limit,
                samples=samples,
                temperature=temperature,
                max_tokens=max_tokens,
                seed=seed,
                control=control,
                dtype=dtype,
                dataset=key_values(dataset, "--set"),
                engine=options,
                progress=progress,
            )
    except GenerationError as error:
        print(f"mllm4d: {error}", file=sys.stderr)
        raise SystemExit(_EXIT_FAULT) from None
    if result.reused:
        console.print("Complete already: nothing was generated.")
    asked = benchmark if data is None else data.name
    title = f"{Path(model).name or model} on {asked}, template {template}" + (f", {control}" if control else "")
    print_summary(result.summary, console, title=title)
    faults = (result.run.get("benchmark") or {}).get("faults", {})
    for id, fault in list(faults.items())[:_FAULTS_SHOWN]:
        console.print(f"{id}: {fault}", soft_wrap=True, highlight=False, markup=False)
    if len(faults) > _FAULTS_SHOWN:
        console.print(f"{len(faults) - _FAULTS_SHOWN} further records at fault are in run.json.", highlight=False)
    console.print(f"Responses and figures: {result.folder}", soft_wrap=True, highlight=False, markup=False)
    if as_json:
        emit_json(result.to_dict())


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on a terminal; elsewhere a line on standard error from time to time."""
    if console.is_terminal:
        with progress_bar(console, "answering", waiting=_WAITING) as update:
            yield update
    else:
        yield ProgressLines()


class ProgressLines:
    """Says every so often how many are answered, how fast, and how long the rest will take.

    Args:
        every_s: seconds between lines.
        clock, say: take no argument and give seconds; take a line.
    """

    def __init__(
        self,
        every_s: float = _LINE_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    ) -> None:
        self._every_s, self._clock, self._say = every_s, clock, say
        self._first: tuple[float, int] | None = None  # when answers began to count, and how many were there already
        self._said_s = clock()

    def __call__(self, done: int, total: int | None) -> None:
        now_s = self._clock()
        if total is not None and self._first is None:
            self._first = (now_s, done)
        if now_s - self._said_s < self._every_s:
            return
        self._said_s = now_s
        if total is None or self._first is None:
            self._say(_WAITING)
            return
        start_s, before = self._first
        rate = (done - before) / (now_s - start_s) if now_s > start_s else 0.0
        left = f"{rate:.2f}/s, about {duration((total - done) / rate)} left" if rate > 0 else "time left not known"
        self._say(f"answered {done} of {total}, {left}")


def duration(seconds: float) -> str:
    """Seconds as "45 s", "12 min" or "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

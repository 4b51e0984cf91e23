"""`evaluate`: a model and a question file in, responses and figures out."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from mllm4d_verl.data_tools.atomic import atomic_path
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.datasets import validate_rows
from mllm4d_verl.datasets.options import PromptOptions
from mllm4d_verl.datasets.reader import FileKind, file_kind, read_rows
from mllm4d_verl.reward import DEFAULT_PRESET

from .backends import check_backend, load_backend
from .backends.base import default_backend
from .benchmark_questions import FrameRule, describe_rule, write_benchmark_rows
from .benchmarks import load_benchmark
from .controls import check_control
from .generate import Plan, Progress, plan_file, run_job
from .job import GenerationJob, check_model
from .provenance import describe_origin
from .responses import RESPONSES_NAME, ResponseRecord, read_responses, read_unfinished, write_responses
from .scoring import score_records
from .summary import Summary, summarise
from .writer import LockedError, only_writer

RUN_NAME = "run.json"
SUMMARY_NAME = "summary.json"
_LOCK_NAME = "run.lock"
_DTYPES = ("auto", "bfloat16", "float16", "float32")
# ST-CoT texts of the cold start hold 300 to 600 tokens with Qwen's tokenizer; a direct answer is a letter.
_MAX_TOKENS = {"direct": 16}
_MAX_TOKENS_DEFAULT = 1024


@dataclass(frozen=True)
class EvaluationResult:
    """What `evaluate` found.

    Attributes:
        folder: holds responses.jsonl (scored), run.json (what was run), summary.json and engine.log.
        run: all that is needed to repeat it: job, fingerprint, media, benchmark, and `provenance.describe_origin`.
        reused: all responses were there already, and no model was started.
        records: scored responses in the order of the questions.
        summary: figures.
    """

    folder: Path
    run: dict[str, Any]
    reused: bool
    records: list[ResponseRecord]
    summary: Summary

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the responses."""
        return {"folder": str(self.folder), "run": self.run, "reused": self.reused, **self.summary.to_dict()}


def evaluate(
    model: str | os.PathLike[str],
    qa: str | os.PathLike[str] | None = None,
    *,
    benchmark: str | None = None,
    questions: str | os.PathLike[str] | None = None,
    media_root: str | os.PathLike[str] | None = None,
    frames: FrameRule | None = None,
    backend: str | None = None,
    template: str = "st_cot",
    preset: str = DEFAULT_PRESET,
    out: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    samples: int = 1,
    temperature: float = 0.0,
    max_tokens: int | None = None,
    seed: int = 0,
    control: str | None = None,
    dtype: str = "auto",
    dataset: dict[str, Any] | None = None,
    engine: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Answer the questions of `qa`, or of `benchmark`, with `model` and score the responses.

    With the backends vllm and transformers the prompt of every question (token ids, frames, timestamps) is the one
    training uses, and each run checks that the model saw exactly it. A run that is complete is not repeated; one that
    was interrupted, by whatever, goes on where it stopped.

    Args:
        model: folder of a Hugging Face checkpoint, or a hub name; with `openai` the name the server knows. verl
            checkpoints have to be merged first.
        qa: questions: QARow parquet or released RFT JSONL.
        benchmark: in the place of `qa`: a name or a file, see `benchmarks.load_benchmark`.
        questions: the benchmark's question file or its folder; None looks where MLLM4D_BENCHMARKS points.
        media_root: folder of the benchmark's videos.
        frames: how the benchmark's videos are sampled, where its questions do not say.
        backend: "vllm", "transformers" or "openai"; None takes the first of these that is installed.
        template: prompt template, as in `data.prompt_template`.
        preset: of the reward. Another preset rescores existing responses without generating anew.
        out: folder of the run; None makes outputs/eval/<model>-<questions>-<fingerprint>.
        limit: number of questions, spread over the tasks; None for all.
        samples: responses to every question; more than one needs a temperature.
        temperature: 0 decodes greedily.
        max_tokens: longest response; None means 16 for `direct` and 1024 otherwise.
        seed: of sampling at temperatures above 0, and of the order of shuffled frames.
        control: "blind", "shuffled", "single-frame", see `controls`; None shows the video as it is.
        dtype: of the weights; "auto" takes the checkpoint's.
        dataset: keys of the `data=mllm4d` config to change, where training changed them: media_root, min_pixels,
            max_pixels, num_frames, tasks.
        engine: options of the backend: of `vllm.LLM`, replacing the derived ones; see `backends` for the others.
        progress: called with (responses so far, responses in all or None while the engine starts).

    Raises:
        InputError: the rows, the model folder or an argument are not usable. Found before an engine starts.
        GenerationError: the backend failed; the message has the end of its log.
    """
    model, backend = str(model), backend or default_backend()
    _check_arguments(limit, temperature, max_tokens, samples, dtype)
    check_control(control)
    check_backend(backend)
    load_backend(backend).check_options(engine or {})
    score_records([], preset)
    if backend != "openai":
        check_model(model)
    dataset = _prompt_config(dataset or {}, template)
    described = None
    if benchmark is not None:
        qa, described = _benchmark_rows(benchmark, questions, media_root, frames or FrameRule(), out)
    elif qa is None:
        raise InputError("there is nothing to ask", field="--data", remedy="Give --data FILE or --benchmark NAME")
    _check_rows(str(qa), template, dataset)
    job = GenerationJob(
        model=os.path.abspath(model) if backend != "openai" and os.path.exists(model) else model,
        data=os.path.abspath(qa),  # not resolved: videos lie beside the name the user gave
        unfinished="",
        template=template,
        backend=backend,
        limit=limit,
        samples=samples,
        temperature=temperature,
        max_tokens=max_tokens or _MAX_TOKENS.get(template, _MAX_TOKENS_DEFAULT),
        seed=seed,
        control=control,
        dtype=dtype,
        dataset=dataset,
        engine=engine or {},
    )
    fingerprint = job.fingerprint()
    folder = Path(out) if out is not None else _default_folder(job, fingerprint)
    try:
        with only_writer(folder / _LOCK_NAME, wait=False):
            return _run(job, fingerprint, folder, preset, described, progress)
    except LockedError:
        raise InputError(
            "another evaluation is writing to this folder", file=folder, field="--out", remedy="Wait until it ends"
        ) from None


def _run(
    job: GenerationJob,
    fingerprint: str,
    folder: Path,
    preset: str,
    benchmark: dict[str, Any] | None,
    progress: Progress | None,
) -> EvaluationResult:
    responses, run_file = folder / RESPONSES_NAME, folder / RUN_NAME
    # The fingerprint is in the name: what another job left unfinished in the same folder is not taken for this one's.
    job = replace(job, unfinished=str(folder / f"{fingerprint}.unfinished.jsonl"))
    before = _read_run(run_file)
    reused = responses.is_file() and before.get("fingerprint") == fingerprint
    if reused:
        records, run = read_responses(responses), before
    else:
        run_job(job, folder, progress)
        plan = Plan.read(job)
        records = _all_planned(job, plan)
        run = {key: value for key, value in asdict(job).items() if key != "unfinished"}
        run |= {"fingerprint": fingerprint, "media": plan.media, "benchmark": benchmark, **describe_origin(job)}
        # From here to the end of this function the folder claims to hold no finished run.
        run_file.unlink(missing_ok=True)
    scored = score_records(records, preset)
    summary = summarise(scored, preset)
    run |= {"preset": preset}
    write_responses(responses, scored)
    _write_json(folder / SUMMARY_NAME, summary.to_dict())
    _write_json(run_file, run)
    for leftover in (Path(job.unfinished), plan_file(job)):
        leftover.unlink(missing_ok=True)
    return EvaluationResult(folder, run, reused, scored, summary)


def _all_planned(job: GenerationJob, plan: Plan) -> list[ResponseRecord]:
    """The records of a finished generation, in the order of the question file."""
    by_key = {record.key: record for record in read_unfinished(job.unfinished)}
    return [by_key[key] for key in plan.keys]


def _benchmark_rows(
    benchmark: str,
    questions: str | os.PathLike[str] | None,
    media_root: str | os.PathLike[str] | None,
    frames: FrameRule,
    out: str | os.PathLike[str] | None,
) -> tuple[Path, dict[str, Any]]:
    """The benchmark's question rows as a file, and what the record of the run says of them."""
    if media_root is None:
        raise InputError(
            "a benchmark needs its videos", field="--media-root", remedy="Give the folder that they were fetched to"
        )
    loaded = load_benchmark(benchmark, questions)
    folder = Path(out) if out is not None else Path("outputs", "eval")
    file, faults = write_benchmark_rows(loaded, media_root, frames, folder)
    return file, {**loaded.describe(), "frames": describe_rule(frames, media_root), "faults": faults}


def _check_arguments(limit: int | None, temperature: float, max_tokens: int | None, samples: int, dtype: str) -> None:
    for name, value in (("--limit", limit), ("--max-tokens", max_tokens), ("--samples", samples)):
        if value is not None and value < 1:
            raise InputError(f"must be at least 1, got {value}", field=name)
    if temperature < 0:
        raise InputError(f"must be 0 (greedy) or above, got {temperature}", field="--temperature")
    if samples > 1 and temperature == 0:
        raise InputError(
            "greedy decoding gives the same response every time",
            field="--samples",
            remedy="Give a --temperature, such as 0.7",
        )
    if dtype not in _DTYPES:
        raise InputError(f"must be one of {', '.join(_DTYPES)}, got {dtype!r}", field="--dtype")


def _check_rows(qa: str, template: str, dataset: dict[str, Any]) -> None:
    if file_kind(qa) is FileKind.VERL:
        raise InputError(
            "the file holds verl rows, which do not say task and clip",
            file=qa,
            field="--data",
            remedy="Evaluate the question rows they were made from",
        )
    validate_rows(qa, template, **dataset)
    seen: set[str] = set()
    for source in read_rows([qa], PromptOptions.from_config(dataset)):
        if source.row.id in seen:
            raise InputError(f"the id {source.row.id!r} occurs twice", file=qa, row=source.index, field="id")
        seen.add(source.row.id)


def _prompt_config(changes: dict[str, Any], template: str) -> dict[str, Any]:
    """The keys of `data=mllm4d` that shape prompts, with `changes`; the template apart."""
    from importlib.resources import files as files_of

    from omegaconf import OmegaConf

    keys = [field.name for field in fields(PromptOptions) if field.name not in ("prompt_template", "vocabulary")]
    unknown = set(changes) - set(keys)
    if unknown:
        raise InputError(
            f"the data config has no key {', '.join(sorted(unknown))} that changes prompts",
            field="--set",
            remedy=f"Choose from {', '.join(keys)}",
        )
    rows_config = files_of("mllm4d_verl.config") / "data" / "mllm4d_rows.yaml"
    defaults = OmegaConf.to_container(OmegaConf.create(rows_config.read_text(encoding="utf-8")))
    config = {key: changes.get(key, defaults.get(key)) for key in keys}
    PromptOptions.from_config({**config, "prompt_template": template})  # raises where the values do not fit
    return config


def _default_folder(job: GenerationJob, fingerprint: str) -> Path:
    control = [job.control] if job.control else []
    names = (Path(job.model).name, Path(job.data).stem, Path(job.template).stem, *control, fingerprint)
    return Path("outputs", "eval", "-".join(names))


def _read_run(run_file: Path) -> dict[str, Any]:
    """run.json, or nothing where there is none that can be read."""
    try:
        run = json.loads(run_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return run if isinstance(run, dict) else {}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")

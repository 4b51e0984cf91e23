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

from .generate import Progress, plan_file, run_job
from .job import GenerationJob, check_model
from .responses import RESPONSES_NAME, ResponseRecord, read_responses, read_unfinished, write_responses
from .scoring import score_records
from .summary import Summary, summarise

RUN_NAME = "run.json"
SUMMARY_NAME = "summary.json"
# ST-CoT texts of the cold start hold 300 to 600 tokens with Qwen's tokenizer; a direct answer is a letter.
_MAX_TOKENS = {"direct": 16}
_MAX_TOKENS_DEFAULT = 1024


@dataclass(frozen=True)
class EvaluationResult:
    """What `evaluate` found.

    Attributes:
        folder: holds responses.jsonl (scored), run.json (what was run), summary.json and engine.log.
        run: model, data, template, sampling and fingerprint.
        reused: all responses were there already, and vLLM was not started.
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
    qa: str | os.PathLike[str],
    *,
    template: str = "st_cot",
    preset: str = DEFAULT_PRESET,
    out: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    temperature: float = 0.0,
    max_tokens: int | None = None,
    seed: int = 0,
    dtype: str = "auto",
    dataset: dict[str, Any] | None = None,
    engine: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Answer the questions of `qa` with `model` in vLLM and score the responses with ST-reward.

    The prompt of every question (token ids, frames, timestamps) is the one training uses, and each run checks that vLLM
    saw exactly it. A run that is complete is not repeated; one that was interrupted goes on where it stopped.

    Args:
        model: folder of a Hugging Face checkpoint, or a hub name. verl checkpoints have to be merged first.
        qa: questions: QARow parquet, verl parquet, or released RFT JSONL.
        template: prompt template, as in `data.prompt_template`.
        preset: of the reward. Another preset rescores existing responses without generating anew.
        out: folder of the run; None makes outputs/eval/<model>-<questions>-<fingerprint>.
        limit: number of questions, spread over the tasks; None for all.
        temperature: 0 decodes greedily.
        max_tokens: longest response; None means 16 for `direct` and 1024 otherwise.
        seed: of sampling at temperatures above 0.
        dtype: of the weights in vLLM; "auto" takes the checkpoint's.
        dataset: keys of the `data=mllm4d` config to change, where training changed them: media_root, min_pixels,
            max_pixels, num_frames, tasks.
        engine: options of `vllm.LLM` that replace the derived ones.
        progress: called with (responses so far, responses in all or None while the engine starts).

    Raises:
        InputError: the rows, the model folder or an argument are not usable. Found before vLLM starts.
        GenerationError: vLLM failed; the message has the end of its log.
    """
    model, qa = str(model), str(qa)
    _check_arguments(limit, temperature, max_tokens)
    score_records([], preset)
    check_model(model)
    dataset = _prompt_config(dataset or {}, template)
    _check_rows(qa, template, dataset)
    job = GenerationJob(
        model=os.path.abspath(model) if os.path.exists(model) else model,
        data=os.path.abspath(qa),  # not resolved: videos lie beside the name the user gave
        unfinished="",
        template=template,
        limit=limit,
        temperature=temperature,
        max_tokens=max_tokens or _MAX_TOKENS.get(template, _MAX_TOKENS_DEFAULT),
        seed=seed,
        dtype=dtype,
        dataset=dataset,
        engine=engine or {},
    )
    fingerprint = job.fingerprint()
    folder = Path(out) if out is not None else _default_folder(job, fingerprint)
    return _run(job, fingerprint, folder, preset, progress)


def _run(
    job: GenerationJob, fingerprint: str, folder: Path, preset: str, progress: Progress | None
) -> EvaluationResult:
    responses, run_file = folder / RESPONSES_NAME, folder / RUN_NAME
    # The fingerprint is in the name: what another job left unfinished in the same folder is not taken for this one's.
    job = replace(job, unfinished=str(folder / f"{fingerprint}.unfinished.jsonl"))
    reused = responses.is_file() and _fingerprint_of(run_file) == fingerprint
    if reused:
        records = read_responses(responses)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        run_job(job, folder, progress)
        records = _all_planned(job)
        # From here to the end of this function the folder claims to hold no finished run.
        run_file.unlink(missing_ok=True)
    scored = score_records(records, preset)
    summary = summarise(scored, preset)
    run = {key: value for key, value in asdict(job).items() if key != "unfinished"}
    run |= {"fingerprint": fingerprint, "preset": preset}
    write_responses(responses, scored)
    _write_json(folder / SUMMARY_NAME, summary.to_dict())
    _write_json(run_file, run)
    for leftover in (Path(job.unfinished), plan_file(job)):
        leftover.unlink(missing_ok=True)
    return EvaluationResult(folder, run, reused, scored, summary)


def _all_planned(job: GenerationJob) -> list[ResponseRecord]:
    """The records of a finished generation, in the order of the question file."""
    by_id = {record.id: record for record in read_unfinished(job.unfinished)}
    return [by_id[question] for question in json.loads(plan_file(job).read_text(encoding="utf-8"))]


def _check_arguments(limit: int | None, temperature: float, max_tokens: int | None) -> None:
    for name, value in (("--limit", limit), ("--max-tokens", max_tokens)):
        if value is not None and value < 1:
            raise InputError(f"must be at least 1, got {value}", field=name)
    if temperature < 0:
        raise InputError(f"must be 0 (greedy) or above, got {temperature}", field="--temperature")


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

    keys = [field.name for field in fields(PromptOptions) if field.name != "prompt_template"]
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
    names = (Path(job.model).name, Path(job.data).stem, Path(job.template).stem, fingerprint)
    return Path("outputs", "eval", "-".join(names))


def _fingerprint_of(run_file: Path) -> str | None:
    try:
        return json.loads(run_file.read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")

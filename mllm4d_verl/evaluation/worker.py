"""The process that holds vLLM: `python -m mllm4d_verl.evaluation.worker JOB.json`. Started by `generate.py`.

A process of its own, because vLLM and verl configure themselves from the environment at import, print hundreds of
lines, and give their memory back only by exiting.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mllm4d_verl.data_tools.atomic import atomic_path

from .generate import plan_file
from .job import GenerationJob, weight_bytes
from .prompting import EnginePrompt, PromptBuilder
from .responses import ResponseRecord, drop_torn_line, read_unfinished

# Prompts prepared ahead of the engine: enough to hide the decoding, little enough to keep the frames in memory.
_PREPARED_PROMPTS = 4
# Below this size of the weights, compiling kernels and a second process cost more time than they save.
_SMALL_MODEL_BYTES = 1 << 30
_MAX_NUM_SEQS = 128  # 32 frames of 224 x 224 are 19 MB of pixels a prompt: 2.5 GB in the engine
_MAX_NUM_SEQS_SMALL = 64  # measured with the tiny model on 2 cores: 300 x 160 tokens take 9 s; with 256, 20 s

Prepared = tuple[dict[str, Any], EnginePrompt]  # a row as the trainer gets it, and its prompt


class PromptMismatchError(RuntimeError):
    """vLLM expanded a prompt into other tokens than the trainer does."""


def main(job_file: str) -> None:
    """Generate what the job still lacks, appending one line per response to `job.unfinished`."""
    job = GenerationJob(**json.loads(Path(job_file).read_text(encoding="utf-8")))
    _exit_with_parent()
    import verl  # noqa: F401  before vLLM: the plugin prepares the environment of the CPU lane

    dataset = load_dataset(job)
    questions = [row["extra_info"] for row in dataset.dataframe]
    chosen = select_questions([question["task"] for question in questions], job.limit)
    with atomic_path(plan_file(job)) as temporary:
        temporary.write_text(json.dumps([questions[index]["id"] for index in chosen]), encoding="utf-8")
    drop_torn_line(job.unfinished)
    done = {record.id for record in read_unfinished(job.unfinished)}
    missing = [index for index in chosen if questions[index]["id"] not in done]
    if missing:
        # Questions about one clip run side by side: its video is decoded and encoded once.
        generate(job, dataset, sorted(missing, key=lambda index: questions[index]["clip_id"]))


def load_dataset(job: GenerationJob) -> Any:
    """The training dataset over the evaluation file, without the length filter: no question may be dropped silently."""
    from omegaconf import OmegaConf
    from verl.utils.tokenizer import hf_processor, hf_tokenizer

    from mllm4d_verl.datasets import MLLM4DDataset

    config = OmegaConf.create(
        {**job.dataset, "prompt_template": job.template, "filter_overlong_prompts": False, "return_raw_chat": True}
    )
    return MLLM4DDataset(
        data_files=job.data, tokenizer=hf_tokenizer(job.model), processor=hf_processor(job.model), config=config
    )


def select_questions(tasks: Sequence[str], limit: int | None) -> list[int]:
    """Indices of all questions, or of `limit`: one of every task in turn, so that a short run covers all tasks."""
    if limit is None or limit >= len(tasks):
        return list(range(len(tasks)))
    by_task: dict[str, list[int]] = {}
    for index, task in enumerate(tasks):
        by_task.setdefault(task, []).append(index)
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*by_task.values()))
    return sorted(itertools.islice((index for index in in_turn if index is not None), limit))


def generate(job: GenerationJob, dataset: Any, indices: list[int]) -> None:
    """Run the engine over the rows `indices` and append the responses to `job.unfinished` as they finish."""
    builder = PromptBuilder(job.model, dataset)
    longest_prompt = max(dataset.prompt_length(dataset.dataframe[index]) for index in indices)
    options = engine_options(job, len(indices), longest_prompt)
    if _is_small(job.model):
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # before vLLM is imported

    from vllm import LLM, SamplingParams
    from vllm.sampling_params import RequestOutputKind

    print(f"engine options: {options}", flush=True)
    engine = LLM(**options).llm_engine
    sampling = SamplingParams(
        temperature=job.temperature,
        max_tokens=job.max_tokens,
        seed=job.seed if job.temperature > 0 else None,
        # verl's rollout never samples these; -100 is the strongest bias vLLM takes
        logit_bias=dict.fromkeys(builder.placeholder_token_ids(), -100.0),
        output_kind=RequestOutputKind.FINAL_ONLY,
    )

    def prepare(index: int) -> Prepared:
        item = dataset[index]
        return item, builder.build(item["raw_prompt"])

    with open(job.unfinished, "a", encoding="utf-8") as file:
        prepared = prepare_ahead(prepare, indices)
        for item, token_ids, output in run_engine(engine, prepared, sampling, options["max_num_seqs"]):
            check_prompt(item, token_ids, output.prompt_token_ids)
            file.write(to_record(item, output).to_json() + "\n")
            file.flush()


def engine_options(job: GenerationJob, num_prompts: int, longest_prompt: int) -> dict[str, Any]:
    """Options of `vllm.LLM`, derived from the questions and the size of the weights; `job.engine` has the last word."""
    small = _is_small(job.model)
    derived = {
        "model": job.model,
        "dtype": job.dtype,
        "seed": job.seed,
        "max_model_len": longest_prompt + job.max_tokens,
        "max_num_seqs": min(num_prompts, _MAX_NUM_SEQS_SMALL if small else _MAX_NUM_SEQS),
        "limit_mm_per_prompt": {"image": 0, "video": 1},
        "enforce_eager": small,
    }
    return derived | job.engine


def run_engine(
    engine: Any, prepared: Iterable[Prepared], sampling: Any, max_num_seqs: int
) -> Iterator[tuple[dict[str, Any], list[int], Any]]:
    """Keep an LLMEngine full and yield (item, token ids of its prompt, RequestOutput) as each request finishes.

    `LLM.generate` would want all prompts, with all their frames, in memory at once.
    """
    capacity = max_num_seqs + _PREPARED_PROMPTS  # so that a place that falls free is taken at once
    in_engine: dict[str, tuple[dict[str, Any], list[int]]] = {}

    def step() -> Iterator[tuple[dict[str, Any], list[int], Any]]:
        for output in engine.step():
            if output.finished:
                yield *in_engine.pop(output.request_id), output

    for number, (item, prompt) in enumerate(prepared):
        engine.add_request(str(number), prompt.engine_input, sampling)
        in_engine[str(number)] = (item, prompt.token_ids)  # not the frames: the engine has them
        while len(in_engine) >= capacity:
            yield from step()
    while in_engine:
        yield from step()


def check_prompt(item: dict[str, Any], token_ids: list[int], seen_by_engine: list[int]) -> None:
    """Raise PromptMismatchError unless the engine saw the tokens that the trainer would."""
    if list(seen_by_engine) != token_ids:
        raise PromptMismatchError(
            f"question {item['extra_info']['id']}: vLLM saw another prompt ({len(seen_by_engine)} tokens) than the "
            f"trainer would ({len(token_ids)} tokens). `mllm4d doctor` shows whether the adaptations are active"
        )


def to_record(item: dict[str, Any], output: Any) -> ResponseRecord:
    """The record of one finished request."""
    info, completion = item["extra_info"], output.outputs[0]
    return ResponseRecord(
        id=info["id"],
        clip_id=info["clip_id"],
        task=info["task"],
        truth=item["reward_model"]["ground_truth"],
        response=completion.text,
        prompt_tokens=len(output.prompt_token_ids),
        response_tokens=len(completion.token_ids),
        finish_reason=completion.finish_reason,
    )


def prepare_ahead(prepare: Callable[[int], Prepared], indices: list[int]) -> Iterator[Prepared]:
    """`map(prepare, indices)`, a few ahead in another thread: decoding overlaps with the engine's steps."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead: deque[Future[Prepared]] = deque()
        for index in indices:
            ahead.append(pool.submit(prepare, index))
            if len(ahead) > _PREPARED_PROMPTS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _is_small(model: str) -> bool:
    size = weight_bytes(model)
    return size is not None and size < _SMALL_MODEL_BYTES


def _exit_with_parent() -> None:
    """End this process when the one that started it is gone, however it went."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1])

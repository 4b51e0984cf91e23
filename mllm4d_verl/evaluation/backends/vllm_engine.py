"""vLLM in this process: prompts are prepared a few ahead, the engine is kept full, every prompt is compared."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from mllm4d_verl.cpu_lane.environment import set_cpu_lane_environment
from mllm4d_verl.cpu_lane.vllm_plugin import adapt_vllm
from mllm4d_verl.video import VideoGeometry

from ..job import GenerationJob, weight_bytes
from ..prompting import EnginePrompt, PromptBuilder, load_dataset
from ..questions import Question, Request
from .base import Answer, check_prompt

# Prompts prepared ahead of the engine: enough to hide the decoding, little enough to keep the frames in memory.
_PREPARED_PROMPTS = 4
# Below this size of the weights, compiling kernels and a second process cost more time than they save.
_SMALL_MODEL_BYTES = 1 << 30
_MAX_NUM_SEQS = 128  # 32 frames of 224 x 224 are 19 MB of pixels a prompt: 2.5 GB in the engine
_MAX_NUM_SEQS_SMALL = 64  # measured with the tiny model on 2 cores: 300 x 160 tokens take 9 s; with 256, 20 s
_STAMP_DIGITS = 3  # digits of a timestamp above one, for videos of up to some hours

Prepared = tuple[Request, EnginePrompt]
Result = TypeVar("Result")


def check_options(options: dict[str, Any]) -> None:
    """Any option of `vllm.LLM` is taken; vLLM says which it does not know."""


def media_geometry(job: GenerationJob) -> VideoGeometry:
    """Geometry of the checkpoint's processor."""
    from verl.utils.tokenizer import hf_processor

    return VideoGeometry.from_processor(hf_processor(job.model))


def answer_requests(job: GenerationJob, requests: Sequence[Request], missing: Sequence[Request]) -> Iterator[Answer]:
    """See `base`. Sequences in a batch do not change each other's seeds, so only what is missing is run."""
    dataset = load_dataset(job)
    builder = PromptBuilder(job.model, dataset)
    asked = {request.question.index: request.question for request in missing}
    longest_prompt = max(
        dataset.prompt_length(dataset.dataframe[index]) + _margin(question) for index, question in asked.items()
    )
    options = engine_options(job, len(missing), longest_prompt)
    if _is_small(job.model):
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # before vLLM is imported

    adapt_vllm()
    from vllm import LLM, SamplingParams
    from vllm.platforms import current_platform
    from vllm.sampling_params import RequestOutputKind

    if current_platform.is_cpu():
        # Else vLLM claims 0.92 of the memory, and gives up where other work has more than the rest.
        set_cpu_lane_environment()
    print(f"engine options: {options}", flush=True)
    engine = LLM(**options).llm_engine
    # verl's rollout never samples these; -100 is the strongest bias vLLM takes
    never = dict.fromkeys(builder.placeholder_token_ids(), -100.0)

    def sampling(request: Request) -> Any:
        return SamplingParams(
            temperature=job.temperature,
            max_tokens=job.max_tokens,
            seed=request.seed if job.temperature > 0 else None,
            logit_bias=never,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def prepare(request: Request) -> Prepared:
        return request, builder.build_question(job, request.question)

    # Questions about one clip run side by side: its video is decoded and encoded once.
    ordered = sorted(missing, key=lambda request: request.question.clip_id)
    for request, token_ids, output in run_engine(
        engine, prepare_ahead(prepare, ordered), sampling, options["max_num_seqs"]
    ):
        check_prompt(request.question.id, token_ids, output.prompt_token_ids)
        completion = output.outputs[0]
        yield Answer(
            request,
            completion.text,
            len(output.prompt_token_ids),
            len(completion.token_ids),
            completion.finish_reason,
        )


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
    engine: Any, prepared: Iterable[Prepared], sampling: Callable[[Request], Any], max_num_seqs: int
) -> Iterator[tuple[Request, list[int], Any]]:
    """Keep an LLMEngine full and yield (request, token ids of its prompt, RequestOutput) as each one finishes.

    `LLM.generate` would want all prompts, with all their frames, in memory at once.
    """
    capacity = max_num_seqs + _PREPARED_PROMPTS  # so that a place that falls free is taken at once
    in_engine: dict[str, tuple[Request, list[int]]] = {}

    def step() -> Iterator[tuple[Request, list[int], Any]]:
        for output in engine.step():
            if output.finished:
                yield *in_engine.pop(output.request_id), output

    for number, (request, prompt) in enumerate(prepared):
        engine.add_request(str(number), prompt.engine_input, sampling(request))
        in_engine[str(number)] = (request, prompt.token_ids)  # not the frames: the engine has them
        while len(in_engine) >= capacity:
            yield from step()
    while in_engine:
        yield from step()


def prepare_ahead(prepare: Callable[[Any], Result], items: Iterable[Any]) -> Iterator[Result]:
    """`map(prepare, items)`, a few ahead in another thread: decoding overlaps with the engine's steps."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead: deque[Future[Result]] = deque()
        for item in items:
            ahead.append(pool.submit(prepare, item))
            if len(ahead) > _PREPARED_PROMPTS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _margin(question: Question) -> int:
    """Tokens that the timestamps of a part of a video may have above those of the whole: its seconds count from 100."""
    return _STAMP_DIGITS * question.video["nframes"] if "video_start" in question.video else 0


def _is_small(model: str) -> bool:
    size = weight_bytes(model)
    return size is not None and size < _SMALL_MODEL_BYTES

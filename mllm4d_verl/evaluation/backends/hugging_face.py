"""transformers in this process: slower than vLLM, and the plainest way there is from a checkpoint to an answer.

Options: `batch_size` (4), and `device` (a GPU where there is one).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from mllm4d_verl.data_tools.errors import InputError

from ..controls import derived_seed
from ..job import GenerationJob
from ..prompting import PromptBuilder, TrainingPrompt, load_dataset
from ..questions import Request
from .base import Answer, check_prompt
from .vllm_engine import media_geometry, prepare_ahead

__all__ = ["answer_requests", "check_options", "media_geometry"]

_BATCH_SIZE = 4  # 8B weights, 32 frames of 224 x 224 and 1024 new tokens leave room for it in 40 GB


def check_options(options: dict[str, Any]) -> None:
    """Raise InputError for an option this backend does not take."""
    unknown = set(options) - {"batch_size", "device"}
    if unknown:
        raise InputError(
            f"the backend transformers has no option {', '.join(sorted(unknown))}",
            field="--engine",
            remedy="Choose from batch_size, device",
        )
    size = options.get("batch_size", _BATCH_SIZE)
    if not isinstance(size, int) or size < 1:
        raise InputError(f"batch_size must be at least 1, got {size!r}", field="--engine")


def answer_requests(job: GenerationJob, requests: Sequence[Request], missing: Sequence[Request]) -> Iterator[Answer]:
    """See `base`. Padding and sampling depend on the batch, so batches are those of a clean run, whole."""
    import torch
    from transformers import AutoModelForImageTextToText, GenerationConfig

    dataset = load_dataset(job)
    builder = PromptBuilder(job.model, dataset)
    device = job.engine.get("device") or ("cuda" if torch.cuda.is_available() else "cpu")
    model = AutoModelForImageTextToText.from_pretrained(job.model, dtype=_dtype(job.dtype)).to(device).eval()
    # Not the checkpoint's own settings: they may sample, cut or punish, which neither training nor vLLM does here.
    end = model.generation_config.eos_token_id
    end = dataset.tokenizer.eos_token_id if end is None else end
    ends = set(end if isinstance(end, list) else [end])
    settings = GenerationConfig(
        max_new_tokens=job.max_tokens,
        do_sample=job.temperature > 0,
        **({"temperature": job.temperature, "top_k": 0, "top_p": 1.0} if job.temperature > 0 else {}),
        eos_token_id=sorted(ends),
        pad_token_id=dataset.tokenizer.pad_token_id,
        suppress_tokens=builder.placeholder_token_ids(),
    )
    model.generation_config = settings
    wanted = {request.key for request in missing}
    batches = [
        batch
        for batch in make_batches(requests, job.engine.get("batch_size", _BATCH_SIZE))
        if any(request.key in wanted for request in batch)
    ]

    def prepare(batch: list[Request]) -> tuple[list[Request], list[TrainingPrompt]]:
        return batch, [builder.build_question(job, request.question) for request in batch]

    # Prompts are built in another thread, and a tokenizer that pads in one thread can not be read in another.
    processor = copy.deepcopy(dataset.processor)
    for batch, prompts in prepare_ahead(prepare, batches):
        inputs = processor_inputs(processor, prompts)
        for request, prompt, ids, mask in zip(
            batch, prompts, inputs["input_ids"], inputs["attention_mask"], strict=True
        ):
            check_prompt(request.question.id, prompt.token_ids, ids[mask.bool()].tolist())
        torch.manual_seed(derived_seed(*(request.seed for request in batch)))
        with torch.inference_mode():
            output = model.generate(**inputs.to(device), generation_config=settings)
        new = output[:, inputs["input_ids"].shape[1] :].tolist()
        for request, prompt, tokens in zip(batch, prompts, new, strict=True):
            if request.key in wanted:
                yield _answer(request, prompt, tokens, ends, processor.tokenizer)


def make_batches(requests: Sequence[Request], size: int) -> list[list[Request]]:
    """The batches of a clean run: requests about one clip side by side, at most `size` of them."""
    ordered = sorted(requests, key=lambda request: request.question.clip_id)
    return [list(ordered[start : start + size]) for start in range(0, len(ordered), size)]


def processor_inputs(processor: Any, prompts: Sequence[TrainingPrompt]) -> Any:
    """Tensors of a batch of prompts, padded on the left."""
    videos = [video for prompt in prompts for video in prompt.videos]
    media: dict[str, Any] = {}
    if videos:
        frames, metadata = zip(*videos, strict=True)
        media = {"videos": list(frames), "video_metadata": list(metadata), "do_sample_frames": False}
    return processor(
        text=[prompt.text for prompt in prompts], padding=True, padding_side="left", return_tensors="pt", **media
    )


def _answer(request: Request, prompt: TrainingPrompt, tokens: list[int], ends: set[int], tokenizer: Any) -> Answer:
    stop = next((place for place, token in enumerate(tokens) if token in ends), None)
    kept = tokens if stop is None else tokens[: stop + 1]
    text = tokenizer.decode(kept, skip_special_tokens=True)
    return Answer(request, text, len(prompt.token_ids), len(kept), "length" if stop is None else "stop")


def _dtype(name: str) -> Any:
    import torch

    return "auto" if name == "auto" else getattr(torch, name)

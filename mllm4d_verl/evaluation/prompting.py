"""Prompts for local models, built by what builds them in training: verl's agent loop code and the project's dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .controls import BLIND, control_frames, without_video
from .job import GenerationJob
from .questions import Question


@dataclass
class EnginePrompt:
    """One prompt, as the trainer's actor sees it and as vLLM takes it.

    Attributes:
        token_ids: with the video pads (and timestamps) expanded: what the actor is trained on.
        engine_input: `prompt_token_ids` with one placeholder per video, and the frames with their metadata.
    """

    token_ids: list[int]
    engine_input: dict[str, Any]


@dataclass
class TrainingPrompt(EnginePrompt):
    """The prompt of a question, and what a Hugging Face processor makes it of.

    Attributes:
        text: the chat template's, one placeholder per video.
        videos: (frames, metadata) as the control shows them; empty when blind.
    """

    text: str
    videos: list[tuple[Any, dict[str, Any]]]


class PromptBuilder:
    """Turns the messages of a dataset row into an EnginePrompt.

    Does what `verl.experimental.agent_loop` does for the first turn of a rollout (`process_multi_modal_info`,
    `ct_build_initial_tokens`) and `vLLMHttpServer.generate` right before the engine, so that evaluation cannot drift
    from training.

    Args:
        model: path of a Hugging Face checkpoint.
        dataset: an MLLM4DDataset; brings processor, tokenizer, and the decoding of videos.
    """

    def __init__(self, model: str, dataset: Any) -> None:
        from transformers import AutoConfig
        from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

        self._dataset = dataset
        self._processor = dataset.processor
        self._mm_processor_kwargs = dict(dataset.mm_processor_kwargs or {})
        self._builder = create_continuous_token_builder(
            dataset.tokenizer,
            hf_model_type=AutoConfig.from_pretrained(model).model_type,
            chat_template_kwargs=dataset.apply_chat_template_kwargs,
            mm_processor_kwargs=self._mm_processor_kwargs,
            processor=self._processor,
        )

    def build(
        self, messages: list[Mapping[str, Any]], show: Callable[[Any], Any] = lambda frames: frames
    ) -> EnginePrompt:
        """Decode the video of `messages` and tokenize them; safe to call from another thread.

        Args:
            messages: of a row of the dataset.
            show: frames (T, 3, H, W) -> the frames that take their place.
        """
        prompt, _ = self._build(messages, show)
        return prompt

    def build_question(self, job: GenerationJob, question: Question) -> TrainingPrompt:
        """The prompt of a question under the job's control; safe to call from another thread."""
        messages = self._dataset[question.index]["raw_prompt"]
        if job.control == BLIND:
            messages = without_video(messages)
        prompt, videos = self._build(
            messages, lambda frames: control_frames(frames, job.control, job.seed, question.id)
        )
        text = self._processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False, **self._dataset.apply_chat_template_kwargs
        )
        return TrainingPrompt(prompt.token_ids, prompt.engine_input, text, videos)

    def _build(
        self, messages: list[Mapping[str, Any]], show: Callable[[Any], Any]
    ) -> tuple[EnginePrompt, list[tuple[Any, dict[str, Any]]]]:
        # Resolved at the call: the plugin replaces this function when verl's module is imported.
        from verl.workers.rollout.utils import qwen2_5_vl_dedup_image_tokens

        images, videos, _ = self._dataset._process_multi_modal_info(
            messages, self._dataset.image_patch_size, self._dataset.config
        )
        videos = [(show(frames), metadata) for frames, metadata in videos or []] or None
        token_ids = self._builder.build_initial_tokens(messages, images=images, videos=videos)
        media = {name: items for name, items in (("image", images), ("video", videos)) if items}
        engine_input: dict[str, Any] = {
            "prompt_token_ids": qwen2_5_vl_dedup_image_tokens(token_ids, self._processor),
        }
        if media:
            engine_input["multi_modal_data"] = media
        if media and self._mm_processor_kwargs:
            engine_input["mm_processor_kwargs"] = self._mm_processor_kwargs
        return EnginePrompt(list(token_ids), engine_input), videos or []

    def placeholder_token_ids(self) -> list[int]:
        """Tokens that verl's rollout never samples, since no image or video would stand behind them."""
        from verl.workers.rollout.utils import get_vision_placeholder_token_ids

        return get_vision_placeholder_token_ids(self._processor)


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

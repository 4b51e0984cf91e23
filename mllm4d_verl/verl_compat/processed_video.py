"""Work of the video processor that verl's agent loop repeats. No upstream thread is known."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

from mllm4d_verl.verl_compat.adaptation import adapts, proves
from mllm4d_verl.verl_compat.samples import VIDEO_BLOCK, qwen_processor, sample_frames, sample_metadata
from mllm4d_verl.video.processed import process_once


@adapts(
    "transformers.video_processing_utils", "BaseVideoProcessor.preprocess", known={"transformers": ">=5.5.3,<=5.10.4"}
)
def process_a_video_once(stock: Callable) -> Callable:
    """verl's agent loop runs the video processor three times per rollout, on the same frames every time.

    It does so for the prompt's tokens, for the reward's batch and for the actor's batch, n times a prompt. The rollouts
    of a prompt share their frames (`video.load_video`); here they share the patches as well. Frames of anybody else are
    processed as before: nothing is remembered longer than the frames live.
    """
    return process_once(stock)


@proves(process_a_video_once)
def _the_agent_loop_processes_again(preprocess: Callable) -> bool:
    import torch
    from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
    from verl.utils.tokenizer import build_multimodal_processor_inputs

    processor, runs = qwen_processor("qwen3_vl"), []
    stock_class = type(processor.video_processor)

    class Counting(stock_class):  # type: ignore[misc, valid-type]
        def _preprocess(self, *args, **kwargs):
            runs.append(None)
            return super()._preprocess(*args, **kwargs)

    Counting.preprocess = preprocess
    processor.video_processor.__class__ = Counting
    videos = [(sample_frames(), sample_metadata())]
    prompt = build_multimodal_processor_inputs(processor, text=[VIDEO_BLOCK], videos=videos)
    worker = SimpleNamespace(processor=processor, tokenizer=processor.tokenizer)
    worker._get_mm_processor_kwargs = lambda audios: {}
    output = SimpleNamespace(multi_modal_data={"videos": videos}, mm_processor_kwargs=None)
    AgentLoopWorker._compute_multi_modal_inputs(worker, output, torch.as_tensor(prompt["input_ids"]))
    return len(runs) > 1

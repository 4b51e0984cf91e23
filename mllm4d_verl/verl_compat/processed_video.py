"""Work of the video processor that verl's agent loop repeats."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from mllm4d_verl.verl_compat.adaptation import adapts, proves


@adapts("transformers.video_processing_utils", "BaseVideoProcessor.preprocess")
def process_a_video_once(stock: Callable) -> Callable:
    """verl's agent loop runs the video processor three times per rollout, on the same frames every time.

    It does so for the prompt's tokens, for the reward's batch and for the actor's batch, n times a prompt. The rollouts
    of a prompt share their frames (`video.load_video`); here they share the patches as well. Frames of anybody else are
    processed as before: nothing is remembered longer than the frames live.
    """
    from mllm4d_verl.video.processed import process_once

    return process_once(stock)


@proves(process_a_video_once)
def _agent_loop_processes_again(stock: Callable) -> bool:
    from verl.experimental.agent_loop.agent_loop import AgentLoopWorker

    return "build_multimodal_processor_inputs" in inspect.getsource(AgentLoopWorker._compute_multi_modal_inputs)

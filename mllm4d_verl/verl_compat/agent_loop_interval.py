"""The time between Qwen2.5-VL frames in verl's agent loop."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from mllm4d_verl.verl_compat.adaptation import adapts, proves
from mllm4d_verl.verl_compat.families import is_qwen2_5_vl
from mllm4d_verl.video.positions import second_per_grid_of


@adapts("verl.experimental.agent_loop.agent_loop", "AgentLoopWorker._compute_position_ids")
def pass_second_per_grid(stock: Callable) -> Callable:
    """verl's agent loop computes Qwen2.5-VL positions without the time between frames, as if it were one second.

    It asks the processor for more arguments of `get_rope_index` (`get_rope_index_kwargs`), but transformers' processor
    has no such method. Here it gets one.
    """

    def _compute_position_ids(self, input_ids, attention_mask, multi_modal_inputs, *args, **kwargs):
        if is_qwen2_5_vl(self.processor) and not hasattr(self.processor, "get_rope_index_kwargs"):
            self.processor.get_rope_index_kwargs = second_per_grid_of
        return stock(self, input_ids, attention_mask, multi_modal_inputs, *args, **kwargs)

    return _compute_position_ids


@proves(pass_second_per_grid)
def _stock_does_not_pass_it(stock: Callable) -> bool:
    from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor

    return "second_per_grid_ts" not in inspect.getsource(stock) and not hasattr(
        Qwen2_5_VLProcessor, "get_rope_index_kwargs"
    )

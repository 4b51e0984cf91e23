"""The time between Qwen2.5-VL frames in verl's agent loop. No upstream thread is known."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

from mllm4d_verl.verl_compat.adaptation import adapts, proves
from mllm4d_verl.verl_compat.families import is_qwen2_5_vl
from mllm4d_verl.verl_compat.samples import qwen_processor
from mllm4d_verl.video.positions import qwen2_5_vl_positions, second_per_grid_of


@adapts(
    "verl.experimental.agent_loop.agent_loop",
    "AgentLoopWorker._compute_position_ids",
    known={"verl": ">=0.9.0,<=0.9.1", "transformers": ">=5.5.3,<=5.10.4"},
)
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
def _half_a_second_counts_as_a_whole_one(compute_position_ids: Callable) -> bool:
    import torch

    processor = qwen_processor("qwen2_5_vl")

    def get_rope_index(input_ids, mm_token_type_ids, video_grid_thw, second_per_grid_ts=None, **_):
        seconds = [1.0] if second_per_grid_ts is None else second_per_grid_ts.tolist()
        videos = zip(video_grid_thw.tolist(), seconds, strict=True)
        positions = qwen2_5_vl_positions(
            mm_token_type_ids[0].tolist(), iter(()), videos, tokens_per_second=2, spatial_merge_size=2
        )
        return positions[:, None], None

    processor.get_rope_index = get_rope_index  # as verl binds the model's
    ids = torch.full((1, 5), 7)
    ids[0, 1:4] = processor.video_token_id
    video = {"video_grid_thw": torch.tensor([[3, 2, 2]]), "second_per_grid_ts": torch.tensor([0.5])}
    positions = compute_position_ids(
        SimpleNamespace(processor=processor), ids, torch.ones_like(ids), {**video, "mm_token_type_ids": ids}
    )
    return positions[0, 1].tolist() != [0, 1, 2, 3, 4]

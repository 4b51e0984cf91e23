"""Position ids in verl's SFT dataset."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

from mllm4d_verl.verl_compat.adaptation import adapts, proves
from mllm4d_verl.verl_compat.families import is_qwen2_5_vl, is_qwen3_vl


@adapts("verl.utils.dataset.multiturn_sft_dataset", "get_rope_index")
def use_the_models_own_rope_index(stock: Callable) -> Callable:
    """verl's SFT dataset computes Qwen2-VL positions for every model, and crashes on a Qwen3-VL video.

    A Qwen3-VL video has a vision start for every two frames, so that function walks off the video's grid. verl ships
    the right one (`verl.models.transformers.qwen3_vl.get_rope_index`) but does not call it here. For Qwen2.5-VL the
    interval between frames is applied in single precision, where vLLM uses double (`restore_qwen2_5_vl_positions`).
    """

    def get_rope_index(
        processor, input_ids, image_grid_thw=None, video_grid_thw=None, second_per_grid_ts=None, **kwargs
    ):
        if is_qwen3_vl(processor):
            from verl.models.transformers import qwen3_vl

            return qwen3_vl.get_rope_index(processor, input_ids, image_grid_thw, video_grid_thw, **kwargs)
        if not is_qwen2_5_vl(processor):
            return stock(processor, input_ids, image_grid_thw, video_grid_thw, second_per_grid_ts, **kwargs)
        import torch

        types = torch.zeros_like(input_ids)
        types[input_ids == processor.image_token_id] = 1
        types[input_ids == processor.video_token_id] = 2
        positions, _ = processor.get_rope_index(
            input_ids[None], types[None], image_grid_thw, video_grid_thw, second_per_grid_ts
        )
        return positions[:, 0]

    return get_rope_index


@proves(use_the_models_own_rope_index)
def _stock_walks_off_the_grid(stock: Callable) -> bool:
    import torch

    ids = {"<|vision_start|>": 1, "<|image_pad|>": 4, "<|video_pad|>": 3}
    processor = SimpleNamespace(
        image_processor=SimpleNamespace(merge_size=2), tokenizer=SimpleNamespace(convert_tokens_to_ids=ids.get)
    )
    two_frame_pairs = torch.tensor([9, 1, 3, 2, 9, 1, 3, 2, 8])
    try:
        stock(processor, two_frame_pairs, video_grid_thw=torch.tensor([[2, 2, 2]]))
    except (IndexError, RuntimeError):
        return True
    return False

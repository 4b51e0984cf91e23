"""Position ids in verl's SFT dataset. No upstream thread is known."""

from __future__ import annotations

from collections.abc import Callable

from mllm4d_verl.verl_compat.adaptation import adapts, proves
from mllm4d_verl.verl_compat.families import is_qwen2_5_vl, is_qwen3_vl
from mllm4d_verl.verl_compat.samples import qwen_processor


@adapts("verl.utils.dataset.multiturn_sft_dataset", "get_rope_index", known={"verl": ">=0.9.0,<=0.9.1"})
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
def _two_frame_pairs_walk_off_the_grid(get_rope_index: Callable) -> bool:
    import torch

    processor = qwen_processor("qwen3_vl")
    start, pad, end = processor.tokenizer.convert_tokens_to_ids(["<|vision_start|>", "<|video_pad|>", "<|vision_end|>"])
    two_frame_pairs = torch.tensor([9, start, pad, end, 9, start, pad, end, 8])
    try:
        positions = get_rope_index(
            processor,
            two_frame_pairs,
            video_grid_thw=torch.tensor([[2, 2, 2]]),
            attention_mask=torch.ones_like(two_frame_pairs),
        )
    except (IndexError, RuntimeError):
        return True
    return positions.tolist() != [list(range(9))] * 3

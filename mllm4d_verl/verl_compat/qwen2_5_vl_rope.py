"""Qwen2.5-VL's position ids in transformers.

Upstream: transformers pull request 48669 mends the rounding, in versions later than those verl 0.9.1 accepts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace

from mllm4d_verl.verl_compat.adaptation import adapts, proves
from mllm4d_verl.video.positions import qwen2_5_vl_positions


@adapts(
    "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
    "Qwen2_5_VLModel.get_rope_index",
    known={"transformers": ">=5.5.3,<=5.10.4"},
)
def restore_qwen2_5_vl_positions(stock: Callable) -> Callable:
    """transformers 5 gives the actor other Qwen2.5-VL positions than vLLM gives the rollout.

    The temporal position of a frame pair is floor(k * second_per_grid * tokens_per_second), and what follows a video
    starts after the highest position in it. transformers 5 rounds second_per_grid (2 / sampled fps) down to whole
    seconds, so that below 1 s all frames share one position, and lets the text start after height and width only, so
    that it overlaps the later frames. verl binds this function to the processor. Here positions are those of
    transformers 4.52 (modeling_qwen2_5_vl.py) and of vLLM (qwen2_5_vl.py `get_mrope_input_positions`).
    """

    def get_rope_index(
        self,
        input_ids,
        mm_token_type_ids,
        image_grid_thw=None,
        video_grid_thw=None,
        second_per_grid_ts=None,
        attention_mask=None,
        **kwargs,
    ):
        import torch

        vision = self.config.vision_config
        images, videos = iter(() if image_grid_thw is None else image_grid_thw), iter(())
        if video_grid_thw is not None:
            seconds = [1.0] * len(video_grid_thw) if second_per_grid_ts is None else second_per_grid_ts
            videos = iter(zip(video_grid_thw, seconds, strict=True))
        positions = torch.zeros(3, *input_ids.shape, dtype=input_ids.dtype, device=input_ids.device)
        deltas = []
        for sequence, types in enumerate(mm_token_type_ids):
            kept = (
                torch.ones_like(types, dtype=torch.bool) if attention_mask is None else attention_mask[sequence].bool()
            )
            own = qwen2_5_vl_positions(
                types[kept].tolist(), images, videos, vision.tokens_per_second, vision.spatial_merge_size
            )
            positions[:, sequence, kept] = own.to(positions)
            deltas.append(int(own.max()) + 1 - own.shape[1])
        return positions, torch.tensor(deltas, device=input_ids.device).unsqueeze(1)

    return get_rope_index


@proves(restore_qwen2_5_vl_positions)
def _fractions_of_seconds_are_dropped(get_rope_index: Callable) -> bool:
    import torch
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

    vision = SimpleNamespace(spatial_merge_size=2, tokens_per_second=2)
    model = SimpleNamespace(config=SimpleNamespace(vision_config=vision))
    model.get_vision_position_ids = functools.partial(Qwen2_5_VLModel.get_vision_position_ids, model)
    types = torch.tensor([[0, 2, 2, 2, 0]])
    video = {"video_grid_thw": torch.tensor([[3, 2, 2]]), "second_per_grid_ts": torch.tensor([0.5])}
    positions, _ = get_rope_index(model, torch.zeros_like(types), types, **video)
    return positions[0, 0].tolist() != [0, 1, 2, 3, 4]

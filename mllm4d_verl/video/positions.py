"""Position ids of a Qwen2.5-VL sequence with videos, and the time between frames they are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def qwen2_5_vl_positions(
    token_types: Sequence[int],
    images: Iterator[Any],
    videos: Iterator[tuple[Any, float]],
    tokens_per_second: float,
    spatial_merge_size: int,
):
    """Positions of one Qwen2.5-VL sequence.

    Args:
        token_types: 0 text, 1 image, 2 video, one per token.
        images: (frames, height, width) in patches of each image to come.
        videos: the same of each video to come, with the seconds between its frame pairs.
        tokens_per_second: of the vision config.
        spatial_merge_size: patches merged along each side.

    Returns:
        (3, length) int64: temporal, height, width.
    """
    import torch

    parts, start, place = [], 0, 0
    while place < len(token_types):
        kind = token_types[place]
        if kind == 0:
            length = next((i for i in range(place, len(token_types)) if token_types[i] != 0), len(token_types)) - place
            part = torch.arange(length).expand(3, -1)
        else:
            grid, seconds = (next(images), 0.0) if kind == 1 else next(videos)
            pairs, height, width = (int(n) for n in grid)
            shape = (pairs, height // spatial_merge_size, width // spatial_merge_size)
            part = torch.stack(torch.meshgrid(*map(torch.arange, shape), indexing="ij")).reshape(3, -1)
            # In double precision from the single precision value, as vLLM does: both floors must agree.
            part[0] = (part[0].double() * (float(seconds) * tokens_per_second)).long()
            length = part.shape[1]
        parts.append(part + start)
        start = int(parts[-1].max()) + 1
        place += length
    return torch.cat(parts, dim=1)


def second_per_grid(metadata: Mapping[str, Any], video_processor: Any) -> float:
    """Seconds between two frame pairs of a sampled video, as transformers' Qwen2.5-VL processor computes it."""
    from transformers.video_utils import VideoMetadata

    return video_processor.temporal_patch_size / VideoMetadata(**metadata).sampled_fps


def second_per_grid_of(multi_modal_inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of Qwen2.5-VL's `get_rope_index` that verl's agent loop does not pass by itself."""
    return {"second_per_grid_ts": multi_modal_inputs.get("second_per_grid_ts")}

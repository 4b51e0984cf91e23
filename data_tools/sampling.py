"""Which frames of a video the model sees: the same rule as qwen_vl_utils, so that questions can name them."""

from __future__ import annotations

import numpy as np

from .errors import InputError

FRAME_FACTOR = 2  # both processors merge frames in pairs: the number of frames is even


def sample_frame_indices(total_frames: int, num_frames: int) -> list[int]:
    """Indices into the video of the `num_frames` frames that qwen_vl_utils picks for `nframes=num_frames`.

    qwen_vl_utils computes `torch.linspace(0, total_frames - 1, num_frames).round()` in float32, where torch counts
    from the start in the first half and from the end in the second. Rounding decides ties, so the same arithmetic
    is repeated here; the tests compare with torch.

    Args:
        total_frames: frames in the video.
        num_frames: frames to sample; even, at most `total_frames`.

    Returns:
        `num_frames` non-decreasing indices, first 0, last `total_frames - 1`.

    Raises:
        InputError: `num_frames` is odd, below 2, or above `total_frames`.
    """
    if num_frames < FRAME_FACTOR or num_frames % FRAME_FACTOR:
        raise InputError(
            f"num_frames must be an even number of at least {FRAME_FACTOR}, got {num_frames}", field="num_frames"
        )
    if num_frames > total_frames:
        raise InputError(
            f"{num_frames} frames asked of a video of {total_frames}",
            field="num_frames",
            remedy="Ask for fewer frames or drop the clip",
        )
    last = np.float32(total_frames - 1)
    step = np.float32(last / np.float32(num_frames - 1))
    position = np.arange(num_frames, dtype=np.float32)
    from_start = step * position
    from_end = last - step * (np.float32(num_frames - 1) - position)
    values = np.where(np.arange(num_frames) < num_frames // 2, from_start, from_end)
    return [int(index) for index in np.round(values)]

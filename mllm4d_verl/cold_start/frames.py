"""The frames of a video that a model is shown, for one who is to write in its place."""

from __future__ import annotations

import cv2
import numpy as np

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.sampling import sample_frame_indices
from mllm4d_verl.data_tools.video import open_frames


def sampled_frames(video: str, num_frames: int, max_pixels: int) -> list[np.ndarray]:
    """`num_frames` images (h, w, 3) uint8 RGB, by the rule of `sample_frame_indices`, made smaller to `max_pixels`.

    Raises:
        InputError: the video is missing, does not decode, or is shorter than that.
    """
    source = open_frames(video, as_shown=True)
    try:
        indices = sample_frame_indices(source.num_frames, num_frames)
    except InputError as error:
        raise InputError(error.problem, file=video, field=error.field, remedy=error.remedy) from None
    scale = min(1.0, (max_pixels / (source.width * source.height)) ** 0.5)
    if scale == 1.0:
        return list(source.frames_at(indices))
    size = (max(1, int(source.width * scale)), max(1, int(source.height * scale)))
    return [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in source.frames_at(indices)]

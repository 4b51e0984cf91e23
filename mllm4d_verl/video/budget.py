"""How many tokens a video costs, from its size alone: no decoding, no pixels.

A frame is resized twice: by qwen_vl_utils to `min_pixels..max_pixels` a frame, then by the model's own processor to the
limits in its configuration (a frame for Qwen2.5-VL, the whole video for Qwen3-VL). Both are repeated here with the
libraries' own functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mllm4d_verl.data_tools.sampling import sample_frame_indices

#: Frames a second that stand for a clock of milliseconds in the metadata of a video of variable frame rate.
CLOCK_FPS = 1000.0


@dataclass(frozen=True)
class VideoGeometry:
    """What a model family's video processor does to sizes.

    Attributes:
        patch_size: pixels a side. One visual token covers `merge_size` squared patches of `temporal_patch_size` frames.
        min_pixels, max_pixels: limits of the processor itself.
        limits_whole_video: whether those limits count the pixels of all frames (Qwen3-VL) or of one (Qwen2.5-VL).
        timestamps: whether every merged frame is its own vision block behind a text like "<1.5 seconds>" (Qwen3-VL).
    """

    patch_size: int
    merge_size: int
    temporal_patch_size: int
    min_pixels: int
    max_pixels: int
    limits_whole_video: bool
    timestamps: bool

    @classmethod
    def from_processor(cls, processor: Any) -> VideoGeometry:
        """Geometry of a loaded Qwen3VLProcessor or Qwen2_5_VLProcessor."""
        video = processor.video_processor
        qwen3 = "Qwen3VL" in type(processor).__name__
        return cls(
            patch_size=video.patch_size,
            merge_size=video.merge_size,
            temporal_patch_size=video.temporal_patch_size,
            min_pixels=video.size["shortest_edge"],
            max_pixels=video.size["longest_edge"],
            limits_whole_video=qwen3,
            timestamps=qwen3,
        )

    def grid(
        self, num_frames: int, height: int, width: int, min_pixels: int | None = None, max_pixels: int | None = None
    ) -> tuple[int, int, int]:
        """Patches along time, height and width (`video_grid_thw`) of a video of `height` x `width` pixels.

        Args:
            num_frames: frames sampled.
            height, width: of the file.
            min_pixels, max_pixels: of the video element; None takes the defaults of qwen_vl_utils.
        """
        from transformers.models.qwen2_vl import video_processing_qwen2_vl
        from transformers.models.qwen3_vl import video_processing_qwen3_vl

        factor = self.patch_size * self.merge_size
        limits_of_element = {
            name: pixels
            for name, pixels in (("min_pixels", min_pixels), ("max_pixels", max_pixels))
            if pixels is not None
        }
        height, width = qwen_vl_utils_size(limits_of_element, num_frames, height, width, factor)
        limits = {"factor": factor, "min_pixels": self.min_pixels, "max_pixels": self.max_pixels}
        if self.limits_whole_video:
            height, width = video_processing_qwen3_vl.smart_resize(
                num_frames, height, width, temporal_factor=self.temporal_patch_size, **limits
            )
        else:
            height, width = video_processing_qwen2_vl.smart_resize(height, width, **limits)
        return -(-num_frames // self.temporal_patch_size), height // self.patch_size, width // self.patch_size


# As in the released checkpoints' processor configurations (Qwen3-VL-8B-Instruct, Qwen2.5-VL-7B-Instruct).
QWEN3_VL = VideoGeometry(16, 2, 2, 4096, 25165824, limits_whole_video=True, timestamps=True)
QWEN2_5_VL = VideoGeometry(14, 2, 2, 3136, 12845056, limits_whole_video=False, timestamps=False)


def video_tokens(
    geometry: VideoGeometry,
    num_frames: int,
    height: int,
    width: int,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    *,
    total_frames: int | None = None,
    fps: float | None = None,
    irregular_times_s: Sequence[float] | None = None,
    count_text_tokens: Callable[[str], int] | None = None,
) -> int:
    """Tokens of one video in the prompt: visual tokens, vision start and end marks, timestamps.

    Args:
        geometry: `VideoGeometry.from_processor(processor)`, or QWEN3_VL / QWEN2_5_VL for planning.
        num_frames, height, width, min_pixels, max_pixels: see `VideoGeometry.grid`.
        total_frames, fps, irregular_times_s: of the file (see `VideoInfo`). Timestamps come from them; without them
            every stamp counts as "<10.0 seconds>".
        count_text_tokens: tokens of a text; None counts characters up to the digits' end plus " seconds" and ">",
            which is what Qwen's tokenizer makes of a stamp.

    Returns:
        Exactly what the processor puts in the place of `<|vision_start|><|video_pad|><|vision_end|>`.
    """
    time, rows, columns = geometry.grid(num_frames, height, width, min_pixels, max_pixels)
    visual = time * rows * columns // geometry.merge_size**2
    if not geometry.timestamps:
        return visual + 2
    count = count_text_tokens or (lambda stamp: len(stamp.removesuffix(" seconds>")) + 2)
    if total_frames is None or fps is None:
        stamps = ["<10.0 seconds>"] * time
    else:
        indices = sample_frame_indices(total_frames, num_frames)
        if irregular_times_s is None:
            seconds = [index / fps for index in indices]
        else:  # as the metadata tell them, see `reading.read_video`
            seconds = [round(irregular_times_s[index] * CLOCK_FPS) / CLOCK_FPS for index in indices]
        stamps = _timestamps(seconds, geometry.temporal_patch_size)
    return visual + sum(count(stamp) + 2 for stamp in stamps) + (2 if _keeps_outer_marks() else 0)


def _keeps_outer_marks() -> bool:
    """Whether Qwen3VLProcessor leaves the template's vision marks around the frames' own: transformers 5.10 and later.

    Earlier ones replace the marks together with the placeholder. The later ones define `replace_video_token`; vLLM
    (model_executor/models/qwen3_vl.py) tells the two apart by the same sign.
    """
    from transformers import Qwen3VLProcessor

    return "replace_video_token" in vars(Qwen3VLProcessor)


def _timestamps(seconds: list[float], group: int) -> list[str]:
    """The texts Qwen3VLProcessor writes: the mean time of the first and the last frame of every group."""
    return [f"<{(seconds[i] + seconds[i + group - 1]) / 2:.1f} seconds>" for i in range(0, len(seconds), group)]


def qwen_vl_utils_size(
    element: Mapping[str, Any], num_frames: int, height: int, width: int, factor: int
) -> tuple[int, int]:
    """Height and width after qwen_vl_utils.fetch_video, whose own limits depend on the number of frames.

    Args:
        element: the video element, of which `min_pixels`, `max_pixels`, `total_pixels`, `resized_height` and
            `resized_width` count here.
        num_frames, height, width: frames sampled, pixels of a frame before.
        factor: both sides become multiples of it, in pixels.

    Raises:
        ValueError: one side is more than 200 times the other.
    """
    from qwen_vl_utils import vision_process as qwen

    if "resized_height" in element and "resized_width" in element:
        return qwen.smart_resize(element["resized_height"], element["resized_width"], factor=factor)
    min_pixels = element.get("min_pixels", qwen.VIDEO_MIN_TOKEN_NUM * factor**2)
    total = element.get("total_pixels", qwen.MODEL_SEQ_LEN * factor**2 * 0.9)
    ceiling = max(
        min(qwen.VIDEO_MAX_TOKEN_NUM * factor**2, total / num_frames * qwen.FRAME_FACTOR), int(min_pixels * 1.05)
    )
    max_pixels = min(element.get("max_pixels", ceiling), ceiling)
    return qwen.smart_resize(height, width, factor=factor, min_pixels=min_pixels, max_pixels=max_pixels)

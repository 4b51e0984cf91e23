"""Token counts from sizes alone equal what the real processors write."""

import pytest
from verl.utils.tokenizer import build_multimodal_processor_inputs

from mllm4d_verl.video import QWEN2_5_VL, QWEN3_VL, FrameCache, VideoGeometry, load_video, video_tokens


@pytest.mark.parametrize(
    ("width", "height", "num_frames", "limits"),
    [
        (96, 64, 8, {"min_pixels": 784, "max_pixels": 50176}),
        (96, 64, 8, {}),
        (33, 57, 4, {"min_pixels": 784}),
        (128, 96, 12, {"max_pixels": 4096, "min_pixels": 1024}),
        (200, 40, 2, {"min_pixels": 20000, "max_pixels": 30000}),
        (64, 64, 10, {"min_pixels": 200000, "max_pixels": 400000}),
    ],
)
def test_equals_the_processor(processor, write_video, tmp_path, width, height, num_frames, limits):
    path = write_video(tmp_path / "left.mp4", num_frames=23, width=width, height=height, fps=7.5)
    element = {"type": "video", "video": str(path), "nframes": num_frames, **limits}
    patch = processor.video_processor.patch_size
    inputs = build_multimodal_processor_inputs(
        processor,
        text=["<|vision_start|><|video_pad|><|vision_end|>"],
        videos=[load_video(element, patch, FrameCache())],
    )
    geometry = VideoGeometry.from_processor(processor)
    assert tuple(inputs["video_grid_thw"][0].tolist()) == geometry.grid(num_frames, height, width, **limits)
    tokens = video_tokens(
        geometry,
        num_frames,
        height,
        width,
        **limits,
        total_frames=23,
        fps=7.5,
        count_text_tokens=lambda text: len(processor.tokenizer(text)["input_ids"]),
    )
    assert tokens == inputs["input_ids"].shape[1]


def test_released_models_at_the_papers_settings():
    # 32 frames at SFT's max_pixels 50176 (FACTS: released scripts), 512x512 clips
    assert QWEN2_5_VL.grid(32, 512, 512, 784, 50176) == (16, 16, 16)
    assert video_tokens(QWEN2_5_VL, 32, 512, 512, 784, 50176) == 16 * 64 + 2
    assert QWEN3_VL.grid(32, 512, 512, 784, 50176) == (16, 14, 14)
    # "<10.0 seconds>" is < 1 0 . 0 seconds > in Qwen's vocabulary; transformers 5.10 keeps the outer pair of marks
    assert video_tokens(QWEN3_VL, 32, 512, 512, 784, 50176) - 16 * (49 + 2 + 7) in (0, 2)

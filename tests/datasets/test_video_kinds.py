"""Rows with every kind of video through RL, SFT and validation."""

import json

import pytest
import torch
from verl.utils.tokenizer import build_multimodal_processor_inputs
from video_files import encode, moving_frames, write_h264, write_images

from mllm4d_verl.data_tools.schema import QARow, write_qa
from mllm4d_verl.datasets import MLLM4DDataset, MLLM4DSFTDataset, validate_rows

SIZE = {"min_pixels": 96 * 64, "max_pixels": 96 * 64}
TIMES = (0, 40, 90, 120, 700, 720, 1500, 1550, 1600, 3000)  # ms


def turned(_, stream):
    """A phone held upright: shown after a quarter turn clockwise."""
    one = 1 << 16
    stream.set_display_matrix([0, one, 0, -one, 0, 0, 0, 0, 1 << 30])


def row_of(video, number=0, **changes):
    fields = {
        "id": f"q{number}",
        "clip_id": f"c{number}",
        "video": video,
        "num_frames": 8,
        "task": "camera_relative_direction",
        "start_frame": 0,
        "end_frame": 7,
        "question": "Which way?",
        "options": ["left", "right"],
        "answer": "A",
        "response": "A",
    }
    return QARow(**{**fields, **changes})


@pytest.fixture
def file(tmp_path):
    write_h264(tmp_path / "a.mp4", moving_frames(12))
    encode(tmp_path / "b.mp4", moving_frames(10), before=turned)
    encode(tmp_path / "c.mkv", moving_frames(10), times=TIMES)
    write_images(tmp_path / "d", moving_frames(12))
    encode(tmp_path / "e.gif", moving_frames(10), "gif", "rgb8")
    rows = [row_of(name, number) for number, name in enumerate(("a.mp4", "b.mp4", "c.mkv", "d", "e.gif"))]
    rows[3] = row_of("d", 3, meta={"fps": 5.0})
    return str(write_qa(tmp_path / "qa.parquet", rows))


def test_rl_and_sft_and_validation(processor, data_config, file):
    config = data_config(prompt_template="direct", **SIZE)
    summary = validate_rows(file, template="direct")
    assert (summary.num_rows, summary.num_videos, summary.num_decoded) == (5, 5, 5)
    rl = MLLM4DDataset(file, processor.tokenizer, config, processor)
    sft = MLLM4DSFTDataset(file, processor.tokenizer, config, processor)
    patch = processor.video_processor.patch_size
    for number in range(5):
        messages = rl[number]["raw_prompt"]
        _, videos, _ = MLLM4DDataset._process_multi_modal_info(messages, patch, config)
        text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        inputs = build_multimodal_processor_inputs(processor, text=[text], videos=videos)
        ids = inputs["input_ids"][0]
        assert rl.prompt_length(rl.dataframe[number]) == len(ids)
        trained = sft[number]
        assert torch.equal(trained["input_ids"][: len(ids)], ids)
        assert torch.equal(trained["multi_modal_inputs"]["pixel_values_videos"], inputs["pixel_values_videos"])


def test_validate_command(mllm4d, file):
    done = mllm4d("data", "validate", file, "--probe", "--json")
    report = json.loads(done.stdout.splitlines()[-1])
    assert (report["rows"], report["broken"]) == (5, 0)

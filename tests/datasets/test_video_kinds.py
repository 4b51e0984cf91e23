"""Rows with every kind of video through RL, SFT and validation."""

import json
import re

import pytest
import torch
from verl.utils.tokenizer import build_multimodal_processor_inputs
from video_files import encode, moving_frames, set_display_matrix, write_h264, write_images

from mllm4d_verl.data_tools.schema import QARow, read_qa, write_qa
from mllm4d_verl.datasets import MLLM4DDataset, MLLM4DSFTDataset, validate_rows
from mllm4d_verl.video.frames import process_cache

SIZE = {"min_pixels": 96 * 64, "max_pixels": 96 * 64}
TIMES = (0, 40, 90, 120, 700, 720, 1500, 1550, 1600, 3000)  # ms


def turned(_, stream):
    """A phone held upright: shown after a quarter turn clockwise."""
    one = 1 << 16
    set_display_matrix(stream, [0, one, 0, -one, 0, 0, 0, 0, 1 << 30])


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


def test_validate_command_with_a_remote_root(mllm4d, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    source = write_h264(tmp_path / "a.mp4", moving_frames(12))
    with fsspec.open("memory://root/a.mp4", "wb") as video:
        video.write(source.read_bytes())
    source.unlink()
    rows = write_qa(tmp_path / "qa.parquet", [row_of("a.mp4"), row_of("b.mp4", 1)])
    done = mllm4d(
        *(
            "data",
            "validate",
            rows,
            "--probe",
            "--media-root",
            "memory://root",
            "--out",
            tmp_path / "o.parquet",
            "--json",
        )
    )
    report = json.loads(done.stdout.splitlines()[-1])
    assert (report["rows"], report["broken"]) == (2, 1)
    assert "the video memory://root/b.mp4 does not exist" in done.stderr
    assert [row.video for row in read_qa(tmp_path / "o.parquet")] == ["memory://root/a.mp4"]


class TestWarm:
    def test_a_run_finds_what_was_warmed(self, qwen3_processor, data_config, file, mllm4d, tmp_path, monkeypatch):
        monkeypatch.setenv("MLLM4D_FRAME_STORE", str(tmp_path / "store"))
        limits = ("--min-pixels", SIZE["min_pixels"], "--max-pixels", SIZE["max_pixels"])
        first = json.loads(mllm4d("data", "warm", file, *limits, "--json").stdout.splitlines()[-1])
        assert {key: first[key] for key in ("videos", "decoded", "unreadable", "entries")} == {
            "videos": 5,
            "decoded": 5,
            "unreadable": 0,
            "entries": 5,
        }
        again = json.loads(mllm4d("data", "warm", file, *limits, "--json").stdout.splitlines()[-1])
        assert (again["decoded"], again["entries"]) == (0, 5)
        config = data_config(prompt_template="direct", **SIZE)
        dataset = MLLM4DDataset(file, qwen3_processor.tokenizer, config, qwen3_processor)
        before = process_cache().decoded
        for number in range(5):
            MLLM4DDataset._process_multi_modal_info(dataset[number]["raw_prompt"], 16, config)
        assert process_cache().decoded == before

    def test_videos_that_cannot_be_read_are_named_and_the_others_are_done(self, file, mllm4d, tmp_path, monkeypatch):
        monkeypatch.setenv("MLLM4D_FRAME_STORE", str(tmp_path / "store"))
        (tmp_path / "b.mp4").write_bytes(b"no")
        done = mllm4d("data", "warm", file)
        assert done.returncode == 2
        assert re.search(r"row 1, field video: \S+b\.mp4: the video does not decode", done.stderr)
        assert "5 videos: 4 decoded, 0 were there, 1 cannot be read" in done.stdout

    def test_off(self, file, mllm4d, monkeypatch):
        monkeypatch.setenv("MLLM4D_FRAME_STORE", "off")
        done = mllm4d("data", "warm", file)
        assert done.returncode == 2
        assert "the frame store is off" in done.stderr

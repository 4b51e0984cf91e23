"""Real driving video: questions from its ground truth, prompts that fit its frames. Training on it: test_grpo.py."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from kitti import CAMERA_TASKS, CLIP_FRAMES, FPS, KITTI, NUM_FRAMES, ask, read_poses, read_prompts, write_clips

from mllm4d_verl.data_tools.released import write_rft
from mllm4d_verl.data_tools.sampling import sample_frame_indices
from mllm4d_verl.data_tools.schema import Clip4D, QARow

pytestmark = pytest.mark.skipif(not KITTI.is_dir(), reason=f"the KITTI frames are not there: {KITTI}")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Clip4D]]:
    root = tmp_path_factory.mktemp("kitti")
    return root, write_clips(root)


@pytest.fixture(scope="module")
def rows(clips: tuple[Path, list[Clip4D]]) -> list[QARow]:
    return ask(clips[1])


@pytest.fixture(scope="module")
def rft_file(clips: tuple[Path, list[Clip4D]], rows: list[QARow]) -> Path:
    return write_rft(clips[0] / "rft.jsonl", rows)


def test_questions_have_the_answers_of_the_poses(rows: list[QARow]) -> None:
    poses = read_poses()
    assert {row.task for row in rows} == set(CAMERA_TASKS)
    for row in rows:
        first = int(row.clip_id.rsplit("_", 1)[1])
        start, end = (
            first + sample_frame_indices(CLIP_FRAMES, NUM_FRAMES)[frame] for frame in (row.start_frame, row.end_frame)
        )
        distance = np.linalg.norm(poses[end, :3, 3] - poses[start, :3, 3])
        stated = np.array(row.camera_center)
        assert np.linalg.norm(stated[1] - stated[0]) == pytest.approx(distance, abs=1e-3)
        if row.task == "camera_absolute_distance":
            assert row.value == pytest.approx(distance, abs=1e-3)
        else:
            assert "forward" in row.answer_text.lower()


def test_the_baseline_is_kittis(clips: tuple[Path, list[Clip4D]]) -> None:
    assert clips[1][0].baseline == pytest.approx(0.5372, abs=1e-4)


def test_prompts_fit_the_frames(rft_file: Path, rows: list[QARow], tiny_model) -> None:
    prompts = read_prompts(rft_file, tiny_model("qwen3_vl"))
    assert len(prompts) == len(rows)
    # Qwen3-VL stamps every two sampled frames with their mean time.
    times = np.array(sample_frame_indices(CLIP_FRAMES, NUM_FRAMES)) / FPS
    stamps = [f"{mean:.1f}" for mean in (times[0::2] + times[1::2]) / 2]
    for _, text in prompts:
        assert re.findall(r"<(\d+\.\d) seconds>", text) == stamps
        pads = [block.count("<|video_pad|>") for block in re.split(r"<\d+\.\d seconds>", text)[1:]]
        assert len(set(pads)) == 1, pads
        assert pads[0] >= 3  # wide frames stay wide: more columns than rows of tokens

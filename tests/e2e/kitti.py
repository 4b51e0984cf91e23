"""KITTI odometry, sequence 2 (grey), from frames and poses to rows in the released RFT format.

poses.txt holds camera-0-to-world rows of 3x4, calib.txt the projections P0 and P1.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mllm4d_verl.data_tools.questions import QuestionConfig, build_questions
from mllm4d_verl.data_tools.schema import Clip4D, QARow

KITTI = Path(__file__).parents[3] / "shared" / "data" / "kitti_odom_gray_seq2"
FPS = 10.0  # of KITTI's cameras
CLIP_FRAMES, CLIP_STARTS = 16, (0, 4, 8)
NUM_FRAMES = 8
CAMERA_TASKS = ("camera_absolute_distance", "camera_relative_direction")
PROMPT = {"prompt_template": "st_cot", "min_pixels": 784, "max_pixels": 50176}  # of the data config


def read_poses() -> np.ndarray:
    """(T, 4, 4) cam_to_world; KITTI's camera axes are OpenCV's."""
    rows = np.loadtxt(KITTI / "poses.txt").reshape(-1, 3, 4)
    return np.concatenate([rows, np.tile([[[0.0, 0.0, 0.0, 1.0]]], (len(rows), 1, 1))], axis=1)


def write_clips(root: Path) -> list[Clip4D]:
    """Overlapping clips of the sequence, each in the world of its own first camera."""
    poses = read_poses()
    left, right = np.loadtxt(KITTI / "calib.txt").reshape(2, 3, 4)
    images = sorted((KITTI / "image_l").glob("*.png"))
    clips = []
    for start in CLIP_STARTS:
        chosen = images[start : start + CLIP_FRAMES]
        frames = [cv2.imread(str(image)) for image in chosen]
        height, width = (side // 2 * 2 for side in frames[0].shape[:2])  # the codec wants even sides
        clip_id = f"kitti02_{start:06d}"
        writer = cv2.VideoWriter(str(root / f"{clip_id}.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), FPS, (width, height))
        for frame in frames:
            writer.write(frame[:height, :width])
        writer.release()
        clips.append(
            Clip4D(
                clip_id=clip_id,
                source="KITTI odometry 02",
                license="CC BY-NC-SA 3.0",
                video=f"{clip_id}.mp4",
                fps=FPS,
                num_frames=len(frames),
                width=width,
                height=height,
                intrinsics=left[:, :3],
                baseline=float(-right[0, 3] / right[0, 0]),
                cam_to_world=np.linalg.inv(poses[start]) @ poses[start : start + CLIP_FRAMES],
            )
        )
    return clips


def ask(clips: list[Clip4D]) -> list[QARow]:
    """Camera questions about the clips, all for training."""
    config = QuestionConfig(
        num_frames=NUM_FRAMES,
        tasks=CAMERA_TASKS,
        val_fraction=0.0,
        test_fraction=0.0,
        balance_ratio=100.0,  # the car drives forward, whatever is asked
    )
    return build_questions(clips, config)


def read_prompts(rft_file: Path, model: Path) -> list[tuple[list[int], str]]:
    """Token ids and decoded text of every prompt, as the agent loop builds them."""
    from omegaconf import OmegaConf
    from verl.utils.tokenizer import hf_processor, hf_tokenizer

    from mllm4d_verl.datasets import MLLM4DDataset
    from mllm4d_verl.evaluation.prompting import PromptBuilder

    tokenizer = hf_tokenizer(str(model))
    dataset = MLLM4DDataset(
        data_files=str(rft_file),
        tokenizer=tokenizer,
        processor=hf_processor(str(model)),
        config=OmegaConf.create(PROMPT),
    )
    builder = PromptBuilder(str(model), dataset)
    prompts = [builder.build(dataset[index]["raw_prompt"]).token_ids for index in range(len(dataset))]
    return [(ids, tokenizer.decode(ids)) for ids in prompts]

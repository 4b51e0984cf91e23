"""CPU time to prepare videos for training: a group of rollouts against stock verl, an SFT row with and without cache.

    python benchmarks/video_preparation.py [--rollouts 12] [--repeats 3]

A rollout decodes its prompt's video and runs the model's processor three times, as verl's agent loop does. Stock verl
reads with the reader that qwen_vl_utils finds (torchcodec, decord, or this package's where neither is installed).
"first step" has empty caches and an empty store; "a later step" has the store of a run before, and empty caches.
Seconds are CPU seconds of this process, so that other work on the machine disturbs less; medians of the repeats.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from omegaconf import OmegaConf
from transformers.video_processing_utils import BaseVideoProcessor
from verl.utils import hf_processor
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.utils.tokenizer import build_multimodal_processor_inputs

from mllm4d_verl.data_tools.schema import QARow, write_qa
from mllm4d_verl.datasets import MLLM4DDataset, MLLM4DSFTDataset
from mllm4d_verl.recipes.tiny_cpu.model import build_tiny_model
from mllm4d_verl.video import frames
from mllm4d_verl.video.processed import process_once
from mllm4d_verl.video.store import PLACE, FrameStore

TEXT = "<|im_start|>user\n<|vision_start|><|video_pad|><|vision_end|>\nWhere to?<|im_end|>\n"
CLIPS = {  # width, height, frames of the file, frames sampled, most pixels of a frame
    "96x96, 8 of 48 frames": (96, 96, 48, 8, 50176),
    "512x512, 32 of 150 frames, 50176 pixels a frame": (512, 512, 150, 32, 50176),
    "512x512, 32 of 150 frames at full size": (512, 512, 150, 32, 602112),
    "854x480, 32 of 150 frames at full size": (854, 480, 150, 32, 602112),
}
MIN_PIXELS = 784


def write_clip(path: Path, width: int, height: int, num_frames: int) -> None:
    background = np.random.default_rng(0).integers(0, 255, (height // 8, width // 8 + 1, 3), dtype=np.uint8)
    background = background.repeat(8, 0).repeat(8, 1)
    path.parent.mkdir(parents=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (width, height))
    for index in range(num_frames):
        writer.write(np.roll(background, index, 1)[:, :width])
    writer.release()


def group_seconds(
    dataset_class: type, processor, element: dict, rollouts: int, store: Path | None = None, keep: bool = False
) -> float:
    """One group of rollouts of one prompt, with empty caches; the store is emptied unless it is to be kept."""
    os.environ[PLACE] = "off" if store is None else str(store)
    if store is not None and not keep:
        FrameStore(store, 1).clear()
    frames._process_cache = frames._ProcessCache()
    messages = [{"role": "user", "content": [element]}]
    alive = []  # the agent loop holds the frames of all rollouts of a batch
    start = time.process_time()
    for _ in range(rollouts):
        videos = dataset_class._process_multi_modal_info(messages, 16, OmegaConf.create())[1]
        alive.append(videos)
        for _ in range(3):
            build_multimodal_processor_inputs(processor, text=[TEXT], videos=videos)
    return time.process_time() - start


def sft_row_ms(processor, file: Path, num_rows: int, cache_rows: int, limits: dict) -> float:
    """Mean over the rows of one clip, after the first row."""
    config = OmegaConf.create({**limits, "prompt_template": "direct", "max_length": 32768, "cache_rows": cache_rows})
    dataset = MLLM4DSFTDataset(str(file), processor.tokenizer, config, processor)
    _ = dataset[0]
    start = time.process_time()
    for index in range(1, num_rows):
        _ = dataset[index]
    return (time.process_time() - start) / (num_rows - 1) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rollouts", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    stock = BaseVideoProcessor.preprocess
    stock = getattr(stock, "__wrapped__", stock)
    with tempfile.TemporaryDirectory() as folder:
        model = build_tiny_model(f"{folder}/model", hidden=32, layers=1, vision_layers=1, max_frame_side=256)
        processor = hf_processor(str(model))
        store = Path(folder, "store")
        for number, (name, (width, height, total, num_frames, max_pixels)) in enumerate(CLIPS.items()):
            path = Path(folder, str(number), "left.mp4")
            write_clip(path, width, height, total)
            limits = {"min_pixels": MIN_PIXELS, "max_pixels": max_pixels}
            element = {"type": "video", "video": str(path), "nframes": num_frames, **limits}
            print(f"{name}, a group of {options.rollouts} rollouts")
            base = None
            for label, dataset_class, preprocess, where, keep in (
                ("stock verl", RLHFDataset, stock, None, False),
                ("frame cache", MLLM4DDataset, stock, None, False),
                ("first step", MLLM4DDataset, process_once(stock), store, False),
                ("a later step", MLLM4DDataset, process_once(stock), store, True),
            ):
                BaseVideoProcessor.preprocess = preprocess
                seconds = statistics.median(
                    group_seconds(dataset_class, processor, element, options.rollouts, where, keep)
                    for _ in range(options.repeats)
                )
                base = base or seconds
                print(f"  {label:30s} {seconds:8.3f} s   {base / seconds:5.1f} times as fast", flush=True)
            BaseVideoProcessor.preprocess = stock
            rows = [
                QARow(
                    f"q{i}",
                    "c",
                    str(path),
                    num_frames,
                    "camera_relative_direction",
                    0,
                    1,
                    f"Question {i}?",
                    ["l", "r"],
                    "A",
                )
                for i in range(20)
            ]
            file = write_qa(Path(folder, f"{number}.parquet"), rows)
            plain, cached = (sft_row_ms(processor, file, len(rows), cache, limits) for cache in (0, 100))
            print(f"  an SFT row: {plain:.1f} ms, with data.cache_rows {cached:.1f} ms, ratio {plain / cached:.1f}")


if __name__ == "__main__":
    main()

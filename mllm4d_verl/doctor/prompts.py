"""What verl sends of a video and what vLLM makes of it; how a video is read in training."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from mllm4d_verl.doctor.check import DRIVER, PROMPTS, Check, Finding, guarded

# The generated video. No library assumes seven frames a second, so a frame rate that was lost on the way shows.
SAMPLE_FRAMES, SAMPLE_FPS, SAMPLE_SIDE = 8, 7.0, 96

# Mean absolute difference, of 255, between a drawn frame and the frame that was read. Compression and resizing make
# about 2; the same frame two later differs by 6 and more.
SAMPLE_DIFFERENCE = 4.0


def examine_sample() -> list[Check]:
    """Read a generated video as training does."""
    return [guarded(DRIVER, "sample video", read_sample)]


def read_sample() -> str:
    """Read one video by the hook that training calls, and compare it with what was drawn; raises where it differs."""
    import cv2
    import numpy as np

    from mllm4d_verl.datasets.rl import MLLM4DDataset

    found = ""
    for patch_size in (16, 14):  # Qwen3-VL and Qwen2.5-VL
        with tempfile.TemporaryDirectory() as folder:
            frames, metadata = decode(MLLM4DDataset, write_sample(Path(folder)), patch_size)
        if metadata["fps"] != SAMPLE_FPS or len(frames) != SAMPLE_FRAMES:
            raise Finding(f"{len(frames)} frames at {metadata['fps']} a second, not {SAMPLE_FRAMES} at {SAMPLE_FPS}")
        size = (frames.shape[3], frames.shape[2])
        for number, source in enumerate(metadata["frames_indices"]):
            drawn = cv2.resize(draw_sample(int(source)), size, interpolation=cv2.INTER_AREA)
            difference = float(np.abs(frames[number].permute(1, 2, 0).numpy() - drawn[..., ::-1]).mean())
            if difference > SAMPLE_DIFFERENCE:
                raise Finding(
                    f"frame {number} differs from frame {source} of the file by {difference:.0f} of 255 on average",
                    "Reinstall av (pip install --force-reinstall av)",
                )
        found = f"{len(frames)} frames read by {metadata['video_backend']}, with the pixels and times of the file"
    return found


def draw_sample(number: int) -> Any:
    """(H, W, 3) uint8 BGR: frame `number` of the sample video, a rectangle that moves to the right."""
    import cv2
    import numpy as np

    frame = np.full((SAMPLE_SIDE, SAMPLE_SIDE, 3), 90, np.uint8)
    cv2.rectangle(frame, (4 * number, 30), (4 * number + 20, 60), (40, 60, 220), -1)
    return frame


def write_sample(folder: Path) -> dict[str, Any]:
    """Write a video of a moving rectangle.

    Returns:
        Its entry in a prompt, as `mllm4d_verl.video.video_element` makes it.
    """
    import cv2

    from mllm4d_verl.video import video_element

    path = folder / "sample.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), SAMPLE_FPS, (SAMPLE_SIDE, SAMPLE_SIDE))
    for number in range(2 * SAMPLE_FRAMES):
        writer.write(draw_sample(number))
    writer.release()
    pixels = SAMPLE_SIDE * SAMPLE_SIDE
    row = {"id": "doctor", "video": path.name, "num_frames": SAMPLE_FRAMES, "meta": {}}
    return video_element(row, None, folder, min_pixels=pixels // 4, max_pixels=pixels)


def decode(dataset: type, element: dict[str, Any], patch_size: int) -> Any:
    """Frames and metadata of a prompt's video, by the method of a dataset that verl's agent loop calls."""
    from omegaconf import OmegaConf

    messages = [{"role": "user", "content": [dict(element), {"type": "text", "text": "?"}]}]
    _, videos, *_ = dataset._process_multi_modal_info(messages, image_patch_size=patch_size, config=OmegaConf.create())
    return videos[0]


def examine_prompts(model: str | os.PathLike[str] | None = None) -> list[Check]:
    """Compare token ids, and the time between frames, of one generated video between verl's processor and vLLM's."""
    if model is not None:
        return [guarded(PROMPTS, f"prompt tokens, {Path(model).name}", lambda: compare_prompt(model))]
    from mllm4d_verl.recipes.tiny_cpu.model import ARCHITECTURES, build_tiny_model

    checks = []
    for arch in ARCHITECTURES:
        with tempfile.TemporaryDirectory() as folder:

            def check(arch=arch, folder=folder) -> str:
                return compare_prompt(build_tiny_model(folder, arch, hidden=32, layers=1, vision_layers=1))

            checks.append(guarded(PROMPTS, f"prompt tokens, tiny {arch}", check))
    return checks


def compare_prompt(model: str | os.PathLike[str]) -> str:
    """What the actor reads against what vLLM reads, for a prompt with one video; raises where they differ.

    Both sides run their own code: verl's agent loop builds the ids, verl's server collapses them, vLLM's processor
    expands them. No weights are loaded.
    """
    from verl.utils import hf_processor
    from verl.utils.tokenizer import build_multimodal_processor_inputs
    from verl.workers.rollout.utils import qwen2_5_vl_dedup_image_tokens

    from mllm4d_verl.datasets.rl import MLLM4DDataset

    processor = hf_processor(str(model))
    if processor is None:
        raise Finding(f"{model} has no processor that verl knows")
    with tempfile.TemporaryDirectory() as folder:
        video = decode(MLLM4DDataset, write_sample(Path(folder)), processor.image_processor.patch_size)
    message = [{"type": "video", "video": "sample"}, {"type": "text", "text": "At <1.0 seconds>, what moves?"}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": message}], add_generation_prompt=True, tokenize=False
    )
    actor = build_multimodal_processor_inputs(processor, text=[text], videos=[video])
    actor_ids = actor["input_ids"][0].tolist()
    rollout = vllm_inputs(model, list(qwen2_5_vl_dedup_image_tokens(actor_ids, processor)), video)
    rollout_ids = list(rollout["prompt_token_ids"])
    if rollout_ids != actor_ids:
        place = next((i for i, pair in enumerate(zip(actor_ids, rollout_ids)) if len(set(pair)) > 1), len(actor_ids))  # noqa: B905
        text_of = processor.tokenizer.decode
        raise Finding(
            f"actor {len(actor_ids)} tokens, vLLM {len(rollout_ids)}; they part at token {place}: "
            f"{text_of(actor_ids[place : place + 12])!r} against {text_of(rollout_ids[place : place + 12])!r}",
            "Rollouts would answer other prompts than the actor is trained on. Use versions that were tried together",
        )
    detail = f"{len(actor_ids)} tokens agree"
    if "second_per_grid_ts" not in actor:
        return detail
    seconds, of_vllm = float(actor["second_per_grid_ts"][0]), rollout["mm_kwargs"]["video"][0]["second_per_grid_ts"]
    if float(of_vllm.data) != seconds:
        raise Finding(
            f"{detail}, but frame pairs are {seconds} s apart for the actor, {float(of_vllm.data)} s for vLLM"
        )
    return f"{detail}, {seconds:.4f} s between frame pairs"


def vllm_inputs(model: str | os.PathLike[str], prompt_ids: list[int], video: Any) -> Any:
    """What vLLM's input processing makes of a request with one video: the code its server runs, without the engine.

    Returns:
        vLLM's MultiModalInput: `prompt_token_ids` as the model reads them, `mm_kwargs`.
    """
    from vllm.engine.arg_utils import EngineArgs
    from vllm.multimodal import MULTIMODAL_REGISTRY

    config = EngineArgs(model=str(model), dtype="bfloat16", enforce_eager=True).create_model_config()
    processor = MULTIMODAL_REGISTRY.create_processor(config)
    return processor(prompt_ids, processor.info.parse_mm_data({"video": [video]}))

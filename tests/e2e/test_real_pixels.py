"""Real driving video from frames and poses to GRPO updates: questions from its ground truth, the release's own format.

KITTI odometry, sequence 2 (grey): poses.txt holds camera-0-to-world rows of 3x4, calib.txt the projections P0 and P1.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from mllm4d_verl.data_tools.questions import QuestionConfig, build_questions
from mllm4d_verl.data_tools.released import write_rft
from mllm4d_verl.data_tools.sampling import sample_frame_indices
from mllm4d_verl.data_tools.schema import Clip4D, QARow

KITTI = Path(__file__).parents[3] / "shared" / "data" / "kitti_odom_gray_seq2"
FPS = 10.0  # of KITTI's cameras
CLIP_FRAMES, CLIP_STARTS = 16, (0, 4, 8)
NUM_FRAMES = 8
CAMERA_TASKS = ("camera_absolute_distance", "camera_relative_direction")
UPDATES = 2
BATCH = 4

pytestmark = pytest.mark.skipif(not KITTI.is_dir(), reason=f"the KITTI frames are not there: {KITTI}")


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


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Clip4D]]:
    root = tmp_path_factory.mktemp("kitti")
    return root, write_clips(root)


@pytest.fixture(scope="module")
def rows(clips: tuple[Path, list[Clip4D]]) -> list[QARow]:
    config = QuestionConfig(
        num_frames=NUM_FRAMES,
        tasks=CAMERA_TASKS,
        val_fraction=0.0,
        test_fraction=0.0,
        balance_ratio=100.0,  # the car drives forward, whatever is asked
    )
    return build_questions(clips[1], config)


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
        config=OmegaConf.create({"prompt_template": "st_cot", "min_pixels": 784, "max_pixels": 50176}),
    )
    builder = PromptBuilder(str(model), dataset)
    prompts = [builder.build(dataset[index]["raw_prompt"]).token_ids for index in range(len(dataset))]
    return [(ids, tokenizer.decode(ids)) for ids in prompts]


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


@pytest.mark.e2e
def test_grpo_updates(rft_file: Path, tiny_model, run_command, tmp_path: Path) -> None:
    """The stock command with `data=mllm4d reward=mllm4d_st`."""
    model = tiny_model("qwen3_vl")
    run = run_command(
        [
            *("python", "-m", "verl.trainer.main_ppo", "data=mllm4d", "reward=mllm4d_st"),
            *(f"data.train_files={rft_file}", f"data.val_files={rft_file}", f"actor_rollout_ref.model.path={model}"),
            *PLAIN_CPU_COMMAND,
        ],
        tmp_path,
    ).check()
    steps = [step for step in run.metrics if "critic/score/mean" in step]
    assert [step["step"] for step in steps] == list(range(1, UPDATES + 1))
    lengths = [len(ids) for ids, _ in read_prompts(rft_file, model)]
    for step in steps:
        assert all(math.isfinite(step[key]) for key in step if key.startswith(("critic/", "actor/"))), step
        # bfloat16 leaves 2e-4; a rollout that sees other video tokens than the actor is at 0.1.
        assert step["rollout_corr/k3_kl"] < 1e-2
        assert min(lengths) <= step["prompt_length/min"] <= step["prompt_length/max"] <= max(lengths)


# What stock verl needs on a CPU with a tiny model; `tiny_cpu/grpo` says why, line by line.
PLAIN_CPU_COMMAND = (
    "algorithm.adv_estimator=grpo",
    "algorithm.use_kl_in_reward=false",
    f"data.train_batch_size={BATCH}",
    "data.max_prompt_length=1024",
    "data.max_response_length=24",
    "data.dataloader_num_workers=0",
    "actor_rollout_ref.model.use_remove_padding=false",
    "actor_rollout_ref.model.enable_gradient_checkpointing=false",
    "+actor_rollout_ref.model.override_config.attn_implementation=sdpa",
    "actor_rollout_ref.actor.strategy=fsdp2",
    "actor_rollout_ref.actor.fsdp_config.strategy=fsdp2",
    "actor_rollout_ref.actor.fsdp_config.use_torch_compile=false",
    "actor_rollout_ref.actor.use_torch_compile=false",
    f"actor_rollout_ref.actor.ppo_mini_batch_size={BATCH}",
    f"actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu={BATCH}",
    "actor_rollout_ref.actor.use_kl_loss=false",
    "actor_rollout_ref.actor.optim.lr=1e-4",
    "actor_rollout_ref.rollout.name=vllm",
    "actor_rollout_ref.rollout.n=2",
    "actor_rollout_ref.rollout.tensor_model_parallel_size=1",
    "actor_rollout_ref.rollout.enforce_eager=true",
    "actor_rollout_ref.rollout.free_cache_engine=false",
    "+actor_rollout_ref.rollout.enable_sleep_mode=false",
    "actor_rollout_ref.rollout.enable_prefix_caching=false",
    "actor_rollout_ref.rollout.max_model_len=1152",
    "actor_rollout_ref.rollout.max_num_seqs=8",
    "actor_rollout_ref.rollout.max_num_batched_tokens=2048",
    "actor_rollout_ref.rollout.gpu_memory_utilization=0.2",
    f"actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu={BATCH}",
    "actor_rollout_ref.rollout.agent.num_workers=1",
    "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=64",
    "reward.num_workers=1",
    "trainer.device=cpu",
    "trainer.nnodes=1",
    "trainer.n_gpus_per_node=1",
    "trainer.logger=[console,file]",
    f"trainer.total_training_steps={UPDATES}",
    "trainer.total_epochs=100",
    "trainer.save_freq=-1",
    "trainer.test_freq=-1",
    "trainer.val_before_train=false",
    "trainer.resume_mode=disable",
    "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
    "transfer_queue.backend.SimpleStorage.total_storage_size=1000",
    "ray_kwargs.ray_init.num_cpus=16",
    "+ray_kwargs.ray_init.num_gpus=1",
    "+ray_kwargs.ray_init.include_dashboard=false",
    "+ray_kwargs.ray_init.object_store_memory=500000000",
)

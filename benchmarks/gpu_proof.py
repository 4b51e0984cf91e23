"""What an SFT step and a GRPO step cost on one GPU, with random weights in the shape of a released model.

    python benchmarks/gpu_proof.py --model 8b --out runs/gpu_proof_8b
    python benchmarks/gpu_proof.py --model tiny --out runs/gpu_proof_tiny      # the CPU lane

It renders clips, asks about them, writes the weights and runs `mllm4d train sft` and `mllm4d train grpo` with LoRA.
OUT/gpu_proof.json has versions, settings and figures, OUT/gpu_proof.md a table. docs/gpu.md defines each figure.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mllm4d_verl.training.metrics import read_metrics

RECIPES = {"8b": "qwen3_vl_8b", "2b": "qwen3_vl_2b", "tiny": "tiny_cpu"}
# Pixels a side of the videos: what passes the recipe's GRPO limit (max_pixels) unchanged.
FRAME_SIDES = {"8b": 512, "2b": 384, "tiny": 64}
# Bytes of one safetensors file: with one tensor more, all that is ever in memory. 1 GiB makes about 20 files of 8B.
SHARD_BYTES = 2**30
WEIGHT_STD = 0.02  # standard deviation of the weight matrices; transformers initializes Qwen3-VL with it
POLL_SECONDS = 0.2  # how exactly the end of an SFT step is seen; verl's SFT trainer writes no step times
CLIPS = 16  # rendered clips: more than a step needs, few enough that rendering takes minutes
MAX_POSITIONS = 16384  # tokens: more than max_model_len of every recipe
PACKAGES = ("torch", "vllm", "verl", "transformers", "peft", "ray", "flash-attn")

# What makes a step the same size for every machine, and a run short. Batches: questions, divisible by the mini batch.
SHARED = ["trainer.n_gpus_per_node=1"]
OVERRIDES = {
    ("8b", "sft"): ["data.train_batch_size=8"],
    ("2b", "sft"): ["data.train_batch_size=8"],
    ("tiny", "sft"): ["data.train_batch_size=4", "trainer.marks=null", "data.max_pixels=4096"],
    ("8b", "grpo"): ["data.train_batch_size=8", "data.max_response_length=512", "trainer.test_freq=-1"],
    ("2b", "grpo"): ["data.train_batch_size=8", "data.max_response_length=512", "trainer.test_freq=-1"],
    ("tiny", "grpo"): [
        "data.train_batch_size=4",
        "actor_rollout_ref.actor.ppo_mini_batch_size=4",
        "actor_rollout_ref.rollout.n=4",
        "data.max_response_length=32",
        "data.max_pixels=4096",
    ],
}
LORA_RANK = {"tiny": 8}  # the other recipes state a rank

# Rows of the table: key in the figures, what it is, unit.
ROWS = (
    ("step_s", "step", "s"),
    ("tokens_per_s", "tokens per second, prompts and answers", "1/s"),
    ("rollout_s", "rollout", "s"),
    ("log_probs_s", "log-probabilities of the actor", "s"),
    ("ref_s", "log-probabilities of the reference", "s"),
    ("update_s", "update", "s"),
    ("sync_s", "weight sync", "s"),
    ("prompt_tokens", "tokens of a prompt", ""),
    ("response_tokens", "tokens of an answer", ""),
    ("trainer_peak_gib", "peak memory of the trainer", "GiB"),
    ("gpu_peak_gib", "peak memory of the GPU", "GiB"),
    ("rollout_actor_kl", "KL of rollout and actor", ""),
    ("rollout_actor_k3_kl", "the same, k3 estimator", ""),
    ("video_row_s", "video path, one row", "s"),
)
METRICS = {
    "step_s": "timing_s/step",
    "rollout_s": "timing_s/gen",
    "log_probs_s": "timing_s/old_log_prob",
    "ref_s": "timing_s/ref",
    "update_s": "timing_s/update_actor",
    "sync_s": "timing_s/update_weights",
    "prompt_tokens": "prompt_length/mean",
    "response_tokens": "response_length/mean",
    "rollout_actor_kl": "rollout_corr/kl",
    "rollout_actor_k3_kl": "rollout_corr/k3_kl",
}
MEMORY = ("actor/perf/max_memory_allocated_gb", "perf/max_memory_allocated_gb")


def write_model(folder: Path, name: str, config: Any, processor: str | None, seed: int) -> None:
    """Write a checkpoint: random weights, and `processor`'s files or a stand-in's.

    Args:
        folder: to write.
        name: key of RECIPES.
        config: transformers configuration; None for the tiny model, which has its own.
        processor: folder or hub name of a released processor; None makes a stand-in whose vocabulary is padded.
        seed: number that the random weights are drawn by.
    """
    from transformers import AutoProcessor

    from mllm4d_verl.recipes.tiny_cpu.model import _write_generation_config, build_tiny_model

    sizes = {"hidden": 128, "layers": 3, "vision_hidden": 96} if config is None else {"hidden": 32, "layers": 1}
    side = FRAME_SIDES[name]
    positions = 4096 if config is None else MAX_POSITIONS
    build_tiny_model(folder, seed=seed, max_frame_side=side, max_positions=positions, **sizes)
    if config is None:
        return
    (folder / "model.safetensors").unlink()
    if processor is None:
        _fit_tokenizer(folder, config)
    else:
        for file in folder.iterdir():  # the stand-in's, its generation_config.json too: the ids differ
            file.unlink()
        AutoProcessor.from_pretrained(processor).save_pretrained(folder)
        _write_generation_config(folder, AutoProcessor.from_pretrained(folder).tokenizer)
    config.save_pretrained(folder)
    write_weights(folder, config, seed)


def _fit_tokenizer(folder: Path, config: Any) -> None:
    """Pad the stand-in's vocabulary to the model's size, and give the model the stand-in's special tokens."""
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    vocabulary, added = content["model"]["vocab"], content["added_tokens"]
    # tokenizers numbers added tokens after the vocabulary, so the padding goes between the two.
    first_added = config.text_config.vocab_size - len(added)
    vocabulary.update({f"<unused_{number}>": number for number in range(len(vocabulary), first_added)})
    for number, token in enumerate(sorted(added, key=lambda token: token["id"]), start=first_added):
        token["id"] = number
    ids = {token["content"]: token["id"] for token in added}
    file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    generation_file = folder / "generation_config.json"
    generation = json.loads(generation_file.read_text(encoding="utf-8"))
    generation |= {"bos_token_id": ids["<|endoftext|>"], "pad_token_id": ids["<|endoftext|>"]}
    generation["eos_token_id"] = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    generation_file.write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")
    config.image_token_id, config.video_token_id = ids["<|image_pad|>"], ids["<|video_pad|>"]
    config.vision_start_token_id, config.vision_end_token_id = ids["<|vision_start|>"], ids["<|vision_end|>"]
    config.text_config.eos_token_id, config.text_config.bos_token_id = ids["<|im_end|>"], ids["<|endoftext|>"]


def random_tensors(config: Any, seed: int) -> Iterator[tuple[str, Any]]:
    """Names and bfloat16 tensors of a model, one at a time; the output layer is left out where it is tied."""
    import torch
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    generator = torch.Generator().manual_seed(seed)
    tied = bool(config.tie_word_embeddings)
    for name, tensor in model.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        made = torch.empty(tensor.shape, dtype=torch.bfloat16)
        if tensor.ndim > 1:
            made.normal_(0.0, WEIGHT_STD, generator=generator)
        else:
            made.fill_(0.0 if name.endswith("bias") else 1.0)
        yield name, made


def write_weights(folder: Path, config: Any, seed: int, shard_bytes: int = SHARD_BYTES) -> None:
    """Write safetensors files and their index; no more than a file and a tensor are in memory."""
    from safetensors.torch import save_file

    held: dict[str, Any] = {}
    where: dict[str, str] = {}
    size = total = number = 0

    def write() -> None:
        nonlocal size, number
        number += 1
        file = f"model-{number:05d}.safetensors"
        save_file(held, folder / file, metadata={"format": "pt"})
        where.update(dict.fromkeys(held, file))
        held.clear()
        size = 0

    for name, tensor in random_tensors(config, seed):
        if held and size + tensor.nbytes > shard_bytes:
            write()
        held[name] = tensor
        size += tensor.nbytes
        total += tensor.nbytes
    write()
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def write_data(folder: Path, name: str, side: int, seed: int) -> Path:
    """The question folder, with clips of `side` x `side` pixels."""
    from mllm4d_verl.data_tools.questions import QuestionConfig, write_questions
    from mllm4d_verl.data_tools.synthetic import write_world

    tiny = name == "tiny"
    frames = 8 if tiny else 32
    write_world(
        folder / "world",
        clips=CLIPS,
        seed=seed,
        width=side,
        height=side,
        num_frames=frames,
        fps=8.0,
        config="tiny_stereo" if tiny else "default",
        dense=False,
    )
    config = QuestionConfig(seed=seed, num_frames=4 if tiny else 32, val_fraction=0.2, test_fraction=0.1)
    write_questions(folder / "world", folder / "qa", config)
    return folder / "qa"


def command(args: argparse.Namespace, stage: str, model: Path, data: Path) -> list[str]:
    """The command line of one measured run; step 1 warms up, so it trains one step more than are counted."""
    words = [str(Path(sys.executable).with_name("mllm4d")), "train", stage, "--recipe", RECIPES[args.model]]
    words += ["--model", str(model), "--data", str(data), "--out", str(args.out / stage)]
    if args.model in LORA_RANK:
        words += ["--lora-rank", str(LORA_RANK[args.model])]
    words += [*SHARED, *OVERRIDES[args.model, stage], f"trainer.total_training_steps={args.steps + 1}"]
    words.append(f"trainer.save_freq={args.steps + 1}")  # `mllm4d train` fails a run that ends without a checkpoint
    return [*words, "+attention=sdpa"] if args.attention == "sdpa" and args.model != "tiny" else words


def gpu_memory_gib() -> float | None:
    """Memory in use on the first GPU, all processes together; None without nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    return float(answer) / 1024 if answer.isdecimal() else None


def run_stage(words: list[str], out: Path) -> tuple[dict[int, dict[str, Any]], list[float], float | None]:
    """Run a training; verl's metrics by step, the time each was written, the GPU's peak memory in GiB."""
    if out.exists():
        sys.exit(f"{out} exists: choose another --out, or remove it")
    file, times, peak = out / "metrics" / "launch_000.jsonl", [], None
    child = subprocess.Popen(words)
    try:
        while child.poll() is None:
            lines = file.read_bytes().count(b"\n") if file.is_file() else 0
            times += [time.monotonic()] * (lines - len(times))
            used = gpu_memory_gib()
            peak = used if peak is None else max(peak, used or 0.0)
            time.sleep(POLL_SECONDS)
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()
    if child.returncode:
        sys.exit(f"`{' '.join(words)}` ended with {child.returncode}; its output is in {out / 'logs'}")
    return read_metrics(out / "metrics"), times, peak


def figures(metrics: dict[int, dict[str, Any]], times: list[float], peak: float | None) -> dict[str, float]:
    """Means over the counted steps, which are all but the first; a figure that verl did not write is left out."""
    rows = [metrics[step] for step in sorted(metrics)][1:]
    found: dict[str, float] = {}
    for key, name in METRICS.items():
        values = [row[name] for row in rows if name in row]
        if values:
            found[key] = statistics.fmean(values)
    times = times[: len(metrics)]  # SFT ends with a second line of its last step, which holds the validation
    if "step_s" in found:  # the last step saves
        found["step_s"] -= sum(row.get("timing_s/save_checkpoint", 0.0) for row in rows) / len(rows)
    if "step_s" not in found and len(times) > 1:
        found["step_s"] = (times[-1] - times[0]) / (len(times) - 1)
    tokens = [row.get("perf/total_num_tokens", row.get("train/global_tokens")) for row in rows]
    if found.get("step_s") and tokens and None not in tokens:
        found["tokens_per_s"] = statistics.fmean(tokens) / found["step_s"]
    memory = [row[name] for row in metrics.values() for name in MEMORY if row.get(name)]
    if memory:
        found["trainer_peak_gib"] = max(memory)
    if peak is not None:
        found["gpu_peak_gib"] = peak
    return {key: value for key, value in found.items() if math.isfinite(value)}


def video_row_seconds(model: Path, data: Path, max_pixels: int) -> float:
    """Seconds that one training row costs on a CPU core: decoding, resizing, pixel values, tokens."""
    from omegaconf import OmegaConf
    from verl.utils import hf_processor

    from mllm4d_verl.datasets import MLLM4DSFTDataset

    processor = hf_processor(str(model))
    limits = {"min_pixels": 784, "max_pixels": max_pixels, "max_length": MAX_POSITIONS}
    config = OmegaConf.create({**limits, "prompt_template": "direct", "cache_rows": 0})
    dataset = MLLM4DSFTDataset(str(data / "train.parquet"), processor.tokenizer, config, processor)
    _ = dataset[0]  # imports
    rows = range(1, min(len(dataset), 9))
    started = time.perf_counter()
    for row in rows:
        _ = dataset[row]
    return (time.perf_counter() - started) / len(rows)


def table(result: dict[str, Any]) -> str:
    """Markdown: the settings, and a row a figure."""
    settings, stages = result["settings"], result["figures"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = [
        f"Model {settings['model']}, {settings['frame_size']} x {settings['frame_size']} pixels, attention "
        f"{settings['attention']}, {settings['steps']} counted steps, random weights. "
        f"{result['gpu'] or 'No GPU'}; {versions}.",
        "",
        "| figure | SFT | GRPO |",
        "|---|---|---|",
    ]
    for key, label, unit in ROWS:
        if any(key in stage for stage in stages.values()):
            cells = [f"{stages[stage][key]:.4g}" if key in stages[stage] else "-" for stage in ("sft", "grpo")]
            lines.append(f"| {label}{f', {unit}' if unit else ''} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n"


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=RECIPES, default="2b", help="Size of the model; tiny runs on a CPU.")
    parser.add_argument("--steps", type=int, default=3, help="Counted steps a stage; one more warms up.")
    parser.add_argument("--attention", choices=("flash", "sdpa"), default="flash", help="sdpa needs no flash-attn.")
    parser.add_argument("--frame-size", type=int, help="Pixels a side of a frame, even. Default: the recipe's limit.")
    parser.add_argument("--processor", help="Folder or hub name of the real tokenizer and processor.")
    parser.add_argument("--seed", type=int, default=0, help="Of weights, clips and questions.")
    parser.add_argument("--out", type=Path, required=True, help="Folder for model, data, runs and the result.")
    args = parser.parse_args(words)
    if args.steps < 1:
        parser.error("--steps must be 1 or more")
    if args.model == "tiny":
        args.attention = "sdpa"  # tiny_cpu's own setting
    args.frame_size = args.frame_size or FRAME_SIDES[args.model]
    return args


def main() -> None:
    args = parse()
    from mllm4d_verl.training.budget.model import read_model_config
    from mllm4d_verl.training.recipe import find_recipe

    if args.model == "tiny":
        os.environ.setdefault("VERL_PLATFORM", "cpu")
    args.out.mkdir(parents=True, exist_ok=True)
    model = args.out / "model"
    config = None if args.model == "tiny" else read_model_config(find_recipe(RECIPES[args.model]))
    write_model(model, args.model, config, args.processor, args.seed)
    data = write_data(args.out, args.model, args.frame_size, args.seed)
    found = {}
    for stage in ("sft", "grpo"):
        with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as ray_folder:  # Ray's socket paths must be short
            os.environ["RAY_TMPDIR"] = ray_folder
            found[stage] = figures(*run_stage(command(args, stage, model, data), args.out / stage))
    found["sft"]["video_row_s"] = video_row_seconds(model, data, args.frame_size**2)
    import torch

    result = {
        "settings": {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()},
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "versions": versions(),
        "figures": found,
    }
    (args.out / "gpu_proof.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (args.out / "gpu_proof.md").write_text(table(result), encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()

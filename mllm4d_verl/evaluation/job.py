"""What is asked of a model: everything that decides its responses, and a fingerprint of it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.prompts import DATASET_TEMPLATE, load_template

_WEIGHT_SUFFIXES = {".safetensors", ".bin"}
#: Options of the backend that say how an answer gets here, not what it is.
TRANSPORT_OPTIONS = frozenset({"base_url", "api_key_env", "concurrency", "timeout_s", "max_retries"})


@dataclass(frozen=True)
class GenerationJob:
    """One run of a model over a question file.

    Attributes:
        model: local folder of a Hugging Face checkpoint, a hub name, or the name that an endpoint knows it by.
        data: question file (QARow parquet, verl parquet or released RFT JSONL).
        unfinished: file that responses are appended to while the job runs.
        template: prompt template.
        backend: who answers, see `backends.BACKENDS`.
        limit: number of questions, spread over the tasks; None for all.
        samples: responses to every question.
        temperature, max_tokens, seed: sampling; temperature 0 is greedy.
        control: what is taken from the model's sight, see `controls.CONTROLS`; None for nothing.
        dtype: of the weights in vLLM; "auto" takes the checkpoint's, and bfloat16 for float32 checkpoints.
        dataset: keys of the `data` config that change prompts: media_root, num_frames, min_pixels, max_pixels.
        engine: options of the backend: of `vllm.LLM`, replacing the derived ones, or those of `backends.<module>`.
    """

    model: str
    data: str
    unfinished: str
    template: str
    backend: str = "vllm"
    limit: int | None = None
    samples: int = 1
    temperature: float = 0.0
    max_tokens: int = 1024
    seed: int = 0
    control: str | None = None
    dtype: str = "auto"
    dataset: dict[str, Any] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """Twelve hex digits that change when the responses may: weights, questions, prompt or sampling.

        Weights count by file name, size and modification time: reading an 8B checkpoint takes longer than using it.
        """
        content = asdict(self)
        del content["unfinished"]
        content["engine"] = {name: value for name, value in self.engine.items() if name not in TRANSPORT_OPTIONS}
        content["model_files"] = [] if self.backend == "openai" else _weight_files(self.model)
        content["data_sha256"] = file_sha256(self.data)
        content["template_text"] = template_text(self.template)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def check_model(model: str) -> None:
    """Raise InputError where `model` is a local folder that vLLM could not load, or would load wrongly."""
    folder = Path(model)
    if not folder.exists():
        if model.startswith(("/", ".", "~")) or model.count("/") != 1:
            raise InputError("no such model folder", file=model, field="--model")
        return  # a hub name, "Qwen/Qwen3-VL-8B-Instruct": the hub client says what is wrong with it
    if any(folder.glob("model_world_size_*_rank_*.pt")) or any(folder.glob("actor/model_world_size_*_rank_*.pt")):
        raise InputError(
            "the folder is a verl checkpoint, not a Hugging Face one",
            file=folder,
            field="--model",
            remedy=f"Merge it: mllm4d train merge {folder} MERGED",
        )
    if (folder / "adapter_config.json").is_file() or (folder / "lora_adapter" / "adapter_config.json").is_file():
        raise InputError(
            "the folder holds a LoRA adapter that is not merged; its base model alone would be evaluated",
            file=folder,
            field="--model",
            remedy="Merge it: `mllm4d train merge CHECKPOINT MERGED` for verl's, peft's merge_and_unload for others",
        )
    if not (folder / "config.json").is_file():
        raise InputError("the folder has no config.json", file=folder, field="--model")


def weight_bytes(model: str) -> int | None:
    """Size of the weights of a local checkpoint; None for a hub name."""
    files = _weight_files(model)
    return sum(size for _, size, _ in files) if files else None


def _weight_files(model: str) -> list[tuple[str, int, int]]:
    folder = Path(model)
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.iterdir() if path.suffix in _WEIGHT_SUFFIXES)
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def template_text(template: str) -> list[str]:
    """The turns of a template as they stand in its files; empty for `dataset`."""
    if template == DATASET_TEMPLATE:
        return []
    turns = load_template(template)
    return [Path(turn.filename).read_text(encoding="utf-8") for turn in (turns.system, turns.user) if turn is not None]


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

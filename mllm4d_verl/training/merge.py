"""From a verl checkpoint to a Hugging Face folder that transformers and vLLM load, LoRA adapters merged in."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

from mllm4d_verl.data_tools.errors import InputError

_STEP_PREFIX = "global_step_"


def latest_checkpoint(checkpoints: Path) -> Path | None:
    """The last complete checkpoint verl wrote in a folder, None when there is none.

    verl names it in `latest_checkpointed_iteration.txt` after everything else is written, so a checkpoint that a kill
    cut short is not it.
    """
    marker = checkpoints / "latest_checkpointed_iteration.txt"
    if not marker.is_file():
        return None
    folder = checkpoints / f"{_STEP_PREFIX}{marker.read_text().strip()}"
    return folder if folder.is_dir() else None


def checkpoint_step(checkpoint: Path) -> int:
    """The training step of a checkpoint folder."""
    return int(checkpoint.name.removeprefix(_STEP_PREFIX))


def merge_checkpoint(checkpoint: Path, out: Path) -> Path:
    """Write a checkpoint's weights as a Hugging Face folder, replacing `out` when all is done.

    verl's merger joins the shards (and turns them to bfloat16); it leaves LoRA weights beside the base model, so they
    are merged here.

    Args:
        checkpoint: `global_step_N` of SFT or GRPO.
        out: folder to write.

    Returns:
        `out`.

    Raises:
        InputError: the folder is no FSDP checkpoint, or its LoRA alpha is unknown.
    """
    actor = checkpoint / "actor" if (checkpoint / "actor").is_dir() else checkpoint
    if not (actor / "fsdp_config.json").is_file():
        raise InputError("not a verl FSDP checkpoint", file=actor, remedy="Give a global_step_N folder")

    from verl.model_merger.base_model_merger import ModelMergerConfig
    from verl.model_merger.fsdp_model_merger import FSDPModelMerger

    fresh = out.with_name(out.name + ".part")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    config = ModelMergerConfig(
        operation="merge",
        backend="fsdp",
        local_dir=str(actor),
        target_dir=str(fresh),
        hf_model_config_path=str(actor / "huggingface"),
    )
    FSDPModelMerger(config).merge_and_save()
    if (fresh / "lora_adapter").is_dir():
        _merge_lora(fresh)
    shutil.rmtree(out, ignore_errors=True)
    os.replace(fresh, out)
    return out


def _merge_lora(folder: Path) -> None:
    adapter = folder / "lora_adapter"
    settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    if not settings.get("lora_alpha"):
        # With alpha 0 the merge would succeed and change nothing.
        raise InputError("the checkpoint does not say its LoRA alpha", file=adapter / "adapter_config.json")

    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    base = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto")
    merged = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload()
    shutil.rmtree(adapter)
    for old in folder.glob("model*.safetensors*"):
        old.unlink()
    merged.save_pretrained(folder)


def main() -> None:
    """`python -m mllm4d_verl.training.merge CHECKPOINT OUT`: in a process of its own, its memory is given back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    merge_checkpoint(arguments.checkpoint, arguments.out)


if __name__ == "__main__":
    main()

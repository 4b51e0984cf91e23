"""From a verl checkpoint to a Hugging Face folder that transformers and vLLM load, LoRA adapters merged in."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

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


def merge_checkpoint(checkpoint: Path, out: Path, base: str | None = None) -> Path:
    """Write a checkpoint's weights as a Hugging Face folder, replacing `out` when all is done.

    verl's merger joins the shards (and turns them to bfloat16); it leaves LoRA weights beside the base model, so they
    are merged here.

    Args:
        checkpoint: `global_step_N` of SFT or GRPO.
        out: folder to write.
        base: checkpoint folder or hub name that the run started from. Needed where the checkpoint holds the LoRA
            adapter alone (`checkpoint.save_lora_only`), and not read otherwise.

    Returns:
        `out`.

    Raises:
        InputError: the folder is no FSDP checkpoint, its LoRA alpha is unknown, or `base` is missing.
    """
    actor = checkpoint / "actor" if (checkpoint / "actor").is_dir() else checkpoint
    if not (actor / "fsdp_config.json").is_file():
        raise InputError("not a verl FSDP checkpoint", file=actor, remedy="Give a global_step_N folder")

    from verl.model_merger.base_model_merger import ModelMergerConfig

    merger_class, adapter_only = _merger_class(), _holds_adapter_only(actor)
    if adapter_only and base is None:
        raise InputError(
            "the checkpoint holds the LoRA adapter without its base model",
            file=actor,
            field="--base",
            remedy="Give the model that the run started from",
        )
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
    merger_class(config).merge_and_save()
    if (fresh / "lora_adapter").is_dir():
        _merge_lora(fresh, base if adapter_only else None)
    shutil.rmtree(out, ignore_errors=True)
    os.replace(fresh, out)
    return out


def _holds_adapter_only(actor: Path) -> bool:
    """Whether a checkpoint was written with `save_lora_only`, by verl's own rule. Reads names, not weights."""
    import torch
    from verl.utils.checkpoint.checkpoint_manager import BaseCheckpointManager

    world = json.loads((actor / "fsdp_config.json").read_text(encoding="utf-8"))["world_size"]
    shard = torch.load(actor / f"model_world_size_{world}_rank_0.pt", map_location="cpu", weights_only=False, mmap=True)
    return BaseCheckpointManager.is_lora_only_state_dict(shard)


def _merger_class() -> Any:
    """verl's merger, which writes for a checkpoint of the adapter alone nothing but the adapter.

    verl itself would write a whole model beside it, whose weights are uninitialised memory.
    """
    from verl.model_merger.fsdp_model_merger import FSDPModelMerger

    class Merger(FSDPModelMerger):
        def save_hf_model_and_tokenizer(self, state_dict: dict[str, Any]) -> None:
            if any("lora_" not in name for name in state_dict):
                super().save_hf_model_and_tokenizer(state_dict)
                return
            self.save_lora_adapter(state_dict)
            for file in Path(self.hf_model_config_path).iterdir():
                shutil.copy2(file, self.config.target_dir)

    return Merger


def _merge_lora(folder: Path, base_model: str | None) -> None:
    adapter = folder / "lora_adapter"
    settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    if not settings.get("lora_alpha"):
        # With alpha 0 the merge would succeed and change nothing.
        raise InputError("the checkpoint does not say its LoRA alpha", file=adapter / "adapter_config.json")

    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    base = AutoModelForImageTextToText.from_pretrained(base_model or folder, dtype="auto")
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
    parser.add_argument("--base", help="model that the run started from; needed where a LoRA adapter was saved alone")
    arguments = parser.parse_args()
    merge_checkpoint(arguments.checkpoint, arguments.out, arguments.base)


if __name__ == "__main__":
    main()

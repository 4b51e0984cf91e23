"""The model of a recipe before anything is downloaded: its architecture, and how many weights it has and trains."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllm4d_verl.data_tools.errors import InputError

from ..recipe import Recipe, find_recipe

MODEL_CONFIG = "model_config.json"


@dataclass(frozen=True)
class ParameterCounts:
    """Weights of a model under a recipe.

    Attributes:
        total: of the base model.
        vision: of its vision tower, merger included.
        trainable: that the optimizer holds: LoRA's, or all.
        trainable_vision: of those, in the vision tower.
    """

    total: int
    vision: int
    trainable: int
    trainable_vision: int


def read_model_config(recipe: Recipe, model: str | Path | None = None) -> Any:
    """The architecture of a recipe's model as a transformers configuration.

    Args:
        recipe: its `model_config.json` holds the published architecture, or `{"same_as": NAME}` with the packaged
            recipe that has it.
        model: a checkpoint folder; its own `config.json` is read where there is one.

    Raises:
        InputError: the recipe has no `model_config.json`.
    """
    file: Path = recipe.folder / MODEL_CONFIG
    if model is not None and (Path(model) / "config.json").is_file():
        file = Path(model) / "config.json"
    if not file.is_file():
        raise InputError(
            f"recipe {recipe.name!r} does not describe its model",
            file=file,
            remedy='Choose a recipe of a released model, or write {"same_as": "qwen3_vl_8b"} into this file',
        )
    settings = json.loads(file.read_text(encoding="utf-8"))
    if "same_as" in settings:
        return read_model_config(find_recipe(settings["same_as"]))
    from transformers import AutoConfig

    return AutoConfig.for_model(**settings)


def count_parameters(
    architecture: Any, lora_rank: int = 0, target_modules: Any = "all-linear", exclude_modules: Any = None
) -> ParameterCounts:
    """Count the weights of a model that is built without memory, LoRA added as verl adds it.

    Args:
        architecture: a transformers configuration.
        lora_rank: 0 trains all weights.
        target_modules, exclude_modules: as in verl's model configuration.
    """
    from omegaconf import OmegaConf

    plain = [OmegaConf.to_container(m) if OmegaConf.is_config(m) else m for m in (target_modules, exclude_modules)]
    return _count(json.dumps(architecture.to_dict()), lora_rank, json.dumps(plain))


@functools.lru_cache(maxsize=32)  # to build a model of 8 B parameters without memory takes a second or two
def _count(architecture: str, lora_rank: int, modules: str) -> ParameterCounts:
    """As `count_parameters`, its arguments as JSON text, which can be remembered."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    settings = json.loads(architecture)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(**settings), dtype=torch.bfloat16)
    sizes = {name: weight.numel() for name, weight in model.named_parameters()}
    total, vision = sum(sizes.values()), sum(size for name, size in sizes.items() if _in_vision(name))
    if lora_rank == 0:
        return ParameterCounts(total, vision, total, vision)

    from peft import LoraConfig, get_peft_model

    target, exclude = json.loads(modules)
    lora = LoraConfig(task_type="CAUSAL_LM", r=lora_rank, target_modules=target, exclude_modules=exclude)
    with torch.device("meta"):
        adapted = get_peft_model(model, lora)
    trained = {name: weight.numel() for name, weight in adapted.named_parameters() if weight.requires_grad}
    trained_vision = sum(size for name, size in trained.items() if _in_vision(name))
    return ParameterCounts(total, vision, sum(trained.values()), trained_vision)


def _in_vision(name: str) -> bool:
    return "visual." in name

"""Whose run it is: adaptations of logs act only where the reward, the dataset or the model is one of this package."""

from __future__ import annotations

from typing import Any

_PACKAGE = "mllm4d_verl"


def uses_our_reward(config: Any) -> bool:
    """Whether verl's trainer config names a reward function of this package."""
    return _is_ours(config, "reward.custom_reward_function.path")


def uses_our_dataset(config: Any) -> bool:
    """Whether verl's trainer config names a dataset class of this package."""
    return _is_ours(config, "data.custom_cls.path")


def _is_ours(config: Any, key: str) -> bool:
    from omegaconf import OmegaConf

    place = str(OmegaConf.select(config, key) or "").removeprefix("pkg://")
    return place == _PACKAGE or place.startswith(f"{_PACKAGE}.")

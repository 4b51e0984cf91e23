"""Recipes: folders of Hydra configs, one per model, with a stage each for sft, cold-start and grpo."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.hydra_groups import SEARCH_PATH, register_source

# stage -> the config file of a recipe it is described in
STAGES: dict[str, str] = {"sft": "sft", "cold-start": "cold_start", "grpo": "grpo"}


@dataclass(frozen=True)
class Recipe:
    """A recipe's folder: `sft.yaml`, `cold_start.yaml`, `grpo.yaml`, and optionally `environment.yaml`.

    Attributes:
        name: the folder's name, also the group in front of the config's name ("tiny_cpu/grpo").
        folder: where it is.
        packaged: whether it comes with this package, so that the plugin has it on verl's search path already.
    """

    name: str
    folder: Path
    packaged: bool

    def config_name(self, stage: str) -> str:
        """Name of a stage's config for Hydra's `--config-name`.

        Raises:
            InputError: the recipe has no such stage.
        """
        file = self.folder / f"{STAGES[stage]}.yaml"
        if not file.is_file():
            raise InputError(f"recipe {self.name!r} has no stage {stage!r}", file=file)
        return f"{self.name}/{STAGES[stage]}"

    def environment(self) -> dict[str, str]:
        """Variables the recipe's processes need, from `environment.yaml`; empty where there is no such file."""
        file = self.folder / "environment.yaml"
        if not file.is_file():
            return {}
        import yaml

        return {str(key): str(value) for key, value in (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).items()}

    def compose(self, stage: str, overrides: Sequence[str] = ()) -> Any:
        """The configuration the verl entry point will see, without importing verl.

        Args:
            stage: "sft", "cold-start" or "grpo".
            overrides: Hydra overrides.

        Returns:
            An OmegaConf DictConfig.

        Raises:
            InputError: an override or a file that Hydra refuses.
        """
        from hydra import compose, initialize_config_dir
        from hydra.core.global_hydra import GlobalHydra
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        # Hydra wants the primary config in the folder it starts from; verl's own configs come as a search path.
        register_source()
        packaged = ["pkg://mllm4d_verl.config", "pkg://mllm4d_verl.recipes", SEARCH_PATH]
        search_path = [f"file://{_verl_config_folder()}", *packaged]
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(self.folder.parent), version_base=None):
                return compose(self.config_name(stage), [f"hydra.searchpath=[{','.join(search_path)}]", *overrides])
        except (HydraException, OmegaConfBaseException) as error:
            raise InputError(
                f"Hydra does not accept this configuration: {error}",
                file=self.folder / f"{STAGES[stage]}.yaml",
                remedy="Check the overrides at the end of the command line",
            ) from error
        finally:
            GlobalHydra.instance().clear()


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(folder.name for folder in _packaged_root().iterdir() if (folder / "grpo.yaml").is_file())


def find_recipe(name_or_folder: str) -> Recipe:
    """A packaged recipe by its name, or one of your own by its folder.

    Raises:
        InputError: neither; the message lists the known names.
    """
    packaged = _packaged_root() / name_or_folder
    if name_or_folder in recipe_names():
        return Recipe(name_or_folder, packaged, packaged=True)
    folder = Path(name_or_folder)
    if folder.is_dir():
        return Recipe(folder.resolve().name, folder.resolve(), packaged=False)
    close = difflib.get_close_matches(name_or_folder, recipe_names(), n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    raise InputError(
        f"no recipe {name_or_folder!r}",
        field="--recipe",
        remedy=f"{hint}Known: {', '.join(recipe_names())}; or give the path of a recipe folder",
    )


def _packaged_root() -> Path:
    import mllm4d_verl.recipes

    return Path(mllm4d_verl.recipes.__file__).parent


def _verl_config_folder() -> Path:
    spec = importlib.util.find_spec("verl")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("verl is not installed", remedy="Install a lane: pip install 'mllm4d-verl[cpu]' or '[gpu]'")
    return Path(next(iter(spec.submodule_search_locations))) / "trainer" / "config"

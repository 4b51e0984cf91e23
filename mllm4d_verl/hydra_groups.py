"""Config groups of this package that are found from a config in any folder: `+attention=sdpa` on `tiny_cpu/grpo` too.

Hydra looks for a group beside the primary config: a recipe `NAME/grpo` would need a folder `NAME/attention` of its own.
The source defined here answers for a group in every folder with the one file of `mllm4d_verl/config`.
"""

from __future__ import annotations

import re
from pathlib import Path

GROUPS = ("attention", "mllm4d_algorithm")

_SCHEME = "mllm4d-groups"
SEARCH_PATH = f"{_SCHEME}://mllm4d_verl.config"
"""Entry of Hydra's search path, once `register_source` was called."""

_CONFIG_FOLDER = Path(__file__).with_name("config")
_GROUP = re.compile(rf"(?:^|/)(?P<group>{'|'.join(GROUPS)})(?:/(?P<name>[^/]+))?$")


def register_source() -> None:
    """Let Hydra understand `SEARCH_PATH` in this process."""
    from hydra._internal.sources_registry import SourcesRegistry
    from hydra.core.object_type import ObjectType
    from hydra.plugins.config_source import ConfigResult, ConfigSource
    from omegaconf import OmegaConf

    class GroupsAnywhere(ConfigSource):
        @staticmethod
        def scheme() -> str:
            return _SCHEME

        def load_config(self, config_path: str) -> ConfigResult:
            text = _file(config_path).read_text(encoding="utf-8")
            header = self._get_header_dict(text)
            return ConfigResult(self.provider, self.full_path(), OmegaConf.create(text), header)

        def available(self) -> bool:
            return True

        def is_group(self, config_path: str) -> bool:
            found = _GROUP.search(config_path)
            return found is not None and found["name"] is None

        def is_config(self, config_path: str) -> bool:
            found = _GROUP.search(config_path)
            return found is not None and found["name"] is not None and _file(config_path).is_file()

        def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
            if not self.is_group(config_path) or results_filter == ObjectType.GROUP:
                return []
            return sorted(file.stem for file in (_CONFIG_FOLDER / _GROUP.search(config_path)["group"]).glob("*.yaml"))

    SourcesRegistry.instance().register(GroupsAnywhere)


def add_groups() -> None:
    """Let every command of this process that Hydra reads find the groups."""
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    class MLLM4DGroups(SearchPathPlugin):
        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            search_path.append(provider="mllm4d-groups", path=SEARCH_PATH)

    register_source()
    Plugins.instance().register(MLLM4DGroups)


def _file(config_path: str) -> Path:
    """The file that answers for a config of a group, "FOLDER/attention/sdpa" with or without ".yaml"."""
    found = _GROUP.search(config_path)
    return _CONFIG_FOLDER / found["group"] / f"{found['name'].removesuffix('.yaml')}.yaml"

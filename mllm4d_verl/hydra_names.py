"""The names that Hydra finds on a verl command: `reward=mllm4d_st`, `data=mllm4d`, `mllm4d_grpo` and the recipes.

Where the plugin refuses to work, the same names are found, and using one ends the command with the plugin's reason
instead of Hydra's "could not find".
"""

from __future__ import annotations

from mllm4d_verl.hydra_groups import add_groups

_PACKAGES = {"mllm4d": "mllm4d_verl.config", "mllm4d-recipes": "mllm4d_verl.recipes"}
_REFUSED_SCHEME = "mllm4d-refused"


def add_names() -> None:
    """Let Hydra find the configs of this package by name."""
    _search("pkg")
    add_groups()


def refuse_names(reason: str) -> None:
    """Let the use of a config of this package end with `reason`."""
    from hydra._internal.core_plugins.importlib_resources_config_source import ImportlibResourcesConfigSource
    from hydra._internal.sources_registry import SourcesRegistry
    from hydra.errors import ConfigCompositionException

    class RefusedNames(ImportlibResourcesConfigSource):
        @staticmethod
        def scheme() -> str:
            return _REFUSED_SCHEME

        def load_config(self, config_path: str) -> None:
            raise ConfigCompositionException(f"{config_path} is a config of mllm4d-verl, which is not active: {reason}")

    SourcesRegistry.instance().register(RefusedNames)
    _search(_REFUSED_SCHEME)


def _search(scheme: str) -> None:
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    class MLLM4DSearchPath(SearchPathPlugin):
        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            for provider, package in _PACKAGES.items():
                search_path.append(provider=provider, path=f"{scheme}://{package}")

    Plugins.instance().register(MLLM4DSearchPath)

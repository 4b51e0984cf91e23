"""The `verl.plugins` entry point: importing this module is the registration.

`import verl` imports it in every process, the driver and each Ray actor alike. It registers lazily: what it adds takes
effect when Hydra, or the module that an adaptation changes, is first imported. verl logs a failing plugin at DEBUG
level only, so a failure is printed here, once, and kept in `failure` for `mllm4d doctor`.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

from mllm4d_verl import verl_compat
from mllm4d_verl.cpu_lane.environment import cpu_platform_selected, set_cpu_lane_environment
from mllm4d_verl.import_hook import after_import

SEARCH_PATHS = {"mllm4d": "pkg://mllm4d_verl.config", "mllm4d-recipes": "pkg://mllm4d_verl.recipes"}

# Set in the environment by the process that reported a failure, so that its Ray actors need not.
_REPORTED = "MLLM4D_PLUGIN_FAILURE_REPORTED"

failure: str | None = None
"""Why registration failed in this process, or None."""


def register() -> None:
    """Arrange for everything the plugin adds to verl.

    Raises:
        verl_compat.UntestedVersionError: on a verl that was not tried.
    """
    verl_compat.check_version()
    if cpu_platform_selected():
        set_cpu_lane_environment()
        from mllm4d_verl.cpu_lane import platform  # noqa: F401 - importing it registers it
    verl_compat.install()
    after_import("hydra.main", _add_search_paths)


def _add_search_paths(_: ModuleType) -> None:
    """Let Hydra find `reward=mllm4d_st`, `data=mllm4d`, `--config-name mllm4d_grpo` and the recipes by name."""
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    class MLLM4DSearchPath(SearchPathPlugin):
        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            for provider, path in SEARCH_PATHS.items():
                search_path.append(provider=provider, path=path)

    Plugins.instance().register(MLLM4DSearchPath)


def _report(error: Exception) -> str:
    message = f"{type(error).__name__}: {error}"
    if not os.environ.get(_REPORTED):
        os.environ[_REPORTED] = "1"
        print(f"mllm4d-verl is not active in verl: {message}. `mllm4d doctor` tells more.", file=sys.stderr, flush=True)
    return message


try:
    register()
except Exception as error:  # verl would hide it, and another plugin of verl must not suffer from ours
    failure = _report(error)

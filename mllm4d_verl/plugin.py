"""The `verl.plugins` entry point: importing this module is the registration.

`import verl` imports it in every process, the driver and each Ray actor alike. It registers lazily: what it adds takes
effect when Hydra, or the module that an adaptation changes, is first imported. verl logs a failing plugin at DEBUG
level only, so a failure is printed here, once, and kept in `failure` for `mllm4d doctor`; configs of this package then
say the same where a command names one.
"""

from __future__ import annotations

import os
import sys

from mllm4d_verl import hydra_names
from mllm4d_verl.cpu_lane.environment import cpu_platform_selected, set_cpu_lane_environment
from mllm4d_verl.cpu_lane.vllm_plugin import ADAPT_VLLM
from mllm4d_verl.import_hook import after_import

# Set in the environment by the process that reported a failure, so that its Ray actors need not.
_REPORTED = "MLLM4D_PLUGIN_FAILURE_REPORTED"
# Imported by every process that runs verl's vLLM server, before it makes an engine.
_VERLS_VLLM_SERVER = "verl.workers.rollout.vllm_rollout"

failure: str | None = None
"""Why registration failed in this process, or None."""


def register() -> None:
    """Arrange for everything the plugin adds to verl.

    Raises:
        mllm4d_verl.verl_compat.UntestedVersionError: on a verl that this plugin does not accept.
    """
    if cpu_platform_selected():  # first, so that a refused command ends with the reason and not with "unknown platform"
        set_cpu_lane_environment()
        from mllm4d_verl.cpu_lane import platform  # noqa: F401 - importing it registers it
    from mllm4d_verl import verl_compat  # here, so that what it raises is reported

    verl_compat.check_version()
    verl_compat.install()
    # The engine that verl's server starts has processes that import vLLM and not verl.
    after_import(_VERLS_VLLM_SERVER, lambda _: os.environ.update({ADAPT_VLLM: "1"}))
    after_import("hydra.main", lambda _: hydra_names.add_names())


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
    _reason = str(error)
    after_import("hydra.main", lambda _: hydra_names.refuse_names(_reason))

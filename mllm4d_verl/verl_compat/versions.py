"""The versions of verl that this plugin accepts."""

from __future__ import annotations

import importlib.metadata
import os
import sys

TESTED_VERL_VERSIONS = ("0.9.1",)
ALLOW_UNTESTED = "MLLM4D_ALLOW_UNTESTED_VERL"


class UntestedVersionError(RuntimeError):
    """verl is of a version on which nobody has tried these adaptations."""


def verl_version() -> str:
    """Version of the verl that is running, or of the installed one where none is."""
    running = getattr(sys.modules.get("verl"), "__version__", None)
    return running or importlib.metadata.version("verl")


def check_version(version: str | None = None) -> None:
    """Raises UntestedVersionError on a verl these adaptations were not tried on, unless the user insists."""
    version = version or verl_version()
    if version in TESTED_VERL_VERSIONS or os.environ.get(ALLOW_UNTESTED) == "1":
        return
    raise UntestedVersionError(
        f"verl {version} was not tried with mllm4d-verl (tried: {', '.join(TESTED_VERL_VERSIONS)}). Install a tried "
        f"version, or set {ALLOW_UNTESTED}=1 and let `mllm4d doctor` tell which adaptations still fit"
    )

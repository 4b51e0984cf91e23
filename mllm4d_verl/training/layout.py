"""How many training processes a run has, and what does not go with that: a checkpoint of another number, marks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mllm4d_verl.data_tools.errors import InputError

from .merge import checkpoint_step


def trainer_processes(config: Any) -> int:
    """Training processes of a composed configuration, on all nodes.

    Raises:
        InputError: one of the two settings is no positive number.
    """
    count = 1
    for name in ("n_gpus_per_node", "nnodes"):
        value = config.trainer.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"must be a positive number, got {value!r}", field=f"trainer.{name}")
        count *= value
    return count


def checkpoint_processes(checkpoint: Path) -> int | None:
    """Processes that wrote a `global_step_N` folder, one shard each; None where verl's FSDP engine did not write it.

    Raises:
        InputError: the file that says so is damaged, as a kill during a save may leave it.
    """
    actor = checkpoint / "actor" if (checkpoint / "actor").is_dir() else checkpoint
    file = actor / "fsdp_config.json"
    if not file.is_file():
        return None
    try:
        return int(json.loads(file.read_text(encoding="utf-8"))["world_size"])
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"the checkpoint does not say how many processes wrote it ({type(error).__name__}: {error})",
            file=file,
            field="world_size",
            remedy=f"It is damaged: remove {checkpoint}, and the run goes on from the checkpoint before",
        ) from error


def check_marks(config: Any) -> None:
    """Refuse `trainer.marks` with several processes: the one that trains answers the questions.

    Raises:
        InputError: there are several.
    """
    if trainer_processes(config) > 1:
        raise InputError(
            f"held-out questions are answered by the one process that trains, and this run has "
            f"{trainer_processes(config)}",
            field="trainer.marks",
            remedy="Set trainer.marks=null, and let trainer.total_training_steps end the stage",
        )


def check_resumable(checkpoint: Path, config: Any) -> None:
    """Refuse to resume from a checkpoint of another number of processes.

    verl names the files of a checkpoint by the number of processes (`model_world_size_2_rank_0.pt`) and cannot divide
    them anew. It would say that a file is missing, after Ray was started and the model loaded.

    Raises:
        InputError: the numbers differ; the message says how to go on from the weights.
    """
    wrote, has = checkpoint_processes(checkpoint), trainer_processes(config)
    if wrote is None or wrote == has:
        return
    raise InputError(
        f"the checkpoint of step {checkpoint_step(checkpoint)} was written by {wrote} training processes, and this run "
        f"has {has}: verl cannot resume from it",
        file=checkpoint,
        field="trainer.n_gpus_per_node, trainer.nnodes",
        remedy=f"Train with {wrote} processes; or go on from the weights alone, with a new optimizer, step count and "
        f"folder: `mllm4d train merge {checkpoint} HF`, then --model HF --out NEW",
    )

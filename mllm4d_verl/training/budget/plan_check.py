"""The check before `mllm4d train` starts anything: whether the run fits the machine it is started on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllm4d_verl.data_tools.errors import InputError

from ..recipe import Recipe, find_recipe
from .engine import ask_vllm_outside
from .machine import Machine, recipe_machine, this_machine
from .model import MODEL_CONFIG
from .report import AskEngine, RecipeBudget, config_budget

if TYPE_CHECKING:
    from ..run import TrainingPlan

_USUAL_RECIPE = "qwen3_vl_8b"  # its machine is assumed for a recipe that names none
_UNKNOWN_PIXELS = 512 * 512  # of a frame, where neither the data nor data.max_pixels say it


def check_plan(plan: TrainingPlan, *, machine: Machine | None = None, ask: AskEngine = ask_vllm_outside) -> list[str]:
    """Compute what a run needs and compare it with this machine.

    Runs on a CPU (`trainer.device=cpu`) are not checked: the recipes for them are small.

    Args:
        plan: from `plan_training`.
        machine: the node; None measures this one. Where it has no GPU, as a node that only starts a Ray job, the GPUs
            are taken to be those that the recipe is made for.
        ask: who is asked about the engine's KV cache.

    Returns:
        What the user should read: warnings, or why nothing was checked. Empty where all is well.

    Raises:
        InputError: the run would not start, or end for want of memory or disk; the message says which setting to
            change.
    """
    if plan.config.trainer.get("device") == "cpu":
        return []
    recipe, model = plan.job.recipe, plan.job.model
    has_folder = model is not None and (Path(model) / "config.json").is_file()
    if not has_folder and not (recipe.folder / MODEL_CONFIG).is_file():
        return [
            f"whether the run fits this machine was not checked: recipe {recipe.name!r} has no {MODEL_CONFIG}, "
            'which may say {"same_as": "qwen3_vl_8b"}'
        ]
    if machine is None:
        machine = this_machine(plan.job.out, _assumed(recipe))
    budget = config_budget(
        recipe,
        plan.job.stage,
        plan.config,
        _frame_size(plan.config),
        machine=machine,
        val_rows=_val_rows(plan.config),
        model=model,
        ask=ask,
    )
    if not budget.fits:
        raise InputError(_refusal(budget), remedy="--no-check starts it all the same")
    return [str(finding) for finding in budget.findings]


def _assumed(recipe: Recipe) -> Machine:
    try:
        return recipe_machine(recipe)
    except InputError:  # a recipe of the user's own need not say it
        return recipe_machine(find_recipe(_USUAL_RECIPE))


def _refusal(budget: RecipeBudget) -> str:
    stopping = [finding for finding in budget.findings if finding.stops]
    lines = [f"\n  {number}. {finding.what}. {finding.remedy}" for number, finding in enumerate(stopping, start=1)]
    return "the run does not fit this machine:" + "".join(lines) + "\n "


def _frame_size(config: Any) -> tuple[int, int]:
    """(width, height) of the first training video; where it cannot be read, a square of `data.max_pixels`."""
    from mllm4d_verl.datasets.options import PromptOptions
    from mllm4d_verl.datasets.reader import as_file_list, read_rows
    from mllm4d_verl.video.probe import probe_video

    try:
        options = PromptOptions(media_root=config.data.media_root)
        first = next(iter(read_rows(as_file_list(config.data.train_files), options)))
        info = probe_video(options.video_element(first.row, first.folder))
    except (InputError, StopIteration, TypeError, OSError):  # no rows yet, or verl's own files: the data check judges
        side = math.isqrt(config.data.max_pixels or _UNKNOWN_PIXELS)
        return side, side
    return info.width, info.height


def _val_rows(config: Any) -> int | None:
    """Rows of the held-out set; None where its files are no parquet files of this machine."""
    import pyarrow.parquet

    files = config.data.val_files
    files = [files] if isinstance(files, str) else list(files or ())
    if not files or not all(str(file).endswith(".parquet") and Path(file).is_file() for file in files):
        return None
    return sum(pyarrow.parquet.read_metadata(file).num_rows for file in files)

"""What a job of a study does: a training, or the answers of a model to an evaluation's questions."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllm4d_verl.data_tools.atomic import atomic_path
from mllm4d_verl.evaluation.provenance import versions
from mllm4d_verl.training.command import TrainingJob
from mllm4d_verl.training.console import StepProgress, count_progress
from mllm4d_verl.training.recipe import find_recipe
from mllm4d_verl.training.run import TrainingResult, plan_training, run_training
from mllm4d_verl.training.validation import check_inputs

from .jobs import Job
from .matching import MatchedSteps, StepTime, matched_steps
from .usage import UsageMeter, read_usage

ROLLOUTS, VALIDATION, USAGE, METRICS = "rollouts", "validation", "usage", "metrics"
_NO_MARKS = "++trainer.marks=null"  # a recipe's early end would leave the time unused
_STEPS_FILE = "steps.json"  # of a matched training: the number worked out, and from what


def train(job: Job) -> dict[str, Any]:
    """Run a training to its end, as `mllm4d train` does, and leave its model in `hf`.

    The settings are those that `planning` gives: stage, recipe, model, data, overrides, match, stall_minutes.

    Returns:
        Figures of the run: steps, usage, metrics of the last step, versions, and the number of steps that a matched run
        was given.
    """
    settings = job.settings
    match = None if settings["match"] is None else _steps_to_match(job)
    dumps = ()
    if settings["stage"] == "grpo":
        places = {"rollout_data_dir": ROLLOUTS, "validation_data_dir": VALIDATION}
        dumps = tuple(f"trainer.{key}='{job.path / name}'" for key, name in places.items())
    steps = () if match is None else (f"trainer.total_training_steps={match.steps}", _NO_MARKS)
    timed = _train(job, job.path, (*dumps, *settings["overrides"], *steps))
    usage = read_usage(job.path / USAGE)
    return {
        "steps": timed.result.step,
        **usage._asdict(),
        "matched": None if match is None else match._asdict(),
        "last_metrics": timed.result.metrics.get(timed.result.step, {}),
        "versions": versions(),
    }


def answer(job: Job) -> dict[str, Any]:
    """Ask a model an evaluation's questions; the answers and their figures lie in the job's folder.

    The settings are model, data and options, the keyword arguments of `evaluate`.
    """
    from mllm4d_verl.evaluation import evaluate

    settings = job.settings
    with UsageMeter(job.path / USAGE), count_progress(job.key) as progress:
        result = evaluate(settings["model"], settings["data"], out=job.path, progress=progress, **settings["options"])
    return {"questions": result.summary.overall.questions, **read_usage(job.path / USAGE)._asdict()}


@dataclass(frozen=True)
class _Timed:
    """A training, the time at each step that was seen, and in all, by the name of the measure."""

    result: TrainingResult
    seen: dict[str, list[StepTime]]
    total: dict[str, float]


def _train(job: Job, out: Path, overrides: tuple[str, ...]) -> _Timed:
    settings = job.settings
    training = TrainingJob(
        settings["stage"],
        find_recipe(settings["recipe"]),
        out,
        model=settings["model"],
        data=None if settings["data"] is None else Path(settings["data"]),
        overrides=overrides,
    )
    plan = plan_training(training)
    check_inputs(plan)
    seen: dict[str, list[StepTime]] = {"seconds": [], "processor_seconds": []}
    began = time.monotonic()
    with UsageMeter(out / USAGE) as meter, StepProgress(out.name, plan.total_steps) as progress:

        def on_step(step: int, metrics: dict[str, Any]) -> None:
            seen["seconds"].append(StepTime(step, time.monotonic() - began))
            seen["processor_seconds"].append(StepTime(step, meter.look()))
            progress.on_step(step, metrics)

        result = run_training(plan, stall_minutes=settings["stall_minutes"], on_step=on_step)
        total = {"seconds": time.monotonic() - began, "processor_seconds": meter.look()}
    return _Timed(result, seen, total)


def _steps_to_match(job: Job) -> MatchedSteps:
    """The number of steps that takes as long as another job took; worked out once, by a short run in `pilot`."""
    file = job.path / _STEPS_FILE
    if file.is_file():
        return MatchedSteps(**json.loads(file.read_text(encoding="utf-8")))
    match = job.settings["match"]
    other = job.path.parent / match["job"] / USAGE
    target = getattr(read_usage(other), match["measure"])
    steps = match["pilot_steps"]
    short = (f"trainer.total_training_steps={steps}", f"trainer.save_freq={steps}", _NO_MARKS)
    pilot = job.path / "pilot"
    _forget(pilot)  # one that was interrupted did not see all its steps in one launch
    timed = _train(job, pilot, (*job.settings["overrides"], *short))
    found = matched_steps(target, timed.seen[match["measure"]], timed.total[match["measure"]])
    with atomic_path(file) as part:
        Path(part).write_text(json.dumps(found._asdict(), indent=2) + "\n", encoding="utf-8")
    _forget(pilot)
    return found


def _forget(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)

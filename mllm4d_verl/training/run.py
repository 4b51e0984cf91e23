"""Runs a training job: checks its data, starts verl, watches it, and leaves a Hugging Face folder at the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllm4d_verl.data_tools.errors import InputError

from .command import TrainingJob, VerlCommand, build_command
from .layout import check_marks, check_resumable
from .marks import Marks, MarksReached, read_marks
from .merge import checkpoint_step, latest_checkpoint
from .metrics import last_step, launch_metrics_file, read_metrics
from .process_tree import ProcessTree

_POLL_SECONDS = 1.0
_MEMORY_EVERY_SECONDS = 5.0
# Ray colours its lines and puts "(Actor pid=1)" in front of them.
_PREFIX = re.compile(r"(\x1b\[[0-9;]*m|^\((\w+) pid=\d+\)\s?)+")
_ERROR_LINE = re.compile(r"(?!ray\.|torch\.distributed\.elastic)[\w.]*(Error|Exception)\b.*: ")


class TrainingError(RuntimeError):
    """A training process failed, hung or ran out of time; the message says which, and where the log is."""


@dataclass(frozen=True)
class TrainingPlan:
    """A job with everything decided, ready to start.

    Attributes:
        job: what the user asked for.
        config: the composed configuration, as verl's entry point will see it.
        command: verl's command.
        total_steps: step the run ends at; None when neither the recipe nor the data says.
        log_file: everything the processes print.
        metrics_file: verl's metrics of this launch.
        marks: held-out accuracies that end the run before `total_steps`; None where it has none.
    """

    job: TrainingJob
    config: Any
    command: VerlCommand
    total_steps: int | None
    log_file: Path
    metrics_file: Path
    marks: Marks | None = None


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run left.

    Attributes:
        model: the Hugging Face folder.
        step: last training step.
        seconds: wall-clock time of the training process, 0 when there was nothing left to do.
        merge_seconds: wall-clock time of the merge.
        peak_memory_bytes: summed proportional set size of all training processes, at its highest.
        metrics: by step, of all launches.
        marks: what `trainer.marks` came to; None where the stage has no marks.
    """

    model: Path
    step: int
    seconds: float
    merge_seconds: float
    peak_memory_bytes: int
    metrics: dict[int, dict[str, Any]]
    marks: MarksReached | None = None


def plan_training(job: TrainingJob, ambient: Mapping[str, str] | None = None) -> TrainingPlan:
    """Compose the configuration of a job and build its command.

    Args:
        job: what to train.
        ambient: environment of the command; None means this process's.

    Raises:
        InputError: unknown stage, missing data file, a configuration Hydra refuses, `resume=False` with checkpoints of
            an earlier run in the folder, or a checkpoint or marks that do not go with the number of processes.
    """
    config = job.recipe.compose(job.stage, [text for text in job.hydra_overrides() if not text.startswith("hydra.")])
    previous = latest_checkpoint(job.checkpoints)
    if previous is not None and not job.resume:
        raise InputError(
            f"the folder holds checkpoints of an earlier run, up to step {checkpoint_step(previous)}",
            file=job.out,
            field="--out",
            remedy="Choose another folder, or leave out --no-resume to go on from there",
        )
    metrics_file = launch_metrics_file(job.out.absolute() / "metrics")
    # Without held-out questions, where the data is one file, the number of steps decides.
    marks = Marks.from_config(config.trainer.get("marks")) if config.data.get("held_out_file") else None
    if marks is not None:
        check_marks(config)
    command = build_command(
        job,
        processes=config.trainer.n_gpus_per_node,
        ambient=os.environ if ambient is None else ambient,
        metrics_file=metrics_file,
        has_marks=marks is not None,
    )
    log_file = job.out.absolute() / "logs" / f"{metrics_file.stem}.log"
    plan = TrainingPlan(job, config, command, _total_steps(config), log_file, metrics_file, marks)
    if previous is not None and not _is_finished(plan, checkpoint_step(previous)):
        check_resumable(previous, config)
    return plan


def run_training(
    plan: TrainingPlan,
    *,
    stall_minutes: float = 30.0,
    limit_minutes: float | None = None,
    on_step: Callable[[int, dict[str, Any]], None] | None = None,
) -> TrainingResult:
    """Run a plan to its end and merge its last checkpoint to `out/hf`.

    Ctrl-C (or any exception) ends every process that was started; what was checkpointed stays, and the same job goes
    on from there. A run whose last checkpoint is at its last step starts nothing.

    Args:
        plan: from `plan_training`.
        stall_minutes: give up when neither metrics nor log have grown for so long: a failed weight sync between
            trainer and rollout waits for ever.
        limit_minutes: give up after so long altogether; None for no limit.
        on_step: called with the step and its metrics whenever a new step is logged.

    Raises:
        TrainingError: the processes failed, hung, or ran out of time.
    """
    job = plan.job
    done = latest_checkpoint(job.checkpoints)
    seconds, peak = 0.0, 0
    if done is None or not _is_finished(plan, checkpoint_step(done)):
        started = time.monotonic()
        peak = _run(plan, stall_minutes, limit_minutes, on_step)
        seconds = time.monotonic() - started
        done = latest_checkpoint(job.checkpoints)
        if done is None:
            raise TrainingError(f"the run ended without a checkpoint; the log is {plan.log_file}")
    started = time.monotonic()
    model = _merge(done, job.out.absolute() / "hf", plan)
    return TrainingResult(
        model=model,
        step=checkpoint_step(done),
        seconds=seconds,
        merge_seconds=time.monotonic() - started,
        peak_memory_bytes=peak,
        metrics=read_metrics(plan.metrics_file.parent),
        marks=None if plan.marks is None else read_marks(job.checkpoints),
    )


def _is_finished(plan: TrainingPlan, step: int) -> bool:
    """Whether a checkpoint of this step is the last one: at the last step, or after marks that were all reached."""
    if plan.total_steps is not None and step >= plan.total_steps:
        return True
    reached = None if plan.marks is None else read_marks(plan.job.checkpoints)
    return reached is not None and not plan.marks.missed(reached.accuracy) and step > reached.step


def _run(
    plan: TrainingPlan,
    stall_minutes: float,
    limit_minutes: float | None,
    on_step: Callable[[int, dict[str, Any]], None] | None,
) -> int:
    """Start verl and watch it. Returns the peak memory in bytes."""
    for file in (plan.log_file, plan.metrics_file):
        file.parent.mkdir(parents=True, exist_ok=True)
    plan.metrics_file.touch()
    started = last_sign = time.monotonic()
    size = memory_looked = -1.0
    step_seen: int | None = None
    with plan.log_file.open("ab") as log, _termination_raises():
        log.write(f"{plan.command}\n".encode())
        log.flush()
        child = subprocess.Popen(
            plan.command.argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **plan.command.environment},
            start_new_session=True,  # a group of its own: Ctrl-C reaches us alone, and we end it in order
        )
        tree = ProcessTree(child)
        try:
            while True:
                code = child.poll()
                now = time.monotonic()
                grown = float(plan.log_file.stat().st_size + plan.metrics_file.stat().st_size)
                if grown != size:
                    size, last_sign = grown, now
                    step = last_step(plan.metrics_file)
                    if on_step is not None and step is not None and step != step_seen:
                        on_step(step, read_metrics(plan.metrics_file.parent)[step])
                    step_seen = step
                if code is not None:
                    break
                if now - last_sign > stall_minutes * 60:
                    raise TrainingError(
                        f"no sign of life for {stall_minutes:g} minutes (last step: {step_seen}); ended it. "
                        f"The log is {plan.log_file}; run the same command again to go on from the last checkpoint"
                    )
                if limit_minutes is not None and now - started > limit_minutes * 60:
                    raise TrainingError(
                        f"the time limit of {limit_minutes:g} minutes is over (last step: {step_seen}); ended it. "
                        "Run the same command again to go on from the last checkpoint"
                    )
                if now - memory_looked > _MEMORY_EVERY_SECONDS:
                    tree.memory_bytes()
                    memory_looked = now
                time.sleep(_POLL_SECONDS)
        except BaseException:
            tree.end()
            raise
        tree.end_leftovers()
    if code != 0:
        raise TrainingError(f"verl ended with code {code}\n{_failure(plan.log_file)}")
    return tree.peak_memory_bytes


@contextmanager
def _termination_raises() -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt like Ctrl-C, so that a scheduler's `kill` ends the trainer's processes too.

    Once: schedulers repeat the signal, and the second one must not interrupt the ending of those processes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        for each in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _merge(checkpoint: Path, out: Path, plan: TrainingPlan) -> Path:
    stamp = out / ".merged_from"
    if stamp.is_file() and stamp.read_text() == checkpoint.name:
        return out
    base = plan.config.actor_rollout_ref.model.path if plan.job.stage == "grpo" else plan.config.model.path
    with plan.log_file.open("ab") as log:
        code = subprocess.run(
            [sys.executable, "-m", "mllm4d_verl.training.merge", str(checkpoint), str(out), "--base", str(base)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **plan.command.environment},
            check=False,
        ).returncode
    if code != 0:
        raise TrainingError(f"could not merge {checkpoint}\n{_failure(plan.log_file)}")
    stamp.write_text(checkpoint.name)
    return out


def _total_steps(config: Any) -> int | None:
    """Steps of a run: the configured number, else what the rows give (verl drops the last, smaller batch)."""
    if config.trainer.total_training_steps is not None:
        return int(config.trainer.total_training_steps)
    files = config.data.train_files
    files = [files] if isinstance(files, str) else list(files)
    if not all(str(file).endswith(".parquet") and Path(file).is_file() for file in files):
        return None
    import pyarrow.parquet

    rows = sum(pyarrow.parquet.read_metadata(file).num_rows for file in files)
    limit = int(config.data.get("train_max_samples", -1))
    rows = min(rows, limit) if limit > 0 else rows
    return rows // int(config.data.train_batch_size) * int(config.trainer.total_epochs)


def _failure(log_file: Path, lines: int = 12) -> str:
    """What the log says of a failure: the last error that was raised, then its end."""
    with log_file.open(encoding="utf-8", errors="replace") as log:
        text = [_PREFIX.sub("", line.rstrip()) for line in log]
    error = next((line for line in reversed(text) if _ERROR_LINE.match(line)), None)
    shown = [f"  {error}"] if error else []
    shown += [f"The log is {log_file} and ends:", *(f"  | {line}" for line in deque(text, maxlen=lines))]
    return "\n".join(shown)

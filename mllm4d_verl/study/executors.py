"""Where jobs run: one after the other on this machine, or as Ray tasks on many."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from mllm4d_verl.data_tools.errors import InputError

from .jobs import Job
from .settings import RaySettings, Resources
from .worker import run_in_process

_POLL_SECONDS = 2.0
_THREADS = "OMP_NUM_THREADS"


class Finished(NamedTuple):
    """A job that has ended.

    Attributes:
        job: which.
        error: why it failed; None if it did not.
        was_run: False where it was left out, because it was done before or a job that it needs has failed.
    """

    job: Job
    error: str | None
    was_run: bool


OnFinished = Callable[[Finished], None]


def run_locally(jobs: Iterable[Job], on_start: Callable[[Job], None], on_finished: OnFinished) -> None:
    """Do jobs one after the other; those that need a failed one are left out.

    Args:
        jobs: each after those that it needs.
        on_start: called before a job is started.
        on_finished: called for every job.
    """
    failed: set[str] = set()
    for job in jobs:
        finished = _before(job, failed)
        if finished is None:
            on_start(job)
            finished = Finished(job, run_in_process(job, os.environ, show_progress=True), True)
        if finished.error is not None:
            failed.add(job.key)
        on_finished(finished)


def run_on_ray(jobs: Iterable[Job], settings: RaySettings, on_finished: OnFinished) -> None:
    """Do jobs as Ray tasks, as many at a time as the cluster has resources for.

    All machines see the study's folder, the models and the data under the same paths.

    Raises:
        InputError: no cluster at the address, or none of its machines has what a job needs.
    """
    from mllm4d_verl.data_tools.ray_session import ray_session

    with ray_session(settings.address, os.cpu_count() or 1) as ray:
        jobs = list(jobs)
        _check_resources(jobs, settings)
        remote = ray.remote(max_retries=2)(_ray_task)  # of a machine that was lost; the job goes on where it was
        results: dict[str, Any] = {}
        waiting: dict[Any, Job] = {}
        for job in jobs:
            needs = resources_of(job, settings)
            task = remote.options(
                num_cpus=needs.cpus, num_gpus=needs.gpus, resources=dict(needs.resources), name=job.key
            )
            # The results of earlier jobs as arguments: Ray starts the task when they are there.
            earlier = [results[key] for key in job.after if key in results]
            results[job.key] = task.remote(job, _THREADS in os.environ, *earlier)
            waiting[results[job.key]] = job
        while waiting:
            ready, _ = ray.wait(list(waiting), timeout=_POLL_SECONDS)
            for reference in ready:
                job = waiting.pop(reference)
                error, was_run = _result(reference)
                on_finished(Finished(job, error, was_run))


def resources_of(job: Job, settings: RaySettings) -> Resources:
    """What a job needs."""
    return settings.train if job.kind == "train" else settings.evaluate


def _before(job: Job, failed: Iterable[str]) -> Finished | None:
    """What becomes of a job that need not, or cannot, be run; None if it is to be run."""
    if job.is_done:
        return Finished(job, None, False)
    missing = [key for key in job.after if key in failed]
    return Finished(job, f"left out: {missing[0]} failed", False) if missing else None


def _ray_task(job: Job, threads_are_set: bool, *earlier: tuple[str | None, bool]) -> tuple[str | None, bool]:
    """A job in a process on the machine that Ray has chosen; why it failed, and whether it was run."""
    failed = [key for key, (error, _) in zip(job.after, earlier, strict=False) if error is not None]
    finished = _before(job, failed)
    if finished is None:
        started = time.monotonic()
        error = run_in_process(job, _outside_ray(os.environ, threads_are_set))
        if error is not None:
            error = f"{error} (on {os.uname().nodename}, after {time.monotonic() - started:.0f} s)"
        finished = Finished(job, error, True)
    return finished.error, finished.was_run


def _outside_ray(environment: Mapping[str, str], threads_are_set: bool) -> dict[str, str]:
    """A Ray worker's environment for a process that is to start a Ray of its own on the GPUs it was given."""
    kept = {name: value for name, value in environment.items() if not name.startswith("RAY_")}
    kept["RAY_ADDRESS"] = "local"  # else verl would find the cluster that this task runs on
    if "RAY_TMPDIR" in environment:
        kept["RAY_TMPDIR"] = environment["RAY_TMPDIR"]
    if not threads_are_set:  # Ray sets it to the task's CPUs; then the recipe's number does not count
        kept.pop(_THREADS, None)
    return kept


def _check_resources(jobs: Iterable[Job], settings: RaySettings) -> None:
    """A task that no machine can hold would wait for ever without a word."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for kind in sorted({job.kind for job in jobs}):
        needs: Resources = getattr(settings, kind)
        wanted = {"CPU": needs.cpus, "GPU": needs.gpus, **needs.resources}
        if not any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in nodes):
            found = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes)
            raise InputError(
                f"no machine of the cluster has {', '.join(f'{amount:g} {name}' for name, amount in wanted.items())}",
                field=f"ray.{kind}",
                remedy=f"It has: {found}",
            )


def _result(reference: Any) -> tuple[str | None, bool]:
    import ray

    try:
        error, was_run = ray.get(reference)
    except ray.exceptions.RayError as failure:  # the task's process or machine is gone
        return f"{type(failure).__name__}: {failure}", True
    return error, was_run

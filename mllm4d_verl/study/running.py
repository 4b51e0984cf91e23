"""`run_study`: whatever of a study is not done yet, then its report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.evaluation.writer import LockedError, only_writer

from .executors import Finished, run_locally, run_on_ray
from .jobs import Job
from .planning import StudyPlan, plan_study
from .settings import StudySettings

_LOCK = "study.lock"


@dataclass(frozen=True)
class StudyRun:
    """What `run_study` did.

    Attributes:
        plan: all jobs.
        finished: every job, in the order they ended.
    """

    plan: StudyPlan
    finished: list[Finished]

    @property
    def failed(self) -> list[Finished]:
        """Jobs that failed or were left out because of one that did."""
        return [one for one in self.finished if one.error is not None]


def run_study(
    study: StudySettings,
    out: Path,
    *,
    on_start: Callable[[Job], None] | None = None,
    on_finished: Callable[[Finished], None] | None = None,
) -> StudyRun:
    """Do all jobs of a study that are not done yet.

    It may be killed at any time; called again it goes on from finished jobs, checkpoints and answers. A job that fails
    does not end the study: what does not need it is done.

    Args:
        out: folder of the study.
        on_start: called with a job that is started here; not with the executor `ray`.
        on_finished: called with every job that has ended or was done before.

    Raises:
        InputError: the settings do not fit, or another process runs this study.
    """
    finished: list[Finished] = []

    def note(one: Finished) -> None:
        finished.append(one)
        if on_finished is not None:
            on_finished(one)

    plan = plan_study(study, out)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with only_writer(out / _LOCK, wait=False):
            if study.executor == "ray":
                run_on_ray(plan.jobs.values(), study.ray, note)
            else:
                run_locally(plan.jobs.values(), on_start or (lambda job: None), note)
    except LockedError:
        raise InputError("another process runs this study", file=out, field="--out") from None
    return StudyRun(plan, finished)

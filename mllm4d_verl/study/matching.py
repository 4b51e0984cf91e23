"""How many steps take a given time: a short run first, then the straight line through its steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mllm4d_verl.data_tools.errors import InputError


class StepTime(NamedTuple):
    """Time spent when the first steps of a launch were seen to be done.

    Attributes:
        step: number of the step.
        spent: seconds since the launch, processor or wall.
    """

    step: int
    spent: float


class MatchedSteps(NamedTuple):
    """A number of steps, and what it is worked out from.

    Attributes:
        steps: to run.
        target: seconds to take.
        fixed: seconds besides the steps: start, checkpoint and merge.
        per_step: seconds of a step.
    """

    steps: int
    target: float
    fixed: float
    per_step: float


def matched_steps(target: float, seen: Sequence[StepTime], total: float) -> MatchedSteps:
    """The number of steps that makes a run take `target` seconds.

    The time of a step is that of the second half of the short run: the first steps read and encode each row anew, and
    what they take longer counts among the time besides the steps.

    Args:
        target: seconds.
        seen: of a short run, in order.
        total: seconds the short run took in all.

    Raises:
        InputError: fewer than two steps were seen apart, or the target is less than what a run needs besides its steps.
    """
    half = [point for point in seen if point.step <= seen[-1].step / 2]
    seen = [*half[-1:], *seen[len(half) :]]
    if len(seen) < 2 or seen[-1].step <= seen[0].step or seen[-1].spent <= seen[0].spent:
        raise InputError(
            "the time of a step cannot be told from so short a run", field="pilot_steps", remedy="Give a larger number"
        )
    first, last = seen[0], seen[-1]
    per_step = (last.spent - first.spent) / (last.step - first.step)
    fixed = max(0.0, total - last.step * per_step)
    if target < fixed + per_step:
        raise InputError(
            f"the arm to be matched took {target:.0f} s, and this one needs {fixed:.0f} s besides its steps",
            field="match_cpu_seconds_of",
            remedy="Give the other arm more steps",
        )
    return MatchedSteps(round((target - fixed) / per_step), target, round(fixed, 2), round(per_step, 4))

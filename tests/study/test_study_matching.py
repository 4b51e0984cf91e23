"""How many steps take as long as another arm took."""

from __future__ import annotations

import pytest

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.study.matching import StepTime, matched_steps


def test_a_line_through_the_steps_and_the_time_besides_them():
    seen = [StepTime(step, 30.0 + 2.0 * step) for step in (1, 3, 10)]
    found = matched_steps(target=237.0, seen=seen, total=57.0)  # 20 s of steps, 37 besides
    assert (found.steps, found.per_step, found.fixed) == (100, 2.0, 37.0)


def test_slow_first_steps_are_no_measure_of_the_others():
    seen = [StepTime(step, 30.0 + (5.0 * step if step <= 10 else 50.0 + (step - 10))) for step in range(1, 41)]
    found = matched_steps(target=400.0, seen=seen, total=120.0)  # 40 s besides the steps longer for the first ten
    assert (found.per_step, found.fixed, found.steps) == (1.0, 80.0, 320)


def test_a_target_that_leaves_no_time_for_a_step():
    seen = [StepTime(1, 32.0), StepTime(2, 34.0)]
    with pytest.raises(InputError, match="took 20 s, and this one needs 36 s besides its steps"):
        matched_steps(20.0, seen, total=40.0)


@pytest.mark.parametrize("seen", [[], [StepTime(1, 3.0)], [StepTime(5, 3.0), StepTime(5, 4.0)]])
def test_a_run_too_short_to_tell(seen):
    with pytest.raises(InputError, match="pilot_steps"):
        matched_steps(100.0, seen, 10.0)

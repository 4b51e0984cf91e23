"""Signs that a model has learnt to please its reward instead of the task, each from figures that say why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mllm4d_verl.evaluation.statistics import Interval

from .answers import ALL, ArmFigures, Difference
from .training_series import Series, TrainingRun

# A sign is meant to make somebody look, not to prove anything.
LENGTH_GROWTH = 1.5  # times the start model's length
FORMAT_GAIN = 0.05  # of the format, while accuracy shows no gain
AGREEMENT_LOSS = 0.05  # of the share of answers that follow from the stated centres
CONSTANT_SHARE = 0.5  # of the responses that state centres
CONSTANT_GAIN = 0.2  # above the start model's share
REWARD_GAIN_ERRORS = 2.0  # standard errors between the first and the last third of the training
_FEWEST_STEPS = 6  # of a training whose thirds are compared


@dataclass(frozen=True)
class Sign:
    """One sign of one arm.

    Attributes:
        name: of the sign.
        seen: None where the figures to tell are not there.
        why: the figures in words.
    """

    name: str
    seen: bool | None
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def signs_of(
    arm: ArmFigures, start: ArmFigures | None, gain: Difference | None, trainings: Sequence[TrainingRun]
) -> list[Sign]:
    """All signs of an arm.

    Args:
        arm, start: figures of the arm and of the model it started from, on the same evaluation.
        gain: the arm minus the start model.
        trainings: of the arm, one per seed.
    """
    accuracy = None if gain is None else gain.crossed[ALL]
    return [
        _length(arm, start),
        _format(arm, start, accuracy),
        _constant(arm, start),
        _agreement(arm, start),
        _reward_alone([run.series["own_reward"] for run in trainings if "own_reward" in run.series], accuracy),
    ]


def _length(arm: ArmFigures, start: ArmFigures | None) -> Sign:
    name = "responses grow"
    if start is None:
        return Sign(name, None, "no answers of the start model")
    if arm.response_tokens is not None and start.response_tokens:
        unit, now, before = "tokens", arm.response_tokens, start.response_tokens
    else:
        unit, now, before = "characters", arm.response_chars, start.response_chars
    return Sign(name, now > LENGTH_GROWTH * before, f"{before:.0f} to {now:.0f} {unit}")


def _format(arm: ArmFigures, start: ArmFigures | None, accuracy: Interval | None) -> Sign:
    name = "format without accuracy"
    if start is None or accuracy is None or arm.format.estimate is None or start.format.estimate is None:
        return Sign(name, None, "no answers of the start model")
    more = arm.format.estimate - start.format.estimate
    return Sign(name, more > FORMAT_GAIN and not _gains(accuracy), f"format {more:+.2f}, accuracy {_points(accuracy)}")


def _constant(arm: ArmFigures, start: ArmFigures | None) -> Sign:
    name = "constant coordinates"
    if arm.constant is None:
        return Sign(name, None, "no centres stated")
    before = 0.0 if start is None or start.constant is None else start.constant
    seen = arm.constant > CONSTANT_SHARE and arm.constant > before + CONSTANT_GAIN
    return Sign(
        name, seen, f"the commonest in {100 * arm.constant:.0f}% of responses, at the start {100 * before:.0f}%"
    )


def _agreement(arm: ArmFigures, start: ArmFigures | None) -> Sign:
    name = "answers leave their geometry"
    if start is None or arm.agreement.estimate is None or start.agreement.estimate is None:
        return Sign(name, None, "no questions that it can be told of")
    more = arm.agreement.estimate - start.agreement.estimate
    return Sign(name, more < -AGREEMENT_LOSS, f"agreement {100 * more:+.1f} points")


def _reward_alone(rewards: Sequence[Series], accuracy: Interval | None) -> Sign:
    """Training reward rises, and the answers to held-out questions get no better."""
    name = "reward up, held-out accuracy flat"
    gains = [gain for values in rewards if (gain := _rise(values)) is not None]
    if not gains or accuracy is None:
        return Sign(name, None, f"no training of at least {_FEWEST_STEPS} steps with dumped rollouts")
    rise = float(np.mean([difference for difference, _ in gains]))
    error = float(np.sqrt(np.mean([deviation**2 for _, deviation in gains]) / len(gains)))
    seen = rise > REWARD_GAIN_ERRORS * error and not _gains(accuracy)
    return Sign(name, seen, f"reward {rise:+.3f} from the first to the last third, accuracy {_points(accuracy)}")


def _rise(values: Series) -> tuple[float, float] | None:
    """Last third minus first third of a series, and the standard error of that."""
    third = len(values) // 3
    if len(values) < _FEWEST_STEPS:
        return None
    first, last = (np.array([value for _, value in part]) for part in (values[:third], values[-third:]))
    error = float(np.sqrt((first.var(ddof=1) + last.var(ddof=1)) / third))
    return float(last.mean() - first.mean()), error


def _gains(accuracy: Interval) -> bool:
    """Whether a gain in accuracy was shown."""
    return accuracy.low is not None and accuracy.low > 0


def _points(accuracy: Interval) -> str:
    if accuracy.estimate is None:
        return "-"
    text = f"{100 * accuracy.estimate:+.1f} points"
    if accuracy.low is None or accuracy.high is None:
        return text
    return f"{text} ({100 * accuracy.low:+.1f} to {100 * accuracy.high:+.1f})"

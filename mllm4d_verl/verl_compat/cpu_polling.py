"""CPU lane: how often the trainer looks for finished rollouts."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from mllm4d_verl.cpu_lane.environment import cpu_platform_selected
from mllm4d_verl.verl_compat.adaptation import adapts, proves


@adapts("verl.trainer.ppo.v1.replay_buffer", "ReplayBuffer.__init__", where=cpu_platform_selected)
def look_for_finished_rollouts_often(stock: Callable) -> Callable:
    """The trainer looks every two seconds whether the rollouts are finished; no setting changes that.

    A step of the tiny model takes not much longer. Here it looks twice a second.
    """

    def __init__(self, *args, poll_interval: float = 0.5, **kwargs):  # noqa: N807
        stock(self, *args, poll_interval=poll_interval, **kwargs)

    return __init__


@proves(look_for_finished_rollouts_often)
def _stock_waits_long(stock: Callable) -> bool:
    return inspect.signature(stock).parameters["poll_interval"].default > 0.5

"""CPU lane: how often the trainer looks for finished rollouts. No upstream thread is known."""

from __future__ import annotations

from collections.abc import Callable

from mllm4d_verl.cpu_lane.environment import cpu_platform_selected
from mllm4d_verl.verl_compat.adaptation import adapts, proves

_POLL_INTERVAL_S = 0.5  # a step of the tiny model takes some seconds; verl's own interval is 2 s


@adapts(
    "verl.trainer.ppo.v1.replay_buffer",
    "ReplayBuffer.__init__",
    where=cpu_platform_selected,
    known={"verl": ">=0.9.0,<=0.9.1"},
)
def look_for_finished_rollouts_often(stock: Callable) -> Callable:
    """The trainer looks every two seconds whether the rollouts are finished; no setting changes that.

    A step of the tiny model takes not much longer. Here it looks twice a second.
    """

    def __init__(self, *args, poll_interval: float = _POLL_INTERVAL_S, **kwargs):  # noqa: N807
        stock(self, *args, poll_interval=poll_interval, **kwargs)

    return __init__


@proves(look_for_finished_rollouts_often)
def _a_buffer_waits_longer(init: Callable) -> bool:
    from omegaconf import OmegaConf
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

    buffer = ReplayBuffer.__new__(ReplayBuffer)
    nothing = OmegaConf.create({})
    init(buffer, "sync", nothing, max_off_policy_threshold=1, max_off_policy_strategy="drop", sampler_kwargs=nothing)
    return buffer.poll_interval > _POLL_INTERVAL_S

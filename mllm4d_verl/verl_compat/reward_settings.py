"""Settings of the reward, checked before Ray starts."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from mllm4d_verl.verl_compat.adaptation import adapts, proves


@adapts("verl.utils.config", "validate_config")
def check_reward_before_ray(stock: Callable) -> Callable:
    """An unknown preset, weight or component shows after the model was loaded and the first answers were generated.

    verl binds `reward.custom_reward_function.reward_kwargs` to the reward function without looking at them
    (verl/trainer/ppo/reward.py, `get_custom_reward_fn`). Here the ST-reward is made once, in the driver, where verl
    checks the rest of its configuration.
    """

    def validate_config(*args, **kwargs):
        from mllm4d_verl.reward_fn import check_reward_function

        stock(*args, **kwargs)
        config = kwargs["config"] if "config" in kwargs else args[0]
        check_reward_function(config.reward.get("custom_reward_function"))

    return validate_config


@proves(check_reward_before_ray)
def _stock_does_not_look_at_the_reward(stock: Callable) -> bool:
    return "reward_kwargs" not in inspect.getsource(stock)

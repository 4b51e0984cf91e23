"""Settings of the reward, checked before Ray starts. No upstream thread is known."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.verl_compat.adaptation import adapts, proves
from mllm4d_verl.verl_compat.samples import trainer_config


@adapts("verl.utils.config", "validate_config", known={"verl": ">=0.9.0,<=0.9.1"})
def check_reward_before_ray(stock: Callable) -> Callable:
    """An unknown preset, weight or component shows after the model was loaded and the first answers were generated.

    verl binds `reward.custom_reward_function.reward_kwargs` to the reward function without looking at them
    (verl/trainer/ppo/reward.py, `get_custom_reward_fn`). Here the ST-reward is made once, in the driver, where verl
    checks the rest of its configuration. Reward functions of others are not looked at.
    """

    def validate_config(*args, **kwargs):
        from mllm4d_verl.reward_fn import check_reward_function

        result = stock(*args, **kwargs)
        config = kwargs["config"] if "config" in kwargs else args[0]
        check_reward_function(config.reward.get("custom_reward_function"))
        return result

    return validate_config


@proves(check_reward_before_ray)
def _a_misspelt_preset_passes(validate_config: Callable) -> bool:
    config = trainer_config(
        {
            "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": 1,
            "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": 1,
            "reward.custom_reward_function": {
                "path": "pkg://mllm4d_verl.reward_fn",
                "name": "compute_score",
                "reward_kwargs": {"preset": "mllm4d_xt"},
            },
        }
    )
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it announces its success
            validate_config(config=config, use_reference_policy=False, use_critic=False)
    except InputError:
        return False
    return True

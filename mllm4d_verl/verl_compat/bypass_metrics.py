"""Names of the rollout correction's metrics in bypass mode. No upstream thread is known."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from mllm4d_verl.verl_compat.adaptation import adapts, proves
from mllm4d_verl.verl_compat.runs import uses_our_dataset, uses_our_reward
from mllm4d_verl.verl_compat.samples import trainer_config


@adapts("verl.trainer.ppo.v1.trainer_base", "PPOTrainer._update_actor", known={"verl": ">=0.9.0,<=0.9.1"})
def log_bypass_metrics_under_one_name(stock: Callable) -> Callable:
    """How well rollout and actor agree is logged as `actor/rollout_corr/...` in bypass mode, not as `rollout_corr/...`.

    With `policy_loss.loss_mode=bypass_mode` the actor measures it while it trains, instead of the trainer before, and
    verl puts "actor/" in front of whatever the actor reports. Here it keeps the name that dashboards and tests know, in
    runs with a reward or a dataset of this package.
    """

    def _update_actor(self, batch, metrics, *args, **kwargs):
        result = stock(self, batch, metrics, *args, **kwargs)
        if uses_our_reward(self.config) or uses_our_dataset(self.config):
            for key in [key for key in metrics if key.startswith("actor/rollout_corr/")]:
                metrics[key.removeprefix("actor/")] = metrics.pop(key)
        return result

    return _update_actor


@proves(log_bypass_metrics_under_one_name)
def _the_name_changes(update_actor: Callable) -> bool:
    config = trainer_config({"reward.custom_reward_function": {"path": "pkg://mllm4d_verl.reward_fn"}})
    measured = {"metrics": {"rollout_corr/k3_kl": [0.5], "mfu": [0.1]}}
    trainer = SimpleNamespace(
        config=config, actor_rollout_wg=SimpleNamespace(update_actor=lambda batch: measured), distillation_config=None
    )
    metrics: dict[str, Any] = {}
    update_actor(trainer, SimpleNamespace(extra_info={}), metrics)
    return "rollout_corr/k3_kl" not in metrics

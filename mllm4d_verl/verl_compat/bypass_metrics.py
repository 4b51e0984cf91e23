"""Names of the rollout correction's metrics in bypass mode."""

from __future__ import annotations

from collections.abc import Callable

from mllm4d_verl.verl_compat.adaptation import adapts, proves


@adapts("verl.trainer.ppo.v1.trainer_base", "PPOTrainer._update_actor")
def log_bypass_metrics_under_one_name(stock: Callable) -> Callable:
    """How well rollout and actor agree is logged as `actor/rollout_corr/...` in bypass mode, not as `rollout_corr/...`.

    With `policy_loss.loss_mode=bypass_mode` the actor measures it while it trains, instead of the trainer before, and
    verl puts "actor/" in front of whatever the actor reports. Here it keeps the name that dashboards and tests know.
    """

    def _update_actor(self, batch, metrics, *args, **kwargs):
        result = stock(self, batch, metrics, *args, **kwargs)
        for key in [key for key in metrics if key.startswith("actor/rollout_corr/")]:
            metrics[key.removeprefix("actor/")] = metrics.pop(key)
        return result

    return _update_actor


@proves(log_bypass_metrics_under_one_name)
def _stock_prefixes_all_metrics(stock: Callable) -> bool:
    from verl.utils.py_functional import rename_dict

    return "rollout_corr/k3_kl" not in rename_dict({"rollout_corr/k3_kl": 0.0}, "actor/")

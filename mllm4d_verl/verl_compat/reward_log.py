"""Components of the reward in the log."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

from mllm4d_verl.verl_compat.adaptation import adapts, proves


@adapts("verl.trainer.ppo.v1.trainer_base", "PPOTrainer._compute_metrics")
def log_reward_components(stock: Callable) -> Callable:
    """A training step logs the score only; what it was made of is logged in validation and nowhere else.

    verl keeps what a reward function returns beside its score in `extra_fields.reward_extra_info` of every rollout and
    does not look at it again. Here its means are logged as `reward/<key>/mean`; see `reward.mean_results` for what a
    mean is taken over.
    """

    def _compute_metrics(self, batch, metrics, *args, **kwargs):
        from mllm4d_verl.reward import mean_results

        stock(self, batch, metrics, *args, **kwargs)
        try:
            means = mean_results(_reward_results(batch))
        except Exception as error:  # an agent loop of the user's may store other fields: a log line must not end a run
            warnings.warn(f"reward components are not logged: {type(error).__name__}: {error}", stacklevel=2)
            return
        metrics.update({f"reward/{key}/mean": mean for key, mean in means.items()})

    return _compute_metrics


def _reward_results(batch: Any) -> list[dict[str, Any]]:
    """What the reward function returned for each rollout of a step, padding left out."""
    import transfer_queue as tq

    fields = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["extra_fields"])
    rollouts = fields.pop("extra_fields").tolist()
    return [
        rollout["reward_extra_info"]
        for rollout, tag in zip(rollouts, batch.tags, strict=True)
        if isinstance(rollout, dict) and rollout.get("reward_extra_info") and not tag.get("is_padding", False)
    ]


@proves(log_reward_components)
def _stock_does_not_log_components(stock: Callable) -> bool:
    return "reward_extra_info" not in inspect.getsource(stock)

"""Components of the reward in the log.

Upstream: verl pull requests 5793, 4698 and 3957 propose to log them.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from mllm4d_verl.verl_compat.adaptation import adapts, proves
from mllm4d_verl.verl_compat.runs import uses_our_reward
from mllm4d_verl.verl_compat.samples import trainer_config


@adapts("verl.trainer.ppo.v1.trainer_base", "PPOTrainer._compute_metrics", known={"verl": ">=0.9.0,<=0.9.1"})
def log_reward_components(stock: Callable) -> Callable:
    """A training step logs the score only; what it was made of is logged in validation and nowhere else.

    verl keeps what a reward function returns beside its score in `extra_fields.reward_extra_info` of every rollout and
    does not look at it again. Here its means are logged as `reward/<key>/mean`; see `reward.mean_results` for what a
    mean is taken over. Runs with a reward function of others are left alone.

    The fields come from TransferQueue with a request of their own: verl's request for this step's metrics does not
    name them, and only that function of verl knows which it names.
    """

    def _compute_metrics(self, batch, metrics, *args, **kwargs):
        result = stock(self, batch, metrics, *args, **kwargs)
        if uses_our_reward(self.config):
            _log_means(batch, metrics)
        return result

    return _compute_metrics


def _log_means(batch: Any, metrics: dict[str, Any]) -> None:
    from mllm4d_verl.reward import mean_results

    try:
        means = mean_results(_reward_results(batch))
    except Exception as error:  # an agent loop of the user's may store other fields: a log line must not end a run
        warnings.warn(f"reward components are not logged: {type(error).__name__}: {error}", stacklevel=2)
        return
    metrics.update({f"reward/{key}/mean": mean for key, mean in means.items()})


def _reward_results(batch: Any) -> list[dict[str, Any]]:
    """What the reward function returned for each rollout of a step, padding left out."""
    from verl.trainer.ppo.v1.trainer_base import tq

    fields = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["extra_fields"])
    rollouts = fields.pop("extra_fields").tolist()
    return [
        rollout["reward_extra_info"]
        for rollout, tag in zip(rollouts, batch.tags, strict=True)
        if isinstance(rollout, dict) and rollout.get("reward_extra_info") and not tag.get("is_padding", False)
    ]


@proves(log_reward_components)
def _a_step_logs_no_component(compute_metrics: Callable) -> bool:
    metrics: dict[str, Any] = {}
    batch, stored = _two_rollouts()
    reward = {"path": "pkg://mllm4d_verl.reward_fn", "name": "compute_score"}
    trainer = SimpleNamespace(
        config=trainer_config({"reward.custom_reward_function": reward}),
        use_critic=False,
        _get_n_gpus_for_throughput=lambda: 1,
        _rollout_moe_lb_metrics_accumulator=None,
        resource_pool_manager=SimpleNamespace(get_n_gpus=lambda: 1),
    )
    with _stored_in_transfer_queue(stored):
        compute_metrics(trainer, batch, metrics, {"gen": 1.0, "step": 2.0}, global_steps=2, epoch=0)
    return metrics.get("reward/answer/mean") != 0.5


def _two_rollouts() -> tuple[Any, Any]:
    """What verl's trainer knows of two rollouts, one of them right, and what TransferQueue stores of them."""
    import torch
    from tensordict import NonTensorStack, TensorDict

    def ragged(*rows: list[float]) -> torch.Tensor:
        return torch.nested.as_nested_tensor([torch.tensor(row) for row in rows], layout=torch.jagged)

    scores = ragged([0.0, 0.0, 1.0], [0.0, 0.0])
    ones = ragged([1.0, 1.0, 1.0], [1.0, 1.0])
    stored = {
        "prompts": ragged([1, 2], [3, 4, 5]),
        "responses": ragged([6, 7, 8], [9, 9]),
        "response_mask": ones,
        "num_turns": torch.tensor([2, 2]),
        "extra_fields": NonTensorStack(
            {"reward_extra_info": {"score": 1.0, "answer": 1.0}}, {"reward_extra_info": {"score": 0.0, "answer": 0.0}}
        ),
    }
    stored |= dict.fromkeys(("rm_scores", "token_level_rewards", "advantages", "returns"), scores)
    tag = {"min_global_steps": 1, "max_global_steps": 1}
    batch = SimpleNamespace(keys=["a", "b"], partition_id="train", tags=[dict(tag), dict(tag)])
    return batch, TensorDict(stored, batch_size=[2])


@contextlib.contextmanager
def _stored_in_transfer_queue(stored: Any) -> Iterator[None]:
    """Let verl's trainer read `stored` where it would ask TransferQueue, which needs Ray."""
    from verl.trainer.ppo.v1 import trainer_base

    def kv_batch_get(keys, partition_id, select_fields):
        return stored.select(*(name for name in select_fields if name in stored.keys()))  # noqa: SIM118

    before = trainer_base.tq
    trainer_base.tq = SimpleNamespace(kv_batch_get=kv_batch_get)
    try:
        yield
    finally:
        trainer_base.tq = before

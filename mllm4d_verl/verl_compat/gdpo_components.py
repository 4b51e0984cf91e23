"""GDPO's rewards of a step, which the V1 trainer does not hand to the estimator. No upstream thread is known."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.verl_compat.adaptation import adapts, proves

_GDPO = "gdpo"
# The name of the trainer's store of training rollouts; advantages are computed of no other.
_PARTITION = "train"


@adapts(
    "verl.trainer.ppo.v1.trainer_base",
    "compute_advantage_for_multi_trajectories",
    known={"verl": ">=0.9.0,<=0.9.1"},
)
def give_gdpo_its_rewards(stock: Callable) -> Callable:
    """`algorithm.adv_estimator=gdpo` ends in `KeyError: prompts` after a full rollout.

    verl's GDPO reads the prompts, the attention mask and one array for each of `gdpo_reward_keys` from the batch. The
    V1 trainer's batch has the uid, the response mask and probabilities. Here what the reward function returned is
    fetched from TransferQueue. The prompts get no column, and the attention mask ends with the last token that is
    trained on: GDPO uses both only to find a place for a row's reward, and then adds up the row.
    """

    def compute_advantage_for_multi_trajectories(data, *args, **kwargs):
        config, keys = kwargs.get("config"), kwargs.get("batch_keys")
        if str(getattr(kwargs.get("adv_estimator"), "value", kwargs.get("adv_estimator"))) == _GDPO and keys:
            _add_rewards(data, keys, list(config.get("gdpo_reward_keys", None) or ()))
        return stock(data, *args, **kwargs)

    return compute_advantage_for_multi_trajectories


def _add_rewards(data: Any, keys: list[str], names: list[str]) -> None:
    import numpy as np

    mask = data.batch["response_mask"]
    if "prompts" not in data.batch:
        data.batch["prompts"] = mask.new_zeros((mask.shape[0], 0))
        # 1 up to and with the last token that counts, where answers of tools have zeros in between.
        data.batch["attention_mask"] = mask.flip(1).cumsum(1).clamp(max=1).flip(1)
    missing = [name for name in names if name not in data.non_tensor_batch]
    if not missing:
        return
    results = reward_results(keys, _PARTITION)
    known = sorted({name for result in results for name in result})
    for name in missing:
        if name not in known:
            raise InputError(
                f"the reward function returned no {name!r}",
                field="algorithm.gdpo_reward_keys",
                remedy=f"It returned: {', '.join(known)}",
            )
        # Rows that verl adds to fill a batch have no result; they are masked.
        data.non_tensor_batch[name] = np.array([float(result.get(name, 0.0)) for result in results], dtype=np.float32)


def reward_results(keys: list[str], partition: str) -> list[dict[str, Any]]:
    """What the reward function returned for rollouts that TransferQueue stores, empty where nothing was stored."""
    from verl.trainer.ppo.v1.trainer_base import tq

    fields = tq.kv_batch_get(keys=keys, partition_id=partition, select_fields=["extra_fields"])
    rollouts = fields.pop("extra_fields").tolist()
    return [(rollout.get("reward_extra_info") or {}) if isinstance(rollout, dict) else {} for rollout in rollouts]


@proves(give_gdpo_its_rewards)
def _gdpo_finds_no_rewards(compute: Callable) -> bool:
    import numpy as np
    import torch
    from tensordict import NonTensorStack, TensorDict
    from verl import DataProto
    from verl.trainer.ppo.v1 import trainer_base

    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    rewards = torch.zeros(2, 3)
    data = DataProto.from_dict(
        tensors={"response_mask": mask, "token_level_rewards": rewards},
        non_tensors={"uid": np.array(["q", "q"], dtype=object)},
    )
    stored = TensorDict(
        {"extra_fields": NonTensorStack({"reward_extra_info": {"st": 1.0}}, {"reward_extra_info": {"st": 0.0}})},
        batch_size=[2],
    )
    config = {"gdpo_reward_keys": ["st"]}
    before = trainer_base.tq
    trainer_base.tq = SimpleNamespace(kv_batch_get=lambda keys, partition_id, select_fields: stored.clone())
    try:
        data = compute(data, batch_keys=["q_0_0", "q_1_0"], adv_estimator=_GDPO, config=config)
    except KeyError:
        return True
    finally:
        trainer_base.tq = before
    first, second = data.batch["advantages"][:, 0].tolist()
    return not first > 0.0 > second

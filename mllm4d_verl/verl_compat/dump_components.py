"""The row and the components of the reward in dumps of rollouts. No upstream thread is known."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from mllm4d_verl.verl_compat.adaptation import adapts, proves
from mllm4d_verl.verl_compat.runs import uses_our_reward
from mllm4d_verl.verl_compat.samples import trainer_config

# The name of the trainer's store of training rollouts.
_PARTITION = "train"


@adapts("verl.trainer.ppo.v1.trainer_base", "PPOTrainer._dump_generations", known={"verl": ">=0.9.0,<=0.9.1"})
def dump_rows_and_components(stock: Callable) -> Callable:
    """A dump of training rollouts has the score, and neither the row's id nor what the score was made of.

    verl writes `trainer.rollout_data_dir` with input, output, truth, score and a uid made for the step. Here each
    record also gets `id` (`extra_info.id` of the row), `data_source`, and all that the reward function returned. Runs
    with a reward function of others are left alone, and so are dumps of validation, which have the components already.
    """

    def _dump_generations(self, *args, **kwargs):
        extra = kwargs.get("reward_extra_infos_dict")
        if isinstance(extra, dict) and set(extra) == {"uid"} and uses_our_reward(self.config):
            kwargs["reward_extra_infos_dict"] = {**_of_rows(list(extra["uid"])), **extra}
        return stock(self, *args, **kwargs)

    return _dump_generations


def _of_rows(keys: list[str]) -> dict[str, list[Any]]:
    """Columns of the dump, in the order of `keys`; empty where they cannot be had, which must not end a run."""
    from verl.trainer.ppo.v1.trainer_base import tq

    names = ["extra_fields", "extra_info", "data_source"]
    try:
        fields = tq.kv_batch_get(keys=keys, partition_id=_PARTITION, select_fields=names)
        rollouts, infos, sources = (fields.pop(name).tolist() for name in names)
    except Exception as error:  # an agent loop or a dataset of the user's may store other fields
        warnings.warn(f"dumps have no components: {type(error).__name__}: {error}", stacklevel=2)
        return {}
    results = [(item.get("reward_extra_info") or {}) if isinstance(item, dict) else {} for item in rollouts]
    # The dump's own fields keep what verl writes: its score has a penalty of the reward manager in it.
    taken = {"input", "output", "gts", "score", "step", "uid", "id", "data_source"}
    components = list(dict.fromkeys(name for result in results for name in result if name not in taken))
    return {
        "id": [info.get("id") if isinstance(info, dict) else None for info in infos],
        "data_source": sources,
        **{name: [result.get(name) for result in results] for name in components},
    }


@proves(dump_rows_and_components)
def _a_dump_lacks_the_row(dump: Callable) -> bool:
    from concurrent.futures import Future

    from tensordict import NonTensorStack, TensorDict
    from verl.trainer.ppo.v1 import trainer_base

    stored = TensorDict(
        {
            "extra_fields": NonTensorStack({"reward_extra_info": {"score": 1.0, "st": 0.5}}, {}),
            "extra_info": NonTensorStack({"id": "q1"}, {"id": "q2"}),
            "data_source": NonTensorStack("mllm4d/a", "mllm4d/b"),
        },
        batch_size=[2],
    )
    written: list[Any] = []

    def submit(write: Callable, *arguments: Any) -> Future:
        written.extend(arguments)
        future: Future = Future()
        future.set_result(None)
        return future

    trainer = SimpleNamespace(
        config=trainer_config({"reward.custom_reward_function": {"path": "pkg://mllm4d_verl.reward_fn"}}),
        global_steps=1,
        _write_generations=None,
        _dump_executor=SimpleNamespace(submit=submit),
        _dump_futures=[],
    )
    before = trainer_base.tq
    trainer_base.tq = SimpleNamespace(kv_batch_get=lambda keys, partition_id, select_fields: stored.clone())
    try:
        dump(
            trainer,
            inputs=["a", "b"],
            outputs=["c", "d"],
            gts=[{}, {}],
            scores=[1.0, 0.0],
            reward_extra_infos_dict={"uid": ["q_0_0", "q_1_0"]},
            dump_path="",
        )
    finally:
        trainer_base.tq = before
    columns = next(argument for argument in written if isinstance(argument, dict))
    return columns.get("id") != ["q1", "q2"] or columns.get("st") != [0.5, None]

"""verl's agent loop, with the work that is the same for all rollouts of a prompt done once per prompt.

verl runs an agent loop of its own for every rollout: it renders the prompt, runs the model's processor three times,
computes position ids twice, calls a Ray actor for the reward and writes to TransferQueue, n times per prompt. With a
small model that costs more than generating. Select it with

    actor_rollout_ref.rollout.agent.agent_loop_manager_class: mllm4d_verl.group_rollouts.GroupAgentLoopManager

It serves single-turn prompts with rewards by rule. Rewards are computed in the agent loop's process, so that
`reward.num_workers` may be 0.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

import ray
import torch
import transfer_queue as tq
from verl.experimental.agent_loop import AgentLoopManager
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.experimental.reward_loop import RewardLoopWorker
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ
from verl.utils.tensordict_utils import list_of_dict_to_tensordict
from verl.utils.tokenizer import get_processor_token_id

from mllm4d_verl.cpu_lane.environment import cpu_platform_selected
from mllm4d_verl.verl_compat.cpu_answers import OTHER_ANSWERS
from mllm4d_verl.video.processed import compute_once

_SINGLE_TURN = "single_turn_agent"
_POSITIONS_KEPT = 512  # prompts whose position ids a worker remembers; a few kilobytes each


class GroupLoop(SingleTurnAgentLoop):
    """The agent loop of all rollouts of one prompt: decodes the video and renders the prompt once.

    Attributes:
        rows: keys, fields and tags of the finished rollouts, to be written to TransferQueue together.
        unfinished: number of rollouts that have not ended.
    """

    def __init__(self, *args: Any, rollouts: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rows: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
        self.unfinished = rollouts
        self._media: asyncio.Future | None = None
        self._tokens: asyncio.Future | None = None
        self._features: dict[str, Any] = {}

    async def process_multi_modal_info(self, messages: list[dict]) -> dict:
        if self._media is None:
            self._media = asyncio.ensure_future(super().process_multi_modal_info(messages))
        return dict(await self._media)

    async def ct_build_initial_tokens(self, messages, *args, mm_inputs_out=None, **kwargs) -> list[int]:
        if self._tokens is None:
            self._tokens = asyncio.ensure_future(
                super().ct_build_initial_tokens(messages, *args, mm_inputs_out=self._features, **kwargs)
            )
        tokens = await self._tokens
        if mm_inputs_out is not None:
            mm_inputs_out.update(self._features)
        return list(tokens)


class GroupClient:
    """verl's client of the rollout engine, which asks for all answers to a prompt with one request.

    Args:
        client: verl's own.
        rollouts: number of answers.
    """

    def __init__(self, client: Any, rollouts: int) -> None:
        self._client = client
        self._rollouts = rollouts
        self._answers: asyncio.Future | None = None

    async def generate(self, **request: Any) -> Any:
        """One of the answers. The first call sends the request, and the others' arguments have to be the same."""
        if self._answers is None:
            self._answers = asyncio.ensure_future(self._generate_all(request))
        return (await self._answers).pop()

    async def _generate_all(self, request: dict[str, Any]) -> list[Any]:
        request["sampling_params"] = {**request["sampling_params"], "n": self._rollouts}
        first = await self._client.generate(**request)
        others = first.extra_fields.pop(OTHER_ANSWERS, [])
        for other in others:
            other.extra_fields = dict(first.extra_fields)
        return [first, *others]


class LocalRewards:
    """Stands in for the handle of a reward worker's Ray actor, and computes rewards in this process."""

    def __init__(self, config: Any) -> None:
        self._worker = RewardLoopWorker(config)
        self.compute_score = self

    def remote(self, data: Any) -> Any:
        """The coroutine that computes the score of one rollout."""
        # The reward manager writes into this mapping. To a Ray actor it would have been sent as a copy.
        for index, info in enumerate(data.non_tensor_batch.get("extra_info", ())):
            data.non_tensor_batch["extra_info"][index] = dict(info)
        return self._worker.compute_score(data)


class GroupAgentLoopWorker(AgentLoopWorkerTQ.__ray_metadata__.modified_class):
    """verl's worker, whose rollouts of one prompt share a `GroupLoop`."""

    def __init__(self, config, llm_client, teacher_client=None, reward_loop_worker_handles=None) -> None:
        if config.reward.reward_model.enable:
            raise ValueError(
                "GroupAgentLoopManager serves rewards by rule, and reward.reward_model.enable is true. "
                "Remove actor_rollout_ref.rollout.agent.agent_loop_manager_class"
            )
        super().__init__(config, llm_client, teacher_client, [LocalRewards(config)])
        self._groups: dict[str, GroupLoop] = {}
        self._positions: OrderedDict[tuple, torch.Tensor] = OrderedDict()

    async def _run_prompt(self, prompt: dict, sampling_params: dict, trajectory: dict, trace: bool = False) -> None:
        uid, rollout = prompt["uid"], self.config.actor_rollout_ref.rollout
        if prompt["agent_name"] == _SINGLE_TURN:
            rollouts = prompt.get("__rollout_n__", rollout.val_kwargs.n if trajectory["validate"] else rollout.n)
            together = rollout.name == "vllm" and cpu_platform_selected()  # answer_all_rollouts_of_a_request
            self._groups[uid] = GroupLoop(
                trainer_config=_Wrapped(self.config),
                server_manager=GroupClient(self.llm_client, rollouts) if together else self.llm_client,
                tokenizer=self.tokenizer,
                processor=self.processor,
                hf_model_type=self.hf_model_type,
                dataset_cls=self.dataset_cls,
                data_config=_Wrapped(self.config.data),
                rollouts=rollouts,
            )
        try:
            await super()._run_prompt(prompt, sampling_params, trajectory, trace)
        finally:
            self._groups.pop(uid, None)

    async def _run_agent_loop(self, sampling_params, trajectory, *, agent_name, trace=True, **kwargs) -> None:
        group = self._groups.get(kwargs["uid"])
        if group is None or trace:
            return await super()._run_agent_loop(
                sampling_params, trajectory, agent_name=agent_name, trace=trace, **kwargs
            )
        try:
            # Nobody reads the text of an unfinished answer, and the rewards decode the tokens themselves.
            sampling_params = {**sampling_params, **_final_answer_only(self.config.actor_rollout_ref.rollout.name)}
            output = await group.run(sampling_params, **kwargs)
            await self._agent_loop_postprocess(output, trajectory["validate"], **kwargs)
        finally:
            group.unfinished -= 1
            if group.unfinished == 0 and group.rows:
                await self._put(group.rows, "val" if trajectory["validate"] else "train")

    async def _agent_loop_postprocess(self, output, validate, **kwargs) -> None:
        """As verl's, for one output; the rows of a prompt are written together when its last rollout has ended."""
        group = self._groups.get(kwargs["uid"])
        if group is None:
            return await super()._agent_loop_postprocess(output, validate, **kwargs)
        await self._compute_score([output], kwargs=kwargs)
        await self._compute_teacher_logprobs(
            output,
            prompt_ids=output.prompt_ids,
            response_ids=output.response_ids,
            validate=validate,
            sample_kwargs=kwargs,
        )
        input_ids = torch.tensor([output.prompt_ids + output.response_ids], dtype=torch.int64)
        multi_modal_inputs = self._compute_multi_modal_inputs(output, input_ids[0])
        position_ids = self._compute_position_ids(input_ids, torch.ones_like(input_ids), multi_modal_inputs)[0]
        field = {**output.as_dict(), **kwargs}
        field.pop("multi_modal_data", None)
        field["loss_mask"] = field["response_mask"]
        field["input_ids"] = input_ids[0]
        field["position_ids"] = position_ids
        field["multi_modal_inputs"] = multi_modal_inputs
        prompt_length, response_length = len(output.prompt_ids), len(output.response_ids)
        tag = {
            "status": "success",
            "prompt_len": prompt_length,
            "response_len": response_length,
            "seq_len": prompt_length + response_length,
            "global_steps": kwargs["global_steps"],
            "min_global_steps": field["extra_fields"].get("min_global_steps"),
            "max_global_steps": field["extra_fields"].get("max_global_steps"),
        }
        group.rows.append((f"{kwargs['uid']}_{kwargs['session_id']}_0", field, tag))

    async def _put(self, rows: list[tuple[str, dict[str, Any], dict[str, Any]]], partition_id: str) -> None:
        keys, fields, tags = (list(column) for column in zip(*rows, strict=True))
        await tq.async_kv_batch_put(
            keys=keys, fields=list_of_dict_to_tensordict(fields), tags=tags, partition_id=partition_id
        )

    def _compute_multi_modal_inputs(self, output, input_ids) -> dict[str, Any]:
        """Of a prompt with one video, computed once: they do not depend on the answer."""
        data = output.multi_modal_data or {}
        videos = data.get("videos") or []
        if len(videos) != 1 or data.get("images") or data.get("audios"):
            return super()._compute_multi_modal_inputs(output, input_ids)
        frames = videos[0][0] if isinstance(videos[0], tuple) else videos[0]
        key = ("multi_modal_inputs", repr(output.mm_processor_kwargs), repr(videos[0][1:]))
        compute = super()._compute_multi_modal_inputs
        # `mm_token_type_ids` among them are of another rollout; verl drops them and makes its own from `input_ids`.
        return dict(compute_once(frames, key, lambda: compute(output, input_ids)))

    def _compute_position_ids(self, input_ids, attention_mask, multi_modal_inputs, mm_processor_kwargs=None):
        """Up to the last vision token of a sequence computed once; the text after it counts on from there."""
        vision = self._after_vision(input_ids)
        stock = super()._compute_position_ids
        if not vision or not bool(attention_mask.all()) or not hasattr(self.processor, "get_rope_index"):
            return stock(input_ids, attention_mask, multi_modal_inputs, mm_processor_kwargs)
        start = input_ids[:, :vision]
        grids = tuple(
            (name, tuple(value.flatten().tolist()) if isinstance(value, torch.Tensor) else repr(value))
            for name, value in sorted(multi_modal_inputs.items())
            if name.endswith(("grid_thw", "grid_ts"))
        )
        key = (tuple(start[0].tolist()), grids)
        positions = self._positions.get(key)
        if positions is None:
            positions = stock(start, torch.ones_like(start), dict(multi_modal_inputs), mm_processor_kwargs)
            self._positions[key] = positions
            if len(self._positions) > _POSITIONS_KEPT:
                self._positions.popitem(last=False)
        multi_modal_inputs.pop("mm_token_type_ids", None)  # verl's own loop drops it, too
        rest = torch.arange(input_ids.shape[1] - vision)
        after = torch.cat((positions.new_tensor([vision]), (positions[0, 1:].max() + 1).expand(3)))
        return torch.cat((positions, (after[:, None] + rest)[None]), dim=2)

    def _after_vision(self, input_ids: torch.Tensor) -> int:
        """Index after the last image or video token of a sequence, 0 where it has none."""
        tokens = [get_processor_token_id(self.processor, kind) for kind in ("image", "video")] if self.processor else []
        places = torch.isin(input_ids[0], torch.tensor([token for token in tokens if token is not None])).nonzero()
        return int(places[-1]) + 1 if len(places) else 0


class GroupAgentLoopManager(AgentLoopManagerTQ):
    """verl's manager with `GroupAgentLoopWorker`s."""

    worker_class = GroupAgentLoopWorker

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.agent_loop_workers_class = ray.remote(self.worker_class)
        AgentLoopManager.__init__(self, *args, **kwargs)


class _Wrapped:
    """What verl wraps configurations in when it makes an agent loop."""

    def __init__(self, config: Any) -> None:
        self.config = config


def _final_answer_only(engine: str) -> dict[str, Any]:
    if engine != "vllm":
        return {}
    from vllm.sampling_params import RequestOutputKind

    return {"output_kind": RequestOutputKind.FINAL_ONLY, "detokenize": False}

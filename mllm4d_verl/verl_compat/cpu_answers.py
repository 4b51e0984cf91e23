"""CPU lane: all answers of one vLLM request. No upstream thread is known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

from mllm4d_verl.cpu_lane.environment import cpu_platform_selected
from mllm4d_verl.verl_compat.adaptation import adapts, proves
from mllm4d_verl.verl_compat.samples import trainer_config

OTHER_ANSWERS = "mllm4d_other_answers"


@adapts(
    "verl.workers.rollout.vllm_rollout.vllm_async_server",
    "vLLMHttpServer.generate",
    where=cpu_platform_selected,
    known={"verl": ">=0.9.0,<=0.9.1"},
)
def answer_all_rollouts_of_a_request(stock: Callable) -> Callable:
    """verl sends one request to vLLM for every rollout, and of a request with several answers it returns the first.

    With a tiny model, what vLLM's server does for a request costs as much as the answer. Here the other answers of a
    request with `n` above 1 come with the first, in `extra_fields`; `group_rollouts` asks for them.
    """

    async def generate(self, prompt_ids, sampling_params, *args, **kwargs):
        if sampling_params.get("n", 1) == 1:
            return await stock(self, prompt_ids, sampling_params, *args, **kwargs)
        server = _WatchedServer(self)
        result = await stock(server, prompt_ids, sampling_params, *args, **kwargs)
        result.extra_fields[OTHER_ANSWERS] = [
            type(result)(
                token_ids=answer.token_ids,
                log_probs=[row[token].logprob for row, token in zip(answer.logprobs, answer.token_ids, strict=True)]
                if answer.logprobs
                else None,
                stop_reason="completed" if answer.finish_reason in ("stop", "length") else answer.finish_reason,
            )
            for answer in server.engine.last.outputs[1:]
        ]
        return result

    return generate


class _WatchedServer:
    """verl's vLLM server, with an engine that remembers what it answered last."""

    def __init__(self, server: Any) -> None:
        vars(self).update(_server=server, engine=_WatchedEngine(server.engine))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._server, name, value)


class _WatchedEngine:
    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.last: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def generate(self, *args: Any, **kwargs: Any) -> Any:
        async for result in self._engine.generate(*args, **kwargs):
            self.last = result
            yield result


@proves(answer_all_rollouts_of_a_request)
def _the_second_answer_is_lost(generate: Callable) -> bool:
    from verl.utils.config import omega_conf_to_dataclass
    from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer

    server = vLLMHttpServer.__new__(vLLMHttpServer)
    rollout = trainer_config({"actor_rollout_ref.rollout.name": "vllm"}).actor_rollout_ref.rollout
    settings = {
        "config": omega_conf_to_dataclass(rollout),
        "model_config": SimpleNamespace(processor=None, lora_rank=0, lora={}),
        "engine": _EngineOfTwoAnswers(),
        "global_steps": 1,
        "replica_rank": 0,
        "_disaggregation_role": None,
        "_pd_decode_peers": None,
        "_submission_paused": False,
        "_rejecting": False,
        "_admitting": 0,
    }
    vars(server).update(settings)
    server.config.max_model_len = 64
    result = _run_in_thread(generate(server, [1, 2], {"n": 2}, "request"))
    others = result.extra_fields.get(OTHER_ANSWERS, [])
    return [list(answer.token_ids) for answer in [result, *others]] != [[5], [6, 7]]


class _EngineOfTwoAnswers:
    """What vLLM's engine yields for a request with n=2, in vLLM's own classes."""

    async def generate(self, *args: Any, **kwargs: Any) -> Any:
        from vllm.outputs import CompletionOutput, RequestOutput

        answers = [
            CompletionOutput(number, "", tokens, None, None, finish_reason="stop")
            for number, tokens in enumerate([[5], [6, 7]])
        ]
        yield RequestOutput("request", None, [1, 2], None, answers, finished=True)


def _run_in_thread(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Result of a coroutine, from a loop of its own: this thread may have one that is running."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, coroutine).result()

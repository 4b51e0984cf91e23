"""CPU lane: all answers of one vLLM request."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from mllm4d_verl.cpu_lane.environment import cpu_platform_selected
from mllm4d_verl.verl_compat.adaptation import adapts, proves

OTHER_ANSWERS = "mllm4d_other_answers"


@adapts("verl.workers.rollout.vllm_rollout.vllm_async_server", "vLLMHttpServer.generate", where=cpu_platform_selected)
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
def _stock_returns_the_first_answer(stock: Callable) -> bool:
    return "outputs[0]" in inspect.getsource(stock)

"""CPU lane: where vLLM's worker runs. No upstream thread is known."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from mllm4d_verl.cpu_lane.environment import cpu_platform_selected
from mllm4d_verl.verl_compat.adaptation import adapts, proves

_IN_PROCESS = "VLLM_ENABLE_V1_MULTIPROCESSING"


@adapts(
    "verl.workers.rollout.vllm_rollout.vllm_async_server",
    "vLLMHttpServer._preprocess_engine_kwargs",
    where=cpu_platform_selected,
    known={"verl": ">=0.9.0,<=0.9.1"},
)
def run_vllm_worker_inside_its_engine(stock: Callable) -> Callable:
    """vLLM's engine burns a core while it waits for its worker process, which computes on another.

    verl asks for vLLM's multi-process executor always. The engine then waits for an answer in shared memory by looking
    again and again, which is right for a GPU that answers at once; a CPU loses half of its cores. An engine of one
    worker can run it itself. vLLM's CPU platform grants that only while VLLM_ENABLE_V1_MULTIPROCESSING is 0, for it
    would bind threads to cores otherwise, which this lane does not.
    """

    def _preprocess_engine_kwargs(self, engine_kwargs):
        result = stock(self, engine_kwargs)
        if self.replica_world_size == 1 and "distributed_executor_backend" not in engine_kwargs:
            os.environ.setdefault(_IN_PROCESS, "0")
            engine_kwargs["distributed_executor_backend"] = "uni"
        return result

    return _preprocess_engine_kwargs


@proves(run_vllm_worker_inside_its_engine)
def _nothing_but_processes_is_asked_for(preprocess_engine_kwargs: Callable) -> bool:
    """verl's `launch_server` writes "mp" and then what this function has put into `engine_kwargs`."""
    engine_kwargs: dict[str, Any] = {}
    before = os.environ.get(_IN_PROCESS)
    try:
        preprocess_engine_kwargs(SimpleNamespace(replica_world_size=1, config=SimpleNamespace()), engine_kwargs)
    finally:
        os.environ.pop(_IN_PROCESS, None)
        if before is not None:
            os.environ[_IN_PROCESS] = before
    return engine_kwargs.get("distributed_executor_backend") != "uni"

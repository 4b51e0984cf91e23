"""CPU lane: where vLLM's worker runs."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable

from mllm4d_verl.cpu_lane.environment import cpu_platform_selected
from mllm4d_verl.verl_compat.adaptation import adapts, proves


@adapts(
    "verl.workers.rollout.vllm_rollout.vllm_async_server",
    "vLLMHttpServer._preprocess_engine_kwargs",
    where=cpu_platform_selected,
)
def run_vllm_worker_inside_its_engine(stock: Callable) -> Callable:
    """vLLM's engine burns a core while it waits for its worker process, which computes on another.

    verl asks for vLLM's multi-process executor always. The engine then waits for an answer in shared memory by looking
    again and again, which is right for a GPU that answers at once; a CPU loses half of its cores. An engine of one
    worker can run it itself. vLLM's CPU platform grants that only while VLLM_ENABLE_V1_MULTIPROCESSING is 0, for it
    would bind threads to cores otherwise, which this lane does not.
    """

    def _preprocess_engine_kwargs(self, engine_kwargs):
        stock(self, engine_kwargs)
        if self.replica_world_size == 1 and "distributed_executor_backend" not in engine_kwargs:
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
            engine_kwargs["distributed_executor_backend"] = "uni"

    return _preprocess_engine_kwargs


@proves(run_vllm_worker_inside_its_engine)
def _stock_asks_for_processes(stock: Callable) -> bool:
    from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer

    return '"distributed_executor_backend": "mp"' in inspect.getsource(vLLMHttpServer.launch_server)

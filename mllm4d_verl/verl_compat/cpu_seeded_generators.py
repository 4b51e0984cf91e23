"""CPU builds of vLLM: sampling with a seed. No upstream thread is known."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

from mllm4d_verl.verl_compat.adaptation import adapts, proves
from mllm4d_verl.verl_compat.families import vllm_is_for_cpus


@adapts(
    "vllm.v1.worker.gpu_model_runner",  # the CPU's runner inherits from it
    "GPUModelRunner._bookkeeping_sync",
    where=vllm_is_for_cpus,
    known={"vllm": ">=0.24.0,<=0.28.0"},
)
def spare_seeded_generators(stock: Callable) -> Callable:
    """A request that is sampled with its own seed fails on a CPU where its prompt is read in pieces.

    vLLM samples a token after every piece, throws it away, and rewinds the request's random generator by its offset
    (vllm/v1/worker/gpu_model_runner.py, `_bookkeeping_sync`); a generator on a CPU has none: "CPU Generator does not
    use offset". Here it is not rewound: the request then draws other numbers, the same ones in every run.
    """

    def _bookkeeping_sync(self, *args, **kwargs):
        batch = self.input_batch
        generators, batch.generators = batch.generators, {}
        try:
            return stock(self, *args, **kwargs)
        finally:
            batch.generators = generators

    return _bookkeeping_sync


class _RewoundError(Exception):
    """Ends vLLM's function after the generators, before it needs a model."""


class _Batch:
    """A batch of one request with a seed, whose sampled token is thrown away."""

    num_reqs = 1

    def __init__(self) -> None:
        import torch

        self.generators = {0: torch.Generator()}

    @property
    def req_ids(self) -> list[str]:
        raise _RewoundError


@proves(spare_seeded_generators)
def _a_generator_has_no_offset(bookkeeping_sync: Callable) -> bool:
    import numpy as np

    runner = SimpleNamespace(
        input_batch=_Batch(), discard_request_mask=SimpleNamespace(np=np.array([True])), use_async_scheduling=False
    )
    try:
        bookkeeping_sync(runner, None, None, None, None, 1)
    except _RewoundError:
        return False
    except RuntimeError as error:
        if "offset" not in str(error):
            raise
        return True
    raise RuntimeError("vLLM's function does not look at the requests of the batch")

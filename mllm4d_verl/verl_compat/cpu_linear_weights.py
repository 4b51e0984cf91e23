"""CPU builds of vLLM: weights of linear layers that can be updated. No upstream thread is known."""

from __future__ import annotations

from collections.abc import Callable

from mllm4d_verl.verl_compat.adaptation import adapts, proves
from mllm4d_verl.verl_compat.families import vllm_is_for_cpus


@adapts(
    "vllm.model_executor.layers.utils",
    "dispatch_cpu_unquantized_gemm",
    where=vllm_is_for_cpus,
    known={"vllm": ">=0.24.0,<=0.28.0"},
)
def keep_linear_weights(stock: Callable) -> Callable:
    """vLLM's CPU linear layers drop the parameter that they were loaded with.

    vLLM packs the weight into another layout after loading and drops the parameter
    (vllm/model_executor/layers/utils.py, `dispatch_cpu_unquantized_gemm`). verl then has nothing to copy the trained
    weights into: its weight update finds no parameter and waits for ever. Here the layer computes with plain `F.linear`
    on the live weight, which is slower per call and sees every update.
    """

    def dispatch_cpu_unquantized_gemm(layer, remove_weight):
        import torch.nn.functional as F  # noqa: N812

        if layer.weight.is_meta or layer.weight.ndim == 2:
            layer.cpu_linear = F.linear

    return dispatch_cpu_unquantized_gemm


@proves(keep_linear_weights)
def _an_update_does_not_arrive(dispatch_cpu_unquantized_gemm: Callable) -> bool:
    import torch

    layer = torch.nn.Linear(64, 64, bias=False)
    layer.requires_grad_(False)
    dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
    if layer.weight.shape != (64, 64):
        return True
    layer.weight.fill_(1.0)
    sums = layer.cpu_linear(torch.ones(1, 64), layer.weight, None)
    return not torch.allclose(sums, torch.full((1, 64), 64.0))

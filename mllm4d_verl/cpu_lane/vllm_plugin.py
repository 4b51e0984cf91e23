"""`vllm.general_plugins` entry point: adaptations that vLLM needs, in every process of its own."""

from __future__ import annotations


def register() -> None:
    """Called by vLLM in each of its processes before a model is built, with verl or without (evaluation)."""
    from vllm.platforms import current_platform

    from mllm4d_verl import verl_compat

    verl_compat.install("vllm")
    if current_platform.is_cpu():
        keep_linear_weights()


def keep_linear_weights() -> None:
    """Let vLLM's CPU linear layers keep the parameter they were loaded with.

    vLLM packs the weight into another layout after loading and drops the parameter
    (vllm/model_executor/layers/utils.py, `dispatch_cpu_unquantized_gemm`). verl then has nothing to copy the trained
    weights into: its weight update finds no parameter and waits for ever. Plain `F.linear` on the live weight is slower
    per call and sees every update.
    """
    import torch.nn.functional as F  # noqa: N812
    import vllm.model_executor.layers.utils as layers

    def dispatch_cpu_unquantized_gemm(layer, remove_weight):
        if layer.weight.is_meta or layer.weight.ndim == 2:
            layer.cpu_linear = F.linear

    layers.dispatch_cpu_unquantized_gemm = dispatch_cpu_unquantized_gemm

"""CPU lane: log-probabilities of all tokens in one call. No upstream thread is known."""

from __future__ import annotations

from collections.abc import Callable

from mllm4d_verl.cpu_lane.environment import cpu_platform_selected
from mllm4d_verl.verl_compat.adaptation import adapts, proves


@adapts(
    "verl.utils.torch_functional",
    "logprobs_from_logits_v2",
    where=cpu_platform_selected,
    known={"verl": ">=0.9.0,<=0.9.1"},
)
def take_log_probs_of_all_tokens_at_once(stock: Callable) -> Callable:
    """Without flash-attn, verl computes log-probabilities in a Python loop over rows, to save memory.

    The loop is over sequences where logits are padded, and over tokens where they are packed, as they are in verl's
    FSDP engine: 37,000 calls, and as many nodes of the backward pass, in a GRPO step of the tiny model. Here it is one
    call for all rows.
    """

    def logprobs_from_logits_v2(logits, labels):
        import torch

        if logits.dtype not in (torch.float32, torch.float64):
            return stock(logits, labels)
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")
        return -losses.view(labels.shape)

    return logprobs_from_logits_v2


@proves(take_log_probs_of_all_tokens_at_once)
def _more_rows_take_more_calls(logprobs_from_logits_v2: Callable) -> bool:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.calls += 1
            return function(*args, **(kwargs or {}))

    def calls(rows: int) -> int:
        logits, labels = torch.zeros(rows, 3), torch.zeros(rows, dtype=torch.long)
        with Counting() as counting:
            logprobs_from_logits_v2(logits, labels)
        return counting.calls

    return calls(8) > calls(2)

"""Precision of merged LoRA weights on their way to the rollout."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from mllm4d_verl.verl_compat.adaptation import adapts, proves


@adapts("verl.workers.engine.fsdp.transformer_impl", "FSDPEngine._merged_lora_per_tensor_param")
def send_merged_lora_in_the_trainers_precision(stock: Callable) -> Callable:
    """With `model.lora.merge=true`, the rollout gets weights rounded to bfloat16, whatever it computes in.

    verl converts every merged weight to bfloat16 before it sends it. A rollout in float32 then answers with other
    probabilities than the actor: the KL between them rises from 1e-6 to 1e-4 or more, and small steps of an adapter
    are lost. Here the weights are sent in `mixed_precision.param_dtype`, bfloat16 unless it is set.
    """

    def _merged_lora_per_tensor_param(self):
        import torch
        from verl.utils.torch_dtypes import PrecisionType

        settings = self.engine_config.mixed_precision or {}
        if PrecisionType.to_dtype(settings.get("param_dtype", "bf16")) == torch.bfloat16:
            yield from stock(self)
            return
        from verl.workers.engine.fsdp import transformer_impl as engine

        try:
            with engine.merged_lora_context(self.module, backup_adapters=True):
                params = engine.normalize_peft_param_name(self.module.state_dict())
                module = getattr(self.module, "_fsdp_wrapped_module", self.module)
                for name, param in engine.convert_weight_keys(params, module).items():
                    if isinstance(param, engine.DTensor):
                        yield name, param.to(engine.get_device_id(), non_blocking=True).full_tensor()
                    else:
                        yield name, param.detach().clone()  # the weights are restored when the walk ends
        finally:
            if self._is_offload_param:
                engine.offload_fsdp_model_to_cpu(self.module)

    return _merged_lora_per_tensor_param


@proves(send_merged_lora_in_the_trainers_precision)
def _stock_sends_bfloat16(stock: Callable) -> bool:
    return "torch.bfloat16" in inspect.getsource(stock)

"""Precision of merged LoRA weights on their way to the rollout. No upstream thread is known."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from mllm4d_verl.verl_compat.adaptation import adapts, proves

_FAMILIES = ("qwen3_vl", "qwen2_5_vl")


@adapts(
    "verl.workers.engine.fsdp.transformer_impl",
    "FSDPEngine._merged_lora_per_tensor_param",
    known={"verl": ">=0.9.0,<=0.9.1"},
)
def send_merged_lora_in_the_trainers_precision(stock: Callable) -> Callable:
    """With `model.lora.merge=true`, the rollout gets weights rounded to bfloat16, whatever it computes in.

    verl converts every merged weight to bfloat16 before it sends it. A rollout in float32 then answers with other
    probabilities than the actor: the KL between them rises from 1e-6 to 1e-4 or more, and small steps of an adapter
    are lost. Here the weights of a Qwen3-VL or Qwen2.5-VL are sent in `mixed_precision.param_dtype`, bfloat16 unless it
    is set.
    """

    def _merged_lora_per_tensor_param(self):
        import torch
        from verl.utils.torch_dtypes import PrecisionType

        settings = self.engine_config.mixed_precision or {}
        sent = PrecisionType.to_dtype(settings.get("param_dtype", "bf16"))
        if sent == torch.bfloat16 or self.model_config.hf_config.model_type not in _FAMILIES:
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
def _float32_weights_come_rounded(merged_lora_per_tensor_param: Callable) -> bool:
    import torch

    weight = torch.tensor([[1.0 + 2.0**-12]])  # bfloat16 has 8 bits, and rounds it to 1
    engine = SimpleNamespace(
        module=_module_of_one_shard(weight),
        engine_config=SimpleNamespace(mixed_precision={"param_dtype": "fp32"}),
        model_config=SimpleNamespace(hf_config=SimpleNamespace(model_type=_FAMILIES[0])),
        _is_offload_param=False,
    )
    ((_, sent),) = merged_lora_per_tensor_param(engine)
    return not torch.equal(sent.float().cpu(), weight)


def _module_of_one_shard(weight: Any) -> Any:
    """An FSDP2 module whose only weight is a DTensor, on a mesh of this process alone: nothing is distributed.

    `fully_shard` makes the same of a module, but wants a process group.
    """
    import torch
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor, Replicate

    mesh = DeviceMesh("cpu", [0], _init_backend=False, _rank=0)
    module = torch.nn.Linear(1, 1, bias=False)
    module.__class__ = type("FSDPLinear", (FSDPModule, torch.nn.Linear), {})
    module.weight = torch.nn.Parameter(DTensor.from_local(weight, mesh, [Replicate()], run_check=False))
    return module

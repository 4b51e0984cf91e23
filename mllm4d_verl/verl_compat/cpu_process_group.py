"""CPU lane: the process group of one device."""

from __future__ import annotations

from collections.abc import Callable

from mllm4d_verl.cpu_lane.environment import cpu_platform_selected
from mllm4d_verl.verl_compat.adaptation import adapts, proves


@adapts("torch.distributed", "init_process_group", where=cpu_platform_selected)
def name_each_device_once(stock: Callable) -> Callable:
    """verl asks for the process group "cpu:gloo,<device>:<backend>"; on a CPU that names the CPU twice, which torch
    refuses (verl/utils/distributed.py). Here a repeated entry is dropped."""

    def init_process_group(backend=None, *args, **kwargs):
        if isinstance(backend, str):
            backend = ",".join(dict.fromkeys(backend.split(",")))
        return stock(backend, *args, **kwargs)

    return init_process_group


@proves(name_each_device_once)
def _stock_refuses_a_device_twice(stock: Callable) -> bool:
    from torch.distributed.distributed_c10d import BackendConfig

    try:
        BackendConfig("cpu:gloo,cpu:gloo")
    except ValueError:
        return True
    return False

"""CPU lane: the process group of one device. No upstream thread is known."""

from __future__ import annotations

from collections.abc import Callable

from mllm4d_verl.cpu_lane.environment import cpu_platform_selected
from mllm4d_verl.verl_compat.adaptation import adapts, proves


@adapts("torch.distributed", "init_process_group", where=cpu_platform_selected, known={"torch": ">=2.11,<=2.13"})
def name_each_device_once(stock: Callable) -> Callable:
    """verl asks for the process group "cpu:gloo,<device>:<backend>"; on a CPU that names the CPU twice, which torch
    refuses (verl/utils/distributed.py). Here a repeated entry is dropped."""

    def init_process_group(backend=None, *args, **kwargs):
        if isinstance(backend, str):
            backend = ",".join(dict.fromkeys(backend.split(",")))
        return stock(backend, *args, **kwargs)

    return init_process_group


@proves(name_each_device_once)
def _a_device_twice_is_refused(init_process_group: Callable) -> bool:
    import torch.distributed as dist

    if dist.is_initialized():
        raise RuntimeError("this process has a process group already")
    try:
        init_process_group("cpu:gloo,cpu:gloo", store=dist.HashStore(), rank=0, world_size=1)
    except ValueError:
        return True
    dist.destroy_process_group()
    return False

"""A CPU platform for verl, chosen by VERL_PLATFORM=cpu and never detected by itself."""

from __future__ import annotations

import os
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from verl.plugin.platform import PlatformBase, PlatformRegistry

_NOTHING_TO_DO = (
    "set_device",
    "synchronize",
    "empty_cache",
    "ipc_collect",
    "reset_peak_memory_stats",
    "set_per_process_memory_fraction",
)
_NOTHING_TO_COUNT = ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved")


class CpuDeviceModule(ModuleType):
    """`torch.cpu` with the rest of what verl calls on `torch.cuda`: device memory is none, waiting is needless."""

    def __init__(self) -> None:
        super().__init__("mllm4d_verl.cpu_lane.device")
        for name in _NOTHING_TO_DO:
            setattr(self, name, lambda *args, **kwargs: None)
        for name in _NOTHING_TO_COUNT:
            setattr(self, name, lambda *args, **kwargs: 0)
        self.get_rng_state = lambda *device: torch.get_rng_state()
        self.set_rng_state = lambda state, *device: torch.set_rng_state(state)
        self.manual_seed = self.manual_seed_all = lambda seed: torch.manual_seed(seed)

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        """One "device" per process of this node."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

    def current_device(self) -> torch.device:
        return torch.device("cpu")

    def mem_get_info(self, *device: Any) -> tuple[int, int]:
        """Free and total memory of the machine, bytes."""
        import psutil

        memory = psutil.virtual_memory()
        return memory.available, memory.total

    def get_device_name(self, *device: Any) -> str:
        return "cpu"

    def get_device_properties(self, *device: Any) -> None:
        return None

    def __getattr__(self, name: str) -> Any:  # Stream, stream, current_stream, Event
        return getattr(torch.cpu, name)


_DEVICE = CpuDeviceModule()


@PlatformRegistry.register(platform="cpu")
class PlatformCPU(PlatformBase):
    """What verl asks of a platform, answered for a machine without an accelerator."""

    @property
    def device_name(self) -> str:
        return "cpu"

    @property
    def vendor_name(self) -> str:
        return "cpu"

    @property
    def device_module(self) -> ModuleType:
        return _DEVICE

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        return False  # a machine with a GPU must not fall back to this one by itself

    def current_device(self) -> torch.device:
        return torch.device("cpu")

    def device_count(self) -> int:
        return _DEVICE.device_count()

    def set_device(self, device_index: int) -> None:
        pass

    def synchronize(self, device_index: int | None = None) -> None:
        pass

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        pass

    def empty_cache(self) -> None:
        pass

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        return (None, None)

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg: str):
        yield

    def profiler_start(self) -> None:
        pass

    def profiler_stop(self) -> None:
        pass

    def ray_resource_name(self) -> str:
        # verl/single_controller/ray/base.py knows "GPU" and "NPU" only. Ray lets a machine declare logical GPUs
        # (ray_kwargs.ray_init.num_gpus), which is what the tiny_cpu recipe does.
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False  # weights travel to vLLM through POSIX shared memory

    def rollout_env_vars(self) -> dict[str, str]:
        return {}

    def cudart(self) -> Any:
        return None

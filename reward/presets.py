"""The three presets: which formula makes the score, and its weights."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .accuracy import accuracy_reward
from .geometry import CenterScore, score_centers
from .released import (
    released_accuracy_reward,
    released_camera_center_reward,
    released_format_reward,
    released_object_center_reward,
)
from .response import Response
from .structure import format_reward
from .truth import Truth

DEFAULT_PRESET = "mllm4d_st"


@dataclass(frozen=True)
class Scored:
    """One response and its truth, raw and read; what every preset starts from."""

    text: str
    response: Response
    raw_truth: Mapping[str, Any]
    truth: Truth
    camera: CenterScore
    object: CenterScore


Weights = Mapping[str, float]
Components = dict[str, float]


@dataclass(frozen=True)
class Preset:
    """A named reward.

    Attributes:
        summary: one line for lists and help texts.
        weights: every number of the formula that can be overridden, with its default.
        components: computes format, accuracy, camera_center, object_center, st and score.
    """

    name: str
    summary: str
    weights: Weights
    components: Callable[[Scored, Weights], Components]


def released_components(sample: Scored, weights: Weights) -> Components:
    """Weighted sum of the released code's four components (module `released`)."""
    parts = {
        "format": released_format_reward(sample.text),
        "accuracy": released_accuracy_reward(sample.text, sample.raw_truth),
        "camera_center": released_camera_center_reward(sample.text, sample.raw_truth),
        "object_center": released_object_center_reward(sample.text, sample.raw_truth),
    }
    score = sum(weights[f"{name}_weight"] * value for name, value in parts.items())
    return {**parts, "st": _mean_of_centers(parts, weights), "score": score}


def gated_components(sample: Scored, weights: Weights) -> Components:
    r"""The default reward: nothing without the right answer in the right form, more for the right geometry.

        score = format * accuracy * (1 - st_weight + st_weight * st)
        st    = sum_k(w_k i_k value_k) / sum_k(w_k i_k)     over the centres k that the question needs

    i_k is the informativeness of the truth (see `score_centers`): a still camera says little about what was seen. With
    nothing needed st is 1. The product gives a group without a right answer no variance, hence no gradient, and DAPO's
    filter on `acc` drops exactly the groups that differ in nothing but decoration.
    """
    camera, object_ = sample.camera, sample.object
    camera_share = weights["camera_center_weight"] * camera.informativeness
    object_share = weights["object_center_weight"] * object_.informativeness
    shares = camera_share + object_share
    st = (camera_share * camera.value + object_share * object_.value) / shares if shares > 0 else 1.0
    form, accuracy = format_reward(sample.response), accuracy_reward(sample.response, sample.truth)
    return {
        "format": form,
        "accuracy": accuracy,
        "camera_center": camera.value,
        "object_center": object_.value,
        "st": st,
        "score": form * accuracy * (1.0 - weights["st_weight"] + weights["st_weight"] * st),
    }


def _mean_of_centers(parts: Components, weights: Weights) -> float:
    camera, object_ = weights["camera_center_weight"], weights["object_center_weight"]
    if camera + object_ <= 0:
        return 0.0
    return (camera * parts["camera_center"] + object_ * parts["object_center"]) / (camera + object_)


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="mllm4d_st",
            summary="gated and relative to the scene's scale; the default",
            weights={
                "st_weight": 0.3,  # the paper's share of the ST-reward
                "camera_center_weight": 0.5,  # relative to object_center_weight
                "object_center_weight": 0.5,
                "floor_m": 0.1,  # metres: printing and tracking noise
                "relative_scale": 0.5,  # half the true length is one unit of error
            },
            components=gated_components,
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
            components=released_components,
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
            components=released_components,
        ),
    )
}


def get_preset(name: str) -> Preset:
    """The preset of that name. Raises ValueError with a suggestion and the list of presets."""
    if isinstance(name, str) and name in PRESETS:
        return PRESETS[name]
    raise ValueError(f"unknown reward preset {name!r}{_suggest(name, PRESETS)}. Presets: {', '.join(PRESETS)}")


def merge_weights(preset: Preset, overrides: Mapping[str, float]) -> dict[str, float]:
    """The preset's weights with overrides.

    Raises ValueError, naming the weight, if an override is unknown, not a finite number, negative, or out of its range
    (st_weight at most 1, floor_m above 0).
    """
    merged = dict(preset.weights)
    for name, value in overrides.items():
        if name not in merged:
            known = ", ".join(merged)
            raise ValueError(f"preset {preset.name!r} has no weight {name!r}{_suggest(name, merged)}. Weights: {known}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
            raise ValueError(f"{name} is {value!r}: give a finite number that is not negative")
        merged[name] = float(value)
    if merged.get("st_weight", 0.0) > 1.0:
        raise ValueError(f"st_weight is {merged['st_weight']!r}: it is a share of the score, at most 1")
    if merged.get("floor_m", 1.0) == 0.0:
        raise ValueError("floor_m is 0: give a length above 0 metres, or a still scene has no scale")
    return merged


def _suggest(name: object, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(str(name), known, n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def score_both_centers(response: Response, truth: Truth, weights: Weights) -> tuple[CenterScore, CenterScore]:
    """Camera and object score, with the preset's scale where it has one."""
    defaults = PRESETS[DEFAULT_PRESET].weights
    floor_m = weights.get("floor_m", defaults["floor_m"])
    relative_scale = weights.get("relative_scale", defaults["relative_scale"])
    return (
        score_centers(response.camera_center, truth.camera_center, floor_m, relative_scale),
        score_centers(response.object_center, truth.object_center, floor_m, relative_scale),
    )

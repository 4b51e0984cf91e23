"""ST-reward: a response and its truth in, one dict of numbers out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .components import Component, ComponentError, RewardConfigError, resolve_components, warn_once
from .geometry import score_centers
from .parser import parse_response
from .presets import DEFAULT_PRESET, PRESETS, Sample, get_preset, merge_weights
from .response import Response, make
from .truth import Truth, read_truth

RESULT_KEYS = (
    "score", "acc", "format", "accuracy", "camera_center", "object_center", "st",
    "has_answer", "well_tagged", "written_slots", "malformed_spots", "camera_center_needed", "object_center_needed",
    "camera_center_error_m", "object_center_error_m", "response_chars", "released_fault", "component_errors",
)  # fmt: skip
ACC_THRESHOLD = 0.5  # of accuracy, which is a fraction for numbers without options only


class STReward:
    """Scores responses with one preset and any components of yours. Picklable if they are, safe to share by threads.

    Args:
        preset: "mllm4d_st" (default), "official" or "paper".
        components: what is added to the preset: see `resolve_components` for all the ways to name a component.
        **weights: weights to change, those of the preset (`st_weight=0.5`; see `PRESETS[preset].weights`) and those of
            the components (`<name>_weight`).

    Raises:
        RewardConfigError: unknown preset, weight, component or option, or a value out of range. It is a ValueError.

    Example:
        >>> reward = STReward("mllm4d_st")
        >>> text = "<thinking>It comes closer.</thinking><answer>B</answer>"
        >>> result = reward(text, {"answer": "B", "camera_center": None, "object_center": None})
        >>> result["acc"], result["format"], result["score"]
        (1.0, 0.5, 0.5)
    """

    def __init__(self, preset: str = DEFAULT_PRESET, components: Any = None, **weights: float) -> None:
        self._arguments = preset, components, weights
        self.preset = get_preset(preset)
        self.components = resolve_components(components)
        for component in self.components:
            if component.name in RESULT_KEYS or f"{component.name}_weight" in self.preset.weights:
                raise RewardConfigError(f"a component cannot be named {component.name!r}: the score dict has that key")
        self.weights = merge_weights(self.preset, self.components, weights)
        # Presets without a scale of their own still report errors and needs, which do not depend on it.
        scale = {**PRESETS[DEFAULT_PRESET].weights, **self.weights}
        self._floor_m, self._relative_scale = scale["floor_m"], scale["relative_scale"]

    def __reduce__(self) -> tuple[Any, ...]:
        # Made anew from its arguments: the module of a component's file has no name that another process could import.
        return _make, self._arguments

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of every result, in order."""
        return RESULT_KEYS + tuple(
            key for component in self.components for key in (component.name, f"{component.name}_applies")
        )

    def sample(self, response: str, truth: Any) -> Sample:
        """The response and its truth as read, and its centres as scored: what the preset starts from."""
        parsed, read = parse_response(response), read_truth(truth)
        floor_m, relative_scale = self._floor_m, self._relative_scale
        initial, final = parsed.initial, parsed.final
        camera = score_centers((initial[0], final[0]), read.camera_center, floor_m, relative_scale)
        object_ = score_centers((initial[1], final[1]), read.object_center, floor_m, relative_scale)
        return make(Sample, (parsed, truth, read, camera, object_))

    def __call__(self, response: str, truth: Mapping[str, Any]) -> dict[str, float]:
        """Score one response. Never raises on what a model wrote or on a bad truth; every value is finite.

        Args:
            response: the model's text, without the prompt.
            truth: answer; camera_center and object_center, each [[x, y, z] | None, [x, y, z] | None] or None;
                optionally options, answer_text, value, task. Unusable parts (NaN, wrong shape) count as unknown;
                `validate_truth` reports them.

        Returns:
            The same keys for every sample. Rewards: score, acc (0 or 1), format, accuracy, camera_center,
            object_center, st. Observed: has_answer, well_tagged, written_slots (0 to 4), malformed_spots,
            camera_center_needed and object_center_needed (true slots, 0 to 2), response_chars, and
            camera_center_error_m and object_center_error_m: mean over slots both needed and stated, cut at 1e6, -1 when
            there is nothing to measure. released_fault: 1 where the released code would have raised or returned NaN
            (presets official and paper; the score is 0 then). For each component <name> (0 where it does not apply) and
            <name>_applies; component_errors counts components that raised or returned no finite number.
        """
        sample = self.sample(response, truth)
        parsed, _, read, camera, object_ = sample
        gate, base, form, accuracy, camera_center, object_center, st, fault = self.preset.parts(sample, self.weights)
        result = {
            "score": gate * base,
            "acc": 1.0 if accuracy >= ACC_THRESHOLD else 0.0,
            "format": form,
            "accuracy": accuracy,
            "camera_center": camera_center,
            "object_center": object_center,
            "st": st,
            "has_answer": 0.0 if parsed.answer is None else 1.0,
            "well_tagged": 1.0 if parsed.well_tagged else 0.0,
            "written_slots": float(parsed.written_slots),
            "malformed_spots": float(len(parsed.malformed)),
            "camera_center_needed": float(camera.needed),
            "object_center_needed": float(object_.needed),
            "camera_center_error_m": camera.error_m,
            "object_center_error_m": object_.error_m,
            "response_chars": float(len(parsed.text)),
            "released_fault": fault,
            "component_errors": 0.0,
        }
        if self.components:
            self._add_components(result, gate, base, parsed, read)
        return result

    def _add_components(
        self, result: dict[str, float], gate: float, base: float, response: Response, truth: Truth
    ) -> None:
        earned = shares = lost = 0.0
        for component in self.components:
            value = self._value(component, response, truth, result)
            result[component.name] = 0.0 if value is None else value
            result[f"{component.name}_applies"] = 0.0 if value is None else 1.0
            if value is None or component.kind == "metric":
                continue
            weight = self.weights[f"{component.name}_weight"]
            if component.kind == "penalty":
                lost += weight * value
            else:
                earned += weight * value
                shares += weight
        score = gate * (base + earned) / (1.0 + shares if self.preset.is_gated else 1.0)
        result["score"] = score - lost

    def _value(self, component: Component, response: Response, truth: Truth, result: dict[str, float]) -> float | None:
        try:
            return component(response, truth)
        except ComponentError as failure:
            result["component_errors"] += 1.0
            warn_once(
                f"reward component {component.name!r} ({component.defined_in}) failed: {failure}; it does not count"
            )
            return None

    def __repr__(self) -> str:
        weights = ", ".join(f"{name}={value:g}" for name, value in self.weights.items())
        return f"STReward({self.preset.name!r}, {weights})"


def _make(preset: str, components: Any, weights: Mapping[str, float]) -> STReward:
    return STReward(preset, components, **weights)

"""ST-reward: a response and its truth in, one dict of numbers out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .parser import parse_response
from .presets import DEFAULT_PRESET, Scored, get_preset, merge_weights, score_both_centers
from .truth import read_truth


class STReward:
    """Scores responses with one preset. Picklable, without state, safe to share between threads.

    Args:
        preset: "mllm4d_st" (default), "official" or "paper".
        **overrides: weights of that preset to change, such as `st_weight=0.5`; see `PRESETS[preset].weights`.

    Raises:
        ValueError: unknown preset, unknown weight, or a weight out of range.

    Example:
        >>> reward = STReward("mllm4d_st")
        >>> text = "<thinking>It comes closer.</thinking><answer>B</answer>"
        >>> result = reward(text, {"answer": "B", "camera_center": None, "object_center": None})
        >>> result["acc"], result["format"], result["score"]
        (1.0, 0.5, 0.5)
    """

    def __init__(self, preset: str = DEFAULT_PRESET, **overrides: float) -> None:
        self.preset = get_preset(preset)
        self.weights = merge_weights(self.preset, overrides)

    def __call__(self, response: str, truth: Mapping[str, Any]) -> dict[str, float]:
        """Score one response. Never raises on what a model wrote or on a bad truth; every value is finite.

        Args:
            response: the model's text, without the prompt.
            truth: answer; camera_center and object_center, each [[x, y, z] | None, [x, y, z] | None] or None;
                optionally options, answer_text. Unusable parts (NaN, wrong shape) count as unknown; `validate_truth`
                reports them.

        Returns:
            The same keys for every preset and every sample. Rewards: score, acc (0 or 1), format, accuracy,
            camera_center, object_center, st. Observed: has_answer, well_tagged, written_slots (0 to 4),
            malformed_spots, camera_center_needed and object_center_needed (true slots, 0 to 2), response_chars, and
            camera_center_error_m and object_center_error_m: mean over slots both needed and stated, cut at 1e6, -1 when
            there is nothing to measure.
        """
        text = response if isinstance(response, str) else ""
        parsed, read = parse_response(text), read_truth(truth)
        camera, object_ = score_both_centers(parsed, read, self.weights)
        raw_truth = truth if isinstance(truth, Mapping) else {}
        sample = Scored(text, parsed, raw_truth, read, camera, object_)
        parts = self.preset.components(sample, self.weights)
        return {
            "score": parts["score"],
            "acc": parts["accuracy"],
            "format": parts["format"],
            "accuracy": parts["accuracy"],
            "camera_center": parts["camera_center"],
            "object_center": parts["object_center"],
            "st": parts["st"],
            "has_answer": float(parsed.answer is not None),
            "well_tagged": float(parsed.well_tagged),
            "written_slots": float(parsed.written_slots),
            "malformed_spots": float(len(parsed.malformed)),
            "camera_center_needed": float(camera.needed),
            "object_center_needed": float(object_.needed),
            "camera_center_error_m": camera.error_m,
            "object_center_error_m": object_.error_m,
            "response_chars": float(len(text)),
        }

    def __repr__(self) -> str:
        weights = ", ".join(f"{name}={value:g}" for name, value in self.weights.items())
        return f"STReward({self.preset.name!r}, {weights})"

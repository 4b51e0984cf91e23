"""ST-reward: score a spatio-temporal response against its truth. Pure Python, importable anywhere."""

from .accuracy import accuracy_reward, chosen_option, match_answer, mean_relative_accuracy
from .aggregate import OTHER_SOURCE, mean_results
from .components import Component, RewardConfigError, known_components, reward_component
from .explain import Explanation, Mark, Step, explain
from .geometry import CenterScore, camera_center_reward, object_center_reward, score_centers
from .motion import (
    displacement_direction_reward,
    displacement_magnitude_reward,
    metric_centers_reward,
    trajectory_reward,
)
from .parser import parse_response
from .penalties import overlong_penalty, repetition_penalty
from .presets import DEFAULT_PRESET, PRESETS
from .response import Answer, Malformed, Missing, Null, Response, State, Vector
from .st_reward import STReward
from .structure import format_reward
from .truth import Truth, TruthError, TruthProblem, read_truth, truth_problems, validate_truth

__all__ = [
    "DEFAULT_PRESET",
    "OTHER_SOURCE",
    "PRESETS",
    "Answer",
    "CenterScore",
    "Component",
    "Explanation",
    "Malformed",
    "Mark",
    "Missing",
    "Null",
    "Response",
    "RewardConfigError",
    "STReward",
    "State",
    "Step",
    "Truth",
    "TruthError",
    "TruthProblem",
    "Vector",
    "accuracy_reward",
    "camera_center_reward",
    "chosen_option",
    "displacement_direction_reward",
    "displacement_magnitude_reward",
    "explain",
    "format_reward",
    "known_components",
    "match_answer",
    "mean_relative_accuracy",
    "mean_results",
    "metric_centers_reward",
    "object_center_reward",
    "overlong_penalty",
    "parse_response",
    "read_truth",
    "repetition_penalty",
    "reward_component",
    "score_centers",
    "trajectory_reward",
    "truth_problems",
    "validate_truth",
]

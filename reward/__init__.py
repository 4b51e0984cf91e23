"""ST-reward: score a spatio-temporal response against its truth. Pure Python, importable anywhere."""

from .accuracy import accuracy_reward, match_answer
from .geometry import CenterScore, camera_center_reward, object_center_reward, score_centers
from .parser import parse_response
from .presets import DEFAULT_PRESET, PRESETS
from .response import Answer, Malformed, Missing, Null, Response, State, Vector
from .st_reward import STReward
from .structure import format_reward
from .truth import Truth, TruthError, TruthProblem, read_truth, truth_problems, validate_truth

__all__ = [
    "DEFAULT_PRESET",
    "PRESETS",
    "Answer",
    "CenterScore",
    "Malformed",
    "Missing",
    "Null",
    "Response",
    "STReward",
    "State",
    "Truth",
    "TruthError",
    "TruthProblem",
    "Vector",
    "accuracy_reward",
    "camera_center_reward",
    "format_reward",
    "match_answer",
    "object_center_reward",
    "parse_response",
    "read_truth",
    "score_centers",
    "truth_problems",
    "validate_truth",
]

"""What a recipe costs before anything is downloaded or started, and whether a machine has it.

Parameters, tokens of a prompt, memory of a GPU, KV cache of the rollout engine, host memory of a step and of a
validation, shared memory, and disk of the checkpoints.
"""

from .checks import Finding
from .engine import EngineAnswer, EngineQuestion, ask_vllm, ask_vllm_outside, estimate
from .gpu import MemoryBudget
from .host import HostBudget
from .machine import GIB, Machine, recipe_machine, this_machine
from .model import ParameterCounts, count_parameters, read_model_config
from .report import RecipeBudget, config_budget, recipe_budget
from .tokens import TokenBudget, video_bytes

__all__ = [
    "GIB",
    "EngineAnswer",
    "EngineQuestion",
    "Finding",
    "HostBudget",
    "Machine",
    "MemoryBudget",
    "ParameterCounts",
    "RecipeBudget",
    "TokenBudget",
    "ask_vllm",
    "ask_vllm_outside",
    "config_budget",
    "count_parameters",
    "estimate",
    "read_model_config",
    "recipe_budget",
    "recipe_machine",
    "this_machine",
    "video_bytes",
]

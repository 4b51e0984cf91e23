"""ST-CoT texts by rule: visual cues of a frame pair, and reasoning in five steps written from them."""

from .compact import fixed_phrases
from .cues import ClipCues, are_cues, find_cues
from .phrases import TaskWords, add_task_words
from .words import noun_phrase
from .writer import STYLES, write_paths, write_st_cot

__all__ = [
    "STYLES",
    "ClipCues",
    "TaskWords",
    "add_task_words",
    "are_cues",
    "find_cues",
    "fixed_phrases",
    "noun_phrase",
    "write_paths",
    "write_st_cot",
]

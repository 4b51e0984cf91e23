"""Phrasings of the questions; each task has its own (tasks/*.py), in our own words.

Frames are named by their 0-based index among the sampled ones, the last index beside the first mention ("frame 3 of
31"), as released questions do. A phrasing that says "in meters" takes bare numbers as options.
"""

from __future__ import annotations

from ..schema import TASKS
from ..st_cot import noun_phrase
from .tasks import task_of

__all__ = ["TEMPLATES", "noun_phrase"]

TEMPLATES: dict[str, tuple[str, ...]] = {task: task_of(task).templates for task in TASKS}

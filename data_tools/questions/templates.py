"""Phrasings of the questions; each task has its own (tasks/*.py), in our own words.

Frames are named by their 0-based index among the sampled ones, the last index beside the first mention ("frame 3 of
31"), as released questions do. A phrasing that says "in meters" takes bare numbers as options.
"""

from __future__ import annotations

from ..schema import TASKS
from .tasks import task_of

TEMPLATES: dict[str, tuple[str, ...]] = {task: task_of(task).templates for task in TASKS}


def noun_phrase(description: str) -> str:
    """A description with a determiner: "red ball" -> "the red ball"."""
    words = description.strip()
    return words if words.lower().split()[0] in ("the", "a", "an") else f"the {words}"

"""Tasks, one file each: solver, when it is asked, phrasings, options. `base.py` says what a task is."""

from .base import Asked, Refusals, Solved, Task, bands_of, solve_all, task_of

__all__ = ["Asked", "Refusals", "Solved", "Task", "bands_of", "solve_all", "task_of"]

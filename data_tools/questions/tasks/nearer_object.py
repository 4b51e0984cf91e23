"""Which of two objects is nearer to the camera at the end frame: min |A_j - c_j| against min |B_j - c_j|."""

from __future__ import annotations

from .base import Task
from .order import name_both, solve_order

TASK = Task(
    name="nearer_object",
    about="pair",
    templates=(
        "Which is nearer to the camera at frame {end} of {last}, {object} or {other}?",
        "At frame {end} of {last}, does {object} or {other} have the smaller distance from the camera?",
        "Frames run from 0 to {last}. Of {object} and {other}, which is closer to the camera at frame {end}?",
        "Look at frame {end} of {last}. Is the camera nearer to {object} or to {other}?",
    ),
    solve=solve_order,
    labels=("first", "second"),
    options=name_both,
    options_are_objects=True,
)

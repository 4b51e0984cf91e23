"""What a task is: who it asks about, its solver, its words. One file per task makes one `Task` called TASK."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import entry_points
from typing import NamedTuple

import numpy as np

from ...errors import InputError
from ...schema import EXTRA_TASKS, OTHER_TASK, TASK_ENTRY_POINTS, TASKS, known_tasks
from ..config import Thresholds
from ..geometry import Bools, ClipGeometry, Floats, Ints

#: Numeric options lie about this share of the answer apart, see options.py: noise must not carry the answer from one
#: to the next.
OPTION_STEP = 0.2
#: Times by which the deciding quantity exceeds what is needed, below which a question is hard, and medium.
BAND_MARGINS = (2.0, 5.0)

Flags = tuple[bool, bool]  # at the start frame, at the end frame
NONE: Flags = (False, False)


class Asked(NamedTuple):
    """K questions about one clip, each array (K,): sampled frames, and places in `clip.objects` (-1 for none)."""

    start: Ints
    end: Ints
    first: Ints
    second: Ints


class Refusals:
    """Why questions are not asked; the first reason counts.

    Attributes:
        codes: (K,) place in `words`; 0 for a question that is asked.
        words: reasons.
    """

    def __init__(self, count: int) -> None:
        self.codes = np.zeros(count, np.int64)
        self.words = [""]

    def where(self, mask: Bools, words: str) -> None:
        """Refuse the questions of `mask` (K,) for a reason, where none was given before."""
        self.words.append(words)
        self.codes[(self.codes == 0) & mask] = len(self.words) - 1


@dataclass
class Solved:
    """Answers to K questions, each array (K,). Where a question is refused, anything may stand.

    Attributes:
        measure: the physical quantity, in the task's unit (metres where it has words).
        label: place in the task's labels; 0 for numbers.
        margin: by how many times the deciding quantity exceeds what is needed: the larger, the easier.
        tau_m: change that still counts as "not moving", metres; NaN where no option says so.
    """

    measure: Floats
    label: Ints
    margin: Floats
    tau_m: Floats

    @classmethod
    def numbers(cls, measure: Floats, margin: Floats) -> Solved:
        """Of a task whose answers are numbers."""
        return cls(measure, np.zeros(len(measure), np.int64), margin, np.full(len(measure), np.nan))

    @classmethod
    def words(cls, measure: Floats, label: Ints, margin: Floats) -> Solved:
        """Of a task whose answers are words without a threshold that responses should know."""
        return cls(measure, label, margin, np.full(len(measure), np.nan))


@dataclass(frozen=True)
class Task:
    """One kind of question.

    Attributes:
        name: of QARow.task.
        about: "camera", "object" or "pair" (of objects): what is asked about.
        templates: phrasings with {start}, {end}, {last}, {object} and, of pairs, {other}. One that says the unit
            ("meters") takes bare numbers as options.
        solve: (geometry, K questions, thresholds, refusals) -> answers. It need not look whether objects are seen at
            both frames and well named: other questions are refused before. NaN may go in there, and out again.
        labels: the words an answer can be, of which all are options, unless `options` says otherwise; none for numbers.
        unit: of numbers.
        camera, object: whether the question needs the camera's and the (first) object's centre at start and end.
        options: (label, first noun, second noun, chance 0 or 1) -> option texts, the truth first.
        options_are_objects: whether the two objects are the options, label 0 for the first.
    """

    name: str
    about: str
    templates: tuple[str, ...]
    solve: Callable[[ClipGeometry, Asked, Thresholds, Refusals], Solved]
    labels: tuple[str, ...] = ()
    unit: str | None = None
    camera: Flags = NONE
    object: Flags = NONE
    options: Callable[[int, str, str, int], tuple[str, ...]] | None = None
    options_are_objects: bool = False

    @property
    def is_numeric(self) -> bool:
        """Whether options are numbers."""
        return not self.labels

    @cached_property
    def is_of_end_frame(self) -> bool:
        """Whether it asks about the end frame alone, so that another start frame gives the same question again."""
        return not any("{start}" in template for template in self.templates)

    def word_options(self, label: int, first: str, second: str, chance: int) -> tuple[str, ...]:
        """Texts of the options of a task with words, the truth first."""
        if self.options is not None:
            return self.options(label, first, second, chance)
        return (self.labels[label], *self.labels[:label], *self.labels[label + 1 :])


def bands_of(margin: Floats) -> Ints:
    """(K,) place in BANDS of questions by their margin."""
    return np.digitize(margin, BAND_MARGINS)


def solve_all(task: Task, geometry: ClipGeometry, asked: Asked, limits: Thresholds) -> tuple[Solved, Refusals]:
    """Answers and refusals of K questions of one task."""
    refused = Refusals(len(asked.start))
    for objects in (asked.first, asked.second)[: {"camera": 0, "object": 1, "pair": 2}[task.about]]:
        points = np.minimum(geometry.counts[objects, asked.start], geometry.counts[objects, asked.end])
        refused.where(points < limits.min_points, "object has too few points")
        refused.where(~geometry.is_unique[objects], "object description not unique")
    with np.errstate(all="ignore"):
        solved = task.solve(geometry, asked, limits, refused)
        # Nothing that is not a number is ever asked, whatever a solver forgot.
        refused.where(~np.isfinite(solved.measure), "the answer is not a number")
    return solved, refused


def changes(change: Floats, tau_m: Floats, dead_zone: float, refused: Refusals) -> Solved:
    """Signed changes as labels (negative, positive, not moving) by a threshold that none may be close to."""
    size = np.abs(change)
    refused.where(
        (size > tau_m * (1 - dead_zone)) & (size < tau_m * (1 + dead_zone)), "change too close to the threshold"
    )
    still = size <= tau_m
    label = np.where(still, 2, np.where(change < 0, 0, 1))
    margin = np.where(still, tau_m / np.maximum(size, tau_m / 8), size / tau_m)
    return Solved(change, label, margin, tau_m)


def change_tau(geometry: ClipGeometry, asked: Asked, limits: Thresholds) -> Floats:
    """(K,) threshold of "not moving", metres: absolute, or a share of the object's distance at the start."""
    near = geometry.nearest(asked.first, asked.start, asked.start)
    tau_m: Floats = np.maximum(limits.tau_m, limits.tau_relative * near)
    return tau_m


def refuse_noisy_change(
    geometry: ClipGeometry, asked: Asked, tau_m: Floats, limits: Thresholds, refused: Refusals
) -> None:
    """Refuse where the noise of camera or object exceeds the threshold."""
    noise = np.maximum(geometry.object_noise_m[asked.first], geometry.camera_noise_m)
    refused.where(limits.noise_factor * noise > tau_m, "clip too noisy to tell motion")


def refuse_small_camera_motion(
    geometry: ClipGeometry, distance: Floats, limits: Thresholds, refused: Refusals, *, number: bool
) -> Floats:
    """Refuse camera motion within the noise; (K,) margin by which it exceeds it."""
    noise = limits.noise_factor * geometry.camera_noise_m
    least = max(limits.min_motion_m, noise)
    refused.where(distance < least, "camera motion too small")
    if number:
        refused.where(noise > OPTION_STEP * distance, "clip too noisy to tell the distance")
    return distance / max(least, 1e-9)


def refuse_small_object_motion(
    geometry: ClipGeometry, objects: Ints, distance: Floats, limits: Thresholds, refused: Refusals
) -> Floats:
    """Refuse object motion within the noise; (K,) margin by which it exceeds it."""
    noise = limits.noise_factor * geometry.object_noise_m[objects]
    least = np.maximum(limits.min_motion_m, noise)
    refused.where(~geometry.is_moving[objects] | (distance < least), "object motion too small")
    refused.where(noise > OPTION_STEP * distance, "object too noisy to tell the distance")
    margin: Floats = distance / np.maximum(least, 1e-9)
    return margin


@cache
def task_of(name: str) -> Task:
    """The task of that name: ours, or one that an installed package offers under `mllm4d_verl.tasks`.

    Raises:
        InputError: no such task, or the package's entry point is not a Task of that name.
    """
    if name in (*TASKS, *EXTRA_TASKS):
        task: Task = importlib.import_module(f".{name}", __package__).TASK
        return task
    for point in entry_points(group=TASK_ENTRY_POINTS, name=name):
        offered = point.load()
        if not isinstance(offered, Task) or offered.name != name:
            raise InputError(f"the entry point {point.value} is not a Task called {name!r}", field="tasks")
        return offered
    known = [known for known in known_tasks() if known != OTHER_TASK]
    raise InputError(f"unknown tasks {[name]}", field="tasks", remedy=f"Known: {', '.join(known)}")

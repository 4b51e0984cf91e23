"""Answers to questions about estimated clips, held against what the true clips say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import InputError
from ..questions import QuestionConfig, Thresholds
from ..questions.applicability import DISTANCE_TASKS, solve
from ..questions.engine import build_with_report
from ..schema import LETTERS, Clip4D, QARow
from .check_metrics import share, spread

#: A distance is close where it differs from the true one by less than this share: about half the way to an option.
CLOSE_SHARE = 0.125
#: Takes any question that has an answer at all, however small or close to a threshold.
_ANYTHING = Thresholds(
    min_points=1, min_motion_m=0.0, noise_factor=0.0, axis_margin=0.0, dead_zone=0.0, min_distance_m=0.0
)


#: What the filter says of a change that is too close to the threshold to call.
DEAD_ZONE = "change too close to the threshold"


@dataclass(frozen=True)
class AnswerCheck:
    """One question of an estimated clip, held against the truth.

    Attributes:
        task: of the question.
        outcome: "same" or "other" option; "no such object" where the asked object is none of the true ones, "no answer"
            where the truth cannot tell (the object does not move or does not show at one of the frames).
        not_asked: why the question would not be asked of the true clip, None where it would.
        truth: the truth's option or word, None where it has none.
        true_value: metres; signed change where the answer is a word.
        error: |answer - truth| / truth of a distance, None elsewhere.
    """

    task: str
    outcome: str
    not_asked: str | None
    truth: str | None = None
    true_value: float | None = None
    error: float | None = None

    @property
    def agrees(self) -> bool:
        """Whether the answer is the truth's option."""
        return self.outcome == "same"

    @property
    def fault(self) -> str:
        """What kind of wrong answer this is: the outcome, or that the truth is too close to the threshold."""
        return "dead zone" if self.outcome == "other" and self.not_asked == DEAD_ZONE else self.outcome


def questions_of(clips: Iterable[Clip4D], num_frames: int, seed: int) -> list[QARow]:
    """Every question that the filter lets through, options and all: no caps, no balance; none where nothing is left."""
    plenty = 10**9
    config = QuestionConfig(
        seed=seed,
        num_frames=num_frames,
        max_per_clip=plenty,
        max_per_clip_task=plenty,
        val_fraction=0.0,
        test_fraction=0.0,
        balance_ratio=float("inf"),
    )
    try:
        return build_with_report(clips, config)[0]
    except InputError as error:
        if error.problem.startswith("no question can be asked"):
            return []
        raise


def check_answer(row: QARow, true: Clip4D, identities: dict[int, int]) -> AnswerCheck:
    """What the true clip says to a question that was made of the estimated one.

    The true value comes from the same solvers without any of their limits. Its option is the one with its word, or the
    number nearest to it.

    Args:
        row: as `questions_of` makes it, `meta` with object_id, clip_frames and tau_m.
        true: clip with the frames of the estimated one.
        identities: estimated -> true object id, as `match_identities` finds them.
    """
    i, j = row.meta["clip_frames"]
    track = None
    if "object_id" in row.meta:
        number = identities.get(row.meta["object_id"])
        track = next((item for item in true.objects if item.id == number), None)
        if track is None:
            return AnswerCheck(row.task, "no such object", "no such object")
        # Alone, its words are unique: the truth is asked about this object, whatever the others are called.
        true = replace(true, objects=[track])
    # The threshold is the question's own: which changes are "not moving" is part of what was asked.
    own = {"tau_m": row.meta["tau_m"], "tau_relative": 0.0} if "tau_m" in row.meta else {}
    strict = solve(row.task, true, i, j, track, replace(Thresholds(), **own))
    not_asked = strict if isinstance(strict, str) else None
    solution = solve(row.task, true, i, j, track, replace(_ANYTHING, **own))
    if isinstance(solution, str):
        return AnswerCheck(row.task, "no answer", not_asked or solution)
    if row.task not in DISTANCE_TASKS:
        outcome = "same" if solution.label == row.answer_text else "other"
        return AnswerCheck(row.task, outcome, not_asked, solution.label, solution.measure)
    numbers = np.array([float(option.split()[0]) for option in row.options])
    nearest = int(np.argmin(np.abs(numbers - solution.measure)))
    outcome = "same" if LETTERS[nearest] == row.answer else "other"
    assert row.value is not None
    error = abs(row.value - solution.measure) / solution.measure if solution.measure > 0 else float("inf")
    return AnswerCheck(row.task, outcome, not_asked, row.options[nearest], solution.measure, error)


def answer_figures(checks: Sequence[AnswerCheck]) -> dict[str, Any]:
    """Shares over questions, and the same by task.

    * agreement: the answer is the truth's option. Questions about objects that do not exist, and those the truth has no
      answer to, count as wrong.
    * agreement_asked: the same over the questions that would also be asked of the true clip.
    * not_asked: why the others would not -> how many.
    * dead_zone: questions whose truth lies in the dead zone around the threshold.
    * faults: kind of wrong answer -> how many; "dead zone" are those of them that lie there.
    * distances_within: share of the distances that are within 12.5% of the truth. Where the answer is the largest or
      smallest option, a truth far beyond it picks the same; this is the figure that sees it.
    """

    def summary(members: Sequence[AnswerCheck]) -> dict[str, Any]:
        asked = [check for check in members if check.not_asked is None]
        errors = [check.error for check in members if check.error is not None]
        return {
            "questions": len(members),
            "agreement": share(sum(check.agrees for check in members), len(members)),
            "questions_asked": len(asked),
            "agreement_asked": share(sum(check.agrees for check in asked), len(asked)),
            "no_such_object": sum(check.outcome == "no such object" for check in members),
            "dead_zone": sum(check.not_asked == DEAD_ZONE for check in members),
            "faults": dict(Counter(check.fault for check in members if not check.agrees).most_common()),
            "not_asked": dict(Counter(check.not_asked for check in members if check.not_asked).most_common()),
            "distances_within": share(sum(error < CLOSE_SHARE for error in errors), len(errors)),
            **spread("distance_error", errors),
        }

    tasks = sorted({check.task for check in checks})
    return summary(checks) | {"tasks": {task: summary([c for c in checks if c.task == task]) for task in tasks}}


def disagreement(row: QARow, check: AnswerCheck, identities: dict[int, int]) -> dict[str, Any]:
    """A wrong answer as a record: the question, both objects, both answers, both values in metres, and the fault."""
    number = row.meta.get("object_id")
    return {
        "id": row.id,
        "clip_id": row.clip_id,
        "task": row.task,
        "clip_frames": row.meta["clip_frames"],
        "object_id": number,
        "object": row.object_description,
        "true_object_id": None if number is None else identities.get(number),
        "answer": row.answer_text,
        "truth": check.truth,
        "value": row.meta["measure"],
        "true_value": check.true_value,
        "tau_m": row.meta.get("tau_m"),
        "fault": check.fault,
    }

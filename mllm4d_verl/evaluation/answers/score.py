"""Scores responses to benchmark items: the verdict of the rules, and how right it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from mllm4d_verl.evaluation.benchmarks.base import NUMBER, UNREADABLE, Item

from .choice import read_choice
from .number import number_score, read_number
from .verdict import Verdict

_CHUNK = 5000  # responses a process takes at a time
_WORTH_A_POOL = 20_000  # below, starting processes takes longer than scoring


class Score(NamedTuple):
    """How right one response is.

    Attributes:
        verdict: what it commits to.
        correct: 1.0 or 0.0 for options; mean relative accuracy in [0, 1] for numbers; 0.0 for an invalid response.
    """

    verdict: Verdict
    correct: float


def score_answer(item: Item | _Lean, response: str) -> Score:
    """Verdict and score of one response to one item."""
    if item.kind == UNREADABLE:
        return Score(Verdict(reason="unreadable question"), 0.0)
    if item.kind == NUMBER:
        verdict = read_number(response, item.unit)
        return Score(verdict, number_score(verdict.number, item.value or 0.0))
    verdict = read_choice(response, item.options)
    return Score(verdict, float(verdict.choice in item.right_letters))


def score_answers(items: Sequence[Item], responses: Sequence[str], workers: int | None = None) -> list[Score]:
    """Scores in the order given.

    Args:
        items, responses: item by item.
        workers: processes; None takes all cores where there are enough responses to make them worth starting.
    """
    if len(items) != len(responses):
        raise ValueError(f"{len(items)} items but {len(responses)} responses")
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if len(items) >= _WORTH_A_POOL else 1
    if workers <= 1:
        return _score_chunk(items, responses)
    lean = {id(item): _Lean.of(item) for item in items}  # without question and truth: little to send to a process
    chunks = (
        ([lean[id(item)] for item in items[start : start + _CHUNK]], responses[start : start + _CHUNK])
        for start in range(0, len(items), _CHUNK)
    )
    with ProcessPoolExecutor(workers) as pool:
        scored = pool.map(_score_compactly, *zip(*chunks, strict=True))
        return [distinct[index] for distinct, indices in scored for index in indices]


class _Lean(NamedTuple):
    """What scoring needs of an item."""

    kind: str
    options: tuple[str, ...]
    unit: str | None
    value: float | None
    right_letters: frozenset[str]

    @classmethod
    def of(cls, item: Item) -> _Lean:
        return cls(item.kind, item.options, item.unit, item.value, item.right_letters)


def _score_compactly(items: Sequence[_Lean], responses: Sequence[str]) -> tuple[list[Score], list[int]]:
    """The different scores, and which of them each response has: few objects to send back."""
    place: dict[Score, int] = {}
    indices = [place.setdefault(score, len(place)) for score in _score_chunk(items, responses)]
    return list(place), indices


def _score_chunk(items: Sequence[Item | _Lean], responses: Sequence[str]) -> list[Score]:
    return [score_answer(item, response) for item, response in zip(items, responses, strict=True)]

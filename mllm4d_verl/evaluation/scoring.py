"""Scores responses: which option each one commits to, whether it is right, and what reward it earns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import LETTERS
from mllm4d_verl.reward import DEFAULT_PRESET, STReward, Truth, read_truth

from .answers import number_score, read_choice, read_number
from .benchmarks.base import fold
from .responses import ResponseRecord


def score_records(records: Iterable[ResponseRecord], preset: str = DEFAULT_PRESET) -> list[ResponseRecord]:
    """Copies of `records` with `scores` filled in, whatever they held before.

    Raises:
        InputError: unknown preset.
    """
    try:
        reward = STReward(preset=preset)
    except ValueError as error:
        raise InputError(str(error), field="--preset") from error
    return [replace(record, scores=score_record(record, reward)) for record in records]


def score_record(record: ResponseRecord, reward: STReward) -> dict[str, Any]:
    """Scores of one response. The keys are the same for every record.

    Which option a response commits to is read by the rules for benchmarks (`answers.read_choice`), as for any other
    model. The reward reads for itself, and is stricter by design: it pays for one answer inside the tags only.

    Returns:
        choice: letter of the option the response commits to, None if it commits to none (an invalid response).
        number: the number stated, where the question asks for one; else None.
        valid: whether it commits to an answer.
        rule, reason: which rule found it, or why the response is invalid.
        correct: 1.0 for the right option, else 0.0; for numbers their mean relative accuracy. Not the preset's.
        reward: the dict of STReward: score, acc, format, the components, errors of the centres in metres.
    """
    truth = read_truth(record.truth)
    if truth.value is not None and not truth.options and truth.letter is None:
        verdict = read_number(record.response, record.truth.get("unit"))
        correct = number_score(verdict.number, truth.value)
    else:
        verdict = read_choice(record.response, truth.options)
        correct = float(verdict.choice is not None and _is_right(verdict.choice, truth))
    return {
        "choice": verdict.choice,
        "number": verdict.number,
        "valid": verdict.is_valid,
        "rule": verdict.rule,
        "reason": verdict.reason,
        "correct": correct,
        "reward": reward(record.response, record.truth),
    }


def _is_right(choice: str, truth: Truth) -> bool:
    """The right letter, or that of an option with the very same text."""
    if choice == truth.letter:
        return True
    index = LETTERS.index(choice)
    return index < len(truth.options) and fold(truth.options[index]) == fold(truth.answer_text or "")

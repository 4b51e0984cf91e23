"""Guesses from text alone: each learns on some rows of a task and gives every option of others a score."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from .rows import BlindRows, number_in

Scores = list[np.ndarray]
Guess = Callable[[BlindRows, BlindRows], Scores]


def majority_letter(train: BlindRows, test: BlindRows) -> Scores:
    """The commonest place of the right option."""
    counts = np.bincount(train.answers, minlength=16)
    return [counts[: len(options)].astype(float) for options in test.options]


def majority_answer(train: BlindRows, test: BlindRows) -> Scores:
    """The option whose text is right most often where it is offered."""
    share = _answer_shares(train, [""] * len(train))
    return [np.array([share["", option] for option in options]) for options in test.options]


def template_prior(train: BlindRows, test: BlindRows) -> Scores:
    """The same within a phrasing, whatever object and frames it names."""
    templates = train.templates()
    share = _answer_shares(train, templates)
    overall = _answer_shares(train, [""] * len(train))
    return [
        np.array([share.get((template, option), overall["", option]) for option in options])
        for template, options in zip(test.templates(), test.options, strict=True)
    ]


def number_rank(train: BlindRows, test: BlindRows) -> Scores:
    """The commonest rank of the right number among its options."""
    counts: Counter[int] = Counter()
    for options, answer in zip(train.options, train.answers, strict=True):
        counts[int(_ranks(options)[answer])] += 1
    return [np.array([counts[rank] for rank in _ranks(options).tolist()], float) for options in test.options]


def typical_number(train: BlindRows, test: BlindRows) -> Scores:
    """The option nearest to the median right number of the task."""
    truth = [number_in(options[answer]) for options, answer in zip(train.options, train.answers, strict=True)]
    finite = np.array(truth)[np.isfinite(truth)]
    middle = float(np.median(finite)) if len(finite) else 0.0
    return [-np.nan_to_num(np.abs(_numbers(options) - middle)) for options in test.options]


def median_option(train: BlindRows, test: BlindRows) -> Scores:
    """The option nearest to the median of its own row."""
    return [-np.nan_to_num(np.abs(v - np.median(v))) for v in map(_numbers, test.options)]


def bag_of_words(train: BlindRows, test: BlindRows) -> Scores:
    """Logistic regression over words of question with option, and the shape of the options."""
    from scipy.sparse import hstack
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    model = LogisticRegression(C=0.3, max_iter=200, solver="liblinear")
    model.fit(hstack([_words(train), _shape(train)]).tocsr(), _is_right(train))
    return _per_row(model.decision_function(hstack([_words(test), _shape(test)]).tocsr()), test)


def boosted_shape(train: BlindRows, test: BlindRows) -> Scores:
    """Gradient boosting over the shape of the options: ranks, ratios, how typical a number is."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # type: ignore[import-untyped]
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    model = HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=8, l2_regularization=1.0, random_state=0)
    with threadpool_limits(1):  # OpenMP threads that wait for each other stand still on a busy machine
        model.fit(_shape(train), _is_right(train))
        scores = model.decision_function(_shape(test))
    return _per_row(scores, test)


BASELINES: dict[str, Guess] = {
    guess.__name__: guess
    for guess in (
        majority_letter,
        majority_answer,
        template_prior,
        number_rank,
        typical_number,
        median_option,
        bag_of_words,
        boosted_shape,
    )
}


def _answer_shares(rows: BlindRows, groups: list[str]) -> dict[tuple[str, str], float]:
    """(group, text) -> how often the text is right where it is offered, pulled towards a quarter by two rows."""
    offered: Counter[tuple[str, str]] = Counter()
    right: Counter[tuple[str, str]] = Counter()
    for group, options, answer in zip(groups, rows.options, rows.answers, strict=True):
        offered.update((group, option) for option in options)
        right[group, options[answer]] += 1
    shares: dict[tuple[str, str], float] = defaultdict(lambda: 0.25)
    shares.update({key: (right[key] + 0.5) / (count + 2) for key, count in offered.items()})
    return shares


def _numbers(options: list[str]) -> np.ndarray:
    return np.array([number_in(option) for option in options])


def _ranks(options: list[str]) -> np.ndarray:
    values = _numbers(options)
    return np.argsort(np.argsort(values, kind="stable"), kind="stable")


def _shape(rows: BlindRows) -> np.ndarray:
    """(pairs, 7) rank, place, logarithms of the number, of its ratio to neighbours and median, decimals, length."""
    parts = []
    for options in rows.options:
        values = _numbers(options)
        logs = np.sign(values) * np.log1p(np.abs(values))
        order = np.sort(logs)
        decimals = [len(option.partition(".")[2].split(" ")[0]) for option in options]
        parts.append(
            np.column_stack(
                [
                    _ranks(options),
                    np.arange(len(options)),
                    logs,
                    logs - np.median(logs),
                    logs - order.mean(),
                    decimals,
                    [len(option) for option in options],
                ]
            )
        )
    return np.nan_to_num(np.concatenate(parts).astype(float))


def _words(rows: BlindRows):  # type: ignore[no-untyped-def]
    """Hashed pairs of a word of the question with the option: its text, or its rank among numbers."""
    from sklearn.feature_extraction import FeatureHasher  # type: ignore[import-untyped]

    def pairs() -> Iterator[list[str]]:
        for question, options in zip(rows.questions, rows.options, strict=True):
            words = question.lower().split()
            words = [*words, *(f"{a} {b}" for a, b in pairwise(words)), ""]
            ranks = _ranks(options).tolist()
            for option, rank in zip(options, ranks, strict=True):
                name = f"rank{rank}" if np.isfinite(number_in(option)) else option
                yield [f"{word}|{name}" for word in words]

    return FeatureHasher(2**16, input_type="string", alternate_sign=False).transform(pairs())


def _is_right(rows: BlindRows) -> np.ndarray:
    flags = [np.arange(len(o)) == answer for o, answer in zip(rows.options, rows.answers, strict=True)]
    return np.concatenate(flags).astype(int)


def _per_row(scores: np.ndarray, rows: BlindRows) -> Scores:
    return np.split(scores, np.cumsum([len(options) for options in rows.options])[:-1])

"""Guesses from text alone: each learns on some rows of a task and gives every option of others a score."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .features import Features

#: (features, places of rows to learn from, places of rows to guess) -> (guessed rows, K) scores, the best highest.
Guess = Callable[[Features, np.ndarray, np.ndarray], np.ndarray]


def majority_letter(rows: Features, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The commonest place of the right option."""
    width = rows.is_option.shape[1]
    counts = np.bincount(rows.answers[train], minlength=width).astype(float)
    return np.broadcast_to(counts, (len(test), width))


def majority_answer(rows: Features, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The option whose text is right most often where it is offered."""
    return _share_right(rows, rows.texts, train)[rows.texts[test]]


def template_prior(rows: Features, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The same within a phrasing, whatever object and frames it names."""
    codes = rows.templates[:, None] * (int(rows.texts.max()) + 1) + rows.texts
    _, codes = np.unique(codes, return_inverse=True)
    codes = codes.reshape(rows.texts.shape)
    offered = np.bincount(codes[train][rows.is_option[train]], minlength=int(codes.max()) + 1)
    within, overall = _share_right(rows, codes, train)[codes[test]], majority_answer(rows, train, test)
    return np.where(offered[codes[test]] > 0, within, overall)


def number_rank(rows: Features, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The commonest rank of the right number among its options."""
    ranks = np.floor(rows.ranks).astype(np.int64) + 1
    truth = ranks[train, rows.answers[train]]
    return np.bincount(truth, minlength=rows.is_option.shape[1] + 1).astype(float)[ranks[test]]


def typical_number(rows: Features, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The option nearest to the median right number of the task."""
    truth = rows.numbers[train, rows.answers[train]]
    truth = truth[np.isfinite(truth)]
    return _nearest(rows.numbers[test], np.full(len(test), np.median(truth) if len(truth) else 0.0))


def median_option(rows: Features, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The option nearest to the median of its own row."""
    numbers = rows.numbers[test]
    some = np.where(np.isfinite(numbers).any(axis=1, keepdims=True), numbers, 0)
    return _nearest(numbers, np.nanmedian(some, axis=1))


def bag_of_words(rows: Features, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Logistic regression over words of the question with the option, by averaged stochastic descent."""
    from sklearn.linear_model import SGDClassifier  # type: ignore[import-untyped]

    model = SGDClassifier(loss="log_loss", alpha=1e-4, average=True, max_iter=6, tol=None, random_state=0)
    fit, right = _option_places(rows, train), rows.is_right[train][rows.is_option[train]]
    if right.all():
        return np.zeros((len(test), rows.is_option.shape[1]))
    model.fit(rows.pairs[fit], right)
    return _spread(rows, test, model.decision_function(rows.pairs[_option_places(rows, test)]))


def boosted_shape(rows: Features, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Gradient boosting over the shape of the options: ranks, ratios, how typical a number is, frames asked about."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # type: ignore[import-untyped]

    model = HistGradientBoostingClassifier(
        max_iter=60, max_leaf_nodes=8, l2_regularization=1.0, early_stopping=False, random_state=0
    )
    model.fit(rows.shape[train][rows.is_option[train]], rows.is_right[train][rows.is_option[train]])
    return _spread(rows, test, model.decision_function(rows.shape[test][rows.is_option[test]]))


_NUMERIC = (number_rank, typical_number, median_option, boosted_shape)
_ANY = (majority_letter, majority_answer, template_prior, bag_of_words)
BASELINES: dict[str, Guess] = {guess.__name__: guess for guess in (*_ANY, *_NUMERIC)}


def baselines_for(rows: Features) -> dict[str, Guess]:
    """Those that can tell anything about such options: words have no ranks."""
    return {guess.__name__: guess for guess in (*_ANY, *(_NUMERIC if rows.is_numeric else ()))}


def _share_right(rows: Features, codes: np.ndarray, train: np.ndarray) -> np.ndarray:
    """(codes,) how often what has the code is right where it is offered, pulled towards a quarter by two rows."""
    size = int(codes.max()) + 1
    offered = np.bincount(codes[train][rows.is_option[train]], minlength=size)
    right = np.bincount(codes[train, rows.answers[train]], minlength=size)
    return np.asarray((right + 0.5) / (offered + 2))


def _nearest(numbers: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.asarray(-np.nan_to_num(np.abs(numbers - target[:, None])))


def _option_places(rows: Features, places: np.ndarray) -> np.ndarray:
    """Rows of `pairs` of the options of some rows."""
    width = rows.is_option.shape[1]
    return (places[:, None] * width + np.arange(width))[rows.is_option[places]]


def _spread(rows: Features, places: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Scores of options as (places, K)."""
    spread = np.zeros((len(places), rows.is_option.shape[1]))
    spread[rows.is_option[places]] = scores
    return spread

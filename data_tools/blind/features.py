"""What baselines see of the rows of one task, as arrays that are made once and shared by all folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .rows import BlindRows, numbers_in

_QUESTION_NUMBERS = 4  # frames and what else a question names
_FEWEST_USES = 5  # of an option's text, for its own weights in the bag of words
_BUCKETS = 2**18  # of hashed pairs of word and option


@dataclass
class Features:
    """N rows with at most K options each; options are padded, see `is_option`.

    Attributes:
        answers: (N,) place of the right option.
        is_option: (N, K) whether there is an option.
        texts: (N, K) codes of option texts, 0.. ; 0 where there is none.
        templates: (N,) codes of phrasings.
        numbers: (N, K) number of the option, NaN without.
        ranks: (N, K) rank of the number within the row, of ties the mean one; -1 without number.
        is_numeric: whether most options are numbers.
        shape: (N, K, S) of numbers: ranks, ratios to the others, decimals; and the numbers of the question.
        pairs: sparse (N * K, buckets): words of the question with the option: its text, or its rank.
    """

    answers: np.ndarray
    is_option: np.ndarray
    texts: np.ndarray
    templates: np.ndarray
    numbers: np.ndarray
    ranks: np.ndarray
    is_numeric: bool
    shape: np.ndarray
    pairs: Any

    @property
    def is_right(self) -> np.ndarray:
        """(N, K) whether an option is the right one."""
        return np.asarray(np.arange(self.is_option.shape[1]) == self.answers[:, None])


def features_of(rows: BlindRows) -> Features:
    """Features of rows of one task."""
    count, width = len(rows), max(len(options) for options in rows.options)
    lengths = np.array([len(options) for options in rows.options])
    is_option = np.arange(width) < lengths[:, None]
    padded = [text for options in rows.options for text in (*options, *[""] * (width - len(options)))]
    unique, codes = np.unique(np.array(padded, object).astype(str), return_inverse=True)
    texts = np.where(is_option, codes.reshape(count, width), 0)
    found = [numbers_in(text) for text in unique.tolist()]
    values = np.array([numbers[0] if numbers else np.nan for numbers in found])
    decimals = np.array([len(text.partition(".")[2].split(" ")[0]) for text in unique.tolist()])
    numbers = np.where(is_option, values[texts], np.nan)
    ranks = _ranks(numbers)
    is_numeric = bool(np.isfinite(numbers[is_option]).mean() > 0.5)
    return Features(
        rows.answers,
        is_option,
        texts,
        np.unique(np.array(rows.templates(), object).astype(str), return_inverse=True)[1],
        numbers,
        ranks,
        is_numeric,
        _shape(rows, numbers, ranks, decimals[texts]),
        _pairs(rows, texts, ranks, is_option, is_numeric),
    )


def _ranks(numbers: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        below = (numbers[:, None, :] < numbers[:, :, None]).sum(axis=2)
        equal = (numbers[:, None, :] == numbers[:, :, None]).sum(axis=2)
    return np.where(np.isfinite(numbers), below + (np.maximum(equal, 1) - 1) / 2, -1)


def _shape(rows: BlindRows, numbers: np.ndarray, ranks: np.ndarray, decimals: np.ndarray) -> np.ndarray:
    """(N, K, 6 + _QUESTION_NUMBERS) rank, place, logarithm of the number and of its ratios to the median and to the
    ends of the set, decimals; and the first numbers of the question."""
    logs = np.sign(numbers) * np.log1p(np.abs(numbers))
    some = np.where(np.isfinite(logs).any(axis=1, keepdims=True), logs, 0)
    low, high = np.nanmin(some, axis=1, keepdims=True), np.nanmax(some, axis=1, keepdims=True)
    parts = [
        ranks,
        np.broadcast_to(np.arange(numbers.shape[1]), numbers.shape),
        logs,
        logs - np.nanmedian(some, axis=1, keepdims=True),
        (logs - low) / np.maximum(high - low, 1e-9),
        decimals,
    ]
    asked = np.full((len(rows), _QUESTION_NUMBERS), np.nan)
    for row, question in enumerate(rows.questions):
        named = numbers_in(question)[:_QUESTION_NUMBERS]
        asked[row, : len(named)] = named
    parts += [np.broadcast_to(column[:, None], numbers.shape) for column in asked.T]
    return np.nan_to_num(np.stack(parts, axis=2).astype(np.float32))


def _pairs(rows: BlindRows, texts: np.ndarray, ranks: np.ndarray, is_option: np.ndarray, is_numeric: bool) -> Any:
    """Words are found once a row; pairs with options are index arithmetic, not text."""
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import CountVectorizer  # type: ignore[import-untyped]

    words = CountVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", min_df=min(3, len(rows)), binary=True)
    counted = words.fit_transform([f"^ {question}" for question in rows.questions]).tocsr()  # "^": the option alone
    uses = np.bincount(texts[is_option])
    name = np.where(uses[texts] >= _FEWEST_USES, texts + 16, 15)  # an option's text, or 15 for rare ones
    if is_numeric:
        name = np.where(ranks >= 0, np.floor(ranks), 15).astype(np.int64)
    place = np.broadcast_to(np.arange(texts.shape[1]), texts.shape)
    count, width = texts.shape
    lengths = np.diff(counted.indptr)
    row = np.repeat(np.arange(count), lengths)
    pairs = np.repeat(counted.indices.astype(np.int64), width).reshape(-1, width) * 1_000_003 + name[row]
    # (entries, K) in the order of rows; entries of an option must stand together
    order = np.argsort((row[:, None] * width + np.arange(width)).ravel(), kind="stable")
    columns = (pairs.ravel()[order] * 2_654_435_761 % 2**31) % (_BUCKETS - 64)
    ends = np.concatenate([[0], np.cumsum(np.repeat(lengths, width))])
    matrix = csr_matrix((np.ones(len(columns), np.float32), columns, ends), shape=(count * width, _BUCKETS))
    letters = csr_matrix(
        (np.ones(count * width, np.float32), (np.arange(count * width), _BUCKETS - 64 + place.ravel())),
        shape=(count * width, _BUCKETS),
    )
    return matrix + letters

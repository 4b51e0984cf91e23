"""Intervals for benchmark figures: several questions share a clip, so the clip is the unit of resampling.

Every function takes `clusters`, one label per value. Values of one cluster may depend on each other in any way;
different clusters are taken as independent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb
from statistics import NormalDist
from typing import Any

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 5000
# Percentile bootstrap intervals are too short when few clusters are resampled (Cameron, Gelbach & Miller 2008, Review
# of Economics and Statistics 90(3), simulate 5 to 30 clusters). Below this number a proportion gets a Wilson interval.
MIN_CLUSTERS_FOR_BOOTSTRAP = 20
_RESAMPLES_AT_A_TIME = 500
# Draws of so few clusters are remembered: 10 MB at most, for each of 8 numbers of clusters.
_CLUSTERS_KEPT = 1000


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    `low` and `high` are None where the data cannot give one: a single cluster, or values that are all alike, for which
    a bootstrap would claim certainty. `estimate` is None without data.
    `method` is "cluster bootstrap", "cluster and seed bootstrap", "wilson", "normal" (1.96 standard deviations) or
    "none".
    """

    estimate: float | None
    low: float | None
    high: float | None
    n: int
    clusters: int
    method: str
    confidence: float = CONFIDENCE

    def to_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


def wilson_interval(successes: float, n: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson score interval of a proportion.

    centre = (p + z^2/2n) / (1 + z^2/n), half width = z/(1 + z^2/n) * sqrt(p(1-p)/n + z^2/4n^2), with p = successes/n
    (Wilson 1927, JASA 22; Brown, Cai & DasGupta 2001, Statistical Science 16). `n` may be fractional: an effective
    sample size.

    Example:
        >>> [round(end, 4) for end in wilson_interval(8, 10)]
        [0.4902, 0.9433]
    """
    if n <= 0:
        raise ValueError(f"a proportion needs n > 0, got {n}")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = successes / n
    shrink = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / shrink
    half_width = z / shrink * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    return max(0.0, centre - half_width), min(1.0, centre + half_width)


def design_effect(values: Sequence[float], clusters: Sequence[object]) -> float:
    """How many times larger the variance of the mean is than for independent values; at least 1.

    Kish's 1 + (m0 - 1) * rho, with the ANOVA estimate of the intra-cluster correlation rho and m0 the mean cluster size
    corrected for unequal sizes (Donner 1986, International Statistical Review 54).
    """
    values = np.asarray(values, dtype=float)
    sums, counts = _cluster_sums(values, clusters)
    num_clusters, n = len(counts), len(values)
    if num_clusters < 2 or n == num_clusters:
        return 1.0
    cluster_means = sums / counts
    between = float(np.sum(counts * (cluster_means - values.mean()) ** 2)) / (num_clusters - 1)
    within = float(np.sum(values**2) - np.sum(counts * cluster_means**2)) / (n - num_clusters)
    m0 = (n - float(np.sum(counts**2)) / n) / (num_clusters - 1)
    total = between + (m0 - 1) * within
    if total <= 0:  # all values equal: nothing to estimate a correlation from
        return 1.0
    rho = float(np.clip((between - within) / total, 0.0, 1.0))
    return 1 + (m0 - 1) * rho


def mean_interval(
    values: Sequence[float], clusters: Sequence[object], *, confidence: float = CONFIDENCE, seed: int = 0
) -> Interval:
    """Mean of `values` with a percentile interval from resampling whole clusters (Davison & Hinkley 1997, ch. 3.8)."""
    values = np.asarray(values, dtype=float)
    if len(values) == 0:
        return Interval(None, None, None, 0, 0, "none", confidence)
    sums, counts = _cluster_sums(values, clusters)
    estimate = float(values.mean())
    if len(counts) < 2 or np.ptp(values) == 0:
        return Interval(estimate, None, None, len(values), len(counts), "none", confidence)
    means = [weights @ sums / (weights @ counts) for weights in _cluster_weights(len(counts), seed)]
    low, high = _percentiles(np.concatenate(means), confidence)
    return Interval(estimate, low, high, len(values), len(counts), "cluster bootstrap", confidence)


def crossed_interval(
    values: Sequence[float],
    clusters: Sequence[object],
    replicates: Sequence[object],
    *,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Mean of `values` with a percentile interval from resampling clusters and replicates, each independently.

    For models trained with several seeds (replicates) and asked about the same clips (clusters): the interval says what
    other seeds and other clips would give. This is the pigeonhole bootstrap (Owen 2007, Annals of Applied Statistics
    1(2)), which is slightly conservative. With one replicate it is `mean_interval`, which knows nothing of other seeds;
    with two or three it is a rough guide.
    """
    values = np.asarray(values, dtype=float)
    replicate_index, num_replicates = _index(replicates)
    if num_replicates < 2:
        return mean_interval(values, clusters, confidence=confidence, seed=seed)
    cluster_index, num_clusters = _index(clusters)
    sums, counts = np.zeros((num_clusters, num_replicates)), np.zeros((num_clusters, num_replicates))
    np.add.at(sums, (cluster_index, replicate_index), values)
    np.add.at(counts, (cluster_index, replicate_index), 1)
    estimate = float(values.mean())
    if num_clusters < 2 or np.ptp(values) == 0:
        return Interval(estimate, None, None, len(values), num_clusters, "none", confidence)
    rng, equal = np.random.default_rng(seed + 1), np.full(num_replicates, 1 / num_replicates)
    means = []
    for weights in _cluster_weights(num_clusters, seed):
        drawn = rng.multinomial(num_replicates, equal, size=len(weights))
        drawn_counts = ((weights @ counts) * drawn).sum(1)
        drawn_sums = ((weights @ sums) * drawn).sum(1)
        means.append(drawn_sums[drawn_counts > 0] / drawn_counts[drawn_counts > 0])
    low, high = _percentiles(np.concatenate(means), confidence)
    return Interval(estimate, low, high, len(values), num_clusters, "cluster and seed bootstrap", confidence)


def proportion_interval(
    outcomes: Sequence[float], clusters: Sequence[object], *, confidence: float = CONFIDENCE, seed: int = 0
) -> Interval:
    """Share of 1s among 0/1 `outcomes`, with an interval.

    Cluster bootstrap with at least MIN_CLUSTERS_FOR_BOOTSTRAP clusters. With fewer, or when all outcomes are equal (the
    bootstrap would then claim certainty), Wilson at the effective sample size n / design effect (Dean & Pagano 2015,
    Journal of Survey Statistics and Methodology 3).
    """
    outcomes = np.asarray(outcomes, dtype=float)
    if len(outcomes) == 0:
        return Interval(None, None, None, 0, 0, "none", confidence)
    num_clusters = len(set(clusters))
    estimate = float(outcomes.mean())
    if num_clusters >= MIN_CLUSTERS_FOR_BOOTSTRAP and 0 < estimate < 1:
        return mean_interval(outcomes, clusters, confidence=confidence, seed=seed)
    effective_n = len(outcomes) / design_effect(outcomes, clusters)
    low, high = wilson_interval(estimate * effective_n, effective_n, confidence)
    return Interval(estimate, low, high, len(outcomes), num_clusters, "wilson", confidence)


def group_mean_interval(
    values: Sequence[float],
    clusters: Sequence[object],
    groups: Sequence[object],
    *,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Mean over groups (tasks) of the group means, each group weighing the same, with a cluster bootstrap interval.

    A group that no resampled cluster contains is left out of that resample's mean.
    """
    values = np.asarray(values, dtype=float)
    if len(values) == 0:
        return Interval(None, None, None, 0, 0, "none", confidence)
    cluster_index, num_clusters = _index(clusters)
    group_index, num_groups = _index(groups)
    sums = np.zeros((num_clusters, num_groups))
    counts = np.zeros((num_clusters, num_groups))
    np.add.at(sums, (cluster_index, group_index), values)
    np.add.at(counts, (cluster_index, group_index), 1)
    estimate = float((sums.sum(0) / counts.sum(0)).mean())
    if num_clusters < 2 or np.ptp(values) == 0:
        return Interval(estimate, None, None, len(values), num_clusters, "none", confidence)
    means = []
    for weights in _cluster_weights(num_clusters, seed):
        group_counts = weights @ counts
        group_means = np.divide(
            weights @ sums, group_counts, out=np.full_like(group_counts, np.nan), where=group_counts > 0
        )
        means.append(np.nanmean(group_means, axis=1))
    low, high = _percentiles(np.concatenate(means), confidence)
    return Interval(estimate, low, high, len(values), num_clusters, "cluster bootstrap", confidence)


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    clusters: Sequence[object],
    *,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Mean of b - a over the same questions, with a cluster bootstrap interval.

    Pairing removes the variance of question difficulty, which two separate intervals would count twice.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape:
        raise ValueError(f"paired values need equal shapes, got {a.shape} and {b.shape}")
    return mean_interval(b - a, clusters, confidence=confidence, seed=seed)


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Two-sided p of McNemar's exact test over the questions that only one run answers right; 1.0 without any.

    How likely so uneven a split is when both runs are equally good (McNemar 1947, Psychometrika 12). It takes questions
    for independent; where several are about one clip, the interval of `paired_difference` is the safer.
    """
    from scipy.stats import binomtest

    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Chance that at least one of k responses is right, drawn from `samples` responses of which `correct` are.

    The unbiased estimator of Chen et al. 2021 (arXiv 2107.03374): 1 - C(samples - correct, k) / C(samples, k).

    Raises:
        ValueError: k is not in 1..samples, or correct not in 0..samples.
    """
    if not 1 <= k <= samples or not 0 <= correct <= samples:
        raise ValueError(f"k {k} and correct {correct} must lie within {samples} samples")
    return 1 - comb(samples - correct, k) / comb(samples, k)


def _index(labels: Sequence[object]) -> tuple[np.ndarray, int]:
    order: dict[object, int] = {}
    index = np.array([order.setdefault(label, len(order)) for label in labels], dtype=np.int64)
    return index, len(order)


def _cluster_sums(values: np.ndarray, clusters: Sequence[object]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the values of each cluster, both (C,)."""
    if len(values) != len(clusters):
        raise ValueError(f"{len(values)} values but {len(clusters)} cluster labels")
    index, num_clusters = _index(clusters)
    counts = np.bincount(index, minlength=num_clusters).astype(float)
    return np.bincount(index, weights=values, minlength=num_clusters), counts


def _cluster_weights(num_clusters: int, seed: int) -> Iterator[np.ndarray]:
    """(B, C) float arrays, RESAMPLES rows in all: how often each resample draws each cluster."""
    kept = num_clusters <= _CLUSTERS_KEPT
    # In blocks: 5000 x 10000 clusters would take 400 MB.
    for draws in _kept_draws(num_clusters, seed) if kept else _draws(num_clusters, seed):
        yield draws.astype(float)


def _draws(num_clusters: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    equal = np.full(num_clusters, 1 / num_clusters)
    for _ in range(0, RESAMPLES, _RESAMPLES_AT_A_TIME):
        yield rng.multinomial(num_clusters, equal, size=_RESAMPLES_AT_A_TIME)


@lru_cache(maxsize=8)
def _kept_draws(num_clusters: int, seed: int) -> tuple[np.ndarray, ...]:
    """Drawing takes most of an interval's time, and figures of the same clips want the same draws."""
    return tuple(draws.astype(np.uint16) for draws in _draws(num_clusters, seed))


def _percentiles(samples: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(samples, [tail, 100 - tail])
    return float(low), float(high)

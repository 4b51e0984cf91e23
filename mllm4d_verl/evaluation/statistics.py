"""Intervals for benchmark figures: several questions share a clip, so the clip is the unit that varies.

Every function takes `clusters`, one label per value. Values of one cluster may depend on each other in any way;
different clusters are taken as independent. `benchmarks/interval_coverage.py` measures how often the intervals hold the
truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 5000
# With fewer clips, of equal weight, the spread between clips is known too badly for any interval; 5 is the least number
# of clips at which the simulations of benchmarks/interval_coverage.py hold.
MIN_CLUSTERS = 5.0
# Right answers, and wrong ones, that a share needs, counted as if they were independent. Below this, what is rare shows
# in so few clips that their spread says little; with 10 the simulations hold.
MIN_EFFECTIVE_COUNT = 10.0
# The same for a mean without bounds, such as a difference: values in all, and clips that are not like the mean.
MIN_VALUES, MIN_VARYING_CLUSTERS = 10, 5
ONE_CLIP, FEW_CLIPS, NO_SPREAD = "one clip", "few clips", "no spread between clips"
FEW_ANSWERS, LONE_TASK = "few answers of a kind", "a task with one clip"
FEW_SEEDS = "few seeds"
# A percentile bootstrap is too short with fewer (Cameron, Gelbach & Miller 2008, Review of Economics and Statistics
# 90(3), simulate 5 to 30 clusters). Seeds of a training are never as many as 20; with 5 the interval is a usable guide.
MIN_BOOTSTRAP_CLUSTERS, MIN_REPLICATES = 20, 5
_RESAMPLES_AT_A_TIME = 500
# Draws of so few clusters are remembered: 10 MB at most, for each of 8 numbers of clusters.
_CLUSTERS_KEPT = 1000
# Spreads below this share of the values' size are rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    `low` and `high` are None where the data cannot give one: a single cluster, or clusters whose means are all alike,
    for which a t interval would claim certainty. `estimate` is None without data.
    `method` is "clustered t", "clustered Wilson", "cluster and seed bootstrap", "normal" (1.96 standard deviations) or
    "none".
    `unreliable` is why the interval, or its absence, is no basis for a claim: see `ONE_CLIP` and the others; None where
    simulations show that it holds the truth as often as `confidence` says.
    """

    estimate: float | None
    low: float | None
    high: float | None
    n: int
    clusters: int
    method: str
    confidence: float = CONFIDENCE
    unreliable: str | None = None

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


def mean_interval(values: Sequence[float], clusters: Sequence[object], *, confidence: float = CONFIDENCE) -> Interval:
    """Mean of `values`, which may have any range, with a clustered t interval; see `_spread`.

    No interval where all clusters have the same mean: two equal differences are no proof of a difference.
    """
    return group_mean_interval(values, clusters, [0] * len(values), confidence=confidence)


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
    values = _checked(values, clusters, replicates)
    replicate_index, num_replicates = _index(replicates)
    if num_replicates < 2:
        return mean_interval(values, clusters, confidence=confidence)
    cluster_index, num_clusters = _index(clusters)
    sums, counts = np.zeros((num_clusters, num_replicates)), np.zeros((num_clusters, num_replicates))
    np.add.at(sums, (cluster_index, replicate_index), values)
    np.add.at(counts, (cluster_index, replicate_index), 1)
    estimate = float(values.mean())
    if num_clusters < 2 or np.ptp(values) == 0:
        why = ONE_CLIP if num_clusters < 2 else NO_SPREAD
        return Interval(estimate, None, None, len(values), num_clusters, "none", confidence, why)
    rng, equal = np.random.default_rng(seed + 1), np.full(num_replicates, 1 / num_replicates)
    means = []
    for weights in _cluster_weights(num_clusters, seed):
        drawn = rng.multinomial(num_replicates, equal, size=len(weights))
        drawn_counts = ((weights @ counts) * drawn).sum(1)
        drawn_sums = ((weights @ sums) * drawn).sum(1)
        means.append(drawn_sums[drawn_counts > 0] / drawn_counts[drawn_counts > 0])
    low, high = _percentiles(np.concatenate(means), confidence)
    few = FEW_SEEDS if num_replicates < MIN_REPLICATES else FEW_CLIPS if num_clusters < MIN_BOOTSTRAP_CLUSTERS else None
    method = "cluster and seed bootstrap"
    return Interval(estimate, low, high, len(values), num_clusters, method, confidence, few)


def proportion_interval(
    outcomes: Sequence[float], clusters: Sequence[object], *, confidence: float = CONFIDENCE
) -> Interval:
    """Mean of `outcomes` in [0, 1], such as the share of 1s among 0s and 1s, with a clustered Wilson interval.

    The score interval stays within 0 and 1 and holds the truth where a t interval, which is symmetric, does not: near 0
    and 1. See `group_share_interval`, of which this is the case of one group.
    """
    return group_share_interval(outcomes, clusters, [0] * len(outcomes), confidence=confidence)


def group_mean_interval(
    values: Sequence[float],
    clusters: Sequence[object],
    groups: Sequence[object],
    *,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Mean over groups (tasks) of the group means, each group weighing the same, with a clustered t interval."""
    values = np.asarray(values, dtype=float)
    if len(values) == 0:
        return Interval(None, None, None, 0, 0, "none", confidence)
    spread = _spread(values, clusters, groups, {})
    n, clips = len(values), spread.clusters
    if clips < 2 or spread.error <= _ROUNDING * max(1.0, float(np.abs(values).max())):
        why = ONE_CLIP if clips < 2 else NO_SPREAD
        return Interval(spread.mean, None, None, n, clips, "none", confidence, why)
    half = spread.quantile(confidence) * spread.error
    few = n < MIN_VALUES or spread.varying < MIN_VARYING_CLUSTERS
    why = spread.why_unreliable or (FEW_ANSWERS if few else None)
    return Interval(spread.mean, spread.mean - half, spread.mean + half, n, clips, "clustered t", confidence, why)


def group_share_interval(
    outcomes: Sequence[float],
    clusters: Sequence[object],
    tasks: Sequence[object],
    groups: Mapping[Any, Any] | None = None,
    *,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Mean over groups of tasks of the tasks' mean `outcomes` in [0, 1], with a clustered Wilson interval.

    Wilson's score interval at the effective sample size m(1 - m) / error^2, with m the mean and the error of `_spread`,
    and with the quantile of Student's t in the place of the normal one (Korn & Graubard 1998, Survey Methodology 24,
    adjust the sample size for the degrees of freedom in the same way; Dean & Pagano 2015, Journal of Survey Statistics
    and Methodology 3, compare such intervals). Where the clusters do not differ each one counts as one answer.

    Args:
        outcomes: 0 or 1, or a score between, of each question.
        clusters, tasks: of each question.
        groups: task -> group of tasks that are averaged first, see `Benchmark.macro_groups`; others are their own.
    """
    outcomes = np.asarray(outcomes, dtype=float)
    if len(outcomes) == 0:
        return Interval(None, None, None, 0, 0, "none", confidence)
    spread = _spread(outcomes, clusters, tasks, groups or {})
    if outcomes.min() < 0.0 or outcomes.max() > 1.0:
        raise ValueError("outcomes of a share lie between 0 and 1")
    n, clips, mean = len(outcomes), spread.clusters, min(1.0, max(0.0, spread.mean))
    if clips < 2:
        return Interval(mean, None, None, n, clips, "none", confidence, ONE_CLIP)
    certain = spread.error <= _ROUNDING or mean in (0.0, 1.0)
    effective_n = spread.effective_clusters if certain else mean * (1 - mean) / spread.error**2
    # n scaled by (z / t)^2 gives Wilson's formula the quantile t
    scale = (NormalDist().inv_cdf(0.5 + confidence / 2) / spread.quantile(confidence)) ** 2
    low, high = wilson_interval(mean * effective_n * scale, effective_n * scale, confidence)
    why = NO_SPREAD if certain else spread.why_unreliable
    if why is None and effective_n * min(mean, 1 - mean) < MIN_EFFECTIVE_COUNT:
        why = FEW_ANSWERS
    return Interval(spread.mean, low, high, n, clips, "clustered Wilson", confidence, why)


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    clusters: Sequence[object],
    *,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Mean of b - a over the same questions, with a clustered t interval.

    Pairing removes the variance of question difficulty, which two separate intervals would count twice.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape:
        raise ValueError(f"paired values need equal shapes, got {a.shape} and {b.shape}")
    return mean_interval(b - a, clusters, confidence=confidence)


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


def _checked(values: Sequence[float], clusters: Sequence[object], labels: Sequence[object]) -> np.ndarray:
    """The values as an array. Raises ValueError where one is not finite, or labels are too few or too many."""
    array = np.asarray(values, dtype=float)
    if not len(array) == len(clusters) == len(labels):
        raise ValueError(f"{len(array)} values but {len(clusters)} cluster labels and {len(labels)} of the other kind")
    if not np.isfinite(array).all():
        raise ValueError(f"value {int(np.flatnonzero(~np.isfinite(array))[0])} is not finite")
    return array


class _Spread(NamedTuple):
    """A mean over groups of tasks, and how far it may be from the truth.

    Attributes:
        mean: the estimate.
        error: its standard error.
        clusters: how many there are.
        effective_clusters: how many of equal weight would say as much, at most `clusters`.
        varying: clusters that pull the mean to either side.
        why_unreliable: FEW_CLIPS, LONE_TASK or None.
    """

    mean: float
    error: float
    clusters: int
    effective_clusters: float
    varying: int
    why_unreliable: str | None

    def quantile(self, confidence: float) -> float:
        """Two-sided quantile of Student's t, with as many degrees of freedom as the effective clusters leave."""
        return _t_quantile(max(1.0, round(self.effective_clusters, 3) - 1), confidence)


@lru_cache(maxsize=4096)
def _t_quantile(degrees: float, confidence: float) -> float:
    from scipy.stats import t

    return float(t.ppf(0.5 + confidence / 2, degrees))


def _spread(
    values: np.ndarray, clusters: Sequence[object], tasks: Sequence[object], groups: Mapping[Any, Any]
) -> _Spread:
    """The mean over groups of the mean over their tasks, with the jackknife's standard error over clusters.

    A cluster's pull on a task is the change of the task's mean when the cluster is left out; squared and summed over
    clusters the pulls give the jackknife variance, known as CV3, which is nearest to the truth for few and uneven
    clusters (MacKinnon, Nielsen & Webb 2023, Journal of Applied Econometrics 38). A cluster that has a whole task pulls
    nothing: without it there is no such mean. The effective number of clusters is 1 / sum of squared weights (Carter,
    Schnepel & Steigerwald 2017, Review of Economics and Statistics 99, at equal answers within a cluster).
    """
    values = _checked(values, clusters, tasks)
    cluster_index, num_clusters = _index(clusters)
    task_index, num_tasks = _index(tasks)
    sums, counts = np.zeros((num_clusters, num_tasks)), np.zeros((num_clusters, num_tasks))
    np.add.at(sums, (cluster_index, task_index), values)
    np.add.at(counts, (cluster_index, task_index), 1)
    weights = _task_weights(list(dict.fromkeys(tasks)), groups)
    totals = counts.sum(0)
    means, shares = sums.sum(0) / totals, counts / totals
    left = np.where(shares < 1, 1 - shares, np.inf)
    pulls = ((sums - counts * means) / totals / left) @ weights
    error = float(np.sqrt((num_clusters - 1) / num_clusters * np.sum(pulls**2)))
    effective = float(1 / np.sum((shares @ weights) ** 2))
    why = FEW_CLIPS if effective < MIN_CLUSTERS * (1 - _ROUNDING) else None
    if num_tasks > 1 and (shares == 1).any():
        why = LONE_TASK
    varying = int(np.sum(np.abs(pulls) > _ROUNDING))
    return _Spread(float(means @ weights), error, num_clusters, effective, varying, why)


def _task_weights(tasks: Sequence[object], groups: Mapping[Any, Any]) -> np.ndarray:
    """Weight of each task in the mean over groups, summing to 1."""
    group_index, num_groups = _index([groups.get(task, task) for task in tasks])
    return 1 / (num_groups * np.bincount(group_index, minlength=num_groups)[group_index])


def _index(labels: Sequence[object]) -> tuple[np.ndarray, int]:
    order: dict[object, int] = {}
    index = np.array([order.setdefault(label, len(order)) for label in labels], dtype=np.int64)
    return index, len(order)


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

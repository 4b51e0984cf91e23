"""Means of many results of `STReward`, each over the samples that have something to average."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Real

_OF_CENTERS = ("camera_center", "object_center")


#: Key of a score dict: 1 where the row's source has a scorer of its own, which gave score and acc.
OTHER_SOURCE = "other_source"


def mean_results(results: Iterable[Mapping[str, object]]) -> dict[str, float]:
    """Mean of every key of score dicts.

    The value of a centre is averaged over the samples that need it, its error over those that have one (it is -1
    elsewhere), a component over the samples it applies to. A key without any such sample is left out, and so is what is
    not a finite number. Of a row that another scorer has scored (`OTHER_SOURCE` is 1), only score and acc count. Dicts
    of other reward functions get plain means.
    """
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for result in results:
        for key, value in result.items():
            if not isinstance(value, (float, Real)) or not math.isfinite(value) or not _counts(key, value, result):
                continue
            sums[key] = sums.get(key, 0.0) + float(value)
            counts[key] = counts.get(key, 0) + 1
    return {key: total / counts[key] for key, total in sums.items()}


def _counts(key: str, value: Real | float, result: Mapping[str, object]) -> bool:
    if result.get(OTHER_SOURCE, 0.0) != 0.0 and key not in ("score", "acc", OTHER_SOURCE):
        return False
    if key in _OF_CENTERS:
        return result.get(f"{key}_needed", 1.0) != 0.0
    if key.endswith("_error_m"):
        return float(value) >= 0.0
    return result.get(f"{key}_applies", 1.0) != 0.0

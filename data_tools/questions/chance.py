"""Chance without a state: numbers that follow from keys alone, so that neither order nor workers change them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]


def mix(key: Any, *values: Any) -> Keys:
    """64 well mixed bits of a key (scalar or (N,) uint64) and integers (scalars or (N,)), by splitmix64.

    Source: Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
    """
    with np.errstate(over="ignore"):
        state = np.atleast_1d(np.asarray(key, np.uint64))
        for value in (0, *values):
            state = state ^ (np.asarray(value).astype(np.uint64) + np.uint64(0x632BE59BD9B4E019))
            state = state + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return state


def uniform(keys: Keys) -> NDArray[np.float64]:
    """Numbers in (0, 1), one per key."""
    share: NDArray[np.float64] = ((keys >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return share


def gumbel(keys: Keys) -> NDArray[np.float64]:
    """Gumbel noise: the largest of log(weight) + noise is a draw with these weights."""
    noise: NDArray[np.float64] = -np.log(-np.log(uniform(keys)))
    return noise

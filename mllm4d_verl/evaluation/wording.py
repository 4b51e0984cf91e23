"""How intervals and p-values are written in tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from .statistics import Interval

#: Stands behind an interval that is no basis for a claim, see `Interval.unreliable`.
MARK = "?"


def mark(interval: Interval) -> str:
    """` ?` behind an interval, or the lack of one, that cannot be relied on; else nothing."""
    return "" if interval.unreliable is None else f" {MARK}"


def reliability_note(intervals: Iterable[Interval]) -> str | None:
    """What the marks of a table mean, with how often each reason occurs; None where no interval is marked."""
    reasons = Counter(interval.unreliable for interval in intervals if interval.unreliable is not None)
    if not reasons:
        return None
    counted = ", ".join(f"{reason} ({count})" for reason, count in sorted(reasons.items()))
    return f"{MARK}: too little is known for an interval that holds the truth 95 times in 100: {counted}."


def percent_text(interval: Interval, signed: bool = False) -> str:
    """An accuracy, or a signed difference of two in points, with its interval: `62.5 (58-67)`, `+9.2 (+5, +13) ?`."""
    if interval.estimate is None:
        return "-"
    sign, joint = ("+", ", ") if signed else ("", "-")
    estimate = f"{100 * interval.estimate:{sign}.1f}"
    if interval.low is None or interval.high is None:
        return f"{estimate}{mark(interval)}"
    return f"{estimate} ({100 * interval.low:{sign}.0f}{joint}{100 * interval.high:{sign}.0f}){mark(interval)}"


def p_text(p: float) -> str:
    """A p-value with three decimals; below that, that it is below."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"

"""What was read out of one response."""

from __future__ import annotations

from typing import NamedTuple


class Verdict(NamedTuple):
    """The answer that a response commits to.

    Attributes:
        choice: letter of the option; None for an invalid response, and for numbers.
        number: the number stated, in the unit of the question; None for an invalid response, and for options.
        rule: which rule found it, such as "letter" or "final phrase"; "" for an invalid response.
        reason: why the response is invalid, such as "empty" or "several answers"; "" for a valid one.
    """

    choice: str | None = None
    number: float | None = None
    rule: str = ""
    reason: str = ""

    @property
    def is_valid(self) -> bool:
        """Whether the response commits to one answer."""
        return not self.reason

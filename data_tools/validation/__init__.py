"""Checks of whole question sets, in any format: which rows are broken, why, and what to do."""

from .run import SetReport, validate_set

__all__ = ["SetReport", "validate_set"]

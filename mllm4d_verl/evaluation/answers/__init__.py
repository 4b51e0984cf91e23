"""Which answer a response commits to: by rule, and where asked for by a judge model beside the rule."""

from .verdict import Verdict

__all__ = ["Verdict"]

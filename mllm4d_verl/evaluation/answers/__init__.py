"""Which answer a response commits to: by rule, and where asked for by a judge model beside the rule."""

from .choice import read_choice
from .number import number_score, read_number
from .verdict import Verdict

__all__ = ["Verdict", "number_score", "read_choice", "read_number"]

"""What a model that sees no video scores on questions, per task, and rows dropped until it scores at chance."""

from .accuracy import LIMIT, TaskAccuracy, blind_accuracy
from .rebalance import rebalance
from .rows import BlindRows, read_blind_rows

__all__ = ["LIMIT", "BlindRows", "TaskAccuracy", "blind_accuracy", "read_blind_rows", "rebalance"]

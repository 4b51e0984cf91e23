"""Paths and their scores: the reward that will train the model says how good its first lessons are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mllm4d_verl.data_tools.schema import QARow
from mllm4d_verl.datasets.reader import ground_truth
from mllm4d_verl.reward import STReward


@dataclass(frozen=True)
class CotPath:
    """One way of reasoning to the answer of a question.

    Attributes:
        number: among the paths of its question, from 0.
        text: the whole response.
        score: of the reward.
        is_right: whether its answer is.
    """

    number: int
    text: str
    score: float
    is_right: bool


@dataclass(frozen=True)
class Sample:
    """A question and the paths that were written for it; some may be missing, none may be there."""

    row: QARow
    paths: tuple[CotPath, ...]

    @property
    def best(self) -> float | None:
        """The best score; None without paths."""
        return max((path.score for path in self.paths), default=None)


def score_paths(row: QARow, texts: Iterable[tuple[int, str]], reward: STReward) -> Sample:
    """The sample of a row whose paths, (number, text), are scored against its truth."""
    truth = ground_truth(row)
    paths = []
    for number, text in texts:
        result = reward(text, truth)
        paths.append(CotPath(number, text, result["score"], result["acc"] == 1.0))
    return Sample(row, tuple(paths))

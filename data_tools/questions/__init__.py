"""Spatio-temporal questions from Clip4D records: solvers, phrasing, balance, rule-based ST-CoT responses."""

from ..st_cot import write_st_cot
from .config import QuestionConfig, Thresholds
from .engine import (
    QuestionReport,
    build_questions,
    build_with_report,
    count_answers,
    finished_report,
    write_questions,
)

__all__ = [
    "QuestionConfig",
    "QuestionReport",
    "Thresholds",
    "build_questions",
    "build_with_report",
    "count_answers",
    "finished_report",
    "write_questions",
    "write_st_cot",
]

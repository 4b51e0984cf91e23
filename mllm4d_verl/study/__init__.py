"""Experiments that compare rewards, or any settings, from one YAML: arms and seeds in, tables and curves out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mllm4d_verl.study.planning import StudyPlan, plan_study
    from mllm4d_verl.study.report import StudyReport, report_study
    from mllm4d_verl.study.running import StudyRun, run_study
    from mllm4d_verl.study.settings import StudySettings, load_study, study_settings

_HOME = {
    "StudyPlan": "planning",
    "StudyReport": "report",
    "StudyRun": "running",
    "StudySettings": "settings",
    "load_study": "settings",
    "plan_study": "planning",
    "report_study": "report",
    "run_study": "running",
    "study_settings": "settings",
}

__all__ = [
    "StudyPlan",
    "StudyReport",
    "StudyRun",
    "StudySettings",
    "load_study",
    "plan_study",
    "report_study",
    "run_study",
    "study_settings",
]


def __getattr__(name: str) -> Any:
    # Lazy: the process of a job needs neither the report nor Ray.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)

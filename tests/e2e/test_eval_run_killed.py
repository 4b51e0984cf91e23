"""`mllm4d eval run`, killed with SIGKILL and run again, leaves the file of a clean run."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


def _load_script():
    path = Path(__file__).parents[2] / "benchmarks" / "kill_eval_run.py"
    spec = importlib.util.spec_from_file_location("kill_eval_run", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["kill_eval_run"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.e2e
def test_no_answer_is_lost_or_doubled(tmp_path):
    outcome = _load_script().kill_and_rerun(tmp_path, "openai", kills=2, questions=12)
    assert outcome.kills == 2
    assert outcome.same
    assert outcome.doubled == 0
    assert outcome.responses == 24

"""A small study that could run: question files, a model folder, and settings that name them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verl")

from mllm4d_verl.data_tools.questions import QuestionConfig, write_questions
from mllm4d_verl.data_tools.synthetic import write_world
from mllm4d_verl.study import planning


@pytest.fixture(scope="session", autouse=True)
def compose_once() -> Iterator[None]:
    """Hydra takes half a second for a configuration, and most of these tests ask for the same ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "_composed", functools.cache(planning._composed))
        yield


@pytest.fixture(scope="session")
def qa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A question folder of eight rendered clips."""
    folder = tmp_path_factory.mktemp("small_world")
    write_world(
        folder / "world", clips=8, seed=0, width=64, height=64, num_frames=4, fps=2.0, config="tiny", dense=False
    )
    config = QuestionConfig(
        seed=0, num_frames=4, val_fraction=0.25, test_fraction=0.25, cot_style="compact", cot_decimals=1
    )
    write_questions(folder / "world", folder / "qa", config)
    return folder / "qa"


@pytest.fixture
def content(qa: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The content of a study's YAML, with changes."""
    model = tmp_path / "model"
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text("{}")

    def make(**changes: Any) -> dict[str, Any]:
        return {
            "name": "rewards",
            "model": str(model),
            "data": str(qa),
            "seeds": [0, 1],
            "arms": {"plain": {"reward": "mllm4d_st", "weights": {"st_weight": 0}}, "paper": {"reward": "paper"}},
            "evaluations": {"test": {"data": str(qa / "test.parquet"), "template": "st_cot_short"}},
            **changes,
        }

    return make

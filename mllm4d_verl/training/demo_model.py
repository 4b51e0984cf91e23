"""The demo's first model: a tiny one with random weights, then pretrained on rendered clips of other seeds."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .console import count_progress

_OTHER_SEEDS = 1_000_003  # added to the demo's seed: no clip of the pretraining world is one of the demo's


def make_pretraining_world(world: dict[str, Any], questions: Any, out: Path, seed: int) -> dict[str, Any]:
    """Render the clips that the model is pretrained on, and ask about them by their exact truth.

    Args:
        world: keyword arguments of `write_world`, and `preset`.
        questions: the QuestionConfig of the demo; all clips but a few train.
        out: folder for `world` and, in it, `qa`.
        seed: of the demo.
    """
    from dataclasses import replace

    from mllm4d_verl.data_tools.questions import write_questions
    from mllm4d_verl.data_tools.synthetic import write_world

    options = dict(world)
    preset = options.pop("preset")
    with count_progress("pretraining: clips") as progress:
        ids = write_world(
            out,
            seed=seed + _OTHER_SEEDS,
            config=preset,
            dense=False,
            workers=os.cpu_count() or 1,
            progress=progress,
            **options,
        )
    config = replace(
        questions, seed=seed + _OTHER_SEEDS, val_fraction=0.0, test_fraction=0.0, num_frames=options["num_frames"]
    )
    with count_progress("pretraining: questions") as progress:
        report = write_questions(out, out / "qa", config, progress)
    return {"clips": len(ids), "rows": report.rows}


def make_model(
    model: dict[str, Any], pretraining: dict[str, Any], texts: Iterable[str], out: Path, world: Path, seed: int
) -> dict[str, Any]:
    """Build the tiny model and pretrain it.

    Args:
        model: keyword arguments of `build_tiny_model`.
        pretraining: of `PretrainingConfig`.
        texts: what the later stages say, for the vocabulary.
        out: folder of the checkpoint.
        world: of `make_pretraining_world`.
        seed: of weights and batches.

    Returns:
        `parameters` and the held-out figures of `pretrain`.
    """
    import shutil

    from safetensors import safe_open
    from transformers.utils import logging

    from mllm4d_verl.recipes.tiny_cpu.lessons import lesson_texts, make_lessons
    from mllm4d_verl.recipes.tiny_cpu.model import build_tiny_model
    from mllm4d_verl.recipes.tiny_cpu.pretraining import PretrainingConfig, pretrain

    logging.disable_progress_bar()
    lessons = make_lessons(world, world / "qa")
    shutil.rmtree(out, ignore_errors=True)
    folder = build_tiny_model(out, corpus=[*texts, *lesson_texts(lessons)], seed=seed, **model)
    with count_progress("pretraining: steps") as progress:
        figures = pretrain(folder, lessons, world / "qa", PretrainingConfig(**pretraining), seed, progress)
    with safe_open(folder / "model.safetensors", "numpy") as weights:
        parameters = sum(weights.get_tensor(name).size for name in weights.keys())  # noqa: SIM118
    return {"parameters": parameters, **figures}

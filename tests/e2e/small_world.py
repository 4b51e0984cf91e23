"""A few clips and their questions, for end-to-end tests of training."""

from __future__ import annotations

from pathlib import Path


def write_questions_of_small_world(folder: Path, clips: int = 10, num_frames: int = 4) -> Path:
    """Render `clips` clips of 64 x 64 pixels and ask about them; returns the question folder."""
    from mllm4d_verl.data_tools.questions import QuestionConfig, write_questions
    from mllm4d_verl.data_tools.synthetic import write_world

    write_world(
        folder / "world",
        clips=clips,
        seed=0,
        width=64,
        height=64,
        num_frames=num_frames,
        fps=2.0,
        config="tiny",
        dense=False,
    )
    config = QuestionConfig(
        seed=0, num_frames=num_frames, val_fraction=0.2, test_fraction=0.2, cot_style="compact", cot_decimals=1
    )
    write_questions(folder / "world", folder / "qa", config)
    return folder / "qa"

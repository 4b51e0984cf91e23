"""Responses of a made-up model, written by hand rules, over questions of two tasks and many clips."""

from __future__ import annotations

import numpy as np
import pytest

from mllm4d_verl.evaluation.responses import ResponseRecord

TASKS = ("camera_absolute_distance", "object_camera_relative_distance")
OPTIONS = {TASKS[0]: ["1.0", "2.0", "3.0", "4.0"], TASKS[1]: ["closer", "farther", "not moving"]}


def st_cot(answer: str, camera: list | None = None, objects: list | None = None) -> str:
    """An ST-CoT response; `camera` and `objects` are [start, end], each [x, y, z] or None."""
    start, end = (
        "\n".join(
            f"- {name} Center: {'null' if states is None or states[i] is None else states[i]}"
            for name, states in (("Camera", camera), ("Object", objects))
        )
        for i in (0, 1)
    )
    return (
        "<thinking>\nFirst the objective.\n"
        f"**Spatial State (Initial Frame):**\n{start}\n"
        f"It moves.\n**Spatial State (Final Frame):**\n{end}\n"
        f"</thinking>\n<answer>{answer}</answer>"
    )


def record(number: int, response: str, task: str = TASKS[0], clip: str | None = None, **truth) -> ResponseRecord:
    return ResponseRecord(
        id=f"q{number}",
        clip_id=clip or f"clip{number}",
        task=task,
        truth={"answer": "B", "options": OPTIONS[task], "camera_center": None, "object_center": None, **truth},
        response=response,
        response_tokens=len(response.split()),
        finish_reason="stop",
    )


@pytest.fixture
def make_record():
    return record


@pytest.fixture
def make_response():
    return st_cot


@pytest.fixture
def many_records():
    """`many_records(share_right, seed)`: 120 questions in 40 clips; the rest answers C, every tenth nothing."""

    def make(share_right: float, seed: int = 0) -> list[ResponseRecord]:
        rng = np.random.default_rng(seed)
        records = []
        for number in range(120):
            answer = "B" if rng.random() < share_right else "C"
            text = "I cannot tell." if number % 10 == 0 else st_cot(answer, camera=[[0, 0, 0], [1, 0, 0]])
            task = TASKS[number % 2]
            camera = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.5]] if task == TASKS[0] else None
            records.append(record(number, text, task, f"clip{number // 3}", camera_center=camera))
        return records

    return make

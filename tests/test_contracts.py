"""Agreements between rooms that must not import each other: grammar, task names, truths.

`data_tools` writes ST-CoT responses, `prompts` asks for them, `reward` reads them; the same strings stand in all three.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mllm4d_verl.data_tools.questions import QuestionConfig, build_questions
from mllm4d_verl.data_tools.schema import TASKS, Clip4D, ObjectTrack, QARow
from mllm4d_verl.data_tools.st_cot import grammar as written
from mllm4d_verl.data_tools.st_cot import write_st_cot
from mllm4d_verl.datasets.reader import ground_truth
from mllm4d_verl.prompts import render_messages
from mllm4d_verl.reward import STReward, Vector, grammar, parse_response, truth_problems

SEVEN_TASKS = {
    "camera_absolute_distance",
    "camera_relative_direction",
    "object_absolute_distance",
    "object_camera_absolute_distance",
    "object_camera_relative_distance",
    "object_camera_relative_direction_lateral",
    "object_camera_relative_direction_longitudinal",
}
NUM_FRAMES = 8
STYLES = ("full", "compact")


def exact_clip(number: int) -> Clip4D:
    """A camera gliding along one axis past one moving and one still cloud of points; motions vary with `number`."""
    rng = np.random.default_rng(number)
    progress = np.linspace(0.0, 1.0, NUM_FRAMES)[:, None]
    cam_to_world = np.tile(np.eye(4), (NUM_FRAMES, 1, 1))
    step = np.zeros(3)
    step[number % 3] = rng.uniform(0.8, 1.6) * (1 if number % 2 else -1)
    cam_to_world[:, :3, 3] = progress * step

    def cloud(start: np.ndarray, velocity: np.ndarray) -> list[np.ndarray]:
        shape = rng.normal(0.0, 0.1, (32, 3))
        return [(start + t * velocity + shape).astype(np.float32) for t in progress]

    moving = cloud(np.array([0.3, 0.1, 5.0]), rng.uniform(-1.5, 1.5, 3))
    still = cloud(np.array([-0.8, 0.2, 4.0]), np.zeros(3))
    return Clip4D(
        clip_id=f"clip_{number:05d}",
        source="contract",
        license="CC0-1.0",
        video=f"clip_{number:05d}/left.mp4",
        fps=8.0,
        num_frames=NUM_FRAMES,
        width=96,
        height=96,
        intrinsics=np.array([[96.0, 0.0, 48.0], [0.0, 96.0, 48.0], [0.0, 0.0, 1.0]]),
        baseline=0.063,
        cam_to_world=cam_to_world,
        objects=[
            ObjectTrack(id=1, category="ball", description="the red ball", is_moving=True, points=moving),
            ObjectTrack(id=2, category="box", description="the blue box", is_moving=False, points=still),
        ],
    )


@pytest.fixture(scope="module")
def rows() -> list[QARow]:
    clips = [exact_clip(number) for number in range(48)]
    return build_questions(clips, QuestionConfig(seed=7, num_frames=NUM_FRAMES, cold_start=0))


class TestTaskNames:
    def test_the_seven_names(self):
        assert set(TASKS) == SEVEN_TASKS
        assert len(TASKS) == 7

    def test_questions_of_every_task_are_made(self, rows):
        assert {row.task for row in rows} == SEVEN_TASKS


class TestGrammar:
    def test_the_writer_uses_the_readers_strings(self):
        assert written.INITIAL_HEADER == grammar.INITIAL_HEADER
        assert written.FINAL_HEADER == grammar.FINAL_HEADER
        assert f"- {grammar.CAMERA_LABEL}:" == written.CAMERA_BULLET
        assert f"- {grammar.OBJECT_LABEL}:" == written.OBJECT_BULLET

    def test_the_prompt_asks_for_the_readers_strings(self, rows):
        prompt = "\n".join(message["content"] for message in render_messages(rows[0], "st_cot"))
        for text in (
            grammar.THINKING_OPEN, grammar.THINKING_CLOSE, grammar.ANSWER_OPEN, grammar.ANSWER_CLOSE,
            grammar.INITIAL_HEADER, grammar.FINAL_HEADER, f"- {grammar.CAMERA_LABEL}:", f"- {grammar.OBJECT_LABEL}:",
            grammar.NULL,
        ):  # fmt: skip
            assert text in prompt

    def test_a_copy_of_the_prompt_earns_nothing(self, rows):
        prompt = "\n".join(message["content"] for message in render_messages(rows[0], "st_cot"))
        assert parse_response(prompt).written_slots == 0
        assert STReward()(prompt, ground_truth(rows[0]))["score"] == 0.0


@pytest.mark.parametrize("style", STYLES)
class TestWrittenResponses:
    def test_every_slot_is_read_back(self, rows, style):
        for row in rows:
            parsed = parse_response(write_st_cot(row, style=style))
            assert parsed.malformed == ()
            assert parsed.well_tagged
            assert parsed.written_slots == 4
            for centers, stated in (
                (row.camera_center, parsed.camera_center),
                (row.object_center, parsed.object_center),
            ):
                for center, slot in zip(centers or [None, None], stated, strict=True):
                    assert isinstance(slot, Vector) == (center is not None)
                    if center is not None:
                        assert slot.xyz == pytest.approx(tuple(center), abs=5.1e-5)

    def test_they_earn_everything(self, rows, style):
        reward = STReward()
        for row in rows:
            result = reward(write_st_cot(row, style=style), ground_truth(row))
            assert (result["acc"], result["format"]) == (1.0, 1.0)
            assert result["score"] > 0.999

    def test_official_and_paper_find_the_answer_and_the_centres(self, rows, style):
        for preset in ("official", "paper"):
            reward = STReward(preset)
            for row in rows:
                result = reward(write_st_cot(row, style=style), ground_truth(row))
                assert result["acc"] == 1.0
                assert result["st"] > 0.999

    def test_with_another_letter_they_earn_nothing(self, rows, style):
        for row in rows:
            wrong = replace(row, answer="B" if row.answer == "A" else "A")
            assert STReward()(write_st_cot(wrong, style=style), ground_truth(row))["score"] == 0.0


def test_the_truth_of_every_row_is_sound(rows):
    assert [(row.id, problems) for row in rows if (problems := truth_problems(ground_truth(row)))] == []

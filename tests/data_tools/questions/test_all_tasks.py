"""Rows of every task that we know go all the way: checked for training, written as ST-CoT, rewarded, scored."""

import pytest
from clip_samples import make_clip

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.questions import QuestionConfig, build_questions
from mllm4d_verl.data_tools.schema import EXTRA_TASKS, TASKS, check_row
from mllm4d_verl.data_tools.st_cot import write_st_cot
from mllm4d_verl.datasets.options import check_tasks
from mllm4d_verl.datasets.reader import ground_truth
from mllm4d_verl.evaluation.responses import ResponseRecord
from mllm4d_verl.evaluation.scoring import score_records
from mllm4d_verl.reward import PRESETS, STReward


@pytest.fixture(scope="module")
def rows():
    config = QuestionConfig(num_frames=8, tasks=(*TASKS, *EXTRA_TASKS), max_per_clip=40)
    found = build_questions([make_clip(seed) for seed in range(16)], config)
    by_task = {row.task: row for row in found}
    assert set(by_task) == {*TASKS, *EXTRA_TASKS}
    return list(by_task.values())


def test_every_task_may_be_chosen_for_training(rows):
    for row in rows:
        check_row(row)
    check_tasks(row.task for row in rows)
    with pytest.raises(InputError, match="Did you mean 'object_speed'"):
        check_tasks(["object_sped"])


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_rewards_every_task(rows, preset):
    reward = STReward(preset=preset)
    for row in rows:
        right = reward(write_st_cot(row), ground_truth(row))["score"]
        assert right >= reward("no answer", ground_truth(row))["score"]


def test_the_scorer_of_evaluation_finds_right_and_wrong(rows):
    for row in rows:
        wrong = "B" if row.answer == "A" else "A"
        answers = (write_st_cot(row), f"<think>x</think><answer>{wrong}</answer>")
        records = [ResponseRecord(row.id, row.clip_id, row.task, ground_truth(row), answer) for answer in answers]
        assert [record.scores["correct"] for record in score_records(records)] == [1.0, 0.0], row.task

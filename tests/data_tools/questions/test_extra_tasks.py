"""The tasks beside the seven: rows that keep the contract, and whose values are those of the references."""

from collections import Counter

import pytest
from clip_samples import make_clip
from solver_references import Scene, measure

from mllm4d_verl.data_tools.questions import QuestionConfig, Thresholds, build_questions
from mllm4d_verl.data_tools.sampling import sample_frame_indices
from mllm4d_verl.data_tools.schema import EXTRA_TASKS, check_row

NUM_FRAMES = 8
CLIPS = {f"clip_{seed:05d}": make_clip(seed) for seed in range(20)}


@pytest.fixture(scope="module")
def rows():
    return build_questions(CLIPS.values(), QuestionConfig(num_frames=NUM_FRAMES, tasks=EXTRA_TASKS, max_per_clip=40))


def test_values_agree_with_the_references(rows):
    scenes = {name: Scene(clip, sample_frame_indices(clip.num_frames, NUM_FRAMES)) for name, clip in CLIPS.items()}
    checked = Counter()
    for row in rows:
        check_row(row)
        ids = [track.id for track in CLIPS[row.clip_id].objects]
        one, two = (ids.index(row.meta[name]) if name in row.meta else -1 for name in ("object_id", "other_object_id"))
        expected = measure(row.task, scenes[row.clip_id], row.start_frame, row.end_frame, one, two, Thresholds())
        assert row.meta["measure"] == pytest.approx(expected, abs=2e-6), row.task  # files hold six decimals
        checked[row.task] += 1
        if row.task in ("nearer_object", "occlusion_order"):
            track = next(t for t in CLIPS[row.clip_id].objects if t.description == row.answer_text)
            assert (track.id == row.meta["object_id"]) == (row.meta["measure"] < 0)
        if row.value is not None:
            assert row.unit in row.answer_text or row.unit in row.question
    assert len(checked) == 11


def test_every_task_is_asked_with_balanced_letters(rows):
    assert {row.task for row in rows} == set(EXTRA_TASKS)
    for task in EXTRA_TASKS:
        letters = Counter(row.answer for row in rows if row.task == task and row.split == "train")
        assert max(letters.values()) - min(letters.values()) <= 1

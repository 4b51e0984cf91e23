"""Runs over files: what memory holds, and the same bytes after being stopped half-way.

Workers, Ray and SIGKILL are in tests/e2e/test_questions_ray.py.
"""

import pytest
from clip_samples import make_clip

from mllm4d_verl.data_tools.questions import QuestionConfig, build_questions, running, write_questions
from mllm4d_verl.data_tools.schema import iter_clips, read_qa, write_clip, write_clip_index

CONFIG = QuestionConfig(num_frames=8, cold_start=12)
NAMES = ("train.parquet", "val.parquet", "test.parquet", "cold_start.parquet", "questions.json")


@pytest.fixture
def clips(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "_CHUNK_CLIPS", 3)
    for seed in range(10):
        clip = make_clip(seed)
        clip.quality["video"] = "absent"
        write_clip(tmp_path / "clips", clip)
    write_clip_index(tmp_path / "clips")
    return tmp_path / "clips"


def _bytes(folder):
    return {name: (folder / name).read_bytes() for name in NAMES}


def test_a_stopped_run_goes_on_and_ends_the_same(clips, tmp_path, monkeypatch):
    write_questions(clips, tmp_path / "a", CONFIG)
    done = []
    phrase_chunk = running.phrase_chunk

    def stop_after_two(plan, chunk):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(chunk)
        return phrase_chunk(plan, chunk)

    monkeypatch.setattr(running, "phrase_chunk", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        write_questions(clips, tmp_path / "b", CONFIG)
    assert not (tmp_path / "b" / "questions.json").exists()
    again = []
    monkeypatch.setattr(running, "find_chunk", lambda plan, chunk: pytest.fail("the first pass was finished"))
    monkeypatch.setattr(running, "phrase_chunk", lambda plan, chunk: again.append(chunk) or phrase_chunk(plan, chunk))
    write_questions(clips, tmp_path / "b", CONFIG)
    assert len(again) == 2
    assert _bytes(tmp_path / "a") == _bytes(tmp_path / "b")
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == sorted(NAMES)


def test_files_hold_the_rows_that_are_built_in_memory(clips, tmp_path):
    write_questions(clips, tmp_path / "a", CONFIG)
    built = {row.id: row for row in build_questions(iter_clips(clips), CONFIG)}
    written = [row for name in NAMES[:3] for row in read_qa(tmp_path / "a" / name)]
    assert {row.id for row in written} == built.keys()
    for row in written:
        own = built[row.id]
        assert (row.question, row.options, row.answer, row.meta) == (own.question, own.options, own.answer, own.meta)
        assert (row.camera_center, row.object_center) == (own.camera_center, own.object_center)

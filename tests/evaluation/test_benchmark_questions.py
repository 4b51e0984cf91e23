"""A benchmark's questions with videos on this machine, frames by rule, and the record of a run."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import read_qa
from mllm4d_verl.evaluation.benchmark_questions import FrameRule, find_video, write_benchmark_rows
from mllm4d_verl.evaluation.benchmarks import load_benchmark
from mllm4d_verl.evaluation.benchmarks.base import unreadable_item
from mllm4d_verl.evaluation.generate import Plan
from mllm4d_verl.evaluation.job import GenerationJob
from mllm4d_verl.evaluation.provenance import folder_sha256, model_revision
from mllm4d_verl.evaluation.questions import load_questions, requests_of
from mllm4d_verl.evaluation.writer import LockedError, only_writer


@pytest.fixture
def vlm4d(tmp_path, write_video):
    """One question of VLM4D about a video of 2 s at 10 frames a second, and its folder."""
    write_video(tmp_path / "videos_real" / "davis" / "car.mp4", num_frames=20, fps=10.0)
    record = {
        "id": "validation_1",
        "video": "https://example.org/resolve/main/videos_real/davis/car.mp4",
        "question_type": "multiple-choice",
        "question": "Which way?",
        "choices": {"A": "left", "B": "right", "C": "up", "D": "down"},
        "answer": "right",
    }
    (tmp_path / "real_mc.json").write_text(json.dumps([record]))
    return load_benchmark("vlm4d_real", tmp_path / "real_mc.json"), tmp_path


def test_a_benchmark_becomes_questions_of_the_training_kind(vlm4d):
    benchmark, folder = vlm4d
    file, _ = write_benchmark_rows(benchmark, folder, FrameRule(8), folder / "run")
    [row] = read_qa(file)
    assert (row.num_frames, row.answer, row.options[1]) == (8, "B", "right")
    job = GenerationJob("m", str(file), "u", "direct", backend="openai")
    [question] = load_questions(job)
    assert question.task == benchmark.items[0].task != row.task
    assert question.video["video"] == str(folder / "videos_real" / "davis" / "car.mp4")
    assert write_benchmark_rows(benchmark, folder, FrameRule(8), folder / "run") == (file, {})
    assert write_benchmark_rows(benchmark, folder, FrameRule(6), folder / "run")[0] != file


def test_a_question_about_a_part_gets_frames_of_that_part(vlm4d):
    from mllm4d_verl.video import load_video

    benchmark, folder = vlm4d
    part = replace(benchmark, items=(replace(benchmark.items[0], start_s=1.0, end_s=1.6),))
    file, _ = write_benchmark_rows(part, folder, FrameRule(32), folder / "run")
    [question] = load_questions(GenerationJob("m", str(file), "u", "direct", backend="openai"))
    assert question.video["nframes"] == 6  # 7 lie in it
    _, metadata = load_video(question.video, 16)
    indices = list(map(int, metadata["frames_indices"]))
    assert (len(indices), indices[0], indices[-1]) == (6, 10, 16)


def test_questions_at_fault_do_not_stop_a_benchmark(vlm4d, write_video):
    benchmark, folder = vlm4d
    write_video(folder / "videos_real" / "davis" / "short.mp4", num_frames=1, fps=10.0)
    (sound,) = benchmark.items
    items = (
        sound,
        replace(sound, id="late", start_s=50.0, end_s=60.0),
        replace(sound, id="brief", video="videos_real/davis/short.mp4"),
        unreadable_item("broken", "7", "", "row 7: not a record"),
    )
    file, faults = write_benchmark_rows(replace(benchmark, items=items), folder, FrameRule(8), folder / "run")
    assert [(row.id, row.num_frames, row.meta.get("start_s")) for row in read_qa(file)] == [
        ("validation_1", 8, None),
        ("late", 8, None),
    ]
    assert list(faults) == ["broken", "late", "brief"]
    assert "the whole video is asked about" in faults["late"]
    assert "is not asked" in faults["brief"]
    with pytest.raises(InputError, match="no question can be asked"):
        write_benchmark_rows(replace(benchmark, items=items[2:]), folder, FrameRule(8), folder / "run")


def test_missing_videos_are_counted_and_named(vlm4d):
    benchmark, folder = vlm4d
    with pytest.raises(InputError, match=r"--media-root: 1 of 1 videos of vlm4d_real are not here.*car\.mp4"):
        write_benchmark_rows(benchmark, folder / "empty", FrameRule(), folder / "run")


@pytest.mark.parametrize(
    ("rule", "count"),
    [
        (FrameRule(8), 8),
        (FrameRule(32), 20),
        (FrameRule(32, fps=2.0), 4),
        (FrameRule(32, fps=0.1), 2),
        (FrameRule(4, 9.0), 4),
    ],
)
def test_the_rule_for_frames(rule, count):
    assert rule.count(available=21, duration_s=2.1) == count


@pytest.mark.parametrize("name", ["https://a.org/x/videos_real/davis/car.mp4", "davis/car.mp4", "else/where/car.mp4"])
def test_videos_are_found_by_the_end_of_their_name(vlm4d, name):
    _, folder = vlm4d
    found = find_video(name, folder / "videos_real" / "davis")
    assert found == folder / "videos_real" / "davis" / "car.mp4"


def test_a_name_cannot_leave_the_media_folder(vlm4d):
    _, folder = vlm4d
    assert find_video("../real_mc.json", folder / "videos_real") is None


def test_samples_have_keys_and_seeds_of_their_own_that_do_not_change(vlm4d):
    benchmark, folder = vlm4d
    file, _ = write_benchmark_rows(benchmark, folder, FrameRule(8), folder / "run")
    job = GenerationJob("m", str(file), str(folder / "u.jsonl"), "direct", samples=3, temperature=1.0)
    requests = requests_of(job, load_questions(job))
    assert [request.key for request in requests] == [("validation_1", sample) for sample in range(3)]
    assert len({request.seed for request in requests}) == 3
    assert requests == requests_of(job, load_questions(job))


def test_plan_survives_its_file(tmp_path):
    job = GenerationJob("m", "d", str(tmp_path / "f.unfinished.jsonl"), "direct")
    plan = Plan([("q0", 0), ("q0", 1)], {"num_frames": {"4": 1}})
    (tmp_path / "f.unfinished.plan.json").write_text(plan.to_json())
    assert Plan.read(job) == plan


def test_revision_is_the_content_of_a_folder_or_the_commit_of_a_snapshot(tmp_path):
    for name, weights in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(weights)
    assert folder_sha256(tmp_path / "a") == folder_sha256(tmp_path / "b") != folder_sha256(tmp_path / "c")
    assert model_revision(str(tmp_path / "a")).startswith("sha256:")
    snapshot = tmp_path / "models--o--n" / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    assert model_revision(str(snapshot)) == "0123abc"


def test_one_writer_at_a_time(tmp_path):
    import multiprocessing

    with only_writer(tmp_path / "lock", wait=False), multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_is_locked, (tmp_path / "lock",))
    assert not (tmp_path / "lock").exists()


def _is_locked(path):
    try:
        with only_writer(path, wait=False):
            return False
    except LockedError:
        return True


def test_progress_says_what_is_left():
    from mllm4d_verl.cli.eval_run import ProgressLines, duration

    lines, now = [], [0.0]
    progress = ProgressLines(30.0, lambda: now[0], lines.append)
    for now[0], done, total in ((31.0, 0, None), (40.0, 100, 400), (80.0, 120, 400), (90.0, 130, 400)):
        progress(done, total)
    # what an earlier run answered does not count as speed
    assert lines == ["starting the model", "answered 120 of 400, 0.50/s, about 9 min left"]
    assert [duration(seconds) for seconds in (45, 600, 7200)] == ["45 s", "10 min", "2.0 h"]

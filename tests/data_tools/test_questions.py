"""The engine's promises: determinism, splits, caps, balance, and rows that agree with their clips."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from clip_samples import make_clip

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.questions import (
    QuestionConfig,
    build_questions,
    build_with_report,
    finished_report,
    write_questions,
)
from mllm4d_verl.data_tools.questions.applicability import DISTANCE_TASKS, solve
from mllm4d_verl.data_tools.questions.selection import split_clips
from mllm4d_verl.data_tools.questions.templates import TEMPLATES, noun_phrase
from mllm4d_verl.data_tools.sampling import sample_frame_indices
from mllm4d_verl.data_tools.schema import TASKS, check_row, read_qa, write_clip, write_clip_index

CONFIG = QuestionConfig(seed=7, num_frames=8, val_fraction=0.1, test_fraction=0.2)


@pytest.fixture(scope="module")
def clips():
    return [make_clip(seed) for seed in range(60)]


@pytest.fixture(scope="module")
def rows(clips):
    return build_questions(clips, CONFIG)


def test_same_seed_same_rows_in_any_order_of_clips(clips, rows):
    assert build_questions(clips[::-1], CONFIG) == rows
    assert build_questions(clips, replace(CONFIG, seed=8)) != rows


def test_every_row_keeps_the_contract_and_its_clip(clips, rows):
    by_id = {clip.clip_id: clip for clip in clips}
    assert len({row.id for row in rows}) == len(rows)
    for row in rows:
        check_row(row)
        clip = by_id[row.clip_id]
        frames = sample_frame_indices(clip.num_frames, row.num_frames)
        assert row.meta["clip_frames"] == [frames[row.start_frame], frames[row.end_frame]]
        track = next((t for t in clip.objects if t.id == row.meta.get("object_id")), None)
        solution = solve(row.task, clip, *row.meta["clip_frames"], track, CONFIG.thresholds)
        assert row.camera_center == solution.camera_center
        assert row.object_center == solution.object_center
        if row.task in DISTANCE_TASKS:
            printed = float(row.answer_text.removesuffix(" meters"))
            assert printed == pytest.approx(solution.measure, abs=0.051)
            assert row.value == pytest.approx(solution.measure, abs=1e-5)
        else:
            assert row.answer_text == solution.label
            assert row.value is None
        assert row.options.count(row.answer_text) == 1


def test_questions_name_their_frames_and_object(rows):
    for row in rows:
        numbers = re.findall(r"\d+", row.question)
        assert {str(row.start_frame), str(row.end_frame), str(row.num_frames - 1)} <= set(numbers)
        assert set(numbers) <= {"0", str(row.start_frame), str(row.end_frame), str(row.num_frames - 1)}
        if row.object_description:
            assert row.object_description.lower() in row.question.lower()
        assert "{" not in row.question
        bare = all(" meters" not in option for option in row.options)
        assert bare == (row.task not in DISTANCE_TASKS or "meters" in row.question)


def test_every_task_has_several_phrasings_and_uses_them(rows):
    for task in TASKS:
        assert len(set(TEMPLATES[task])) >= 4
        first_words = {row.question.split()[0] for row in rows if row.task == task}
        assert len(first_words) >= 3


def test_splits_share_no_clip_and_have_exact_sizes(clips, rows):
    splits = {}
    for row in rows:
        assert splits.setdefault(row.clip_id, row.split) == row.split
    assigned = split_clips([clip.clip_id for clip in clips], 0.1, 0.2, CONFIG.seed)
    assert Counter(assigned.values()) == {"val": 6, "test": 12, "train": 42}
    assert splits.items() <= assigned.items()


def test_small_sets_still_get_every_split_and_training_always_one():
    assert Counter(split_clips("abc", 0.1, 0.1, 0).values()) == {"val": 1, "test": 1, "train": 1}
    assert Counter(split_clips("a", 0.4, 0.5, 0).values()) == {"train": 1}
    assert Counter(split_clips("abcd", 0.0, 0.0, 0).values()) == {"train": 4}


def test_caps_per_clip():
    config = replace(CONFIG, max_per_clip=5, max_per_clip_task=1)
    rows = build_questions([make_clip(seed) for seed in range(20)], config)
    assert max(Counter(row.clip_id for row in rows).values()) <= 5
    assert max(Counter((row.clip_id, row.task) for row in rows).values()) == 1


def test_letters_and_answers_are_balanced(rows):
    train = [row for row in rows if row.split == "train"]
    for task in TASKS:
        members = [row for row in train if row.task == task]
        letters = Counter(row.answer for row in members)
        assert len(letters) == len(members[0].options)
        assert max(letters.values()) - min(letters.values()) <= 1
        if task in DISTANCE_TASKS:
            ranks = Counter(sorted(row.options, key=_number).index(row.answer_text) for row in members)
            assert max(ranks.values()) - min(ranks.values()) <= 6
        else:
            answers = sorted(Counter(row.answer_text for row in members).values())
            assert answers[-1] <= max(1, CONFIG.balance_ratio * answers[-2])
            assert answers[-1] <= 2 * np.mean(answers)


def _number(option):
    return float(option.removesuffix(" meters"))


def test_most_questions_span_the_clip_and_some_do_not(rows):
    whole = np.mean([(row.start_frame, row.end_frame) == (0, 7) for row in rows])
    assert 0.4 < whole < 0.8
    assert len({(row.start_frame, row.end_frame) for row in rows}) > 5
    for share in (0.0, 1.0):
        some = build_questions([make_clip(seed) for seed in range(10)], replace(CONFIG, whole_clip_share=share))
        assert {(row.start_frame, row.end_frame) == (0, 7) for row in some} == {share == 1.0}


def test_report_adds_up(clips, rows):
    again, report = build_with_report(clips, CONFIG)
    assert again == rows
    assert sum(report.rows.values()) == len(rows)
    assert sum(report.clips.values()) == len(clips)
    for split, tasks in report.tasks.items():
        assert sum(sum(answers.values()) for answers in tasks.values()) == report.rows[split]
    assert report.skipped["camera_relative_direction"]["camera direction has no dominant axis"] > 0


def test_noun_phrase():
    assert noun_phrase("red ball") == "the red ball"
    assert noun_phrase("The red ball") == "The red ball"
    assert noun_phrase(" ") == "the object"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tasks": ("camera_colour",)}, "tasks"),
        ({"tasks": ()}, "tasks"),
        ({"num_frames": 7}, "num_frames"),
        ({"val_fraction": 1.5}, "val_fraction"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "val_fraction"),
        ({"cot_style": "poem"}, "cot_style"),
        ({"cot_decimals": 9}, "cot_decimals"),
        ({"option_spread": "narrow"}, "option_spread"),
        ({"max_per_clip": 0}, "max_per_clip"),
    ],
)
def test_bad_settings_are_named(changes, field):
    with pytest.raises(InputError) as error:
        replace(CONFIG, **changes)
    assert error.value.field == field


def test_too_short_clips_repeated_ids_and_nothing_to_ask():
    with pytest.raises(InputError, match="32 frames asked of a video of 16"):
        build_questions([make_clip(0)], QuestionConfig())
    with pytest.raises(InputError, match="share this id"):
        build_questions([make_clip(0), make_clip(0)], CONFIG)
    still = make_clip(0, num_objects=0)
    still.cam_to_world[:] = np.eye(4)
    with pytest.raises(InputError, match="camera motion too small"):
        build_questions([still], CONFIG)


class TestFiles:
    @pytest.fixture
    def root(self, tmp_path):
        root = tmp_path / "world"
        for seed in range(12):
            clip = make_clip(seed)
            write_clip(root / "truth", clip)
            (root / clip.video).parent.mkdir()
            (root / clip.video).write_bytes(b"mp4")
        write_clip_index(root / "truth")
        return root

    def test_writes_four_files_with_videos_relative_to_them(self, root, tmp_path):
        out = tmp_path / "qa" / "v1"
        report = write_questions(root, out, replace(CONFIG, cold_start=9))
        for split in ("train", "val", "test"):
            rows = read_qa(out / f"{split}.parquet")
            assert {row.split for row in rows} == {split}
            assert all((out / row.video).is_file() for row in rows)
            assert all(row.response is None for row in rows)
        cold = read_qa(out / "cold_start.parquet")
        assert len(cold) == report.cold_start == 9
        assert all(row.response and row.split == "train" for row in cold)
        assert len({row.task for row in cold}) == 7  # tasks take turns

    def test_same_seed_same_bytes(self, root, tmp_path):
        for out in ("a", "b"):
            write_questions(root, tmp_path / out, CONFIG)
        names = sorted(path.name for path in (tmp_path / "a").iterdir())
        assert names == ["cold_start.parquet", "questions.json", "test.parquet", "train.parquet", "val.parquet"]
        for name in names:
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    def test_the_index_folder_itself_may_be_named(self, root, tmp_path):
        write_questions(root / "truth", tmp_path / "qa", CONFIG)
        assert all((tmp_path / "qa" / row.video).is_file() for row in read_qa(tmp_path / "qa" / "train.parquet"))

    def test_finished_work_is_recognised_until_clips_or_settings_change(self, root, tmp_path):
        out = tmp_path / "qa"
        assert finished_report(root, out, CONFIG) is None
        report = write_questions(root, out, CONFIG)
        assert finished_report(root, out, CONFIG) == report
        assert finished_report(root, out, replace(CONFIG, seed=1)) is None
        clip = make_clip(99, clip_id="clip_00003")
        write_clip(root / "truth", clip)
        assert finished_report(root, out, CONFIG) is None
        write_questions(root, out, CONFIG)
        (out / "val.parquet").unlink()
        assert finished_report(root, out, CONFIG) is None

    def test_missing_video_is_named(self, root, tmp_path):
        (root / "clip_00004" / "left.mp4").unlink()
        with pytest.raises(InputError, match=r"row clip_00004, field video: .*left\.mp4 does not exist"):
            write_questions(root, tmp_path / "qa", CONFIG)

    def test_clips_made_without_images_need_no_video(self, root, tmp_path):
        def forget(seed):
            clip = make_clip(seed)
            write_clip(root / "truth", replace(clip, quality={**clip.quality, "video": "absent"}))
            (root / clip.video).unlink()

        forget(4)
        write_clip_index(root / "truth")
        report = write_questions(root, tmp_path / "one", CONFIG)
        assert report.absent_videos == 1
        assert finished_report(root, tmp_path / "one", CONFIG) == report
        for seed in {*range(12)} - {4}:
            forget(seed)
        write_clip_index(root / "truth")
        for number, folder in enumerate((root, root / "truth")):
            report = write_questions(folder, tmp_path / f"all{number}", CONFIG)
            assert report.absent_videos == 12
            rows = read_qa(tmp_path / f"all{number}" / "train.parquet")
            places = {(tmp_path / f"all{number}" / row.video).resolve() for row in rows}
            assert places <= {(root / make_clip(seed).video).resolve() for seed in range(12)}


def test_what_is_asked_about_an_end_frame_alone_is_asked_once(clips):
    tasks = ("object_object_distance", "nearer_object")
    config = replace(CONFIG, tasks=tasks, inner_pairs=20, max_per_clip=200, max_per_clip_task=100)
    rows, report = build_with_report(clips[:20], config)
    asked = [(row.clip_id, row.task, row.end_frame, row.id.rsplit("-", 2)[0]) for row in rows]
    assert len(set(asked)) == len(asked) > 100
    assert all(report.skipped[task]["asked already about this end frame"] for task in tasks)

"""Reading benchmarks: the official VLM4D files, VSI-Bench and STI-Bench layouts, question rows, and bad input."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.released import write_rft, write_sft
from mllm4d_verl.data_tools.schema import LETTERS, QARow, check_row, write_qa
from mllm4d_verl.evaluation.answers.score import score_answer, score_answers
from mllm4d_verl.evaluation.benchmarks import benchmark_names, get_source, item_to_row, load_benchmark
from mllm4d_verl.evaluation.benchmarks.base import content_sha256, find_oddities
from mllm4d_verl.evaluation.statistics import proportion_interval

VLM4D = Path("/work/shared/data/vlm4d_official")
needs_vlm4d = pytest.mark.skipif(not VLM4D.is_dir(), reason="the official VLM4D files are not here")


@pytest.fixture(scope="module")
def vlm4d():
    return load_benchmark("vlm4d", VLM4D)


@needs_vlm4d
class TestOfficialVLM4D:
    def test_every_item_loads_integer_choices_included(self, vlm4d):
        assert len(vlm4d.items) == 1371 + 445
        assert len({item.clip for item in vlm4d.items}) == 1000
        integers = [item for item in vlm4d.items if all(option.isdigit() for option in item.options)]
        assert sum(item.splits["part"] == "real" for item in integers) == 236  # 232, and 4 in quotes
        assert all(item.answer_text in item.options for item in vlm4d.items)

    def test_splits(self, vlm4d):
        tasks = Counter(item.task for item in vlm4d.items)
        assert tasks == {
            "real_exo": 922,
            "real_ego": 449,
            "synthetic_directional": 400,
            "synthetic_false_positive": 45,
        }

    def test_the_equal_options_and_the_repeated_pair_are_reported(self, vlm4d):
        found = {odd.kind: odd.ids for odd in vlm4d.oddities}
        assert found == {
            "equal_options": ("real/validation_633",),
            "repeated_question": ("real/validation_1288", "real/validation_1289"),
        }

    def test_the_revision_is_told_from_the_content(self, vlm4d):
        assert vlm4d.revision.startswith("23f26807")
        assert load_benchmark("vlm4d_real", VLM4D / "real_mc.json").revision == vlm4d.revision
        changed = [replace(vlm4d.items[0], question="Why?"), *vlm4d.items[1:]]
        assert content_sha256(changed) not in get_source("vlm4d").revisions

    @pytest.mark.parametrize(
        "form",
        [
            "{letter}",
            "{text}",
            "{letter}. {text}",
            "The answer is ({letter}).",
            "<think>A or B?</think><answer>{text}</answer>",
            "Therefore, the correct answer is **{letter}. {text}**.",
        ],
    )
    def test_oracle_answers_in_any_form_score_100(self, vlm4d, form):
        for item in vlm4d.items:
            score = score_answer(item, form.format(letter=item.answer, text=item.answer_text))
            assert score.correct == 1.0, (item, score)

    def test_letter_and_text_of_the_same_option_score_alike(self, vlm4d):
        for item in vlm4d.items:
            for letter, text in zip(LETTERS, item.options, strict=False):
                assert score_answer(item, letter).correct == score_answer(item, text).correct, (item, letter)

    def test_a_random_answerers_interval_covers_chance(self, vlm4d):
        rng = np.random.default_rng(0)
        chosen = rng.integers(4, size=len(vlm4d.items))
        responses = [
            LETTERS[index] if index % 2 else item.options[index]
            for item, index in zip(vlm4d.items, chosen, strict=True)
        ]
        scores = score_answers(vlm4d.items, responses)
        assert all(score.verdict.is_valid for score in scores)
        interval = proportion_interval([s.correct for s in scores], [item.clip for item in vlm4d.items])
        assert interval.low < 0.25 < interval.high

    def test_items_become_question_rows(self, vlm4d):
        for item in vlm4d.items[:50]:
            row = item_to_row(item, num_frames=16)
            check_row(row)
            assert (row.answer_text, row.num_frames, row.end_frame) == (item.answer_text, 16, 15)


def vlm4d_record(number=1, **changes):
    choices = {"A": 1, "B": 2, "C": 3, "D": 0}
    video = "https://host/videos_real/davis/swing.mp4"
    record = {"id": f"validation_{number}", "video": video, "question": "How often?", "choices": choices, "answer": 2}
    return {**record, **changes}


def write_json(path, records):
    path.write_text(json.dumps(records))
    return path


class TestVLM4D:
    def test_integers_are_read_as_text(self, tmp_path):
        (item,) = load_benchmark("vlm4d_real", write_json(tmp_path / "q.json", [vlm4d_record()])).items
        assert (item.options, item.answer, item.splits) == (("1", "2", "3", "0"), "B", {"part": "real", "view": "exo"})

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"answer": 7}, "row 0, field answer: the answer '7' is not among the options"),
            ({"answer": None}, "field answer: the field is missing"),
            ({"choices": {"A": "left"}}, "field choices: options under the letters"),
            ({"choices": ["left", "right"]}, "field choices: options under the letters"),
            ({"id": "first"}, "field id: 'first' does not end in a number"),
            ({"video": "https://host/videos_synthetic/synth_001.mp4"}, "a synthetic question"),
        ],
    )
    def test_bad_records_are_told_by_row_and_field(self, tmp_path, changes, message):
        with pytest.raises(InputError, match=message.replace("(", r"\(")):
            load_benchmark("vlm4d_real", write_json(tmp_path / "q.json", [vlm4d_record(**changes)]))

    def test_ids_of_both_parts_do_not_meet(self, tmp_path):
        synthetic = vlm4d_record(video="https://host/videos_synthetic/synth_001.mp4", answer=0)
        file = write_json(tmp_path / "q.json", [vlm4d_record(), synthetic])
        benchmark = load_benchmark("VLM4D", file)
        assert [item.id for item in benchmark.items] == ["real/validation_1", "synthetic/validation_1"]
        assert benchmark.find("validation_1") is None
        assert benchmark.find("validation_1", "synth_001.mp4") is None  # which folder?
        assert benchmark.find("validation_1", "x/videos_synthetic/synth_001.mp4") is benchmark.items[1]


VSI_NUMBER = {
    "id": 0,
    "dataset": "arkitscenes",
    "scene_name": "41069025",
    "question_type": "object_abs_distance",
    "question": "How far, in meters?",
    "ground_truth": "1.6",
    "options": None,
    "pruned": False,
}
VSI_CHOICE = {
    **VSI_NUMBER,
    "id": 1,
    "question_type": "object_rel_direction_easy",
    "question": "Which way?",
    "ground_truth": "B",
    "options": ["A. left", "B. right"],
    "pruned": True,
}


class TestVSIBench:
    def test_numbers_and_choices(self, tmp_path):
        file = tmp_path / "test.jsonl"
        file.write_text("\n".join(map(json.dumps, (VSI_NUMBER, VSI_CHOICE))))
        benchmark = load_benchmark("vsi-bench", tmp_path)
        number, choice = benchmark.items
        assert (number.kind, number.value, number.unit, number.options) == ("number", 1.6, "m", ())
        assert number.splits == {"dataset": "arkitscenes", "set": "debiased"}
        assert (choice.options, choice.answer_text, choice.splits["set"]) == (("left", "right"), "right", "pruned")
        assert score_answer(number, "about 160 cm").correct == 1.0
        assert score_answer(number, "1.5 m").correct == pytest.approx(0.9)
        assert score_answer(choice, "B. right").correct == 1.0
        assert benchmark.macro_groups[choice.task] == "object_rel_direction"
        check_row(item_to_row(number))

    def test_unknown_question_types_are_refused(self, tmp_path):
        file = write_json(tmp_path / "q.json", [{**VSI_NUMBER, "question_type": "colour"}])
        with pytest.raises(InputError, match=r"unknown question type 'colour'.*object_counting"):
            load_benchmark("vsi_bench", file)


STI_RECORD = {
    "ID": 3,
    "Video": "scene0207_00.mp4",
    "time_start": 1.0,
    "time_end": 4.5,
    "Task": "Displacement & Path Length",
    "Question": "How far does the camera move?",
    "Answer": "C",
}
STI_CANDIDATES = {"A": "1 m", "B": "2 m", "C": "3 m", "D": "4 m", "E": "5 m"}


class TestSTIBench:
    @pytest.mark.parametrize("as_text", [True, False])
    def test_candidates_as_text_or_struct(self, tmp_path, as_text):
        candidates = json.dumps(STI_CANDIDATES) if as_text else STI_CANDIDATES
        rows = [{**STI_RECORD, "Candidates": candidates}]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "qa.parquet")
        (item,) = load_benchmark("sti_bench", tmp_path).items
        assert (item.options[2], item.answer, item.start_s, item.end_s) == ("3 m", "C", 1.0, 4.5)
        assert (item.splits, item.clip) == ({"scene": "indoor"}, "scene0207_00")
        assert item_to_row(item).meta["start_s"] == 1.0

    def test_a_struct_holds_null_for_letters_a_question_lacks(self, tmp_path):
        rows = [
            {**STI_RECORD, "Candidates": STI_CANDIDATES},
            {**STI_RECORD, "ID": 4, "Candidates": {**STI_CANDIDATES, "D": None, "E": None}},
        ]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "qa.parquet")
        assert [len(item.options) for item in load_benchmark("sti_bench", tmp_path).items] == [5, 3]


ROWS = [
    QARow("q0", "c0", "c0.mp4", 8, "camera_relative_direction", 0, 7, "Where to?", ["left", "right"], "B"),
    QARow("q1", "c0", "c0.mp4", 8, "camera_relative_direction", 0, 5, "Where to?", ["left", "right"], "A"),
    QARow("q2", "c1", "c1.mp4", 8, "other", 0, 7, "How far?", [], "2.5 m", value=2.5, unit="m"),
]


class TestQuestionRows:
    def test_a_file_of_rows_is_a_benchmark_named_by_its_path(self, tmp_path):
        file = write_qa(tmp_path / "qa.parquet", ROWS)
        benchmark = load_benchmark(file)
        assert (benchmark.name, len(benchmark.sha256)) == (str(file), 64)
        assert [item.kind for item in benchmark.items] == ["choice", "choice", "number"]
        assert benchmark.items[0].truth["options"] == ["left", "right"]
        assert {odd.kind for odd in benchmark.oddities} == {"repeated_question", "contradicting_answers"}

    @pytest.mark.parametrize(("write", "name"), [(write_rft, "rft.jsonl"), (write_sft, "sft.json")])
    def test_released_layouts_are_benchmarks(self, tmp_path, write, name):
        file = write(tmp_path / name, ROWS[:2])
        assert [(item.id, item.answer) for item in load_benchmark(file).items] == [("q0", "B"), ("q1", "A")]

    def test_rows_survive_the_way_to_an_item_and_back(self, tmp_path):
        for row, item in zip(ROWS, load_benchmark(write_qa(tmp_path / "qa.parquet", ROWS)).items, strict=True):
            back = item_to_row(item)
            for name in ("id", "clip_id", "video", "num_frames", "task", "end_frame", "question", "options", "answer"):
                assert getattr(back, name) == getattr(row, name)


class TestRegistry:
    def test_names(self):
        assert {"vlm4d", "vsi_bench", "sti_bench", "mllm4d"} <= set(benchmark_names())
        assert {get_source(name).name for name in benchmark_names()} == set(benchmark_names())

    def test_an_unknown_name_has_a_suggestion(self):
        with pytest.raises(InputError, match=r"no benchmark 'vlm5d'.*Did you mean 'vlm4d'"):
            load_benchmark("vlm5d")

    def test_a_question_file_that_is_not_here_says_where_to_get_it(self, monkeypatch):
        monkeypatch.delenv("MLLM4D_BENCHMARKS", raising=False)
        with pytest.raises(InputError, match=r"Get qa.parquet from https://huggingface.co/datasets/MINT-SJTU"):
            load_benchmark("sti_bench")

    @pytest.mark.parametrize("inside", ["", "vlm4d_real"])
    def test_the_folder_of_the_environment_is_looked_into(self, tmp_path, monkeypatch, inside):
        (tmp_path / inside).mkdir(exist_ok=True)
        write_json(tmp_path / inside / "real_mc.json", [vlm4d_record()])
        monkeypatch.setenv("MLLM4D_BENCHMARKS", str(tmp_path))
        assert len(load_benchmark("vlm4d_real").items) == 1

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "no records"),
            ("[]", "no records"),
            ("[1]", "row 0: a record must be an object"),
            ("[{", "not a JSON list"),
            ("{x", "row 0: not JSON"),
            ("\xff", "UTF-8"),
        ],
    )
    def test_files_that_are_none(self, tmp_path, content, message):
        (tmp_path / "q.json").write_bytes(content.encode("latin-1"))
        with pytest.raises(InputError, match=message):
            load_benchmark("vlm4d_real", tmp_path / "q.json")

    def test_oddities_of_too_few_options(self, tmp_path):
        (item,) = load_benchmark("vlm4d_real", write_json(tmp_path / "q.json", [vlm4d_record()])).items
        kinds = {odd.kind for odd in find_oddities([replace(item, options=("x", "x"), answer="A")])}
        assert kinds == {"equal_options", "few_options"}

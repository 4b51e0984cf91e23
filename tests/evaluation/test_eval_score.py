"""`mllm4d eval score --benchmark`: response files of other projects and our own, as a user scores them."""

import json

import pytest
from typer.testing import CliRunner

from mllm4d_verl.cli.eval import app
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import QARow, write_qa
from mllm4d_verl.evaluation.answers.score import score_answers
from mllm4d_verl.evaluation.benchmark_score import score_benchmark
from mllm4d_verl.evaluation.benchmarks import Item
from mllm4d_verl.evaluation.benchmarks.answered import read_answered
from mllm4d_verl.evaluation.responses import ResponseRecord, write_responses

CHOICES = {"A": "left", "B": "right", "C": "not moving", "D": "towards the camera"}


@pytest.fixture(autouse=True)
def no_question_files(monkeypatch):
    monkeypatch.delenv("MLLM4D_BENCHMARKS", raising=False)


def vlm4d_item(number, response, answer="right", part="real", choices=CHOICES, **changes):
    folder = "videos_real/davis/a" if part == "real" else "videos_synthetic/synth_"
    item = {
        "id": f"validation_{number}",
        "video": f"https://host/{folder}{number // 2}.mp4",
        "question": f"Where to, {number}?",
        "choices": choices,
        "answer": answer,
        "response": response,
    }
    return {**item, **changes}


def write_json(path, records):
    path.write_text(json.dumps(records))
    return path


def run(*arguments):
    done = CliRunner().invoke(app, ["score", *map(str, arguments), "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout, json.loads(done.stdout.splitlines()[-1])


class TestReleasedItems:
    def test_the_last_line_holds_all_figures(self, tmp_path):
        responses = ["B", "right", "B. right", "A", "left or right", "", None, "The answer is (B)."]
        items = [vlm4d_item(900 + 10 * number, text) for number, text in enumerate(responses)]
        text, figures = run(write_json(tmp_path / "model.json", items), "--benchmark", "vlm4d")
        assert {key: figures[key] for key in ("n", "correct", "strict", "invalid", "accuracy_over_valid")} == {
            "n": 8,
            "correct": 4,
            "strict": 50.0,
            "invalid": 3,
            "accuracy_over_valid": 80.0,
        }
        assert figures["per_split"]["exo"]["n"] == 3
        assert figures["per_split"]["ego"] == {**figures["per_task"]["real_ego"]}
        assert figures["invalid_reasons"] == {"empty": 2, "several answers": 1}
        assert figures["micro"] == 50.0
        assert figures["macro"] == pytest.approx((100 + 20) / 2)
        assert figures["interval"]["low"] < 50 < figures["interval"]["high"]
        assert figures["chance"] == 25.0
        assert figures["benchmark"]["revision"] is None
        assert len(figures["responses_sha256"]) == len(figures["benchmark"]["content_sha256"]) == 64
        assert "not known to be the published ones" in text

    def test_jsonl_and_another_field(self, tmp_path):
        item = vlm4d_item(1, "B")
        item["prediction"] = item.pop("response")
        file = tmp_path / "model.jsonl"
        file.write_text(json.dumps(item) + "\n")
        with pytest.raises(InputError, match="--response-field prediction"):
            run(file, "--benchmark", "vlm4d")
        assert run(file, "--benchmark", "vlm4d", "--response-field", "prediction")[1]["strict"] == 100.0

    def test_integers_as_responses(self, tmp_path):
        choices = {"A": 1, "B": 2, "C": 3, "D": 0}
        item = vlm4d_item(1, 2, answer=2, choices=choices)
        assert run(write_json(tmp_path / "m.json", [item]), "--benchmark", "vlm4d_real")[1]["correct"] == 1

    def test_equal_options_are_reported_and_either_letter_is_right(self, tmp_path):
        choices = {"A": "left", "B": "away", "C": "away", "D": "right"}
        items = [vlm4d_item(1, "B", "away", choices=choices), vlm4d_item(2, "C", "away", choices=choices)]
        figures = run(write_json(tmp_path / "m.json", items), "--benchmark", "vlm4d")[1]
        assert figures["correct"] == 2
        assert [odd["kind"] for odd in figures["benchmark"]["oddities"]] == ["equal_options"] * 2

    def test_missing_and_altered_questions_are_told_where_the_question_file_is_given(self, tmp_path):
        items = [vlm4d_item(number, "B") for number in range(1, 5)]
        questions = write_json(tmp_path / "real_mc.json", items)
        released = [items[0], {**items[1], "answer": "left", "response": "A"}, items[2]]
        file = write_json(tmp_path / "model.json", released)
        text, figures = run(file, "--benchmark", "vlm4d_real", "--questions", questions)
        assert figures["altered_questions"] == ["validation_2"]
        assert (figures["missing"], figures["strict_with_missing"]) == (1, 75.0)
        assert "1 questions differ from the question file: validation_2" in text

    def test_shuffled_options_are_read_in_their_own_order_and_not_called_altered(self, tmp_path):
        item = vlm4d_item(1, "B")
        shuffled = {"A": "right", "B": "left", "C": "not moving", "D": "towards the camera"}
        questions = write_json(tmp_path / "q.json", [item])
        file = write_json(tmp_path / "m.json", [{**item, "choices": shuffled, "response": "A"}])
        figures = run(file, "--benchmark", "vlm4d_real", "--questions", questions)[1]
        assert (figures["correct"], figures["altered_questions"]) == (1, [])

    def test_ids_alone_need_the_question_file(self, tmp_path):
        questions = write_json(tmp_path / "q.json", [vlm4d_item(1, "B")])
        file = write_json(tmp_path / "m.json", [{"id": "validation_1", "response": "B"}])
        with pytest.raises(InputError, match="the question file of vlm4d_real is not here"):
            run(file, "--benchmark", "vlm4d_real")
        assert run(file, "--benchmark", "vlm4d_real", "--questions", questions)[1]["strict"] == 100.0

    @pytest.mark.parametrize(
        ("records", "message"),
        [
            ([vlm4d_item(1, "B"), vlm4d_item(1, "A")], "occurs twice"),
            ([vlm4d_item(1, ["A", "B"])], "row 0, field response: text is expected, got list"),
            ([{"id": "x", "text": "B"}], "no record has the field 'response'"),
        ],
    )
    def test_bad_files(self, tmp_path, records, message):
        with pytest.raises(InputError, match=message):
            run(write_json(tmp_path / "m.json", records), "--benchmark", "vlm4d")

    def test_scored_responses_are_written(self, tmp_path):
        file = write_json(tmp_path / "m.json", [vlm4d_item(1, "It is (B)."), vlm4d_item(2, "A or B")])
        run(file, "--benchmark", "vlm4d", "--out", tmp_path / "scored.jsonl")
        first, second = map(json.loads, (tmp_path / "scored.jsonl").read_text().splitlines())
        assert (first["choice"], first["correct"], first["splits"]["view"]) == ("B", 1.0, "exo")
        assert (second["choice"], second["reason"], second["correct"]) == (None, "several answers", 0.0)


class TestOwnRuns:
    @pytest.fixture
    def questions(self, tmp_path):
        rows = [
            QARow(f"q{n}", f"c{n // 2}", "c.mp4", 8, task, 0, 7, f"Where to, {n}?", ["left", "right"], "B")
            for n in range(6)
            for task in ("camera_relative_direction",)
        ]
        rows.append(QARow("far", "c9", "c.mp4", 8, "other", 0, 7, "How far?", [], "2.0 m", value=2.0, unit="m"))
        return write_qa(tmp_path / "qa.parquet", rows)

    def test_the_folder_of_a_run_against_its_questions(self, tmp_path, questions):
        (tmp_path / "run").mkdir()
        records = [
            ResponseRecord(f"q{n}", f"c{n // 2}", "camera_relative_direction", {"answer": "B"}, "B") for n in range(6)
        ]
        records.append(ResponseRecord("far", "c9", "other", {"answer": "2.0 m"}, "1.9 m"))
        write_responses(tmp_path / "run" / "responses.jsonl", records)
        figures = run(tmp_path / "run", "--benchmark", questions)[1]
        assert figures["n"] == 7
        assert figures["correct"] == pytest.approx(7.0)  # 5 % off is on the last of the ten thresholds
        assert (figures["missing"], figures["questions_from"]) == (0, "question file")
        assert figures["benchmark"]["name"] == str(questions)
        assert figures["per_task"]["other"]["chance"] is None

    def test_a_response_to_no_question_is_refused(self, tmp_path, questions):
        file = write_json(tmp_path / "m.json", [{"id": "q77", "response": "B"}])
        with pytest.raises(InputError, match="has no question 'q77'"):
            run(file, "--benchmark", questions)

    def test_samples_of_a_question_are_averaged_and_doubled_responses_refused(self, tmp_path, questions):
        samples = [{"id": "q1", "sample": n, "response": text} for n, text in enumerate(["B", "A", "right", "left"])]
        assert run(write_json(tmp_path / "m.json", samples), "--benchmark", questions)[1]["strict"] == 50.0
        with pytest.raises(InputError, match="row 1, field id: two responses to the question 'q1'"):
            run(write_json(tmp_path / "m.json", [samples[0], samples[0]]), "--benchmark", questions)

    def test_options_that_need_a_benchmark(self, tmp_path):
        with pytest.raises(InputError, match="--judge-url: needs --benchmark"):
            run(tmp_path, "--judge-url", "http://localhost:1/v1")


def test_processes_score_as_one_does():
    items = [Item(str(n), "v", "c", "?", ("left", "right"), "AB"[n % 2], "choice", "t") for n in range(200)]
    responses = [("A", "right", "", "left or right", "The answer is B.")[n % 5] for n in range(200)]
    assert score_answers(items, responses, workers=2) == score_answers(items, responses, workers=1)
    with pytest.raises(ValueError, match="200 items but 1 responses"):
        score_answers(items, ["A"])


def test_macro_averages_the_tasks_of_a_group_first(tmp_path):
    def record(number, kind, response):
        return {
            "id": number,
            "dataset": "scannet",
            "scene_name": f"s{number}",
            "question": "?",
            "ground_truth": "A",
            "question_type": kind,
            "options": ["A. left", "B. right"],
            "response": response,
        }

    records = [record(n, f"object_rel_direction_{kind}", "A") for n, kind in enumerate(("easy", "medium", "hard"))]
    records += [record(n, "route_planning", "B") for n in range(3, 6)]
    file = write_json(tmp_path / "m.json", records)
    result = score_benchmark(read_answered(file, "vsi_bench"))
    assert result.macro.estimate == pytest.approx(50.0)  # not (3 * 100 + 0) / 4
    assert result.overall.strict.estimate == pytest.approx(50.0)

"""Response and question files of other origin: their options, paths, units, means and broken records."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mllm4d_verl.cli.eval import app
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.evaluation.benchmark_score import score_benchmark, write_scored
from mllm4d_verl.evaluation.benchmarks import load_benchmark
from mllm4d_verl.evaluation.benchmarks.answered import read_answered
from mllm4d_verl.evaluation.named_runs import read_runs
from mllm4d_verl.evaluation.tables import MACRO, MICRO, make_table

REPRO = Path("/work/shared/repro/evaluation")
SIDES = ["left", "right", "up", "down"]
TURNED = ["down", "left", "right", "up"]


@pytest.fixture(autouse=True)
def no_question_files(monkeypatch):
    monkeypatch.delenv("MLLM4D_BENCHMARKS", raising=False)


def lettered(options):
    return dict(zip("ABCD", options, strict=False))


def vlm4d(number, video="videos_real/x/{}.mp4", answer="left", **changes):
    record = {"id": f"validation_{number}", "video": video.format(number), "question": f"Which way, {number}?"}
    return {**record, "choices": lettered(SIDES), "answer": answer, **changes}


def sti(number, start=1.0, end=4.0, **changes):
    return {
        "ID": number, "Video": f"scene{number}.mp4", "time_start": start, "time_end": end, "Task": "Speed",
        "Question": "How fast?", "Candidates": lettered(["1 m/s", "2 m/s"]), "Answer": "B", **changes,
    }  # fmt: skip


def vsi(number, kind, truth, response, options=None):
    return {
        "id": number, "dataset": "scannet", "scene_name": f"s{number}", "question_type": kind, "question": "?",
        "options": options, "ground_truth": truth, "response": response,
    }  # fmt: skip


def write(path, records):
    path.write_text(json.dumps(records))
    return path


class TestOptionsInAnotherOrder:
    """Letters mean the options that were shown, whatever the question file's order."""

    @pytest.mark.parametrize(
        "carried",
        [
            {"choices": lettered(TURNED), "ground_truth_answer": "left"},
            {"choices": lettered(TURNED)},
            {"options": [f"{letter}. {text}" for letter, text in lettered(TURNED).items()]},
            {"Candidates": json.dumps(lettered(TURNED))},
            {"truth": {"answer": "B", "options": TURNED}},
        ],
    )
    def test_is_read_in_any_layout(self, tmp_path, carried):
        questions = write(tmp_path / "q.json", [vlm4d(n) for n in range(1, 5)])
        records = [{"id": f"validation_{n}", "response": "B" if n < 4 else "A", **carried} for n in range(1, 5)]
        answered = read_answered(write(tmp_path / "m.json", records), "vlm4d_real", questions)
        result = score_benchmark(answered)
        assert (result.overall.strict.estimate, answered.altered) == (75.0, ())
        assert [score.verdict.choice for score in result.scores] == ["B", "B", "B", "A"]

    def test_other_options_answers_and_questions_are_told(self, tmp_path):
        questions = write(tmp_path / "q.json", [vlm4d(n) for n in range(1, 6)])
        records = [
            {"id": "validation_1", "choices": lettered(TURNED), "ground_truth_answer": "right", "response": "B"},
            {"id": "validation_2", "choices": lettered(["left", "right", "in", "out"]), "response": "A"},
            {"id": "validation_3", "choices": lettered(["in", "out"]), "response": "A"},
            {"id": "validation_4", "choices": lettered(TURNED), "question": "Why?", "response": "B"},
            {"id": "validation_5", "choices": lettered(TURNED), "question": "Which way, 5?", "response": "B"},
        ]
        answered = read_answered(write(tmp_path / "m.json", records), "vlm4d_real", questions)
        assert answered.altered == tuple(f"validation_{n}" for n in range(1, 5))
        result = score_benchmark(answered)
        assert [score.correct for score in result.scores] == [1.0, 1.0, 0.0, 1.0, 1.0]
        assert result.scores[2].verdict.reason == "unreadable question"

    def test_letters_alone_are_of_the_question_file(self, tmp_path):
        questions = write(tmp_path / "q.json", [vlm4d(1)])
        file = write(tmp_path / "m.json", [{"id": "validation_1", "response": "A"}])
        answered = read_answered(file, "vlm4d_real", questions)
        assert (score_benchmark(answered).overall.correct, answered.altered) == (1.0, None)

    @pytest.mark.skipif(not REPRO.is_dir(), reason="the files that were reported are not here")
    def test_the_files_that_were_reported(self):
        answered = read_answered(REPRO / "reordered_responses.json", "vlm4d", REPRO / "reordered_questions.json")
        assert score_benchmark(answered).overall.strict.estimate == 100.0


class TestPathsOfOtherMachines:
    @pytest.mark.parametrize(
        ("video", "part"),
        [
            ("/data/synthetic_4d/videos_real/x/{}.mp4", "real"),
            ("/mnt/synth/davis/synthesizer_{}.mp4", "real"),
            ("C:\\bench\\videos_synthetic\\synth_00{}.mp4", "synthetic"),
            ("/home/real/VLM4D/videos_synthetic/synth_00{}.mp4", "synthetic"),
            ("/flat/synth_00{}.mp4", "synthetic"),
            ("/flat/{}.mp4", "real"),
        ],
    )
    def test_the_part_is_told_by_the_sources_own_names(self, tmp_path, video, part):
        file = write(tmp_path / "m.json", [vlm4d(n, video, response="A") for n in (1, 2)])
        result = score_benchmark(read_answered(file, "vlm4d"))
        assert {item.splits["part"] for item in result.answered.items} == {part}
        assert result.overall.strict.estimate == 100.0

    def test_an_unknown_path_is_of_the_part_that_was_asked_for(self, tmp_path):
        file = write(tmp_path / "m.json", [vlm4d(1, "/flat/{}.mp4", response="A")])
        (item,) = read_answered(file, "vlm4d_synthetic").items
        assert item.splits["part"] == "synthetic"

    def test_folders_do_not_make_questions_missing_or_altered(self, tmp_path):
        questions = write(tmp_path / "q.json", [vlm4d(n) for n in (1, 2)])
        records = [vlm4d(n, "/flat/videos_real/{}.mp4", response="A") for n in (1, 2)]
        answered = read_answered(write(tmp_path / "m.json", records), "vlm4d_real", questions)
        assert (answered.missing, answered.altered) == ((), ())
        records[1]["video"] = "/flat/videos_real/other.mp4"
        assert read_answered(write(tmp_path / "m.json", records), "vlm4d_real", questions).altered == ("validation_2",)

    def test_absolute_paths_of_sti_bench_are_the_same_questions(self, tmp_path):
        questions = write(tmp_path / "q.json", [sti(1), sti(2)])
        far = [sti(n, Video=f"/data/camera/scene{n}.mp4", response="B") for n in (1, 2)]
        answered = read_answered(write(tmp_path / "m.json", far), "sti_bench", questions)
        assert (answered.missing, answered.altered) == ((), ())
        assert {item.splits["scene"] for item in answered.items} == {"indoor"}

    @pytest.mark.skipif(not REPRO.is_dir(), reason="the files that were reported are not here")
    def test_the_file_that_was_reported(self):
        figures = score_benchmark(read_answered(REPRO / "synthetic_in_path.json", "vlm4d"))
        assert set(figures.per_task) == {"real_exo"}


class TestWrittenFiles:
    def test_the_unit_of_a_number_stays(self, tmp_path):
        file = write(tmp_path / "m.json", [vsi(1, "object_size_estimation", "62", "0.62 m")])
        result = score_benchmark(read_answered(file, "vsi_bench"))
        assert result.overall.strict.estimate == 100.0
        written = write_scored(tmp_path / "scored.jsonl", result)
        assert json.loads(written.read_text())["truth"]["unit"] == "cm"
        (run,) = read_runs([str(written)])
        assert make_table([run]).runs[run.name][MICRO].accuracy.estimate == 1.0
        done = CliRunner().invoke(app, ["score", str(written), "--json"])
        assert json.loads(done.stdout.splitlines()[-1])["overall"]["accuracy"]["estimate"] == 1.0

    def test_samples_and_centres_stay(self, tmp_path):
        from mllm4d_verl.data_tools.schema import QARow, write_qa

        centers = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
        row = QARow("q", "c", "c.mp4", 8, "camera_relative_direction", 0, 7, "?", SIDES, "A", camera_center=centers)
        questions = write_qa(tmp_path / "qa.parquet", [row])
        records = [{"id": "q", "sample": n, "response": text} for n, text in enumerate("AB")]
        answered = read_answered(write(tmp_path / "m.json", records), questions)
        written = write_scored(tmp_path / "scored.jsonl", score_benchmark(answered))
        (run,) = read_runs([str(written)])
        assert [record.sample for record in run.records] == [0, 1]
        assert run.records[0].truth["camera_center"] == centers


class TestOneMeanOfTasks:
    def test_the_table_averages_as_the_benchmark_does(self, tmp_path):
        sides = ["A. left", "B. right"]
        kinds = ["object_rel_direction_easy", "object_rel_direction_medium", "object_rel_direction_hard"]
        records = [vsi(n, kind, "A", "A", sides) for n, kind in enumerate(kinds)]
        records += [vsi(3 + n, "route_planning", "A", "B", ["A. a", "B. b", "C. c", "D. d"]) for n in range(3)]
        result = score_benchmark(read_answered(write(tmp_path / "m.json", records), "vsi_bench"))
        (run,) = read_runs([str(write_scored(tmp_path / "scored.jsonl", result))])
        macro = make_table([run]).runs[run.name][MACRO]
        assert result.macro.estimate == pytest.approx(50.0)
        assert 100 * macro.accuracy.estimate == pytest.approx(50.0)
        assert (100 * macro.accuracy.low, 100 * macro.accuracy.high) == pytest.approx(
            (result.macro.low, result.macro.high)
        )
        assert macro.chance == pytest.approx((0.5 + 0.25) / 2)

    def test_chance_counts_options_that_differ(self, tmp_path):
        file = write(tmp_path / "m.json", [vlm4d(1, choices=lettered(["left", "up", "Up.", "down"]), response="A")])
        result = score_benchmark(read_answered(file, "vlm4d"))
        (run,) = read_runs([str(write_scored(tmp_path / "scored.jsonl", result))])
        assert result.overall.chance == pytest.approx(100 / 3)
        assert make_table([run]).runs[run.name][MICRO].chance == pytest.approx(1 / 3)


class TestBrokenRecords:
    @pytest.mark.parametrize("span", [{"start": 9.0, "end": 4.0}, {"end": "later"}, {"start": None}])
    def test_a_span_that_is_none_is_told_and_the_question_counts(self, tmp_path, span):
        benchmark = load_benchmark("sti_bench", write(tmp_path / "q.json", [sti(1), sti(2, **span), sti(3)]))
        assert [item.start_s for item in benchmark.items] == [1.0, None, 1.0]
        assert [(odd.kind, odd.ids) for odd in benchmark.oddities] == [("faulty_record", ("scene2.mp4/2",))]
        records = [{"ID": n, "Video": f"scene{n}.mp4", "response": "B"} for n in (1, 2, 3)]
        file = write(tmp_path / "m.json", records)
        assert score_benchmark(read_answered(file, "sti_bench", tmp_path / "q.json")).overall.correct == 3

    @pytest.mark.parametrize(
        ("name", "sound", "broken"),
        [
            ("vlm4d_real", vlm4d, {"choices": {"A": "left"}}),
            ("vlm4d_real", vlm4d, {"answer": "sideways"}),
            ("sti_bench", sti, {"Candidates": "{"}),
            ("sti_bench", sti, {"Answer": "Z"}),
            ("vsi_bench", lambda n, **c: vsi(n, "route_planning", "A", "A", ["A. a", "B. b"]) | c, {"options": None}),
        ],
    )
    def test_one_record_does_not_stop_a_benchmark_and_counts_as_wrong(self, tmp_path, name, sound, broken):
        right = "A" if name != "sti_bench" else "B"
        records = [{**sound(1), "response": right}, {**sound(2, **broken), "response": right}]
        records += [{**sound(n), "response": right} for n in (3, 4)]
        file = write(tmp_path / "m.json", records)
        done = CliRunner().invoke(app, ["score", str(file), "--benchmark", name, "--json"])
        figures = json.loads(done.stdout.splitlines()[-1])
        assert (figures["n"], figures["correct"], figures["strict"]) == (4, 3, 75.0)
        assert figures["invalid_reasons"] == {"unreadable question": 1}
        (odd,) = [odd for odd in figures["benchmark"]["oddities"] if odd["kind"] == "unreadable"]
        assert "row 1" in odd["note"]
        assert "unreadable" in done.stdout.splitlines()[-3] + done.stdout

    def test_a_file_of_another_benchmark_is_refused(self, tmp_path):
        records = [vlm4d(1), *({**vlm4d(n), "choices": "left"} for n in (2, 3))]
        with pytest.raises(InputError, match="row 1, field choices"):
            load_benchmark("vlm4d_real", write(tmp_path / "q.json", records))

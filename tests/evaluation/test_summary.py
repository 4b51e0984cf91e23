"""Figures and tables over responses with known shares."""

import io
import json
import re
from dataclasses import replace

import pytest
from rich.console import Console

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.evaluation.comparison import compare_records
from mllm4d_verl.evaluation.report import print_comparison, print_summary
from mllm4d_verl.evaluation.scoring import score_records
from mllm4d_verl.evaluation.summary import summarise


def printed(show, width=160) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    show(console)
    return console.export_text()


class TestSummary:
    def test_counts_shares_and_chance(self, many_records):
        summary = summarise(score_records(many_records(1.0)))
        distance, change = summary.tasks
        assert (distance.task, distance.questions, distance.clips) == ("camera_absolute_distance", 60, 40)
        assert distance.chance == pytest.approx(0.25)
        assert change.chance == pytest.approx(1 / 3)
        assert distance.invalid == 12  # every tenth of 120 is even
        assert distance.accuracy.estimate == pytest.approx(48 / 60)
        assert distance.accuracy_of_valid == 1.0
        assert change.accuracy.estimate == 1.0
        assert summary.overall.accuracy.estimate == pytest.approx(108 / 120)
        assert summary.mean_of_tasks.estimate == pytest.approx((48 / 60 + 1) / 2)

    def test_intervals_hold_the_estimate(self, many_records):
        summary = summarise(score_records(many_records(0.5)))
        for task in [*summary.tasks, summary.overall]:
            assert task.accuracy.low < task.accuracy.estimate < task.accuracy.high
            assert task.reward.low < task.reward.estimate < task.reward.high
            assert (task.accuracy.method, task.reward.method) == ("clustered Wilson", "clustered t")
            assert task.accuracy.unreliable is None

    def test_centre_errors_and_coverage(self, many_records):
        summary = summarise(score_records(many_records(1.0)))
        camera = summary.camera_center
        assert (camera.due, camera.stated, camera.coverage) == (60, 48, pytest.approx(0.8))
        assert camera.mean_m == pytest.approx(0.25)  # 0 at the start, 0.5 m at the end
        assert camera.median_m == pytest.approx(0.25)
        assert summary.object_center.due == 0
        assert summary.object_center.coverage is None

    def test_truncated_responses_are_counted(self, make_record):
        cut = make_record(0, "B")
        cut.finish_reason = "length"
        assert summarise(score_records([cut, make_record(1, "B")])).truncated == 1

    def test_is_plain_data(self, many_records):
        json.dumps(summarise(score_records(many_records(0.5))).to_dict(), allow_nan=False)

    def test_unlisted_options_have_no_chance_level(self, make_record):
        assert summarise(score_records([make_record(0, "B", options=None)])).overall.chance is None

    def test_table_says_what_it_shows(self, many_records):
        text = printed(lambda console: print_summary(summarise(score_records(many_records(0.5))), console, "title"))
        for words in (
            "camera absolute distance",
            "mean of tasks",
            "33.3",
            "counts an invalid response",
            "take whole clips for independent",
            "median 0.250 m",
        ):
            assert words in text

    @pytest.mark.parametrize("width", [80, 160])
    def test_nothing_is_cut_in_80_columns(self, many_records, width):
        summary = summarise(score_records(many_records(0.5)))
        text = printed(lambda console: print_summary(summary, console), width)
        row = next(line for line in text.splitlines() if line.split()[:1] == ["all"])
        accuracy = summary.overall.accuracy
        interval = f"{100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}"
        reward = summary.overall.reward.estimate
        expected = f"all 120 {100 * accuracy.estimate:.1f}% {interval} 29.2% 12 {reward:.3f}"
        assert row.split() == expected.split()
        comparison = compare_records(many_records(0.2), many_records(0.9))
        assert "only A   only B" in printed(lambda c: print_comparison(comparison, c), width)

    def test_one_clip_of_many_questions_has_no_interval_and_a_mark(self, make_record):
        records = [make_record(number, "BC"[number % 2], clip="one") for number in range(100)]
        text = printed(lambda console: print_summary(summarise(score_records(records)), console))
        assert re.search(r"all +100 +50.0% +- \?", text)
        assert "?: too little is known" in text
        assert "one clip (3)" in text

    def test_p_never_prints_as_zero(self, make_record):
        a, b = ([make_record(number, letter) for number in range(60)] for letter in "CB")
        text = printed(lambda console: print_comparison(compare_records(a, b), console))
        assert "<0.001" in text
        assert "0.000" not in text.replace("+0.000", "")


class TestSamples:
    def samples(self, make_record, *letters_of_questions):
        """Responses to questions whose right answer is B, several to each."""
        return [
            replace(make_record(question, letter), sample=sample)
            for question, letters in enumerate(letters_of_questions)
            for sample, letter in enumerate(letters)
        ]

    def test_mean_pass_at_k_and_majority(self, make_record):
        summary = summarise(score_records(self.samples(make_record, "BBAC", "AACB", "BBAA", "CCCC")))
        figures = summary.samples
        assert (summary.overall.questions, figures.per_question) == (4, 4)
        assert summary.overall.accuracy.estimate == pytest.approx(5 / 16)
        assert list(figures.pass_at) == [1, 2, 4]
        assert figures.pass_at[1].estimate == pytest.approx(5 / 16)
        # of 6 pairs: 5, 3, 5 and 0 hold a right one
        assert figures.pass_at[2].estimate == pytest.approx((5 / 6 + 3 / 6 + 5 / 6 + 0) / 4)
        assert figures.pass_at[4].estimate == pytest.approx(3 / 4)
        assert figures.majority.estimate == pytest.approx((1 + 0 + 0.5 + 0) / 4)

    def test_one_response_a_question_has_none(self, many_records):
        assert summarise(score_records(many_records(0.5))).samples is None

    def test_the_table_says_it(self, make_record):
        summary = summarise(score_records(self.samples(make_record, "BA", "BB")))
        text = printed(lambda console: print_summary(summary, console), 160)
        assert "2 responses to a question: pass@1 75.0% (" in text
        assert "majority vote 75.0%" in text

    def test_valid_responses_are_counted_not_questions(self, make_record):
        summary = summarise(score_records(self.samples(make_record, ["B", "no idea", "no idea"], ["no idea"] * 3)))
        assert (summary.overall.questions, summary.overall.responses, summary.overall.invalid) == (2, 6, 5)
        text = printed(lambda console: print_summary(summary, console), 160)
        assert "over the 1 valid ones it is 100.0%" in text

    def test_runs_are_compared_by_question(self, make_record):
        a = self.samples(make_record, "BA", "AA", "BB")
        b = self.samples(make_record, "BB", "BB", "BB")
        overall = compare_records(a, b).overall
        assert (overall.questions, overall.only_a, overall.only_b) == (3, 0, 2)
        assert (overall.accuracy_a, overall.accuracy_b) == pytest.approx((0.5, 1.0))


class TestComparison:
    def test_finds_a_real_difference(self, many_records):
        comparison = compare_records(many_records(0.2), many_records(0.9))
        overall = comparison.overall
        assert overall.accuracy.estimate == pytest.approx(overall.accuracy_b - overall.accuracy_a)
        assert overall.accuracy.low > 0.3
        assert overall.only_b > overall.only_a
        assert overall.reward.low > 0

    def test_finds_none_between_equal_runs(self, many_records):
        overall = compare_records(many_records(0.5), many_records(0.5)).overall
        assert (overall.accuracy.estimate, overall.only_a, overall.only_b) == (0, 0, 0)

    def test_interval_of_noise_holds_zero(self, many_records):
        overall = compare_records(many_records(0.5, seed=1), many_records(0.5, seed=2)).overall
        assert overall.accuracy.low < 0 < overall.accuracy.high

    def test_questions_of_one_run_only_are_left_out_and_counted(self, many_records):
        comparison = compare_records(many_records(0.5)[:90], many_records(0.5)[60:])
        assert (comparison.overall.questions, comparison.left_out_a, comparison.left_out_b) == (30, 60, 30)

    def test_refuses_runs_over_other_questions(self, many_records, make_record):
        with pytest.raises(InputError, match="no question in common"):
            compare_records(many_records(0.5), [make_record(999, "B")])
        with pytest.raises(InputError, match=r"row q0.*different questions"):
            compare_records([make_record(0, "B")], [make_record(0, "B", answer="C")])

    def test_table(self, many_records):
        comparison = compare_records(many_records(0.2)[:90], many_records(0.9))
        text = printed(lambda console: print_comparison(comparison, console, "base", "tuned"))
        assert "A: base" in text
        assert "B: tuned" in text
        assert "30 of B" in text
        json.dumps(comparison.to_dict(), allow_nan=False)

"""Which option a response commits to, and what it earns."""

import pytest

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.evaluation.scoring import score_records
from mllm4d_verl.reward import PRESETS


def score(record, preset="mllm4d_st"):
    return score_records([record], preset)[0].scores


class TestChoice:
    @pytest.mark.parametrize(
        ("answer", "choice"),
        [("B", "B"), ("(b)", "B"), ("B. 2.0", "B"), ("2.0", "B"), ("2.00 meters", "B"), ("C", "C"), ("3.0", "C")],
    )
    def test_reads_letters_texts_and_numbers(self, make_record, make_response, answer, choice):
        assert score(make_record(0, make_response(answer)))["choice"] == choice

    @pytest.mark.parametrize("answer", ["", "A or B", "E", "5.0", "perhaps"])
    def test_is_none_where_no_single_option_is_named(self, make_record, make_response, answer):
        scores = score(make_record(0, make_response(answer)))
        assert scores["choice"] is None
        assert scores["correct"] == 0.0

    def test_two_answer_blocks_commit_to_none_where_they_differ(self, make_record, make_response):
        assert score(make_record(0, make_response("B") + "<answer>C</answer>"))["choice"] is None
        assert score(make_record(0, make_response("B") + "<answer>B</answer>"))["choice"] == "B"

    def test_the_reward_is_stricter_than_the_score(self, make_record, make_response):
        scores = score(make_record(0, make_response("B") + "<answer>B</answer>"))
        assert (scores["correct"], scores["reward"]["accuracy"]) == (1.0, 0.0)

    def test_an_untagged_response_is_its_own_answer(self, make_record):
        scores = score(make_record(0, "B"))
        assert scores["correct"] == 1.0
        assert scores["reward"]["format"] == 0.0
        assert scores["reward"]["score"] == 0.0  # the reward of training still asks for the tags

    def test_an_answer_without_its_closing_tag_counts(self, make_record, make_response):
        # stop strings eat the tag; what is cut off inside the thinking is none
        assert score(make_record(0, make_response("B").removesuffix("</answer>")))["choice"] == "B"
        cut = score(make_record(0, make_response("B").partition("</thinking>")[0]))
        assert (cut["choice"], cut["reason"]) == (None, "unfinished reasoning")

    def test_a_number_is_scored_by_its_relative_error(self, make_record):
        truth = {"answer": "2.0", "options": None, "value": 2.0, "unit": "m"}
        assert score(make_record(0, "2 m", **truth))["correct"] == 1.0
        assert 0 < score(make_record(0, "1.8", **truth))["correct"] < 1
        invalid = score(make_record(0, "2 or 3", **truth))
        assert (invalid["valid"], invalid["correct"], invalid["reason"]) == (False, 0.0, "several answers")

    def test_the_letter_of_an_equal_option_is_right(self, make_record):
        truth = {"answer": "B", "options": ["left", "away", "away"]}
        assert score(make_record(0, "C", **truth))["correct"] == 1.0

    def test_letters_can_be_told_without_options(self, make_record):
        scores = score(make_record(0, "B", options=None))
        assert (scores["choice"], scores["correct"]) == ("B", 1.0)


class TestReward:
    @pytest.mark.parametrize("preset", PRESETS)
    def test_correct_does_not_depend_on_the_preset(self, make_record, make_response, preset):
        scores = score(make_record(0, make_response("2.0")), preset)
        assert scores["correct"] == 1.0
        assert 0 <= scores["reward"]["score"] <= 1

    def test_centres_are_measured_in_metres(self, make_record, make_response):
        response = make_response("B", camera=[[0, 0, 0], [3, 4, 0]])
        scores = score(make_record(0, response, camera_center=[[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
        assert scores["reward"]["camera_center_error_m"] == pytest.approx(2.5)  # mean of 0 and 5

    def test_unknown_preset(self, make_record):
        with pytest.raises(InputError, match=r"oficial.*official"):
            score(make_record(0, "B"), "oficial")

    def test_scores_are_computed_anew(self, make_record):
        (first,) = score_records([make_record(0, "B")])
        first.scores["correct"] = 0.0
        assert score(first)["correct"] == 1.0

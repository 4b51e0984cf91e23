"""The default preset, flaw by flaw: each known fault of the released reward, and that it earns nothing here."""

from __future__ import annotations

import math

import pytest
from reward_samples import CAMERA, OBJECT, response, truth

from mllm4d_verl.reward import STReward

reward = STReward()
FULL = response()
BEST = reward(FULL, truth())["score"]


def score(text: str, sample: dict | None = None) -> float:
    return reward(text, truth() if sample is None else sample)["score"]


class TestGate:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "B",
            "<answer>B</answer>",
            response(answer="A"),
            response(answer=""),
            FULL.replace("</answer>", ""),
            FULL.replace("<thinking>", ""),
            FULL + "<answer>A</answer>",
            FULL + "\nOr rather A.",
            "<answer>B</answer>" + FULL[: FULL.index("<answer>")],
            FULL.replace("</thinking>\n<answer>B</answer>", "<answer>B</answer></thinking>"),
            "<thinking></thinking><answer></answer>",
        ],
    )
    def test_wrong_unanswered_or_untagged_earns_nothing(self, text):
        assert score(text) == 0.0

    def test_a_group_without_a_right_answer_has_no_variance(self):
        decorated = [response(answer="A"), response(camera=None, answer="C"), "A", "", FULL.replace("</answer>", "")]
        assert {score(text) for text in decorated} == {0.0}

    def test_right_geometry_earns_more_on_top_of_a_right_answer(self):
        off = [[x + 0.3, y, z] for x, y, z in OBJECT]
        earned = [score(text) for text in (response(object_=None), response(object_=off), FULL)]
        assert earned == sorted(earned)
        assert 0.7 < earned[0] < earned[1] < earned[2] == 1.0

    def test_the_base_is_what_st_weight_leaves(self):
        lost = [[1e6, 0.0, 0.0], [-1e6, 0.0, 0.0]]
        assert STReward(st_weight=0.5)(response(lost, lost), truth())["score"] == pytest.approx(0.5, abs=1e-4)


class TestClosedFlaws:
    def test_nulls_keep_their_slot(self):
        sample = truth(camera_center=[CAMERA[1], None], object_center=None)
        assert reward(response(camera=[None, CAMERA[1]], object_=None), sample)["camera_center"] == 0.0
        assert reward(response(camera=[CAMERA[1], None], object_=None), sample)["camera_center"] == 1.0

    def test_one_null_where_two_are_due_keeps_the_other(self):
        assert 0.0 < reward(response(camera=[CAMERA[0], None]), truth())["camera_center"] < 1.0

    def test_restating_a_coordinate_is_free(self):
        assert score(FULL.replace("So it", "The Camera Center: [1.0, 0.0, 0.5] shows it. So it")) == BEST

    def test_the_empty_string_earns_nothing_even_where_nothing_is_due(self):
        assert score("", truth(camera_center=None, object_center=None)) == 0.0

    def test_option_text_and_letter_with_text_are_right(self):
        sample = truth(answer="A: left", options=["left", "right"])
        assert score(response(answer="left"), sample) == score(response(answer="A. left"), sample) == BEST

    def test_a_bare_answer_earns_nothing(self):
        assert score("B") == 0.0

    def test_naming_several_answers_earns_nothing(self):
        assert score(response(answer="B or C")) == 0.0
        assert score(FULL + "<answer>B</answer>") == 0.0

    def test_coordinates_after_the_answer_earn_nothing(self):
        start, end = FULL.index("**Spatial State (Initial"), FULL.index("So it")
        moved = FULL[:start] + FULL[end:] + FULL[start:end]
        assert reward(moved, truth())["written_slots"] == 0.0
        assert score(moved) == 0.0

    def test_empty_thinking_earns_half_of_what_the_form_is_worth(self):
        result = reward("<thinking></thinking><answer>B</answer>", truth())
        assert (result["format"], result["st"]) == (0.5, 0.0)

    def test_copied_template_text_earns_no_slot(self):
        text = FULL
        for center in (*CAMERA, *OBJECT):
            text = text.replace("[" + ", ".join(f"{x:.4f}" for x in center) + "]", "[x, y, z] or null")
        result = reward(text, truth())
        assert (result["written_slots"], result["malformed_spots"], result["st"]) == (0.0, 4.0, 0.0)

    def test_all_null_states_keep_full_format(self):
        sample = truth(camera_center=None, object_center=None)
        assert score(response(camera=None, object_=None), sample) == 1.0

    @pytest.mark.parametrize("label", ["**Camera Center:**", "camera center:", "**Camera Center**:"])
    def test_bold_and_lower_case_labels_are_read(self, label):
        assert score(FULL.replace("Camera Center:", label)) == BEST

    def test_a_list_over_two_lines_is_read(self):
        assert score(FULL.replace("0.0100, ", "0.0100,\n  ")) == BEST

    def test_one_malformed_list_leaves_the_others(self):
        result = reward(FULL.replace("[1.0000, 0.0000, 0.5000]", "[1.0000, 0.0000"), truth())
        assert result["camera_center"] > 0.0
        assert result["object_center"] == 1.0

    @pytest.mark.parametrize("metres", [3.0, 30.0, 300.0])
    def test_ten_percent_off_is_worth_the_same_at_any_distance(self, metres):
        true = [[0.0, 0.0, metres], [metres / 3, 0.0, metres]]
        stated = [[1.1 * number for number in point] for point in true]
        sample = truth(camera_center=None, object_center=true)
        assert reward(response(camera=None, object_=stated), sample)["st"] == pytest.approx(0.69, abs=0.03)

    def test_zeros_for_a_still_camera_do_not_carry_the_score(self):
        still = truth(camera_center=[[-0.03, 0.0, 0.0]] * 2)
        zeros = [[0.0] * 3] * 2
        honest = [[1.2 * number for number in point] for point in OBJECT]
        assert reward(response(camera=still["camera_center"], object_=zeros), still)["st"] < 0.3
        assert score(response(camera=zeros, object_=zeros), still) < score(
            response(camera=zeros, object_=honest), still
        )

    def test_displacement_earns_credit(self):
        shift = [[x, y + 0.4, z] for x, y, z in OBJECT]
        apart = [[OBJECT[0][0], OBJECT[0][1] + 0.4, OBJECT[0][2]], [OBJECT[1][0], OBJECT[1][1] - 0.4, OBJECT[1][2]]]
        assert score(response(object_=shift)) > score(response(object_=apart))

    def test_nan_in_the_truth_is_neutral(self):
        broken = truth(camera_center=[[math.nan, 0.0, 0.0], [0.0, math.inf, 0.0]])
        result = reward(FULL, broken)
        assert result["score"] == 1.0
        assert result["camera_center_needed"] == 0.0

    @pytest.mark.parametrize("center", [["1", "2", "3"], [10**400, 0, 0], [True, 0, 0], "[1, 2, 3]"])
    def test_odd_truths_do_not_raise(self, center):
        assert reward(FULL, truth(camera_center=[center, center]))["score"] == 1.0

    @pytest.mark.parametrize("written", ["[True, 0, 0]", "[1e400, 0, 0]", "[0+1j, 0, 0]", "['1', 0, 0]"])
    def test_odd_numbers_are_not_coordinates(self, written):
        result = reward(FULL.replace("[0.0100, 0.0000, 0.0000]", written), truth())
        assert result["written_slots"] == 3.0
        assert all(math.isfinite(value) for value in result.values())

    def test_weights_can_be_changed(self):
        assert STReward(object_center_weight=0.0)(response(object_=None), truth())["st"] == 1.0


def test_a_centre_that_is_not_needed_is_weighed_out():
    only_object = truth(camera_center=None)
    off = [[x + 0.3, y, z] for x, y, z in OBJECT]
    result = reward(response(camera=None, object_=off), only_object)
    assert result["st"] == result["object_center"] < 1.0

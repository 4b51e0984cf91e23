"""STReward itself: keys, presets, weights, safety."""

from __future__ import annotations

import copy
import doctest
import math
import pickle
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reward_samples import any_text, response, truth

from mllm4d_verl.reward import PRESETS, STReward, parser, st_reward

KEYS = {
    "score", "acc", "format", "accuracy", "camera_center", "object_center", "st",
    "has_answer", "well_tagged", "written_slots", "malformed_spots", "response_chars",
    "camera_center_needed", "object_center_needed", "camera_center_error_m", "object_center_error_m",
    "released_fault", "component_errors",
}  # fmt: skip
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3),
    max_leaves=8,
)
any_truth = st.one_of(
    anything,
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("answer", "camera_center", "object_center", "options", "answer_text"), anything)
    ),
    st.just(truth()),
)


@pytest.mark.parametrize("preset", PRESETS)
class TestEveryPreset:
    @given(text=any_text, sample=any_truth)
    @settings(max_examples=150, deadline=None)
    def test_any_text_and_truth_give_the_same_finite_keys(self, preset, text, sample):
        result = STReward(preset)(text, sample)
        assert result.keys() == KEYS
        assert all(type(value) is float and math.isfinite(value) for value in result.values())
        assert 0.0 <= result["score"] <= 1.0 + 1e-12
        assert result["acc"] in (0.0, 1.0)

    def test_a_perfect_response_earns_one(self, preset):
        result = STReward(preset)(response(), truth())
        assert result["score"] == pytest.approx(1.0)
        assert (result["acc"], result["format"], result["st"]) == (1.0, 1.0, 1.0)

    def test_it_crosses_processes(self, preset):
        reward = STReward(preset)
        assert pickle.loads(pickle.dumps(reward))(response(), truth()) == reward(response(), truth())

    def test_an_unknown_weight_is_refused_with_the_list(self, preset):
        with pytest.raises(ValueError, match=r"has no weight 'camera_weigth'.*Weights: .*camera_center_weight"):
            STReward(preset, camera_weigth=1.0)

    @pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, "0.5", True, None])
    def test_a_weight_that_is_no_weight_is_refused(self, preset, value):
        with pytest.raises(ValueError, match="object_center_weight"):
            STReward(preset, object_center_weight=value)

    def test_no_response_and_no_truth(self, preset):
        assert STReward(preset)(None, None)["acc"] == 0.0


@pytest.mark.parametrize("name", ["oficial", "mllm4d-st", "Paper", "", None, 3])
def test_an_unknown_preset_is_refused_with_the_list(name):
    with pytest.raises(ValueError, match="Presets: mllm4d_st, official, paper"):
        STReward(name)


def test_a_near_miss_is_suggested():
    with pytest.raises(ValueError, match="did you mean 'official'"):
        STReward("oficial")


@pytest.mark.parametrize(("weight", "value"), [("st_weight", 1.5), ("floor_m", 0.0)])
def test_a_weight_out_of_range_is_refused(weight, value):
    with pytest.raises(ValueError, match=weight):
        STReward(**{weight: value})


def test_official_weights_can_be_changed():
    only_accuracy = {"format_weight": 0.0, "accuracy_weight": 1.0, "camera_center_weight": 0, "object_center_weight": 0}
    assert STReward("official", **only_accuracy)("B", truth())["score"] == 1.0


class TestNumericAnswers:
    """Questions without options whose answer is a number: MRA instead of right or wrong."""

    SAMPLE: ClassVar[dict] = {"answer": "2.0", "value": 2.0, "camera_center": None, "object_center": None}

    @pytest.mark.parametrize(
        ("answer", "accuracy", "acc"),
        [
            ("2", 1.0, 1.0), ("2.0 m", 1.0, 1.0), ("200 cm", 1.0, 1.0), ("The answer is 2.2.", 0.9, 1.0),
            ("1.2", 0.3, 0.0), ("5", 0.0, 0.0), ("-2", 0.0, 0.0), ("B", 0.0, 0.0), ("2 or 3", 0.0, 0.0),
            ("9" * 400, 0.0, 0.0),
        ],
    )  # fmt: skip
    def test_accuracy_is_mra(self, answer, accuracy, acc):
        result = STReward()(response(camera=None, object_=None, answer=answer), self.SAMPLE)
        assert (result["accuracy"], result["acc"]) == (pytest.approx(accuracy), acc)
        assert result["score"] == pytest.approx(accuracy)

    @pytest.mark.parametrize(
        ("answer", "unit", "value"),
        [
            ("0.62 m", "cm", 62.0), ("62 cm", "cm", 62.0), ("62", "cm", 62.0), ("6.2 m", "centimeters", 620.0),
            ("3.048 m", "feet", 10.0), ("2 m", "meters", 2.0), ("200 cm", None, 2.0), ("3", "chairs", 3.0),
        ],
    )  # fmt: skip
    def test_a_length_is_converted_to_the_unit_that_is_asked_for(self, answer, unit, value):
        sample = {**self.SAMPLE, "answer": f"{value:g}", "value": value, "unit": unit}
        assert STReward()(response(camera=None, object_=None, answer=answer), sample)["accuracy"] == 1.0

    def test_options_make_it_multiple_choice(self):
        sample = {**self.SAMPLE, "answer": "B", "options": ["1.8", "2.0"]}
        assert STReward()(response(answer="2.05"), sample)["accuracy"] == 0.0
        assert STReward()(response(answer="2.00"), sample)["accuracy"] == 1.0


def test_a_changed_truth_is_read_again():
    """Truths are kept by content: a dict that is changed in place is another truth."""
    reward, sample = STReward(), copy.deepcopy(truth())
    assert reward(response(), sample)["acc"] == 1.0
    sample["answer"] = "A"
    assert reward(response(), sample)["acc"] == 0.0
    sample["answer"] = "B"
    sample["camera_center"][0][0] = 5.0
    assert reward(response(), sample)["camera_center"] < 1.0


def test_a_truth_that_cannot_be_pickled_is_read_too():
    assert STReward()(response(), truth(note=lambda: None))["score"] == 1.0


@given(text=any_text, samples=st.lists(any_truth, min_size=2, max_size=4))
@settings(max_examples=60, deadline=None)
def test_the_order_of_samples_does_not_matter(text, samples):
    reward = STReward()
    there = [reward(text, sample) for sample in samples]
    back = [reward(text, sample) for sample in reversed(samples)]
    assert there == back[::-1]


def test_observed_numbers():
    result = STReward()(response(camera=[[0.01, 0.0, 0.0], [1.0, 0.0, 0.9]]), truth(object_center=None))
    assert result["camera_center_error_m"] == pytest.approx(0.2)
    assert result["object_center_error_m"] == -1.0
    assert (result["camera_center_needed"], result["object_center_needed"]) == (2.0, 0.0)
    assert result["response_chars"] == len(response())
    assert (result["has_answer"], result["well_tagged"], result["written_slots"]) == (1.0, 1.0, 4.0)


def test_the_worked_example_of_the_docs_runs():
    page = Path(__file__).parents[2] / "docs" / "rewards.md"
    results = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert (results.failed, results.attempted > 5) == (0, True)


@pytest.mark.parametrize("module", [parser, st_reward])
def test_the_examples_in_docstrings_run(module):
    results = doctest.testmod(module)
    assert (results.failed, results.attempted > 0) == (0, True)


def test_importable_without_torch_verl_and_the_data_tools():
    script = "import sys, mllm4d_verl.reward; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "verl", "pandas", "mllm4d_verl.data_tools"} & set(loaded)

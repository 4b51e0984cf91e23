"""STReward itself: keys, presets, weights, safety."""

from __future__ import annotations

import doctest
import math
import pickle
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reward_samples import any_text, response, truth

from mllm4d_verl.reward import PRESETS, STReward, parser, st_reward

KEYS = {
    "score", "acc", "format", "accuracy", "camera_center", "object_center", "st",
    "has_answer", "well_tagged", "written_slots", "malformed_spots", "response_chars",
    "camera_center_needed", "object_center_needed", "camera_center_error_m", "object_center_error_m",
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


def test_observed_numbers():
    result = STReward()(response(camera=[[0.01, 0.0, 0.0], [1.0, 0.0, 0.9]]), truth(object_center=None))
    assert result["camera_center_error_m"] == pytest.approx(0.2)
    assert result["object_center_error_m"] == -1.0
    assert (result["camera_center_needed"], result["object_center_needed"]) == (2.0, 0.0)
    assert result["response_chars"] == len(response())
    assert (result["has_answer"], result["well_tagged"], result["written_slots"]) == (1.0, 1.0, 4.0)


@pytest.mark.parametrize("module", [parser, st_reward])
def test_the_examples_in_docstrings_run(module):
    results = doctest.testmod(module)
    assert (results.failed, results.attempted > 0) == (0, True)


def test_importable_without_torch_verl_and_the_data_tools():
    script = "import sys, mllm4d_verl.reward; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "verl", "pandas", "mllm4d_verl.data_tools"} & set(loaded)

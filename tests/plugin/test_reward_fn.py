"""The function verl calls: any form of ground truth, one set of keys, errors that say what is wrong."""

import json

import pytest

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.reward import STReward
from mllm4d_verl.reward_fn import compute_score

TRUTH = {"answer": "B", "camera_center": [[0, 0, 0], [0, 0, 1]], "object_center": [None, None]}
ANSWERS = ["", "<answer>B</answer>", "<thinking>x</thinking><answer>C</answer>", "[" * 200]


@pytest.mark.parametrize("preset", ["mllm4d_st", "official", "paper"])
class TestPresets:
    def test_same_keys_for_every_answer(self, preset):
        keys = {frozenset(compute_score("s", answer, TRUTH, preset=preset)) for answer in ANSWERS}
        keys |= {frozenset(compute_score("s", answer, {"answer": "A"}, preset=preset)) for answer in ANSWERS}
        assert len(keys) == 1
        assert {"score", "acc", "format"} <= next(iter(keys))

    def test_is_the_streward(self, preset):
        for answer in ANSWERS:
            assert compute_score("s", answer, TRUTH, preset=preset) == STReward(preset)(answer, TRUTH)


def test_truth_as_mapping_json_or_bare_answer():
    score = compute_score("s", "<answer>B</answer>", TRUTH)
    assert compute_score("s", "<answer>B</answer>", json.dumps(TRUTH)) == score
    assert compute_score("s", "<answer>B</answer>", "B")["acc"] == 1.0
    assert compute_score("s", "<answer>B</answer>", "[1]")["acc"] == 0.0


def test_truth_of_another_kind_is_refused():
    with pytest.raises(InputError, match=r"ground_truth.*got list"):
        compute_score("s", "x", ["B"])


def test_unknown_preset_is_named():
    with pytest.raises(InputError, match="mllm4d_xt"):
        compute_score("s", "x", TRUTH, preset="mllm4d_xt")


def test_arguments_of_verls_reward_managers_are_no_options():
    plain = compute_score("s", "<answer>B</answer>", TRUTH)
    assert (
        compute_score("s", "<answer>B</answer>", TRUTH, {}, reward_router_address="host", reward_model_tokenizer=None)
        == plain
    )

"""The function verl calls: any form of ground truth, one set of keys, errors that say what is wrong."""

import json
import warnings

import pytest

from mllm4d_verl import reward_fn
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.reward import STReward, mean_results
from mllm4d_verl.reward_fn import check_reward_function, compute_score

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
            expected = {**STReward(preset)(answer, TRUTH), "other_source": 0.0}
            assert compute_score("s", answer, TRUTH, preset=preset) == expected


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


class TestArgumentsAtTheCall:
    """verl hands settings and a reward manager's own arguments over as one set of keywords."""

    def test_what_a_manager_adds_is_ignored(self):
        plain = compute_score("s", "<answer>B</answer>", TRUTH, preset="paper", format_weight=0.1)
        more = {"num_turns": 2, "rollout_reward_scores": {}, "prompt": "x"}
        assert compute_score("s", "<answer>B</answer>", TRUTH, preset="paper", format_weight=0.1, **more) == plain

    @pytest.mark.parametrize("name", ["st_wieght", "format_gates", "component"])
    def test_a_misspelt_option_is_refused(self, name):
        with pytest.raises(InputError, match=f"unknown option '{name}'.*Did you mean"):
            compute_score("s", "x", TRUTH, **{name: 0.5})

    def test_options_of_a_component_are_known(self, tmp_path):
        (tmp_path / "own.py").write_text(
            "from mllm4d_verl.reward import reward_component\n"
            "@reward_component('brief', weight=0.5)\n"
            "def brief(response, truth):\n"
            "    return 1.0\n"
        )
        own = {"components": [str(tmp_path / "own.py")]}
        scores = [compute_score("s", "x", TRUTH, preset="paper", brief_weight=weight, **own) for weight in (0.5, 0.1)]
        assert scores[0]["score"] - scores[1]["score"] == pytest.approx(0.4)


class TestOtherSources:
    GSM8K = ("openai/gsm8k", "It is 72.\n#### 72", "72")

    def test_verl_scores_what_it_knows(self):
        pytest.importorskip("verl")
        ours, other = compute_score("mllm4d/x", "<answer>B</answer>", TRUTH), compute_score(*self.GSM8K)
        assert list(other) == list(ours)
        assert (other["score"], other["acc"], other["other_source"], other["format"]) == (1.0, 1.0, 1.0, 0.0)
        assert compute_score("openai/gsm8k", "#### 71", "72")["acc"] == 0.0

    def test_a_truth_of_ours_is_ours_whatever_the_source(self):
        for truth in (TRUTH, json.dumps(TRUTH)):
            assert compute_score("openai/gsm8k", "<answer>B</answer>", truth)["other_source"] == 0.0

    def test_a_source_that_verl_does_not_know_is_ours(self):
        assert compute_score("somebody/videos", "<answer>B</answer>", "B")["acc"] == 1.0

    def test_a_function_of_the_users_scores_the_rest(self, tmp_path):
        (tmp_path / "mine.py").write_text(
            "def score(data_source, solution_str, ground_truth, extra_info=None):\n"
            "    return {'score': 0.25, 'acc': float(solution_str == ground_truth), 'mine': 3.0}\n"
        )
        options = {"other_sources": f"{tmp_path}/mine.py:score", "sources": ["mllm4d/", "lab/"]}
        other = compute_score("somebody/text", "x", "x", **options)
        ours = compute_score("lab/video", "<answer>B</answer>", TRUTH, **options)
        assert list(other) == list(ours)
        assert (other["score"], other["acc"], other["other_source"]) == (0.25, 1.0, 1.0)
        assert ours["acc"] == 1.0

    def test_means_take_components_over_own_rows_only(self):
        pytest.importorskip("verl")
        means = mean_results([compute_score("mllm4d/x", ANSWERS[1], TRUTH, preset="paper"), compute_score(*self.GSM8K)])
        assert (means["acc"], means["accuracy"], means["other_source"]) == (1.0, 1.0, 0.5)

    @pytest.mark.parametrize(
        ("settings", "problem"),
        [
            ({"other_sources": "nowhere.py:f"}, "cannot be loaded"),
            ({"other_sources": "no function"}, "names no function"),
            ({"other_sources": "pkg://json:loads_all"}, "cannot be loaded"),
            ({"sources": [""]}, "must be texts"),
            ({"other_source": "verl"}, "other_source"),
            ({"other_sources": ["verl"]}, "must be a text"),
            ({"sources": []}, "must be texts"),
            ({"sources": 5}, "must be texts"),
            ({"preset": ["mllm4d_st"]}, "must be a name"),
        ],
    )
    def test_faults_of_the_settings_are_named_before_the_run(self, settings, problem):
        pytest.importorskip("verl")
        function = {"path": "pkg://mllm4d_verl.reward_fn", "name": "compute_score", "reward_kwargs": settings}
        with pytest.raises(InputError, match=problem):
            check_reward_function(function)

    @pytest.mark.parametrize(
        "returned", ["None", "('a', 1)", "{'acc': 1.0}", "float('nan')", "{'score': 1, 'acc': None}"]
    )
    def test_what_is_no_score_is_refused_by_name(self, tmp_path, returned):
        (tmp_path / "odd.py").write_text(f"def score(*arguments):\n    return {returned}\n")
        with pytest.raises(InputError, match=r"score returned .* for a row of 'lab/text'"):
            compute_score("lab/text", "x", "x", other_sources=f"{tmp_path}/odd.py:score")

    def test_a_source_without_a_rule_is_named(self):
        pytest.importorskip("verl")
        with pytest.raises(InputError, match=r"default_compute_score has no rule for rows of 'lab/text'"):
            compute_score("lab/text", "x", "x", other_sources="verl")

    def test_a_truth_that_is_nested_too_deep_is_a_bare_answer(self):
        assert compute_score("mllm4d/x", "<answer>B</answer>", '{"a":' * 2000)["acc"] == 0.0


class TestGate:
    def test_a_right_answer_counts_in_any_form_without_it(self):
        assert compute_score("s", "<answer>B</answer>", {"answer": "B"})["score"] == 0.0
        assert compute_score("s", "<answer>B</answer>", {"answer": "B"}, format_gate=0)["score"] == 1.0
        with pytest.raises(InputError, match="format_gate is 2"):
            compute_score("s", "x", TRUTH, format_gate=2)

    @pytest.mark.parametrize(
        ("answers", "options", "warns"),
        [
            (["<answer>B</answer>", "<answer>A</answer>"], {}, True),
            (["<answer>B</answer>"], {"format_gate": 0}, False),
            (["<answer>B</answer>"], {"preset": "paper"}, False),
            (["<answer>A</answer>"], {}, False),
            (["<answer>B</answer>", "<thinking>x</thinking><answer>B</answer>"], {}, False),
        ],
    )
    def test_a_run_is_told_once_that_it_takes_everything(self, monkeypatch, answers, options, warns):
        monkeypatch.setattr(reward_fn, "_watch", reward_fn._GateWatch())
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for number in range(1000):
                compute_score("s", answers[number % len(answers)], {"answer": "B"}, **options)
        texts = [str(warning.message) for warning in told]
        assert len(texts) == warns
        if warns:
            assert "100 of the first 200 answers were right, and 100 of those earned nothing" in texts[0]
            assert "format_gate=0" in texts[0]

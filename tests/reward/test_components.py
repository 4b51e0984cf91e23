"""Components: what the built-in ones compute, how users add theirs, and what is refused when."""

from __future__ import annotations

import math
import pickle
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reward_samples import OBJECT, any_text, response, truth

from mllm4d_verl.reward import (
    PRESETS,
    RewardConfigError,
    STReward,
    known_components,
    mean_relative_accuracy,
    reward_component,
)

BUILT_IN = (
    "displacement_direction", "displacement_magnitude", "trajectory", "metric_centers", "repetition", "overlong",
)  # fmt: skip


def value(name: str, text: str, sample: dict | None = None, **options: object) -> float | None:
    result = STReward(components={"use": name, "options": options})(text, truth() if sample is None else sample)
    return result[name] if result[f"{name}_applies"] else None


@pytest.fixture
def own_file(tmp_path):
    """A user's file with one component that has an option and one that is undecorated."""
    file = tmp_path / "my_rewards.py"
    file.write_text(
        textwrap.dedent("""
            from mllm4d_verl.reward import Response, Truth, reward_component

            @reward_component("says_closer", weight=0.25)
            def says_closer(response: Response, truth: Truth, *, word: str = "closer") -> float | None:
                if response.thinking is None:
                    return None
                return float(word in response.thinking)

            def plain(response, truth):
                return 0.5
            """)
    )
    yield file
    sys.modules.pop(file.stem, None)


class TestMotion:
    def test_the_true_motion_earns_one(self):
        for name in ("displacement_direction", "displacement_magnitude", "trajectory", "metric_centers"):
            assert value(name, response()) == pytest.approx(1.0)

    def test_direction_does_not_depend_on_length_or_place(self):
        moved = [[10.0, 0.0, 0.0], [12.0, 0.0, -2.0]]  # the true object moves by (1, 0, -1)
        assert value("displacement_direction", response(object_=moved)) == pytest.approx(1.0)
        assert value("displacement_magnitude", response(object_=moved)) == pytest.approx(0.5)  # 1 for the camera

    def test_opposite_and_still_directions_earn_nothing(self):
        for wrong in ([OBJECT[1], OBJECT[0]], [OBJECT[0], OBJECT[0]]):
            assert value("displacement_direction", response(object_=wrong), truth(camera_center=None)) == 0.0

    def test_direction_of_what_hardly_moves_does_not_apply(self):
        still = truth(camera_center=None, object_center=[OBJECT[0], OBJECT[0]])
        assert value("displacement_direction", response(), still) is None
        assert value("displacement_magnitude", response(), still) is None

    @pytest.mark.parametrize(
        ("factor", "expected"), [(1.0, 1.0), (1.04, 1.0), (1.06, 0.9), (1.3, 0.5), (1.49, 0.1), (2, 0)]
    )
    def test_magnitude_is_mra(self, factor, expected):
        far = [[0.0, 0.0, 0.0], [factor, 0.0, 0.0]]
        sample = truth(camera_center=[[0, 0, 0], [1, 0, 0]], object_center=None)
        assert value("displacement_magnitude", response(camera=far), sample) == pytest.approx(expected)

    def test_trajectory_counts_in_units_of_the_path(self):
        shifted = [[x + 0.5, y, z] for x, y, z in OBJECT]
        sample = truth(camera_center=None)
        length = math.dist(*OBJECT)
        assert value("trajectory", response(object_=shifted), sample) == pytest.approx(
            1 / (1 + 0.5 / (0.1 + 0.5 * length)) ** 2
        )

    def test_trajectory_reads_states_between_where_their_truth_is_known(self):
        text = response().replace(
            "Near things",
            "**Spatial State (Frame 7):**\n- Camera Center: null\n- Object Center: [9, 9, 9]\nNear things",
        )
        sample = truth(camera_center=None)
        assert value("trajectory", text, sample) == 1.0
        with_path = {**sample, "object_path": {7: [9, 9, 9]}}
        assert value("trajectory", text, with_path) == 1.0
        assert value("trajectory", text.replace("[9, 9, 9]", "[0, 9, 9]"), with_path) < 0.7

    def test_metric_centers_are_the_papers_but_keep_slots(self):
        off = [OBJECT[0], [OBJECT[1][0] + 1.0, *OBJECT[1][1:]]]
        sample = truth(camera_center=None)
        assert value("metric_centers", response(object_=off), sample) == pytest.approx(math.exp(-0.5))
        one_needed = truth(camera_center=None, object_center=[None, OBJECT[1]])
        assert value("metric_centers", response(object_=[None, OBJECT[1]]), one_needed) == 1.0
        assert value("metric_centers", response(object_=[OBJECT[1], None]), one_needed) == 0.0

    def test_nothing_known_does_not_apply(self):
        for name in ("displacement_direction", "displacement_magnitude", "trajectory", "metric_centers"):
            assert value(name, response(), {"answer": "B"}) is None

    @given(scale=st.floats(0.1, 1000))
    def test_direction_magnitude_and_trajectory_hold_at_any_scale(self, scale):
        def scaled(points):
            return [[number * scale for number in point] for point in points]

        wrong = [[0.0, 0.3, 4.0], [1.5, 0.2, 3.0]]
        sample = truth(camera_center=None, object_center=scaled(OBJECT))
        text = response(object_=scaled(wrong))
        for name, options in (
            ("displacement_direction", {"min_motion_m": 0.0}),
            ("displacement_magnitude", {"min_motion_m": 0.0}),
            ("trajectory", {"floor_m": 1e-9}),
        ):
            here = value(name, text, sample, **options)
            there = value(name, response(object_=wrong), truth(camera_center=None), **options)
            assert here == pytest.approx(there, abs=0.11 if name == "displacement_magnitude" else 0.01)


class TestMeanRelativeAccuracy:
    @pytest.mark.parametrize(
        ("stated", "true", "expected"),
        [
            (2.0, 2.0, 1.0),
            (2.21, 2.0, 0.8),
            (3.0, 4.0, 0.6),  # 25% off, exactly on the threshold .75
            (1.0, 2.0, 0.1),
            (0.99, 2.0, 0.0),
            (-2.0, 2.0, 0.0),
            (0.0, 0.0, 1.0),
            (0.1, 0.0, 0.0),
        ],
    )
    def test_table(self, stated, true, expected):
        assert mean_relative_accuracy(stated, true) == pytest.approx(expected)

    def test_equals_the_benchmarks_own_code(self):
        """Its formula (lmms_eval/tasks/vsibench/utils.py), over numbers that often lie on a threshold."""

        def published(stated, true):
            thresholds = np.linspace(0.5, 0.95, int((0.95 - 0.5) / 0.05 + 2))
            return (abs(stated - true) / true <= 1 - thresholds).mean()

        rng = np.random.default_rng(0)
        true = np.concatenate([rng.integers(1, 40, 4000), rng.random(4000) * 10 + 0.1]).round(2)
        stated = np.concatenate([rng.integers(0, 60, 4000), true[4000:] * rng.integers(10, 40, 4000) / 20])
        ours = [mean_relative_accuracy(float(s), float(t)) for s, t in zip(stated, true, strict=True)]
        theirs = [published(s, t) for s, t in zip(stated, true, strict=True)]
        assert ours == pytest.approx(theirs, abs=1e-12)

    @pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
    def test_odd_numbers_earn_nothing(self, odd):
        assert mean_relative_accuracy(odd, 1.0) == mean_relative_accuracy(1.0, odd) == 0.0


class TestPenalties:
    def test_honest_responses_are_not_repetitive(self):
        assert value("repetition", response()) == 0.0

    def test_repetition_grows_to_one(self):
        halves = [
            value("repetition", " ".join(["the camera glides to the right and on and on"] * n)) for n in (1, 3, 50)
        ]
        assert halves[0] == 0.0
        assert 0.0 < halves[1] < halves[2] < 1.0
        assert halves[2] > 0.9

    @pytest.mark.parametrize(("chars", "expected"), [(100, 0.0), (150, 0.0), (175, 0.5), (200, 1.0), (999, 1.0)])
    def test_overlong_rises_within_the_buffer(self, chars, expected):
        assert value("overlong", "x" * chars, max_chars=200, buffer_chars=50) == expected

    def test_a_penalty_costs_right_and_wrong_alike(self):
        reward = STReward(components=[{"use": "overlong", "options": {"max_chars": 10, "buffer_chars": 5}}])
        assert reward(response(), truth())["score"] == pytest.approx(0.0)
        assert reward("x" * 100, truth())["score"] == -1.0
        assert STReward(components="overlong")("x", truth())["score"] == 0.0


class TestWeights:
    def test_a_gated_component_shares_the_weight(self, own_file):
        reward = STReward(components=str(own_file))
        assert reward(response(), truth())["score"] == pytest.approx(1.0)
        silent = response().replace("closer", "nearer")
        assert reward(silent, truth())["score"] == pytest.approx(1.0 / 1.25)
        assert reward(silent, truth())["says_closer"] == 0.0
        assert reward(response(answer="A"), truth())["score"] == 0.0  # still gated

    def test_an_additive_component_is_added(self, own_file):
        reward = STReward("official", str(own_file), says_closer_weight=0.5)
        plain = STReward("official")
        assert reward(response(), truth())["score"] == pytest.approx(plain(response(), truth())["score"] + 0.5)

    def test_one_that_does_not_apply_changes_nothing(self, own_file):
        reward = STReward(components=str(own_file), says_closer_weight=9.0)
        text = "<answer>B</answer>"
        result = reward(text, truth())
        assert (result["says_closer"], result["says_closer_applies"]) == (0.0, 0.0)
        sample = truth(camera_center=None, object_center=None)
        still = STReward(components="displacement_direction", displacement_direction_weight=9.0)
        assert still(response(), sample)["score"] == STReward()(response(), sample)["score"]

    def test_a_metric_is_only_observed(self, own_file):
        reward = STReward(components=[{"use": f"{own_file}:says_closer", "kind": "metric"}])
        silent = response().replace("closer", "nearer")
        assert reward(silent, truth())["score"] == reward(response(), truth())["score"] == 1.0
        assert reward(silent, truth())["says_closer"] == 0.0

    @pytest.mark.parametrize("preset", PRESETS)
    @given(text=any_text)
    @settings(max_examples=60, deadline=None)
    def test_all_built_in_ones_at_once_keep_keys_and_numbers(self, preset, text):
        reward = STReward(preset, BUILT_IN)
        result = reward(text, truth())
        assert tuple(result) == reward.keys
        assert all(type(number) is float and math.isfinite(number) for number in result.values())
        assert result["component_errors"] == 0.0


class TestWhereTheyComeFrom:
    def test_by_name(self):
        assert {*BUILT_IN} <= {*known_components()}
        assert all(known_components()[name] for name in BUILT_IN)

    def test_every_component_of_a_file(self, own_file):
        assert [component.name for component in STReward(components=str(own_file)).components] == ["says_closer"]

    def test_one_function_of_a_file_decorated_or_not(self, own_file):
        reward = STReward(components=[f"{own_file}:plain", f"{own_file}:says_closer"])
        assert [component.name for component in reward.components] == ["plain", "says_closer"]
        assert [reward.weights["plain_weight"], reward.weights["says_closer_weight"]] == [1.0, 0.25]

    def test_the_later_of_two_with_one_name_is_meant_by_name(self, own_file):
        first = STReward(components=str(own_file))

        @reward_component("says_closer", weight=0.75)
        def says_closer(response, truth):
            return 0.0

        assert STReward(components="says_closer").weights["says_closer_weight"] == 0.75
        assert STReward(components=str(own_file)).weights == first.weights

    def test_a_module(self, own_file, monkeypatch):
        monkeypatch.syspath_prepend(str(own_file.parent))
        assert STReward(components="my_rewards:plain")(response(), truth())["plain"] == 0.5

    def test_a_mapping_with_options_name_and_weight(self, own_file):
        spec = {"use": f"{own_file}:says_closer", "name": "says_box", "weight": 2, "options": {"word": "box"}}
        reward = STReward(components=[spec])
        assert reward.weights["says_box_weight"] == 2.0
        assert reward(response(), truth())["says_box"] == 1.0

    def test_a_function(self):
        def half(response, truth):
            return 0.5

        assert STReward(components=half)(response(), truth())["half"] == 0.5

    def test_an_entry_point(self):
        """`consistency` comes to the reward through the same door as a component of another package."""
        assert "consistency" in known_components()
        assert STReward(components="consistency").components[0].name == "consistency"

    def test_the_same_file_crosses_processes(self, own_file):
        reward = STReward(components=str(own_file))
        assert pickle.loads(pickle.dumps(reward))(response(), truth()) == reward(response(), truth())


class TestRefusals:
    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            ("consistancy", "did you mean 'consistency'"),
            ("nowhere.py:f", "no file"),
            ("no_such_package.module:f", "does not load"),
            ("mllm4d_verl.reward.motion:trajectory_rewad", "did you mean 'trajectory_reward'"),
            ("mllm4d_verl.reward.response", "registers no component"),
            ({"name": "x"}, "needs the key 'use'"),
            ({"use": "trajectory", "wieght": 1}, "did you mean 'weight'"),
            ({"use": "trajectory", "options": {"flor_m": 1}}, "did you mean 'floor_m'"),
            ({"use": "trajectory", "kind": "bonus"}, "Kinds: reward, penalty, metric"),
            ({"use": "trajectory", "weight": -1}, "trajectory_weight is -1"),
            ({"use": "mllm4d_verl.reward.motion"}, "holds several components"),
            (["trajectory", "trajectory"], "listed twice"),
            ({"use": "trajectory", "name": "score"}, "score dict has that key"),
            ({"use": "trajectory", "name": "camera_center"}, "score dict has that key"),
            ({"use": "trajectory", "name": "st"}, "score dict has that key"),
            (7, "give a list of names"),
            ([""], "is no component"),
            (lambda response: 1.0, "cannot be named"),
        ],
    )
    def test_message(self, spec, message):
        with pytest.raises(RewardConfigError, match=message):
            STReward(components=spec)

    def test_a_function_of_other_arguments(self):
        def one(response):
            return 1.0

        with pytest.raises(RewardConfigError, match=r"must take \(response, truth\)"):
            STReward(components=one)

    def test_a_file_that_does_not_run(self, tmp_path):
        file = tmp_path / "broken.py"
        file.write_text("import nothing_of_this_name\n")
        with pytest.raises(RewardConfigError, match=r"broken.py does not load: ModuleNotFoundError"):
            STReward(components=str(file))

    def test_a_name_that_is_taken_here(self):
        with pytest.raises(RewardConfigError, match="cannot be named 'trajectory', as trajectory_reward in"):
            reward_component("trajectory")(lambda response, truth: 1.0)

    def test_a_weight_of_a_component_that_is_not_there(self):
        with pytest.raises(RewardConfigError, match="did you mean 'trajectory_weight'"):
            STReward(components="trajectory", trajectry_weight=1.0)

    def test_a_required_option(self):
        def needs(response, truth, *, level):
            return level

        with pytest.raises(RewardConfigError, match="needs its option 'level'"):
            STReward(components=needs)


class TestFailures:
    @pytest.mark.parametrize("bad", [math.nan, math.inf, "1", [1.0], 1 / 2 + 0j])
    def test_what_is_no_number_does_not_count(self, bad):
        def odd(response, truth):
            return bad

        with pytest.warns(RuntimeWarning, match="'odd'.*not a finite number"):
            result = STReward(components=odd)(response(), truth())
        assert (result["score"], result["odd"], result["odd_applies"], result["component_errors"]) == (
            1.0,
            0.0,
            0.0,
            1.0,
        )

    def test_an_exception_does_not_end_the_run(self):
        def fails(response, truth):
            raise KeyError("no such field")

        with pytest.warns(RuntimeWarning, match="'fails'.*KeyError"):
            result = STReward(components=fails)(response(), truth())
        assert (result["score"], result["component_errors"]) == (1.0, 1.0)

    def test_numpy_numbers_and_bools_are_numbers(self):
        import numpy as np

        def array_mean(response, truth):
            return np.float32(0.5)

        def is_long(response, truth):
            return response.num_chars > 10

        result = STReward(components=[array_mean, is_long])(response(), truth())
        assert (result["array_mean"], result["is_long"]) == (0.5, 1.0)

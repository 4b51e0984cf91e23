"""Scoring files of responses: same numbers as the reward, in order, on any number of cores; figures by hand."""

from __future__ import annotations

import itertools
import json
import math
import textwrap

import numpy as np
import pandas as pd
import pytest

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.reward import STReward
from mllm4d_verl.rollouts import (
    compare_rewards,
    read_rollouts,
    replay,
    score_file,
    score_rollouts,
    summarise_scores,
)
from mllm4d_verl.rollouts.comparison import PairCounts, _pair_counts, _spearman_within


@pytest.fixture
def responses(tmp_path, write_lines, make_response, truth):
    """Three groups: mixed (4), all wrong (3), alone (1)."""
    texts = {
        "mixed": [make_response(), make_response("A"), make_response("B", 2.0), "no tags"],
        "wrong": [make_response("A"), make_response("C"), ""],
        "alone": [make_response()],
    }
    records = [{"id": name, "response": text, "truth": truth} for name, some in texts.items() for text in some]
    return write_lines(tmp_path / "responses.jsonl", records)


class TestScoreFile:
    def test_every_response_has_what_the_reward_says(self, responses):
        reward = STReward("paper", "trajectory")
        table = score_file(responses, reward)
        for rollout, row in zip(read_rollouts(responses), table.to_dict("records"), strict=True):
            assert {key: row[key] for key in reward.keys} == reward(rollout.response, rollout.truth)
            assert (row["id"], row["row"], row["group"]) == rollout.place[2:3] + rollout.place[1:2] + rollout.place[3:4]
        assert table["step"].isna().all()

    @pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
    def test_the_file_holds_the_table(self, dumps, tmp_path, suffix):
        out = tmp_path / "made" / f"scores.{suffix}"
        table = score_file(dumps, STReward(), out=out)
        if suffix == "jsonl":
            written = pd.DataFrame([json.loads(line) for line in out.read_text().splitlines()])
        else:
            written = pd.read_parquet(out)
        assert list(written.columns) == list(table.columns)
        assert list(written["step"]) == [1] * 24 + [2] * 24 + [10] * 24
        for key in ("id", "group", "row", "score", "recorded_score", "object_center_error_m"):
            assert list(written[key]) == list(table[key])
        assert [file.name for file in out.parent.iterdir()] == [out.name]

    def test_processes_change_nothing(self, tmp_path, dumps, write_lines):
        records = [json.loads(line) for file in dumps.glob("*.jsonl") for line in file.read_text().splitlines()]
        many = write_lines(tmp_path / "many.jsonl", itertools.islice(itertools.cycle(records), 2100))
        component = tmp_path / "own.py"
        component.write_text(
            textwrap.dedent("""
                from mllm4d_verl.reward import reward_component

                @reward_component("length", kind="metric")
                def length(response, truth):
                    return response.num_chars / 1000
                """)
        )
        reward = STReward(components=[str(component), "consistency"])
        calls: list[tuple[int, int]] = []
        alone = score_file(many, reward)
        together = score_file(many, reward, workers=2, progress=lambda *call: calls.append(call))
        pd.testing.assert_frame_equal(alone, together)
        assert calls[-1] == (2100, 2100)
        assert [place.row for place, _ in score_rollouts(many, reward, workers=2)] == list(range(2100))

    def test_an_error_in_another_process_is_the_same_error(self, tmp_path, dumps):
        lines = (dumps / "1.jsonl").read_text().splitlines() * 100
        lines[2222] = "{}"
        (tmp_path / "r.jsonl").write_text("\n".join(lines) + "\n")
        with pytest.raises(InputError, match="row 2222, field response: the field is missing"):
            score_file(tmp_path / "r.jsonl", STReward(), workers=2, out=tmp_path / "scores.parquet")
        assert not list(tmp_path.glob("*scores*"))

    def test_truths_of_a_question_file(self, tmp_path, write_lines, qa_file, make_response):
        records = [{"id": f"q{number}", "response": make_response(answer)} for number, answer in enumerate("ABBC")]
        table = score_file(write_lines(tmp_path / "r.jsonl", records), STReward(), truth=qa_file)
        assert list(table["acc"]) == [0.0, 1.0, 1.0, 0.0]
        assert (table["object_center_needed"] == 2.0).all()

    def test_refusals(self, tmp_path, responses):
        (tmp_path / "empty.jsonl").write_text("\n")
        with pytest.raises(InputError, match="holds no responses"):
            score_file(tmp_path / "empty.jsonl", STReward())
        with pytest.raises(InputError, match=r"field --out: neither .jsonl nor .parquet"):
            score_file(responses, STReward(), out=tmp_path / "scores.csv")
        with pytest.raises(InputError, match="--component: a component cannot be named 'group'"):
            score_file(responses, STReward(components={"use": "trajectory", "name": "group"}))


class TestSummary:
    def test_figures_by_hand(self, responses):
        reward = STReward(components="displacement_direction")
        table = score_file(responses, reward)
        summary = summarise_scores(table, reward)
        assert (summary.responses, summary.groups, summary.within_groups.groups) == (8, 3, 2)
        assert summary.zero_scores == 5 / 8
        assert summary.means["acc"] == 3 / 8
        scores = list(table["score"][:4])
        mean = sum(scores) / 4
        variance = sum((score - mean) ** 2 for score in scores) / 3
        assert summary.within_groups.mean_variance == pytest.approx(variance / 2)
        assert summary.within_groups.mean_std == pytest.approx(math.sqrt(variance) / 2)
        assert (summary.within_groups.same_score, summary.within_groups.same_acc) == (0.5, 0.5)

    def test_means_leave_out_what_was_not_measured(self, responses):
        summary = summarise_scores(score_file(responses, STReward()), STReward())
        assert "camera_center" not in summary.means  # no question needs it
        assert summary.means["object_center_error_m"] == pytest.approx(
            1.0 / 6
        )  # 2 m off at one of two ends, six stated
        assert json.loads(json.dumps(summary.to_dict(), allow_nan=False))["preset"] == "mllm4d_st"

    def test_without_groups_of_several(self, tmp_path, write_lines, truth):
        path = write_lines(tmp_path / "r.jsonl", [{"id": n, "response": "x", "truth": truth} for n in range(3)])
        within = summarise_scores(score_file(path, STReward()), STReward()).within_groups
        assert (within.groups, within.mean_std, within.same_score) == (0, None, None)

    def test_rounding_is_no_difference(self, responses):
        table = score_file(responses, STReward())
        table.loc[4:6, "score"] = [0.3, 0.1 + 0.2, 0.3]
        assert summarise_scores(table, STReward()).within_groups.same_score == 0.5


class TestCompare:
    def test_a_reward_agrees_with_itself(self, dumps):
        comparison = compare_rewards(dumps, STReward(), STReward())
        assert comparison.spearman == pytest.approx(1.0)
        assert comparison.spearman_within == pytest.approx(1.0)
        assert comparison.kendall_within == pytest.approx(1.0)
        assert comparison.pairs.total == 18 * 6
        assert comparison.pairs.flipped == comparison.pairs.tied_in_a == comparison.pairs.tied_in_b == 0
        assert comparison.disagreements == []
        assert comparison.a == comparison.b

    def test_wrong_answers_are_ordered_by_official_only(self, dumps):
        comparison = compare_rewards(dumps, STReward("official"), STReward(), top=3)
        assert comparison.a.within_groups.same_score == 0.0 < comparison.b.within_groups.same_score
        assert comparison.pairs.tied_in_b > 0 == comparison.pairs.tied_in_a
        assert 0.0 < comparison.spearman < 1.0
        table_a, table_b = score_file(dumps, STReward("official")), score_file(dumps, STReward())
        assert comparison.spearman == pytest.approx(slow_spearman(table_a["score"].round(9), table_b["score"].round(9)))
        gaps = [abs(item.advantage_a - item.advantage_b) for item in comparison.disagreements]
        assert len(gaps) == 3
        assert gaps == sorted(gaps, reverse=True)
        worst = comparison.disagreements[0]
        (place,) = table_a.index[(table_a["file"] == worst.file) & (table_a["row"] == worst.row)]
        assert (table_a["score"][place], table_b["score"][place]) == pytest.approx((worst.score_a, worst.score_b))
        group = table_a[table_a["group"] == table_a["group"][place]]["score"]
        assert worst.advantage_a == pytest.approx((worst.score_a - group.mean()) / group.std())

    def test_opposite_rewards_flip_every_pair(self, tmp_path, write_lines, make_response, truth):
        records = [{"id": n % 2, "response": make_response("B", n), "truth": truth} for n in range(8)]
        path = write_lines(tmp_path / "r.jsonl", records)
        a, b = STReward(), STReward("official", contrary)
        comparison = compare_rewards(path, a, b)
        assert comparison.flipped_share == 1.0
        ranked = [comparison.kendall_within, comparison.spearman_within, comparison.spearman]
        assert ranked == pytest.approx([-1.0] * 3)
        assert comparison.compared_groups == 2

    def test_without_groups_all_responses_are_one(self, tmp_path, write_lines, make_response, truth):
        records = [{"id": n, "response": make_response("B", n), "truth": truth} for n in range(4)]
        comparison = compare_rewards(
            write_lines(tmp_path / "r.jsonl", records), STReward(), STReward("paper", contrary)
        )
        assert (comparison.pairs.total, comparison.flipped_share, comparison.kendall_within) == (0, None, None)
        assert comparison.spearman == pytest.approx(-1.0)
        assert {comparison.disagreements[0].id, comparison.disagreements[1].id} == {"0", "3"}

    def test_a_constant_reward_has_no_correlation(self, responses):
        zero = STReward("official", format_weight=0, accuracy_weight=0, camera_center_weight=0, object_center_weight=0)
        comparison = compare_rewards(responses, STReward(), zero)
        assert comparison.spearman is comparison.kendall_within is comparison.spearman_within is None
        json.dumps(comparison.to_dict(), allow_nan=False)

    @pytest.mark.parametrize("size", [2, 3, 8, 30])
    def test_correlations_against_their_definitions(self, size):
        rng = np.random.default_rng(size)
        for _ in range(20):
            a, b = rng.integers(0, 4, size).astype(float), rng.integers(0, 4, size).astype(float)
            counts = _pair_counts(a, b)
            assert counts.total == size * (size - 1) // 2
            assert counts.kendall == pytest.approx(slow_kendall(a, b))
            rho = slow_spearman(a, b)
            within = list(_spearman_within(pd.DataFrame({"group": "g", "a": a, "b": b})))
            assert within == ([] if rho is None else [pytest.approx(rho)])

    def test_pair_counts_by_hand(self):
        counts = _pair_counts(np.array([0.0, 0.0, 1.0, 2.0]), np.array([0.0, 0.0, 2.0, 1.0]))
        assert counts == PairCounts(agree=4, flipped=1, tied_in_a=0, tied_in_b=0, tied=1)
        assert _pair_counts(np.array([1.0, 1.0]), np.array([1.0, 2.0])) == PairCounts(0, 0, 1, 0, 0)


def slow_kendall(a, b):
    """tau-b as Kendall wrote it: concordant minus discordant over the geometric mean of the untied pairs."""
    pairs = [(np.sign(a[i] - a[j]), np.sign(b[i] - b[j])) for i, j in itertools.combinations(range(len(a)), 2)]
    untied = sum(x != 0 for x, _ in pairs) * sum(y != 0 for _, y in pairs)
    return sum(x * y for x, y in pairs) / math.sqrt(untied) if untied else None


def slow_spearman(a, b):
    """Pearson's r of the ranks; equal values share their mean rank."""

    def ranks(values):
        return np.array([(values < value).sum() + ((values == value).sum() + 1) / 2 for value in values])

    x, y = ranks(np.asarray(a)), ranks(np.asarray(b))
    return float(np.corrcoef(x, y)[0, 1]) if x.std() and y.std() else None


def contrary(response, truth):
    """Prefers what `mllm4d_st` does not."""
    return 20.0 - 20.0 * STReward()(response.text, truth.fields)["score"]


class TestReplay:
    def test_the_recorded_reward_is_found_again(self, dumps):
        steps, overall = replay(dumps, STReward("official"))
        assert [step.step for step in steps] == [1, 2, 10]
        for step in (*steps, overall):
            assert step.recorded == pytest.approx(step.replayed)
            assert step.difference == pytest.approx(0.0, abs=1e-12)
            assert step.recorded_groups == step.replayed_groups
        assert (overall.step, overall.responses) == (None, 72)
        assert overall.recorded == pytest.approx(sum(step.recorded for step in steps) / 3)

    def test_another_reward(self, dumps):
        steps, overall = replay(dumps, STReward())
        scores = score_file(dumps / "2.jsonl", STReward())
        recorded = [json.loads(line)["score"] for line in (dumps / "2.jsonl").read_text().splitlines()]
        assert steps[1].replayed == pytest.approx(scores["score"].mean())
        assert steps[1].recorded == pytest.approx(sum(recorded) / len(recorded))
        assert steps[1].difference == pytest.approx((scores["score"] - recorded).abs().mean())
        assert steps[1].acc == scores["acc"].mean()
        assert steps[0].acc < steps[2].acc
        assert overall.recorded_groups.same_score == 0.0
        all_wrong = scores.groupby("group")["acc"].max().eq(0.0).mean()
        assert steps[1].replayed_groups.same_score == pytest.approx(all_wrong)

    def test_one_file(self, dumps):
        steps, overall = replay(dumps / "10.jsonl", STReward())
        assert [step.step for step in steps] == [10]
        assert steps[0].replayed == overall.replayed

    @pytest.mark.parametrize(
        ("change", "message"), [({"score": None}, "row 1, field score"), ({"score": "high"}, "no score as a number")]
    )
    def test_what_is_no_dump_is_named(self, tmp_path, write_lines, change, message):
        good = {"input": "x", "output": "y", "gts": "B", "score": 0.0, "step": 1}
        path = write_lines(tmp_path / "1.jsonl", [good, {**good, **change}])
        with pytest.raises(InputError, match=message):
            replay(path, STReward())

    def test_responses_without_steps_are_no_dump(self, responses):
        with pytest.raises(InputError, match=r"row 0, field step: .*mllm4d reward score"):
            replay(responses, STReward())

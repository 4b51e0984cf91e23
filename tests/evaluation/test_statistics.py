"""Intervals against published values, closed forms, and their own promise: coverage."""

import importlib.util
import itertools
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t, ttest_1samp

from mllm4d_verl.evaluation import statistics as stats


class TestWilsonInterval:
    @pytest.mark.parametrize(
        ("successes", "n", "low", "high"),
        [
            # Newcombe 1998, Statistics in Medicine 17, table I, method 3
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ],
    )
    def test_known_values(self, successes, n, low, high):
        assert stats.wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)

    def test_needs_data(self):
        with pytest.raises(ValueError, match="n > 0"):
            stats.wilson_interval(0, 0)

    @given(st.integers(1, 500), st.floats(0, 1))
    def test_lies_in_the_unit_interval_around_the_estimate(self, n, share):
        successes = round(share * n)
        low, high = stats.wilson_interval(successes, n)
        assert 0 <= low <= successes / n + 1e-12
        assert successes / n - 1e-12 <= high <= 1


class TestMeanInterval:
    def test_matches_the_normal_formula_for_many_single_clusters(self):
        values = np.random.default_rng(0).normal(3.0, 2.0, 400)
        interval = stats.mean_interval(values, range(400))
        half_width = 1.96 * values.std() / 20
        assert interval.estimate == pytest.approx(values.mean())
        assert interval.high - interval.low == pytest.approx(2 * half_width, rel=0.06)

    def test_is_wider_when_values_repeat_in_clusters(self):
        values = np.random.default_rng(0).normal(size=40)
        once = stats.mean_interval(values, range(40))
        repeated = stats.mean_interval(np.repeat(values, 9), np.repeat(np.arange(40), 9))
        assert (repeated.low, repeated.high) == pytest.approx((once.low, once.high))
        assert repeated.clusters == 40
        assert repeated.n == 360

    def test_order_does_not_matter_and_seed_reproduces(self):
        values, clusters = [0.1, 0.9, 0.4, 0.2], ["a", "a", "b", "c"]
        assert stats.mean_interval(values, clusters) == stats.mean_interval(values, clusters)

    @pytest.mark.parametrize(
        ("values", "clusters", "estimate", "why"),
        [
            ([], [], None, None),
            ([0.5], ["a"], 0.5, stats.ONE_CLIP),
            ([0.0, 1.0], ["a", "a"], 0.5, stats.ONE_CLIP),
            ([0.5, 0.5], ["a", "b"], 0.5, stats.NO_SPREAD),
            ([0.0, 1.0, 0.0, 1.0], ["a", "a", "b", "b"], 0.5, stats.NO_SPREAD),
        ],
    )
    def test_claims_no_interval_without_two_clusters_that_differ(self, values, clusters, estimate, why):
        interval = stats.mean_interval(values, clusters)
        assert (interval.estimate, interval.low, interval.high, interval.method) == (estimate, None, None, "none")
        assert interval.unreliable == why

    def test_is_students_interval_for_single_values(self):
        values = np.array([0.3, 1.7, 2.2, 0.9, 1.1, 0.2])
        low, high = ttest_1samp(values, 0).confidence_interval()
        interval = stats.mean_interval(values, range(6))
        assert (interval.low, interval.high, interval.method) == (
            pytest.approx(low),
            pytest.approx(high),
            "clustered t",
        )

    def test_labels_must_match_values(self):
        with pytest.raises(ValueError, match="cluster labels"):
            stats.mean_interval([1.0, 2.0], ["a"])

    def test_covers_the_truth_at_the_promised_rate(self):
        """Clustered data with known mean: 95% intervals must hold it in about 95% of the draws."""
        rng = np.random.default_rng(1)
        clusters = np.repeat(np.arange(50), 6)
        hits = 0
        for _ in range(300):
            values = rng.normal(size=50)[clusters] + rng.normal(size=300)  # true mean 0, intra-cluster correlation 0.5
            interval = stats.mean_interval(values, clusters)
            hits += interval.low <= 0 <= interval.high
        assert hits / 300 > 0.925


class TestProportionInterval:
    def test_single_questions_get_wilsons_interval_with_students_quantile(self):
        interval = stats.proportion_interval([1, 0, 1, 1] * 5, range(20))
        z = t.ppf(0.975, 19)
        n = 19  # the jackknife divides by n - 1
        centre, half = 0.75 + z**2 / (2 * n), z * math.sqrt(0.75 * 0.25 / n + z**2 / (4 * n**2))
        expected = [(centre + sign * half) / (1 + z**2 / n) for sign in (-1, 1)]
        assert (interval.low, interval.high) == pytest.approx(tuple(expected))
        assert interval.method == "clustered Wilson"

    def test_one_clip_says_nothing_of_others(self):
        interval = stats.proportion_interval([1, 0] * 50, ["clip"] * 100)
        assert (interval.low, interval.high, interval.method) == (None, None, "none")
        assert interval.unreliable == stats.ONE_CLIP

    @pytest.mark.parametrize("outcome", [0, 1])
    def test_never_claims_certainty(self, outcome):
        interval = stats.proportion_interval([outcome] * 60, range(60))
        assert interval.high - interval.low > 0.05
        assert interval.unreliable == stats.NO_SPREAD

    def test_clips_alike_by_chance_count_as_one_answer_each(self):
        interval = stats.proportion_interval([0, 1] * 10, np.repeat(np.arange(10), 2))
        assert interval.high - interval.low > 0.5
        assert interval.unreliable == stats.NO_SPREAD

    def test_counts_dependent_questions_less(self):
        clusters = np.repeat(np.arange(5), 8)
        dependent = stats.proportion_interval(np.repeat([0, 1, 1, 0, 1], 8), clusters)
        independent = stats.proportion_interval(np.repeat([0, 1, 1, 0, 1], 8), range(40))
        assert dependent.high - dependent.low > 1.5 * (independent.high - independent.low)

    def test_a_clip_that_has_most_questions_makes_it_unreliable(self):
        clusters = [0] * 60 + list(range(1, 41))
        interval = stats.proportion_interval(np.tile([0, 1], 50), clusters)
        assert (interval.clusters, interval.unreliable) == (41, stats.FEW_CLIPS)

    def test_rare_mistakes_make_it_unreliable(self):
        few, enough = ([0] * wrong + [1] * (200 - wrong) for wrong in (4, 20))
        assert stats.proportion_interval(few, range(200)).unreliable == stats.FEW_ANSWERS
        assert stats.proportion_interval(enough, range(200)).unreliable is None


class TestGroups:
    def test_groups_weigh_the_same(self):
        outcomes, clips, tasks = [1, 1, 1, 0], ["a", "b", "c", "d"], ["x", "x", "x", "y"]
        for interval in (
            stats.group_mean_interval(outcomes, clips, tasks),
            stats.group_share_interval(outcomes, clips, tasks),
        ):
            assert interval.estimate == 0.5

    def test_equals_the_mean_for_one_group(self):
        values = np.random.default_rng(0).random(60)
        whole = stats.mean_interval(values, range(60))
        assert stats.group_mean_interval(values, range(60), ["x"] * 60) == whole

    def test_tasks_of_a_group_are_averaged_first(self):
        outcomes, tasks = [1, 1, 1, 1, 0, 0], ["easy", "easy", "hard", "hard", "route", "route"]
        groups = {"easy": "direction", "hard": "direction"}
        interval = stats.group_share_interval(outcomes, range(6), tasks, groups)
        assert interval.estimate == pytest.approx(0.5)
        assert stats.group_share_interval(outcomes, range(6), tasks).estimate == pytest.approx(2 / 3)

    def test_a_task_that_one_clip_asks_makes_it_unreliable(self):
        outcomes, clips = np.random.default_rng(0).integers(2, size=60), np.arange(60) // 3
        tasks = ["common"] * 57 + ["rare"] * 3
        assert stats.group_share_interval(outcomes, clips, tasks).unreliable == stats.LONE_TASK

    def test_labels_must_match_values(self):
        with pytest.raises(ValueError, match="2 of the other kind"):
            stats.group_share_interval([1, 0, 1], range(3), ["x", "y"])


class TestCoverage:
    """Small runs of benchmarks/interval_coverage.py; with 500 draws the standard error is 1 point."""

    @pytest.fixture(scope="class")
    def script(self):
        path = Path(__file__).parents[2] / "benchmarks" / "interval_coverage.py"
        spec = importlib.util.spec_from_file_location("interval_coverage", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules["interval_coverage"] = module
        spec.loader.exec_module(module)
        return module

    @pytest.mark.parametrize("clips", [5, 20, 100])
    @pytest.mark.parametrize("figure", ["accuracy", "macro", "pass@4", "difference"])
    def test_holds_the_truth_as_often_as_promised(self, script, figure, clips):
        case = next(
            case
            for case in script.cases(everything=True)
            if (case.figure, case.clips, case.questions, case.correlation) == (figure, clips, "20", 0.3)
            and case.truth not in (0.25, 0.0)
        )
        found = script.coverage(case, 500)
        assert 0.93 - 0.01 <= found.held <= 0.97 + 0.01

    def test_bad_cases_are_marked(self, script):
        """At five clips with one question each, no share is estimated well enough; nor are rare mistakes."""
        for case in (
            script.Case("accuracy", 5, "1", 0.5, 0.0),
            script.Case("accuracy", 20, "20", 0.95, 0.7),
            script.Case("accuracy", 5, "1 to 14", 0.5, 0.3),
        ):
            assert script.coverage(case, 200).marked > 0.95


class TestPairedDifference:
    def test_the_spread_of_the_questions_does_not_enter(self):
        a = np.random.default_rng(0).random(30)
        gain = np.tile([0.2, 0.3], 15)
        interval = stats.paired_difference(a, a + gain, range(30))
        assert interval.estimate == pytest.approx(0.25)
        assert interval.high - interval.low < 0.05  # the spread of a itself, 0.3, does not enter

    @settings(max_examples=20, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=3, max_size=30))
    def test_changes_sign_with_the_order(self, pairs):
        a, b = zip(*pairs, strict=True)
        clusters = [i // 2 for i in range(len(a))]
        there, back = stats.paired_difference(a, b, clusters), stats.paired_difference(b, a, clusters)
        assert there.estimate == pytest.approx(-back.estimate)
        if there.low is None:
            assert back.low is None
        else:
            assert there.low == pytest.approx(-back.high)

    def test_needs_equal_lengths(self):
        with pytest.raises(ValueError, match="equal shapes"):
            stats.paired_difference([1], [1, 2], ["a"])


class TestCrossedInterval:
    def test_one_replicate_is_the_interval_over_clips(self):
        values, clips = [0, 1, 1, 0, 1, 1], list("aabbcc")
        assert stats.crossed_interval(values, clips, [0] * 6) == stats.mean_interval(values, clips)

    def test_knows_that_seeds_differ(self):
        """Two seeds that are each sure of themselves, and disagree."""
        clips = [clip for clip in range(40) for _ in range(2)]
        values = [float(seed == 1) if clip else 0.5 for clip in range(40) for seed in range(2)]
        pooled = stats.mean_interval(values, clips)
        crossed = stats.crossed_interval(values, clips, [0, 1] * 40)
        assert crossed.estimate == pooled.estimate == pytest.approx(0.5)
        assert pooled.high is None or pooled.high - pooled.low < 0.1
        assert crossed.high - crossed.low > 0.9

    def test_covers_the_mean_over_other_seeds_and_clips(self):
        rng = np.random.default_rng(0)
        num_clips, num_seeds, covered, covered_pooled = 40, 6, 0, 0
        clips = np.repeat(np.arange(num_clips), num_seeds)
        seeds = np.tile(np.arange(num_seeds), num_clips)
        for _ in range(60):
            by_clip, by_seed = rng.normal(0, 0.3, num_clips), rng.normal(0, 0.2, num_seeds)
            values = by_clip[clips] + by_seed[seeds] + rng.normal(0, 0.3, len(clips))
            crossed, pooled = stats.crossed_interval(values, clips, seeds), stats.mean_interval(values, clips)
            covered += crossed.low <= 0 <= crossed.high
            covered_pooled += pooled.low <= 0 <= pooled.high
        assert covered >= 50 > covered_pooled

    def test_few_seeds_are_told(self):
        values = np.random.default_rng(0).random(120)
        clips = np.repeat(np.arange(30), 4)
        assert stats.crossed_interval(values, clips, np.tile(range(4), 30)).unreliable == stats.FEW_SEEDS

    def test_same_figures_in_every_run(self):
        values, clips, seeds = [0.1, 0.5, 0.2, 0.9], list("aabb"), [0, 1, 0, 1]
        assert stats.crossed_interval(values, clips, seeds) == stats.crossed_interval(values, clips, seeds)


class TestMcNemar:
    @pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (0, 6), (3, 9), (20, 20), (51, 30)])
    def test_equals_the_sum_over_the_binomial(self, only_a, only_b):
        n, smaller = only_a + only_b, min(only_a, only_b)
        tail = sum(math.comb(n, k) for k in range(smaller + 1)) / 2**n
        assert stats.mcnemar_p(only_a, only_b) == pytest.approx(min(1.0, 2 * tail))

    @given(st.integers(0, 60), st.integers(0, 60))
    def test_does_not_know_which_run_is_which(self, only_a, only_b):
        assert stats.mcnemar_p(only_a, only_b) == pytest.approx(stats.mcnemar_p(only_b, only_a))


class TestPassAtK:
    @pytest.mark.parametrize(("samples", "correct", "k"), [(5, 2, 1), (5, 2, 3), (6, 0, 4), (4, 4, 2), (7, 1, 7)])
    def test_equals_the_share_of_all_draws(self, samples, correct, k):
        draws = list(itertools.combinations([True] * correct + [False] * (samples - correct), k))
        assert stats.pass_at_k(samples, correct, k) == pytest.approx(sum(map(any, draws)) / len(draws))

    @pytest.mark.parametrize(("samples", "correct", "k"), [(3, 1, 0), (3, 1, 4), (3, 4, 1)])
    def test_impossible_numbers_are_refused(self, samples, correct, k):
        with pytest.raises(ValueError, match="within"):
            stats.pass_at_k(samples, correct, k)


class TestBadValues:
    @pytest.mark.parametrize("interval", [stats.mean_interval, stats.proportion_interval])
    def test_what_is_not_finite_is_refused(self, interval):
        with pytest.raises(ValueError, match="value 1 is not finite"):
            interval([1.0, float("nan"), 0.0], [1, 2, 3])

    def test_a_share_lies_between_0_and_1(self):
        with pytest.raises(ValueError, match="between 0 and 1"):
            stats.proportion_interval([2.0, 1.0, 0.0], [1, 2, 3])

    def test_labels_go_with_values(self):
        with pytest.raises(ValueError, match="2 values but 1 cluster labels"):
            stats.crossed_interval([1.0, 0.0], [1], [0, 1])

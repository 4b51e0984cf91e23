"""Intervals against published values, closed forms, and their own promise: coverage."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


class TestDesignEffect:
    def test_independent_values_have_none(self):
        assert stats.design_effect([0, 1, 1, 0], ["a", "b", "c", "d"]) == 1.0

    def test_identical_values_in_a_cluster_count_once(self):
        values = [0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0]
        assert stats.design_effect(values, [i // 3 for i in range(12)]) == pytest.approx(3.0)

    def test_constant_values(self):
        assert stats.design_effect([1, 1, 1, 1], ["a", "a", "b", "b"]) == 1.0


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
        ("values", "clusters", "estimate"),
        [([], [], None), ([0.5], ["a"], 0.5), ([0.0, 1.0], ["a", "a"], 0.5), ([0.5, 0.5], ["a", "b"], 0.5)],
    )
    def test_claims_no_interval_without_two_clusters_that_differ(self, values, clusters, estimate):
        interval = stats.mean_interval(values, clusters)
        assert (interval.estimate, interval.low, interval.high, interval.method) == (estimate, None, None, "none")

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
        assert hits / 300 > 0.91


class TestProportionInterval:
    def test_few_clusters_get_wilson(self):
        interval = stats.proportion_interval([1, 0, 1, 1], ["a", "b", "c", "d"])
        assert interval.method == "wilson"
        assert (interval.low, interval.high) == pytest.approx(stats.wilson_interval(3, 4))

    def test_many_clusters_get_the_bootstrap(self):
        assert stats.proportion_interval([0, 1] * 20, range(40)).method == "cluster bootstrap"

    @pytest.mark.parametrize("outcome", [0, 1])
    def test_never_claims_certainty(self, outcome):
        interval = stats.proportion_interval([outcome] * 60, range(60))
        assert interval.method == "wilson"
        assert interval.high - interval.low > 0.05

    def test_wilson_counts_dependent_questions_less(self):
        clusters = np.repeat(np.arange(5), 8)
        dependent = stats.proportion_interval(np.repeat([0, 1, 1, 0, 1], 8), clusters)
        independent = stats.proportion_interval(np.repeat([0, 1, 1, 0, 1], 8), range(40))
        assert dependent.high - dependent.low > 1.5 * (independent.high - independent.low)

    @pytest.mark.parametrize("num_clusters", [8, 40])
    def test_covers_the_truth_at_the_promised_rate(self, num_clusters):
        rng = np.random.default_rng(2)
        clusters = np.repeat(np.arange(num_clusters), 5)
        hits = 0
        for _ in range(300):
            probability = np.clip(rng.beta(3, 3, num_clusters), 0, 1)  # mean 0.5, clips differ in difficulty
            interval = stats.proportion_interval(rng.random(5 * num_clusters) < probability[clusters], clusters)
            hits += interval.low <= 0.5 <= interval.high
        assert hits / 300 > 0.90


class TestGroupMeanInterval:
    def test_groups_weigh_the_same(self):
        interval = stats.group_mean_interval([1, 1, 1, 0], ["a", "b", "c", "d"], ["x", "x", "x", "y"])
        assert interval.estimate == 0.5
        assert interval.low <= 0.5 <= interval.high

    def test_equals_the_mean_for_one_group(self):
        values = np.random.default_rng(0).random(60)
        whole = stats.mean_interval(values, range(60))
        group = stats.group_mean_interval(values, range(60), ["x"] * 60)
        assert (group.estimate, group.low, group.high) == pytest.approx((whole.estimate, whole.low, whole.high))


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
    def test_one_replicate_is_the_cluster_bootstrap(self):
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

"""Figures of a study from answers and rollouts that are there, and the page they come on."""

from __future__ import annotations

import csv
import json

import pytest
from finished_jobs import STEPS, TASKS, answers, finish_evaluations, finish_trainings, st_cot

from mllm4d_verl.study.answers import ALL, ArmAnswers, arm_figures, compare_arms, constant_share, read_answers
from mllm4d_verl.study.planning import plan_study
from mllm4d_verl.study.report import report_study
from mllm4d_verl.study.settings import study_settings
from mllm4d_verl.study.signs import signs_of
from mllm4d_verl.study.training_series import mean_and_range, read_trainings


@pytest.fixture
def plan(content, tmp_path):
    return plan_study(study_settings(content()), tmp_path / "out")


@pytest.fixture
def finished(plan):
    """The start model at 40%, one arm at 50%, the other at 80%."""
    finish_evaluations(plan, "start", "test", [answers(0.4)])
    finish_evaluations(plan, "plain", "test", [answers(0.5, seed) for seed in (1, 2)])
    finish_evaluations(plan, "paper", "test", [answers(0.8, seed) for seed in (3, 4)])
    for arm in ("plain", "paper"):
        finish_trainings(plan, arm, rise=0.5)
    return plan


class TestAnswers:
    def test_seeds_are_pooled_and_a_shared_model_counts_once(self, finished):
        found = read_answers(finished)["test"]
        start, paper = (arm_figures(found[arm], "mllm4d_st") for arm in ("start", "paper"))
        assert (start.seeds, start.models, start.responses, start.questions) == ((0, 1), 1, 40, 40)
        assert (paper.seeds, paper.models, paper.responses, paper.clips) == ((0, 1), 2, 80, 20)
        assert set(paper.accuracy) == {*TASKS, ALL}
        mean = sum(paper.accuracy_by_seed.values()) / 2
        assert paper.accuracy[ALL].estimate == pytest.approx(mean)
        assert paper.accuracy[ALL].method == "cluster and seed bootstrap"
        assert start.accuracy[ALL].method != "cluster and seed bootstrap"

    def test_a_difference_is_paired_over_questions(self, finished):
        found = read_answers(finished)["test"]
        difference = compare_arms(found["paper"], found["start"], "mllm4d_st")
        paper, start = (arm_figures(found[arm], "mllm4d_st") for arm in ("paper", "start"))
        expected = paper.accuracy[ALL].estimate - start.accuracy[ALL].estimate
        assert difference.tasks[ALL].accuracy.estimate == pytest.approx(expected)
        assert difference.crossed[ALL].estimate == pytest.approx(expected)
        assert sum(difference.by_seed.values()) / 2 == pytest.approx(expected)
        assert difference.tasks[ALL].questions == 40
        assert difference.crossed[ALL].low > 0

    def test_without_a_seed_in_common_there_is_none(self):
        some = answers(0.5)
        one, other = (ArmAnswers(name, "test", {name: some}, {seed: name}) for name, seed in (("a", 0), ("b", 1)))
        assert compare_arms(one, other, "mllm4d_st") is None

    def test_agreement_of_geometry_and_answer(self, plan):
        """The stated object moves right, whatever the answer: B agrees, A does not."""
        finish_evaluations(plan, "start", "test", [answers(0.4)])
        figures = arm_figures(read_answers(plan)["test"]["start"], "mllm4d_st")
        own = [record for record in answers(0.4) if record.task == TASKS[1]]
        assert figures.agreement.n in (len(own), 40)
        assert 0.2 < figures.agreement.estimate < 0.6

    def test_constant_coordinates(self):
        assert constant_share(["no centres", "<answer>A</answer>"]) is None
        assert constant_share([st_cot(shift=1.0)] * 3 + [st_cot(shift=2.0)]) == 0.75


class TestTrainings:
    def test_series_of_rollouts_and_validation(self, finished):
        run = read_trainings(finished)[0]
        assert (run.arm, run.seed, run.steps) == ("plain", 0, STEPS)
        assert [step for step, _ in run.series["own_reward"]] == list(range(1, STEPS + 1))
        assert all(value >= 0.25 for _, value in run.series["no_gradient"])
        assert run.series["held_out_accuracy"] == [(3, 0.5), (6, 0.5), (9, 0.5)]
        assert run.series["response_tokens"][0] == (1, 51.0)
        assert "loss" not in run.series

    def test_bands_stand_on_the_steps_that_all_seeds_have(self):
        runs = [[(1, 0.0), (2, 1.0)], [(1, 1.0), (2, 3.0), (3, 9.0)]]
        assert mean_and_range(runs) == [(1, 0.5, 0.0, 1.0), (2, 2.0, 1.0, 3.0)]
        assert mean_and_range([]) == []


class TestReport:
    def test_files_and_page(self, finished):
        report = report_study(finished)
        for name in report.files:
            assert (finished.out / name).stat().st_size > 0, name
        assert {"curves/training_reward.png", "curves/held_out.png", "curves/accuracy_test.png"} <= set(report.files)
        results = json.loads((finished.out / "results.json").read_text())
        assert results["figures"]["test"]["paper"]["accuracy"][ALL]["estimate"] > 0.7
        assert [(d["arm"], d["against"]) for d in results["differences"]] == [
            ("plain", "start"),
            ("paper", "start"),
            ("paper", "plain"),
        ]
        with open(finished.out / "results.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        accuracy = [row for row in rows if (row["arm"], row["task"], row["figure"]) == ("paper", ALL, "accuracy")]
        assert float(accuracy[0]["estimate"]) == results["figures"]["test"]["paper"]["accuracy"][ALL]["estimate"]
        assert accuracy[0]["seeds"] == "2"

        page = (finished.out / "results.md").read_text()
        assert "## Evaluation test" in page
        assert "### Points above the start model, on the same questions" in page
        assert "### Points above plain, on the same questions" in page
        assert "One seed only" not in page
        assert "Not finished" not in page
        assert "![curves/training_reward.png](curves/training_reward.png)" in page

    def test_what_is_not_done_is_said(self, plan):
        finish_evaluations(plan, "start", "test", [answers(0.4)])
        finish_evaluations(plan, "paper", "test", [answers(0.8)])
        report = report_study(plan)
        page = (plan.out / "results.md").read_text()
        assert "**Not finished**: 7 of 9 jobs are not done, 0 failed." in page
        assert report.figures["test"]["paper"].seeds == (0,)
        assert "plain" not in report.figures["test"]
        assert "| paper | " in page
        assert "| one seed |" in page

    def test_nothing_done_and_one_seed(self, content, tmp_path):
        plan = plan_study(study_settings(content(seeds=[5])), tmp_path / "out")
        report = report_study(plan)
        assert report.figures == {"test": {}}
        page = (plan.out / "results.md").read_text()
        assert "No training is done." in page
        assert "**One seed only**" in page


class TestSigns:
    def signs(self, plan):
        found = read_answers(plan)["test"]
        paper, start = (arm_figures(found[arm], "mllm4d_st") for arm in ("paper", "start"))
        gain = compare_arms(found["paper"], found["start"], "mllm4d_st")
        trainings = [run for run in read_trainings(plan) if run.arm == "paper"]
        return {sign.name: sign.seen for sign in signs_of(paper, start, gain, trainings)}

    def test_a_gain_shows_none(self, finished):
        assert set(self.signs(finished).values()) == {False}

    def test_reward_up_and_accuracy_flat(self, plan):
        finish_evaluations(plan, "start", "test", [answers(0.4)])
        finish_evaluations(plan, "paper", "test", [answers(0.4, seed) for seed in (3, 4)])
        finish_trainings(plan, "paper", rise=0.7)
        assert self.signs(plan)["reward up, held-out accuracy flat"]

    def test_longer_responses(self, plan):
        finish_evaluations(plan, "start", "test", [answers(0.4)])
        finish_evaluations(plan, "paper", "test", [answers(0.4, 1, more="and so on " * 30)])
        assert self.signs(plan)["responses grow"]

    def test_constant_coordinates(self, plan):
        records = answers(0.4, 1)
        for record in records:
            record.response = st_cot("A", shift=0.7)
        finish_evaluations(plan, "start", "test", [answers(0.4)])
        finish_evaluations(plan, "paper", "test", [records])
        signs = self.signs(plan)
        assert signs["constant coordinates"]
        assert signs["answers leave their geometry"]

    def test_format_without_accuracy(self, plan):
        untagged = answers(0.5)
        for record in untagged[::2]:
            record.response = record.response.replace("<answer>", "The answer is ").replace("</answer>", ".")
        finish_evaluations(plan, "start", "test", [untagged])
        finish_evaluations(plan, "paper", "test", [answers(0.5)])
        assert self.signs(plan)["format without accuracy"]

    def test_without_trainings_it_is_not_known(self, plan):
        finish_evaluations(plan, "start", "test", [answers(0.4)])
        finish_evaluations(plan, "paper", "test", [answers(0.8)])
        assert self.signs(plan)["reward up, held-out accuracy flat"] is None

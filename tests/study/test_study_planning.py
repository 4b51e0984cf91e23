"""Which jobs a study has, and which of them its arms share."""

from __future__ import annotations

from pathlib import Path

import pytest

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.study.jobs import Job
from mllm4d_verl.study.planning import StudyPlan, hydra_value, plan_study
from mllm4d_verl.study.settings import study_settings
from mllm4d_verl.training.recipe import find_recipe

COLD = {"stage": "cold-start", "overrides": ["trainer.total_training_steps=5"]}


def planned(content: dict, out: Path) -> StudyPlan:
    return plan_study(study_settings(content), out)


def trainings(plan: StudyPlan, arm: str) -> list[Job]:
    """The last training of an arm, seed by seed."""
    return [plan.jobs[run.trainings[-1]] for run in plan.runs if run.arm == arm]


class TestJobs:
    def test_arms_times_seeds_and_the_start_model_once(self, content, tmp_path):
        plan = planned(content(), tmp_path)
        kinds = [job.kind for job in plan.jobs.values()]
        assert (kinds.count("train"), kinds.count("evaluate")) == (4, 5)
        assert [(run.arm, run.seed) for run in plan.runs] == [
            (arm, seed) for arm in ("start", "plain", "paper") for seed in (0, 1)
        ]

    def test_every_job_comes_after_those_it_needs(self, content, tmp_path):
        plan = planned(content(stages=[COLD]), tmp_path)
        seen: set[str] = set()
        for job in plan.jobs.values():
            assert seen.issuperset(job.after)
            seen.add(job.key)

    def test_equal_stages_are_one_job(self, content, tmp_path):
        plan = planned(content(stages=[COLD]), tmp_path)
        cold = [job for job in plan.jobs.values() if job.settings.get("stage") == "cold-start"]
        assert len(cold) == 2  # one for each seed, for all arms and the start model
        assert plan.users(cold[0].key) == ["start/0", "plain/0", "paper/0"]
        for arm in ("plain", "paper"):
            assert [job.after for job in trainings(plan, arm)] == [(job.key,) for job in cold]

    def test_a_stage_with_its_own_seed_is_one_for_all(self, content, tmp_path):
        plan = planned(content(stages=[{**COLD, "seed": 7}]), tmp_path)
        assert sum(job.settings.get("stage") == "cold-start" for job in plan.jobs.values()) == 1
        assert sum(job.kind == "evaluate" for job in plan.jobs.values()) == 1 + 2 * 2

    def test_stages_of_an_arm_are_its_own(self, content, tmp_path):
        plan = planned(content(arms={"a": {}, "b": {"stages": [COLD]}}), tmp_path)
        assert [len(run.trainings) for run in plan.runs] == [0, 0, 1, 1, 2, 2]

    def test_the_same_again_has_the_same_keys(self, content, tmp_path):
        assert list(planned(content(), tmp_path).jobs) == list(planned(content(), tmp_path).jobs)


class TestWhatDecides:
    @pytest.fixture
    def key(self, tmp_path):
        return lambda content: trainings(planned(content, tmp_path), "paper")[0].key

    def test_overrides_of_an_arm_or_of_all(self, content, key):
        arms = {"paper": {"reward": "paper", "overrides": ["trainer.total_training_steps=3"]}}
        everywhere = content(overrides=["trainer.total_training_steps=3"])
        assert (
            len({key(content()), key(content(arms=arms)), key(content(arms=arms, overrides=["data.max_pixels=4096"]))})
            == 3
        )
        assert key(content(arms=arms)) == key(everywhere), "the composed configuration counts, not who wrote it"

    def test_the_start_models_content_not_its_place(self, content, key, tmp_path):
        before = key(content())
        (tmp_path / "model").rename(tmp_path / "moved")
        assert key({**content(), "model": str(tmp_path / "moved")}) == before
        (tmp_path / "moved" / "config.json").write_text('{"a": 1}')
        assert key({**content(), "model": str(tmp_path / "moved")}) != before

    def test_the_rewards_file(self, content, key, tmp_path):
        file = tmp_path / "mine.py"
        text = (
            "from mllm4d_verl.reward import reward_component\n"
            "@reward_component('x')\ndef x(response, truth):\n    return 1.0\n"
        )
        file.write_text(text)
        changed = content(arms={"paper": {"reward": "paper", "components": [str(file)]}})
        before = key(changed)
        file.write_text(text.replace("1.0", "0.5"))
        assert key(changed) != before

    def test_not_the_name_or_the_other_arms(self, content, key):
        assert key(content(name="other", arms={"paper": {"reward": "paper"}})) == key(content())


class TestSettingsOfTheTrainer:
    def test_seeds_reach_verl(self, content, tmp_path):
        plan = planned(content(seeds=[3]), tmp_path)
        job = trainings(plan, "paper")[0]
        config = find_recipe("tiny_cpu").compose("grpo", job.settings["overrides"])
        rollout, actor = config.actor_rollout_ref.rollout, config.actor_rollout_ref.actor
        assert (config.data.seed, rollout.seed, actor.data_loader_seed) == (3, 3000, 3000)

    def test_seeds_reach_sft(self, content, tmp_path):
        plan = planned(content(seeds=[3], arms={"paper": {"stage": "cold-start"}}), tmp_path)
        overrides = trainings(plan, "paper")[0].settings["overrides"]
        assert find_recipe("tiny_cpu").compose("cold-start", overrides).data.order_seed == 3

    def test_rewards_reach_verl(self, content, tmp_path):
        arm = {
            "reward": "official",
            "components": ["consistency", {"use": "repetition", "weight": 0.3, "options": {"ngram": 6}}],
            "weights": {"accuracy_weight": 1.0, "consistency_weight": 0.5},
        }
        job = trainings(planned(content(arms={"paper": arm}), tmp_path), "paper")[0]
        kwargs = (
            find_recipe("tiny_cpu")
            .compose("grpo", job.settings["overrides"])
            .reward.custom_reward_function.reward_kwargs
        )
        assert kwargs == {"preset": "official", "components": arm["components"], **arm["weights"]}

    def test_an_override_that_hydra_refuses_names_the_arm(self, content, tmp_path):
        with pytest.raises(InputError, match=r"arms\.a.*no_such_key"):
            planned(content(arms={"a": {"overrides": ["no_such_key=1"]}}), tmp_path)


class TestMatching:
    def test_the_matched_arm_comes_first(self, content, tmp_path):
        arms = {"sft": {"stage": "cold-start", "match_cpu_seconds_of": "paper"}, "paper": {"reward": "paper"}}
        plan = planned(content(arms=arms), tmp_path)
        for own, other in zip(trainings(plan, "sft"), trainings(plan, "paper"), strict=True):
            assert own.after == (other.key,)
            assert own.settings["match"] == {"job": other.key, "measure": "processor_seconds", "pilot_steps": 100}
        assert [run.arm for run in plan.runs[2:]] == ["sft", "sft", "paper", "paper"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (0.5, "0.5"),
        ("it's", r"'it\'s'"),
        (["a.py", {"use": "x", "options": {"n": 6}}], "['a.py',{use:'x',options:{n:6}}]"),
    ],
)
def test_hydra_value(value, text):
    assert hydra_value(value) == text

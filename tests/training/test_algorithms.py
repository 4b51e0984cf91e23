"""`mllm4d train grpo --algorithm`: each is known to verl, composes on every recipe, and yields to overrides."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mllm4d_verl.cli.train import app
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.reward import STReward
from mllm4d_verl.training.algorithms import algorithm_override, algorithms
from mllm4d_verl.training.command import TrainingJob
from mllm4d_verl.training.recipe import find_recipe, recipe_names

DOCS = Path(__file__).parents[2] / "docs" / "algorithms.md"
NAMES = ("cispo", "dapo", "dr_grpo", "gdpo", "grpo", "gspo", "rloo")


def composed(name, *overrides, recipe="tiny_cpu"):
    job = TrainingJob("grpo", find_recipe(recipe), Path("out"), algorithm=name, overrides=overrides)
    return job.recipe.compose("grpo", job.hydra_overrides())


def test_names_and_what_the_command_prints():
    assert tuple(algorithms()) == NAMES
    printed = CliRunner().invoke(app, ["algorithms"]).output.splitlines()
    assert [line.split()[0] for line in printed] == list(NAMES)
    assert all(len(line.split()) > 4 for line in printed)


@pytest.mark.parametrize("recipe", recipe_names())
def test_compose_on_every_recipe_with_estimators_and_losses_of_verl(recipe):
    core_algos = pytest.importorskip("verl.trainer.ppo.core_algos")
    for name in NAMES if recipe == "tiny_cpu" else ("dapo", "gdpo"):  # a second each; the others change no new keys
        config = composed(name, recipe=recipe)
        assert callable(core_algos.get_adv_estimator_fn(config.algorithm.adv_estimator))
        assert callable(core_algos.get_policy_loss_fn(config.actor_rollout_ref.actor.policy_loss.loss_mode))


def test_what_each_sets():
    dapo = composed("dapo")
    assert (dapo.algorithm.filter_groups.enable, dapo.algorithm.filter_groups.metric) == (True, "acc")
    assert dapo.actor_rollout_ref.actor.clip_ratio_high == 0.28
    assert dapo.reward.reward_manager.name == "dapo"
    assert dapo.reward.reward_kwargs.max_resp_len == dapo.data.max_response_length
    dr_grpo = composed("dr_grpo")
    assert dr_grpo.algorithm.norm_adv_by_std_in_grpo is False
    assert dr_grpo.actor_rollout_ref.actor.loss_scale_factor == dr_grpo.data.max_response_length
    for name in ("gspo", "cispo"):
        config = composed(name)
        assert config.actor_rollout_ref.actor.policy_loss.loss_mode == name
        assert config.algorithm.rollout_correction.bypass_mode is False
    gdpo = composed("gdpo")
    assert gdpo.algorithm.adv_estimator == "gdpo"
    assert set(gdpo.algorithm.gdpo_reward_keys) <= set(STReward().keys)
    assert len(gdpo.algorithm.gdpo_reward_weights) == len(gdpo.algorithm.gdpo_reward_keys)
    assert composed("rloo").algorithm.adv_estimator == "rloo"


def test_overrides_win():
    config = composed("dapo", "actor_rollout_ref.actor.clip_ratio_high=0.5")
    assert config.actor_rollout_ref.actor.clip_ratio_high == 0.5


def test_a_misspelt_name_and_a_stage_without_algorithms_are_refused():
    with pytest.raises(InputError, match=r"Did you mean 'dapo'"):
        algorithm_override("dappo")
    with pytest.raises(InputError, match="sft has no algorithm"):
        TrainingJob("sft", find_recipe("tiny_cpu"), Path("out"), algorithm="dapo")


def test_the_page_has_every_algorithm():
    page = DOCS.read_text(encoding="utf-8")
    assert [name for name in NAMES if f"| `{name}` |" not in page] == []


def test_gdpo_normalises_each_reward_on_its_own():
    """A reward of 0.01 weighs as much as one of 1: answers that are right in one of the two cancel. GRPO's do not."""
    core_algos = pytest.importorskip("verl.trainer.ppo.core_algos")
    import numpy as np
    import torch

    mask = torch.ones(4, 2)
    small, big = np.array([1.0, 0.0, 0.0, 1.0]) * 0.01, np.array([1.0, 1.0, 0.0, 0.0])
    rewards = torch.zeros(4, 2)
    rewards[:, -1] = torch.tensor(small + big)
    group = np.array(["q"] * 4, dtype=object)
    batch = {"prompts": torch.zeros(4, 0), "attention_mask": mask.long()}
    gdpo, _ = core_algos.compute_gdpo_outcome_advantage(
        rewards,
        mask,
        group,
        config={"gdpo_reward_keys": ["small", "big"]},
        non_tensor_batch={"small": small, "big": big},
        batch=batch,
    )
    grpo, _ = core_algos.compute_grpo_outcome_advantage(rewards, mask, group)
    assert gdpo[[1, 3], 0].tolist() == pytest.approx([0.0, 0.0], abs=1e-3)
    assert grpo[1, 0] > 0.8 > -0.8 > grpo[3, 0]

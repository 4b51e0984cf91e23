"""`reward=mllm4d_st` on an ordinary verl command: verl's own config and dataset, rows as any verl user has them."""

from __future__ import annotations

import json

import pytest
from plain_verl import CPU, DATA_SOURCE, write_rows

from mllm4d_verl.reward import STReward

UPDATES = 1

OWN_COMPONENT = """
from mllm4d_verl.reward import reward_component


@reward_component("vowels", weight=0.25)
def vowels(response, truth):
    return sum(character in "aeiou" for character in response.text) / max(len(response.text), 1)
"""


@pytest.mark.e2e
def test_one_flag(tiny_model, run_command, write_video, tmp_path):
    (tmp_path / "my_rewards.py").write_text(OWN_COMPONENT)
    data = write_rows(tmp_path, write_video)
    run = run_command(
        [
            *("python", "-m", "verl.trainer.main_ppo", "reward=mllm4d_st", "+mllm4d_algorithm=dr_grpo"),
            "reward.custom_reward_function.reward_kwargs.components=[my_rewards.py,repetition]",
            "+reward.custom_reward_function.reward_kwargs.vowels_weight=0.5",
            "reward.reward_manager.name=remote",  # its own processes; the other managers: tests/plugin
            f"trainer.rollout_data_dir={tmp_path}/rollouts",
            *(f"data.train_files={data}", f"data.val_files={data}", "data.shuffle=False"),
            *("data.train_batch_size=4", "data.val_batch_size=4", "data.dataloader_num_workers=0"),
            *("data.max_prompt_length=512", "data.max_response_length=16"),
            f"actor_rollout_ref.model.path={tiny_model('qwen3_vl')}",
            *(
                "actor_rollout_ref.actor.ppo_mini_batch_size=4",
                "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=8",
                "actor_rollout_ref.actor.optim.lr=1e-3",
            ),
            *("actor_rollout_ref.rollout.n=2", "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=8"),
            *("reward.num_workers=1", "trainer.logger=[console,file]", "trainer.total_epochs=100"),
            *(f"trainer.total_training_steps={UPDATES}", f"trainer.test_freq={UPDATES}"),
            *("trainer.save_freq=-1", "trainer.val_before_train=False", "trainer.resume_mode=disable"),
            f"trainer.default_local_dir={tmp_path}/checkpoints",
            *CPU,
        ],
        tmp_path,
    ).check()
    logged = {key: value for step in run.metrics for key, value in step.items()}
    assert "critic/score/mean" in logged
    # Validation logs every component: ours, not a default of verl's. So does training, with the plugin.
    reward = STReward("mllm4d_st", [str(tmp_path / "my_rewards.py"), "repetition"], vowels_weight=0.5)
    validated = {key.split("/")[-2] for key in logged if f"/{DATA_SOURCE}/" in key}
    assert set(reward.keys) <= validated, sorted(logged)
    trained = {key.split("/")[1] for key in logged if key.startswith("reward/")}
    assert {"score", "acc", "format", "vowels", "vowels_applies", "repetition"} <= trained, sorted(logged)
    # What was logged last is what the reward makes of the last rollouts that verl dumped.
    rollouts = [json.loads(line) for line in (tmp_path / "rollouts" / f"{UPDATES}.jsonl").open()]
    assert len(rollouts) == 4 * 2
    results = [reward(rollout["output"], json.loads(rollout["gts"])) for rollout in rollouts]
    assert logged["reward/vowels/mean"] == pytest.approx(sum(result["vowels"] for result in results) / len(results))
    assert [rollout["score"] for rollout in rollouts] == pytest.approx([result["score"] for result in results])

"""Every recipe composes as verl's entry points will compose it, and describes the model it says it does."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("verl")

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.training.budget import count_parameters, read_model_config
from mllm4d_verl.training.recipe import STAGES, Recipe, find_recipe, recipe_names

# Parameters on the models' hub pages.
RELEASED = {
    "qwen2_5_vl_7b": 8_292_166_656,
    "qwen3_vl_2b": 2_127_532_032,
    "qwen3_vl_4b": 4_437_815_808,
    "qwen3_vl_8b": 8_767_123_696,
    "qwen3_vl_8b_full": 8_767_123_696,
}
LORA = [name for name in RELEASED if not name.endswith("_full")]
RECIPES = (*RELEASED, "tiny_cpu")
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


@functools.cache
def composed(name: str, stage: str):
    """A stage's configuration, composed once: Hydra takes half a second."""
    return find_recipe(name).compose(stage)


def test_all_recipes_are_found():
    assert recipe_names() == list(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("stage", STAGES)
def test_composes_with_our_datasets_and_resolves(name, stage):
    from omegaconf import OmegaConf

    config = composed(name, stage)
    OmegaConf.to_container(config, resolve=True)
    assert config.data.custom_cls.path == "pkg://mllm4d_verl.datasets"
    answers, reasoning = ("brief", "st_cot_short") if name == "tiny_cpu" else ("direct", "st_cot")
    assert config.data.prompt_template == (answers if stage == "sft" else reasoning)
    assert config.data.truncation == "error"
    assert config.trainer.resume_mode == "auto"
    assert config.trainer.save_freq > 0
    assert "file" in config.trainer.logger


ENTRY_POINTS = """
import contextlib, importlib, io, json, sys
from hydra.core.global_hydra import GlobalHydra
from verl.utils.config import omega_conf_to_dataclass, validate_config
from omegaconf import OmegaConf
composed, refused = {}, {}
for module, name in json.loads(sys.argv[1]):
    main = importlib.import_module("verl.trainer." + module).main
    sys.argv = [module, "--config-name", name, "--cfg", "job"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        main()
    composed[name] = printed.getvalue()
    if module == "main_ppo" and not name.startswith("tiny"):
        config = OmegaConf.create(composed[name])
        try:
            validate_config(config, use_reference_policy=True, use_critic=False)
            omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
            omega_conf_to_dataclass(config.actor_rollout_ref.actor.checkpoint)
        except Exception as error:
            refused[name] = repr(error)
    GlobalHydra.instance().clear()
print(json.dumps([composed, refused]))
"""


@pytest.fixture(scope="module")
def verls_view() -> tuple[dict[str, str], dict[str, str]]:
    """What verl's entry points print with `--cfg job`, through the plugin's search path, in a process of its own.

    Returns:
        The printed configurations, and what verl's own validation said against them, by name.
    """
    asked = [("main_ppo", f"{name}/grpo") for name in RECIPES] + [("sft_trainer", "tiny_cpu/cold_start")]
    done = subprocess.run(
        [sys.executable, "-c", ENTRY_POINTS, json.dumps(asked)],
        capture_output=True,
        text=True,
        env={**os.environ, "VERL_PLATFORM": "cpu"},
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def composed_by_verl(verls_view) -> dict[str, str]:
    return verls_view[0]


def test_verls_own_validation_accepts_the_gpu_recipes(verls_view):
    assert verls_view[1] == {}


@pytest.mark.parametrize("name", RECIPES)
def test_plain_verl_finds_the_recipe_and_composes_the_same(name, composed_by_verl):
    from omegaconf import OmegaConf

    theirs = OmegaConf.create(composed_by_verl[f"{name}/grpo"])
    assert OmegaConf.to_container(theirs) == OmegaConf.to_container(composed(name, "grpo"))


def test_sft_trainer_finds_recipes_too(composed_by_verl):
    from omegaconf import OmegaConf

    theirs = OmegaConf.create(composed_by_verl["tiny_cpu/cold_start"])
    assert OmegaConf.to_container(theirs) == OmegaConf.to_container(find_recipe("tiny_cpu").compose("cold-start"))


@pytest.mark.parametrize(("name", "parameters"), RELEASED.items())
class TestReleasedModels:
    def test_architecture_has_the_published_number_of_parameters(self, name, parameters):
        assert count_parameters(read_model_config(find_recipe(name))).total == parameters

    @pytest.mark.parametrize("stage", STAGES)
    def test_trains_lora_of_the_paper_on_attention_only_or_all_weights(self, name, parameters, stage):
        config = composed(name, stage)
        model = config.actor_rollout_ref.model if stage == "grpo" else config.model
        if name not in LORA:
            assert model.lora_rank == 0
            return
        assert (model.lora_rank, model.lora_alpha, list(model.target_modules)) == (128, 256, ATTENTION)
        counts = count_parameters(read_model_config(find_recipe(name)), 128, model.target_modules)
        assert counts.trainable_vision == 0
        text = read_model_config(find_recipe(name)).text_config
        query = text.num_attention_heads * (
            getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        )
        key = query * text.num_key_value_heads // text.num_attention_heads
        # A LoRA pair of a matrix (in, out) has rank * (in + out) weights: q, k, v from hidden, o back to it.
        per_layer = 128 * sum(text.hidden_size + width for width in (query, key, key, query))
        assert counts.trainable == per_layer * text.num_hidden_layers

    def test_dynamic_micro_batches_hold_the_longest_sample(self, name, parameters):
        config = composed(name, "grpo")
        longest = config.data.max_prompt_length + config.data.max_response_length
        assert config.actor_rollout_ref.actor.ppo_max_token_len_per_gpu >= longest
        assert config.actor_rollout_ref.rollout.max_num_batched_tokens >= config.data.max_prompt_length
        assert config.actor_rollout_ref.rollout.max_model_len == longest

    def test_validation_is_cut_into_batches_and_groups_are_not_divided_by_their_spread(self, name, parameters):
        config = composed(name, "grpo")
        assert config.data.val_batch_size <= 128
        assert config.algorithm.norm_adv_by_std_in_grpo is False

    @pytest.mark.parametrize("stage", STAGES)
    def test_checkpoints_hold_no_frozen_base(self, name, parameters, stage):
        config = composed(name, stage)
        checkpoint = config.actor_rollout_ref.actor.checkpoint if stage == "grpo" else config.checkpoint
        assert checkpoint.save_lora_only is True

    def test_values_of_the_paper(self, name, parameters):
        sft, cold, grpo = (composed(name, stage) for stage in STAGES)
        assert (sft.optim.lr, sft.optim.lr_warmup_steps_ratio, sft.trainer.total_epochs) == (2e-5, 0.01, 1)
        assert (cold.optim.lr, cold.trainer.total_training_steps) == (2e-5, 200)
        actor, rollout = grpo.actor_rollout_ref.actor, grpo.actor_rollout_ref.rollout
        if name in LORA:  # the paper trains no other way
            assert (actor.optim.lr, actor.use_kl_loss, actor.kl_loss_coef) == (5e-5, True, 0.1)
        assert (rollout.n, rollout.temperature) == (12, 1.0)


def differences(name: str) -> list[tuple[str, str, str, str]]:
    """The README's tables of differences from verl's examples: (stage, key, verl's value, the recipe's)."""
    found, stage = [], ""
    for line in (find_recipe(name).folder / "README.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| GRPO"):
            stage = "grpo"
        elif line.startswith("| SFT"):
            stage = "sft"
        elif line.startswith("| `") and stage:
            key, theirs, ours, reason = [cell.strip(" `") for cell in line.strip("|").split("|")]
            assert reason, f"{key} has no reason"
            found.append((stage, key, theirs, ours))
        elif not line.startswith("|"):
            stage = ""
    return found


@pytest.mark.parametrize("name", RELEASED)
def test_readme_tells_the_values_that_differ_from_verls_example(name):
    from omegaconf import OmegaConf

    rows = differences(name)
    assert {stage for stage, *_ in rows} >= {"grpo"}
    for stage, key, theirs, ours in rows:
        value = str(OmegaConf.select(composed(name, stage), key, default="no such key")).lower()
        assert value == ours.lower(), f"{stage} {key}: the README says {ours}, the recipe has {value}"
        assert theirs.lower() != ours.lower(), f"{stage} {key} does not differ"


class TestFindRecipe:
    def test_a_folder_of_ones_own(self, tmp_path):
        own = tmp_path / "mine"
        own.mkdir()
        (own / "grpo.yaml").write_text(
            "# @package _global_\ndefaults: [/tiny_cpu/grpo, _self_]\ndata: {train_batch_size: 6}\n"
        )
        recipe = find_recipe(str(own))
        assert not recipe.packaged
        assert recipe.compose("grpo").data.train_batch_size == 6

    def test_unknown_name_suggests_a_known_one(self):
        with pytest.raises(InputError, match="Did you mean 'qwen3_vl_8b'"):
            find_recipe("qwen3_vl_8")

    def test_missing_stage(self, tmp_path):
        with pytest.raises(InputError, match="no stage 'sft'"):
            Recipe("empty", tmp_path, packaged=False).config_name("sft")

    def test_misspelt_override(self):
        with pytest.raises(InputError, match="Hydra does not accept"):
            find_recipe("tiny_cpu").compose("grpo", ["trainer.total_step=3"])

    def test_lane_is_the_recipes_environment_and_nothing_else(self):
        assert find_recipe("tiny_cpu").environment()["VERL_PLATFORM"] == "cpu"
        assert find_recipe("qwen3_vl_8b").environment() == {}

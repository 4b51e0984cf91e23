"""`+attention=sdpa` on verl's trainers, and the settings of attention that are refused before Ray starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.training.attention import check_attention, check_model_settings, packed_sequences_stay_apart
from mllm4d_verl.training.recipe import find_recipe, recipe_names

FIELD = "model.override_config.attn_implementation"


def composed(entry_point: str, *overrides: str) -> dict:
    """What a command of verl's makes of its configuration, as `--cfg job` prints it."""
    import yaml

    run = subprocess.run(
        [sys.executable, "-m", entry_point, *overrides, "--cfg", "job"], capture_output=True, text=True, timeout=200
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return yaml.safe_load(run.stdout[run.stdout.index("actor_rollout_ref:" if "ppo" in entry_point else "model:") :])


class TestOverride:
    def test_on_the_stock_ppo_trainer(self):
        config = composed("verl.trainer.main_ppo", "+attention=sdpa")
        for model in (config["actor_rollout_ref"]["model"], config["critic"]["model"]):
            assert model["override_config"]["attn_implementation"] == "sdpa"
            assert model["use_remove_padding"] is False
        assert config["actor_rollout_ref"]["actor"]["fsdp_config"]["ulysses_sequence_parallel_size"] == 1

    def test_on_the_stock_sft_trainer(self):
        config = composed("verl.trainer.sft_trainer", "+attention=sdpa")
        assert config["model"]["override_config"]["attn_implementation"] == "sdpa"
        assert config["model"]["use_remove_padding"] is False

    @pytest.mark.parametrize("stage", ["sft", "cold-start", "grpo"])
    @pytest.mark.parametrize("recipe", recipe_names())
    def test_wins_over_a_recipe(self, recipe, stage):
        config = find_recipe(recipe).compose(stage, ["+attention=sdpa"])
        model = config.actor_rollout_ref.model if stage == "grpo" else config.model
        assert model.override_config.attn_implementation == "sdpa"
        assert model.use_remove_padding is False


class TestCheck:
    def test_transformers_separates_packed_sequences(self):
        assert packed_sequences_stay_apart("sdpa")
        assert packed_sequences_stay_apart("eager")

    def test_a_transformers_that_does_not_is_found_out(self, monkeypatch):
        """Its mask is made without the positions, as by a version that does not look at them."""
        from transformers.models.qwen3_vl import modeling_qwen3_vl

        stock = modeling_qwen3_vl.create_causal_mask
        monkeypatch.setattr(
            modeling_qwen3_vl, "create_causal_mask", lambda **given: stock(**{**given, "position_ids": None})
        )
        packed_sequences_stay_apart.cache_clear()
        try:
            with pytest.raises(InputError, match=r"see each other.*\+attention=sdpa"):
                check_attention("qwen3_vl", "sdpa", packed=True, ulysses=1, field=FIELD)
        finally:
            packed_sequences_stay_apart.cache_clear()

    @pytest.mark.parametrize("model_type", ["qwen3_vl", "qwen2_5_vl"])
    def test_ulysses_without_flash_attn_is_refused(self, model_type):
        with pytest.raises(InputError, match=r"'sdpa' with ulysses_sequence_parallel_size=2.*its own part"):
            check_attention(model_type, "sdpa", packed=True, ulysses=2, field=FIELD)

    def test_packed_qwen2_5_vl_is_refused(self):
        with pytest.raises(InputError, match=r"by flash-attn only.*\+attention=sdpa"):
            check_attention("qwen2_5_vl", "sdpa", packed=True, ulysses=1, field=FIELD)

    @pytest.mark.parametrize(
        ("model_type", "implementation", "packed", "ulysses"),
        [
            ("qwen3_vl", "sdpa", False, 1),  # the CPU lane's recipes
            ("qwen2_5_vl", "sdpa", False, 1),
            ("qwen3_vl", "sdpa", True, 1),
            ("qwen3_vl", "flash_attention_2", True, 4),
            ("qwen2_5_vl", "flash_attention_3", True, 1),
            ("qwen2", "sdpa", True, 2),  # a text model: none of our business
            (None, "sdpa", True, 2),
        ],
    )
    def test_what_is_right_passes(self, model_type, implementation, packed, ulysses):
        check_attention(model_type, implementation, packed, ulysses, FIELD)

    def test_the_model_is_read_only_where_it_matters(self):
        nowhere = {"path": "/nowhere", "use_remove_padding": True}
        check_model_settings(nowhere, 2, "model")  # flash-attn, verl's default
        check_model_settings({**nowhere, "override_config": {"attn_implementation": "sdpa"}}, 2, "model")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3_vl"}))
    return tmp_path


def test_ppo_refuses_before_ray(model):
    """Through verl's own validation of a whole configuration, which its driver calls first."""
    from omegaconf import OmegaConf
    from verl.utils.config import validate_config

    wrong = ["actor_rollout_ref.model.use_remove_padding=true"]
    wrong += ["actor_rollout_ref.actor.ulysses_sequence_parallel_size=2"]
    right = [f"actor_rollout_ref.model.path={model}", "trainer.n_gpus_per_node=2"]
    recipe = find_recipe("tiny_cpu")
    with pytest.raises(InputError, match=r"actor_rollout_ref\.model\.override_config\.attn_implementation"):
        validate_config(recipe.compose("grpo", [*right, *wrong]), use_reference_policy=False, use_critic=False)
    config = recipe.compose("grpo", [*right, *wrong, "+attention=sdpa"])
    assert OmegaConf.select(config, "actor_rollout_ref.model.use_remove_padding") is True, "later overrides win"
    validate_config(recipe.compose("grpo", [*right, "+attention=sdpa"]), use_reference_policy=False, use_critic=False)


def test_sft_refuses_before_weights_are_loaded(model):
    """Through verl's engine, which every trainer builds before it loads anything."""
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngine

    settings = SimpleNamespace(
        hf_config=SimpleNamespace(model_type="qwen3_vl"),
        override_config={"attn_implementation": "sdpa"},
        use_remove_padding=True,
    )
    with pytest.raises(InputError, match="its own part"):
        FSDPEngine(settings, SimpleNamespace(ulysses_sequence_parallel_size=2), None, None)


@pytest.mark.parametrize("name", ["check_attention_before_ray", "check_attention_before_weights"])
def test_doctor_sees_the_fault_gone(name):
    from mllm4d_verl.verl_compat import ADAPTATIONS, GONE

    assert ADAPTATIONS[name].examine().status == GONE

"""What a stage needs, whether a machine has it, and what to change where it has not."""

from __future__ import annotations

import dataclasses
import functools

import pytest

pytest.importorskip("verl")

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.training.budget import GIB, Machine, RecipeBudget, ask_vllm, config_budget, recipe_machine
from mllm4d_verl.training.budget.plan_check import check_plan
from mllm4d_verl.training.command import TrainingJob
from mllm4d_verl.training.recipe import STAGES, find_recipe
from mllm4d_verl.training.run import plan_training

GPU_RECIPES = ("qwen2_5_vl_7b", "qwen3_vl_2b", "qwen3_vl_4b", "qwen3_vl_8b", "qwen3_vl_8b_full")
HD = (1280, 720)


@functools.cache
def composed(name: str, stage: str, *overrides: str):
    """A stage's configuration, composed once: Hydra takes half a second."""
    return find_recipe(name).compose(stage, overrides)


def budget(name: str, stage: str = "grpo", *overrides: str, size=(512, 512), ask=None, val_rows=None, **machine):
    recipe = find_recipe(name)
    chosen = recipe_machine(recipe).with_options(**machine)
    return config_budget(
        recipe, stage, composed(name, stage, *overrides), size, machine=chosen, ask=ask, val_rows=val_rows
    )


def remedies(report: RecipeBudget) -> str:
    return "\n".join(finding.remedy for finding in report.findings)


@pytest.mark.parametrize("name", GPU_RECIPES)
@pytest.mark.parametrize("stage", STAGES)
def test_every_recipe_fits_its_machine_at_the_largest_frames(name, stage):
    assert budget(name, stage, size=HD, val_rows=3000).findings == ()


class TestOddSettings:
    @pytest.mark.parametrize(
        ("override", "field"),
        [
            ("trainer.nnodes=0", "trainer.nnodes"),
            ("trainer.n_gpus_per_node=0", "trainer.n_gpus_per_node"),
            ("actor_rollout_ref.rollout.tensor_model_parallel_size=0", "tensor_model_parallel_size"),
            ("actor_rollout_ref.rollout.tensor_model_parallel_size=16", "an engine on 16 GPUs does not fit 1"),
            ("actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu=null", "log_prob_max_token_len_per_gpu"),
            ("actor_rollout_ref.rollout.max_num_seqs=null", "max_num_seqs"),
            ("actor_rollout_ref.model.lora_rank=null", "does not say what grpo costs"),
            ("~data.val_batch_size", "does not say what grpo costs"),
            ("~trainer.max_actor_ckpt_to_keep", "does not say what grpo costs"),
        ],
    )
    def test_are_named(self, override, field):
        with pytest.raises(InputError, match=field):
            budget("qwen3_vl_2b", "grpo", override)

    @pytest.mark.parametrize("size", [(0, 0), (-5, 5), (10**7, 10)])
    def test_frames_have_sides(self, size):
        with pytest.raises(InputError, match="a frame has sides of 1 to 16384 pixels"):
            budget("qwen3_vl_2b", size=size)

    @pytest.mark.parametrize("memory", [float("nan"), float("inf"), -1.0])
    def test_machines_have_memory(self, memory):
        with pytest.raises(InputError, match="--gpu-memory: must be a positive number"):
            budget("qwen3_vl_2b", gpu_memory=memory)


class TestTold:
    def test_processes_that_fill_the_host_are_told_as_such(self):
        (finding,) = [found for found in budget("qwen3_vl_8b", host_memory=200).findings if found.stops]
        assert "processes and offloaded weights alone need" in finding.what
        assert "agent.num_workers" in finding.remedy

    def test_all_that_does_not_fit_a_gpu_is_told_at_once_and_what_is_told_helps(self):
        report = budget("qwen3_vl_8b", gpu_memory=24)
        whats = " ".join(finding.what for finding in report.findings)
        assert "log-probabilities need" in whats
        assert "an update needs" in whats
        shorter = budget(
            "qwen3_vl_8b", "grpo", "data.max_prompt_length=5376", "data.max_response_length=2048", gpu_memory=80
        )
        assert "Set actor_rollout_ref.rollout.max_model_len=7424" in remedies(shorter)


class TestVllmItself:
    """vLLM's own check of its KV cache, with the architecture of `model_config.json` and no weights."""

    @pytest.fixture(autouse=True, scope="class")
    def needs_vllm(self):
        pytest.importorskip("vllm")

    @pytest.mark.parametrize("name", GPU_RECIPES)
    def test_accepts_the_recipe(self, name):
        report = budget(name, size=HD, ask=ask_vllm)
        assert report.engine.by.startswith("vLLM")
        assert report.engine.fits, report.engine.reason

    @pytest.mark.parametrize("name", ["qwen3_vl_8b", "qwen3_vl_8b_full"])
    def test_refuses_the_models_own_length_on_80_gb(self, name):
        report = budget(name, "grpo", "actor_rollout_ref.rollout.max_model_len=null", ask=ask_vllm)
        assert not report.fits
        assert "262144" in report.engine.reason
        assert "36.0 GiB KV cache is needed" in report.engine.reason
        assert "actor_rollout_ref.rollout.max_model_len=14848" in remedies(report)

    def test_agrees_with_the_multiplication_up_to_the_last_block(self):
        """16 tokens of 147,456 bytes are a block: one byte less than a request needs is too little."""
        from mllm4d_verl.training.budget import EngineQuestion, estimate, read_model_config

        architecture = read_model_config(find_recipe("qwen3_vl_8b"))
        needed = 14848 * 147_456
        for available in (needed, needed - 1):
            question = EngineQuestion(architecture.to_dict(), 14848, 256, 16384, 1, available)
            assert ask_vllm(question).fits == estimate(question, 147_456).fits == (available == needed)


class TestFrames:
    def test_a_row_of_validation_is_400_mb(self):
        report = budget("qwen3_vl_8b")
        assert report.tokens.video_bytes == 32 * 3 * 512 * 512 * 4
        assert report.host.val_row == 4 * report.tokens.video_bytes == 402_653_184

    def test_the_processor_makes_as_many_bytes_as_counted(self, processor):
        import torch

        from mllm4d_verl.training.budget import video_bytes

        frames = torch.randint(0, 255, (4, 3, 112, 224), dtype=torch.uint8)
        out = processor.video_processor(videos=[frames], do_sample_frames=False, return_tensors="pt")
        pixels, grid = out["pixel_values_videos"], out["video_grid_thw"][0].tolist()
        settings = processor.video_processor
        assert pixels.element_size() * pixels.numel() == video_bytes(
            *grid, settings.patch_size, settings.temporal_patch_size
        )

    def test_validation_of_unknown_size_is_warned_of_and_of_3000_rows_refused(self):
        unknown = budget("qwen3_vl_8b", "grpo", "data.val_batch_size=null")
        assert unknown.fits
        assert "data.val_batch_size=128" in remedies(unknown)
        known = budget("qwen3_vl_8b", "grpo", "data.val_batch_size=null", val_rows=3000)
        assert not known.fits
        assert known.host.validation == 3000 * 402_653_184


class TestRemedies:
    """Each fault names a setting; with the setting changed as told, the fault is gone."""

    def test_logits_of_a_micro_batch(self):
        report = budget("qwen3_vl_8b", "sft", "data.max_token_len_per_gpu=65536")
        assert not report.fits
        (setting,) = [word for word in remedies(report).split() if word.startswith("data.max_token_len_per_gpu=")]
        assert budget("qwen3_vl_8b", "sft", setting).fits

    def test_engine_beside_the_trainer(self):
        wide = "actor_rollout_ref.rollout.gpu_memory_utilization=0.9"
        report = budget("qwen3_vl_4b", "grpo", wide)
        assert not report.fits
        (setting,) = [w.rstrip(",") for w in remedies(report).split() if "gpu_memory_utilization=" in w]
        assert budget("qwen3_vl_4b", "grpo", setting).fits
        offload = "actor_rollout_ref.actor.fsdp_config.param_offload=true"
        assert offload in remedies(report)
        assert budget("qwen3_vl_4b", "grpo", wide, offload).memory.resident < report.memory.resident / 10

    def test_a_cache_that_is_a_little_too_small_asks_for_a_larger_share(self):
        report = budget("qwen3_vl_8b", gpu_memory=44.9)
        (setting,) = [w for w in remedies(report).split() if "gpu_memory_utilization=" in w]
        assert budget("qwen3_vl_8b", "grpo", setting, gpu_memory=44.9).engine.fits

    def test_shared_memory_of_verls_docs_is_too_small(self):
        report = budget("qwen3_vl_8b", shm=10)
        assert report.fits, "Ray writes the rest to disk"
        assert report.host.shm == 32 * 12 * 32 * 3 * 512 * 512 * 4
        assert "--shm-size=36g" in remedies(report)

    def test_data_loaders_of_sft_need_shared_memory(self):
        report = budget("qwen3_vl_8b", "sft", shm=10)
        assert not report.fits
        assert "--shm-size" in remedies(report)

    @pytest.mark.parametrize("stage", STAGES)
    @pytest.mark.parametrize("name", GPU_RECIPES[:-1])
    def test_a_checkpoint_of_lora_holds_no_base(self, name, stage):
        assert budget(name, stage).host.checkpoint < 2 * GIB  # adapter and Adam's states in float32

    def test_disk_of_checkpoints_with_the_base(self):
        whole = "actor_rollout_ref.actor.checkpoint.save_lora_only=false"
        report = budget("qwen3_vl_8b", "grpo", whole, disk=60)
        assert report.host.checkpoint > 8_767_123_696 * 4
        assert "+actor_rollout_ref.actor.checkpoint.save_lora_only=true" in remedies(report)
        assert budget("qwen3_vl_8b", disk=60).fits

    def test_fewer_gpus_than_asked_for(self):
        assert "trainer.n_gpus_per_node=4" in remedies(budget("qwen3_vl_8b", gpus=4))

    def test_agent_loop_workers_of_several_nodes(self):
        report = budget("qwen3_vl_8b", "grpo", "trainer.nnodes=4")
        assert "actor_rollout_ref.rollout.agent.num_workers=32" in remedies(report)
        wider = budget("qwen3_vl_8b", "grpo", "trainer.nnodes=4", "actor_rollout_ref.rollout.agent.num_workers=32")
        assert wider.findings == ()

    def test_all_weights_on_one_gpu_is_hopeless(self):
        report = budget("qwen3_vl_8b", "sft", "model.lora_rank=0", "trainer.n_gpus_per_node=1", gpus=1)
        assert not report.fits
        assert "do not depend on the batch" in str(report.findings[0])

    def test_a_prompt_that_is_too_long(self):
        report = budget("qwen3_vl_8b", "grpo", "data.max_prompt_length=4096", size=HD)
        assert "data.max_prompt_length to 9984" in remedies(report)


def test_lora_keeps_the_sleeping_engines_weights_in_host_memory():
    """vLLM sleeps at level 1 then; eight engines of 16.3 GiB."""
    lora, full = budget("qwen3_vl_8b"), budget("qwen3_vl_8b", "grpo", "actor_rollout_ref.model.lora.merge=true")
    assert (lora.host.offloaded - full.host.offloaded) / GIB == pytest.approx(8 * 16.33, abs=0.1)


def test_options_must_be_positive():
    with pytest.raises(InputError, match="--gpu-memory: must be a positive number"):
        recipe_machine(find_recipe("qwen3_vl_8b")).with_options(gpu_memory=0)


class TestPlanCheck:
    """`mllm4d train` before it starts anything."""

    def plan(self, tmp_path, recipe: str = "qwen3_vl_8b", *overrides: str):
        return plan_training(TrainingJob("grpo", find_recipe(recipe), tmp_path / "out", overrides=overrides))

    def test_a_run_that_fits(self, tmp_path):
        machine = recipe_machine(find_recipe("qwen3_vl_8b"))
        assert check_plan(self.plan(tmp_path), machine=machine, ask=None) == []

    def test_a_run_that_does_not(self, tmp_path):
        machine = dataclasses.replace(recipe_machine(find_recipe("qwen3_vl_8b")), gpu_memory=22.5, disk=10)
        with pytest.raises(InputError) as error:
            check_plan(self.plan(tmp_path), machine=machine, ask=None)
        message = str(error.value)
        assert "1. " in message
        assert "2. " in message
        assert "--no-check starts it all the same" in message

    def test_cpu_runs_are_not_looked_at(self, tmp_path):
        def never(question):
            raise AssertionError("asked")

        small = Machine(gpu_memory=1, gpus=1, host_memory=1, shm=1, disk=1)
        assert check_plan(self.plan(tmp_path, "tiny_cpu"), machine=small, ask=never) == []

    def test_a_recipe_that_does_not_describe_its_model(self, tmp_path):
        own = tmp_path / "mine"
        own.mkdir()
        (own / "grpo.yaml").write_text("# @package _global_\ndefaults: [/qwen3_vl_8b/grpo, _self_]\n")
        (line,) = check_plan(self.plan(tmp_path, str(own)), ask=None)
        assert "was not checked" in line
        (own / "model_config.json").write_text('{"same_as": "qwen3_vl_8b"}')
        machine = dataclasses.replace(recipe_machine(find_recipe(str(own))), disk=10)
        with pytest.raises(InputError, match="disk"):
            check_plan(self.plan(tmp_path, str(own)), machine=machine, ask=None)


class TestCommand:
    """`mllm4d train budget` as typed."""

    def test_a_machine_that_is_too_small(self, mllm4d):
        import json

        machine = ("--gpu-memory", "22.5", "--gpus", "8", "--host-memory", "1000", "--shm", "64", "--disk", "500")
        done = mllm4d("train", "budget", "--recipe", "qwen3_vl_8b", *machine, "--no-vllm", "--json")
        assert done.returncode == 1
        assert "does not fit: by estimate, the rollout engine would not start" in done.stderr
        record = json.loads(done.stdout.strip().splitlines()[-1])
        assert record["machine"]["gpu_memory"] == 22.5
        assert not record["fits"]

    def test_train_refuses_and_no_check_is_named(self, mllm4d, tmp_path):
        done = mllm4d(
            *("train", "sft", "--recipe", "qwen3_vl_8b", "--out", str(tmp_path / "o"), "--no-check-data"),
            "trainer.n_gpus_per_node=4096",
        )
        assert done.returncode == 2
        assert "trainer.n_gpus_per_node=" in done.stderr
        assert "--no-check" in done.stderr
        assert not (tmp_path / "o").exists()

"""benchmarks/gpu_proof.py: the weights it writes, its command lines, and how it reads verl's metrics."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from mllm4d_verl.recipes.tiny_cpu.model import build_tiny_model
from mllm4d_verl.training.budget.model import read_model_config
from mllm4d_verl.training.metrics import read_metrics
from mllm4d_verl.training.recipe import find_recipe

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_proof.py"
MI_B = 2**20


@pytest.fixture(scope="module")
def proof() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_proof", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _shrunken(name: str):
    config = read_model_config(find_recipe(name))
    config.text_config.update({"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 4096})
    config.text_config.update({"num_attention_heads": 2, "num_key_value_heads": 1})
    config.vision_config.update({"hidden_size": 64, "intermediate_size": 96, "num_heads": 2, "depth": 2})
    config.vision_config.update({"out_hidden_size": 64, "deepstack_visual_indexes": [0]})
    return config


@pytest.mark.parametrize("name", ["8b", "2b"])
def test_weights_load_without_a_missing_or_unknown_tensor(proof: ModuleType, tmp_path: Path, name: str) -> None:
    import torch
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    config = _shrunken(proof.RECIPES[name])
    proof.write_model(tmp_path, name, config, None, seed=3)
    model, info = AutoModelForImageTextToText.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.dtype == torch.bfloat16
    tied = model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    assert tied == (name == "2b")
    spread = model.model.language_model.layers[0].mlp.up_proj.weight.float().std().item()
    assert spread == pytest.approx(proof.WEIGHT_STD, rel=0.1)
    assert model.model.language_model.norm.weight.min() == 1
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) == config.text_config.vocab_size  # every id that the rollout may sample has a text
    assert tokenizer.convert_tokens_to_ids("<|video_pad|>") == model.config.video_token_id
    assert tokenizer.decode([3000]) == "<unused_3000>"
    assert model.generation_config.eos_token_id[0] == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_a_given_processor_replaces_the_stand_in(proof: ModuleType, tmp_path: Path) -> None:
    given = build_tiny_model(tmp_path / "given", hidden=32, layers=1, max_frame_side=64)
    proof.write_model(tmp_path / "made", "8b", _shrunken("qwen3_vl_8b"), str(given), seed=0)
    same = [json.loads((folder / "generation_config.json").read_text()) for folder in (given, tmp_path / "made")]
    assert same[0]["eos_token_id"] == same[1]["eos_token_id"]
    assert "<unused_3000>" not in (tmp_path / "made" / "tokenizer.json").read_text()
    assert not (tmp_path / "made" / "model.safetensors").exists()


def test_weights_are_split_into_shards_that_the_index_names(proof: ModuleType, tmp_path: Path) -> None:
    proof.write_weights(tmp_path, _shrunken("qwen3_vl_8b"), seed=0, shard_bytes=MI_B)
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert len(files) > 1
    assert sorted(set(index["weight_map"].values())) == files
    assert index["metadata"]["total_size"] == pytest.approx(sum((tmp_path / f).stat().st_size for f in files), rel=0.05)


@pytest.mark.parametrize(("model", "recipe"), [("8b", "qwen3_vl_8b"), ("2b", "qwen3_vl_2b"), ("tiny", "tiny_cpu")])
@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_command_line(proof: ModuleType, tmp_path: Path, model: str, recipe: str, stage: str) -> None:
    words = ["--model", model, "--steps", "2", "--attention", "sdpa", "--out", str(tmp_path)]
    made = proof.command(proof.parse(words), stage, tmp_path / "model", tmp_path / "qa")
    assert made[1:5] == ["train", stage, "--recipe", recipe]
    assert made[made.index("--out") + 1] == str(tmp_path / stage)
    assert {"trainer.total_training_steps=3", "trainer.save_freq=3", "trainer.n_gpus_per_node=1"} <= set(made)
    assert ("+attention=sdpa" in made) == (model != "tiny")
    assert ("--lora-rank" in made) == (model == "tiny")


# Lines that verl's SFT trainer wrote in a run of `--model tiny --steps 2`; it validates after the last step.
SFT_LINES = """\
{"step":1,"data":{"perf/max_memory_allocated_gb":0.0,"train/loss":6.6339263916015625,"train/global_tokens":392}}
{"step":2,"data":{"perf/max_memory_allocated_gb":0.0,"train/loss":6.617600440979004,"train/global_tokens":453}}
{"step":3,"data":{"perf/max_memory_allocated_gb":0.0,"train/loss":6.552655220031738,"train/global_tokens":398}}
{"step":3,"data":{"val/loss":6.516660213470459}}
"""
# Metrics of a GRPO step of the tiny recipe with LoRA, rounded.
GRPO_LINE = (
    '{"step":%d,"data":{"rollout_corr/kl":0.0001723,"rollout_corr/k3_kl":0.0,"response_length/mean":16.0,'
    '"prompt_length/mean":102.0,"timing_s/gen":10.58,"timing_s/old_log_prob":0.0262,"timing_s/update_actor":0.826,'
    '"timing_s/update_weights":0.3093,"timing_s/save_checkpoint":0.2,"timing_s/step":%s,"perf/total_num_tokens":472}}\n'
)


def _metrics(folder: Path, text: str) -> dict:
    folder.mkdir()
    (folder / "launch_000.jsonl").write_text(text)
    return read_metrics(folder)


def test_sft_figures_leave_out_the_first_step_and_the_validation(proof: ModuleType, tmp_path: Path) -> None:
    found = proof.figures(_metrics(tmp_path / "m", SFT_LINES), [100.0, 102.0, 104.0, 150.0], 40.0)
    assert found == {"step_s": 2.0, "tokens_per_s": pytest.approx((453 + 398) / 2 / 2), "gpu_peak_gib": 40.0}


def test_grpo_figures_and_table(proof: ModuleType, tmp_path: Path) -> None:
    metrics = _metrics(tmp_path / "m", GRPO_LINE % (1, "90.0") + GRPO_LINE % (2, "12.0"))
    found = proof.figures(metrics, [], None)
    assert found["step_s"] == pytest.approx(11.8)
    assert found["tokens_per_s"] == pytest.approx(472 / 11.8)
    assert (found["rollout_s"], found["update_s"], found["sync_s"]) == (10.58, 0.826, 0.3093)
    assert "gpu_peak_gib" not in found
    settings = {"model": "tiny", "frame_size": 64, "attention": "sdpa", "steps": 1}
    result = {"settings": settings, "gpu": None, "versions": {"verl": "0.9.1"}, "figures": {"sft": {}, "grpo": found}}
    text = proof.table(result)
    assert "No GPU; verl 0.9.1." in text
    assert "| step, s | - | 11.8 |" in text
    assert "| KL of rollout and actor | - | 0.0001723 |" in text
    assert "peak memory" not in text

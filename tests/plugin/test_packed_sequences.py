"""Packed videos (use_remove_padding=true) give what padded ones give: log-probabilities and gradients of verl's engine.

Where they do not, with attention other than flash-attn, `mllm4d_verl.training.attention` refuses the settings.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FAMILIES = ("qwen3_vl", "qwen2_5_vl")
WORKER = Path(__file__).with_name("packed_worker.py")

PACKED = "model.use_remove_padding=true"
FLASH = "model.override_config.attn_implementation=flash_attention_2"
EAGER = "model.override_config.attn_implementation=eager"
ULYSSES = "engine.ulysses_sequence_parallel_size=2"

# name -> model family, overrides of recipes/tiny_cpu (padded, sdpa), whether flash-attn (its stand-in) is there
ONE_PROCESS: dict[str, tuple[str, list[str], bool]] = {
    # verl replaces Qwen2.5-VL's attention for good once it packs: padded batches come first.
    **{f"padded {family}": (family, [], True) for family in FAMILIES},
    "sdpa qwen3_vl": ("qwen3_vl", [PACKED], True),
    "eager qwen3_vl": ("qwen3_vl", [PACKED, EAGER], True),
    # Before transformers has loaded flash-attn for another job.
    "one sequence, sdpa qwen2_5_vl": ("qwen2_5_vl", [PACKED, "data.train_batch_size=1"], True),
    **{f"packed {family}": (family, [PACKED, FLASH], True) for family in FAMILIES},
    "sdpa qwen2_5_vl": ("qwen2_5_vl", [PACKED], False),
}
TWO_PROCESSES: dict[str, tuple[str, list[str], bool]] = {
    # Each process has half of the batch; padded ones first, as above.
    **{f"shared {family}": (family, [], True) for family in FAMILIES},
    **{f"ulysses {family}": (family, [PACKED, FLASH, ULYSSES], True) for family in FAMILIES},
    "ulysses sdpa": ("qwen3_vl", [PACKED, ULYSSES], True),
}


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    from mllm4d_verl.data_tools.questions import QuestionConfig, write_questions
    from mllm4d_verl.data_tools.synthetic import write_world

    folder = tmp_path_factory.mktemp("world")
    write_world(folder, clips=6, seed=0, width=64, height=64, num_frames=4, fps=2.0, config="tiny", dense=False)
    write_questions(folder, folder / "qa", QuestionConfig(seed=0, num_frames=4, val_fraction=0, test_fraction=0))
    return folder / "qa" / "train.parquet"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    from mllm4d_verl.recipes.tiny_cpu.model import build_tiny_model

    # A sharp output layer: what changes attention changes the log-probabilities by whole units.
    return {
        family: build_tiny_model(tmp_path_factory.mktemp(family), family, seed=0, hidden=64, layers=2, head_std=0.3)
        for family in FAMILIES
    }


@pytest.fixture(scope="module")
def results(questions, models, tmp_path_factory):
    """What the worker found for every name of ONE_PROCESS and TWO_PROCESSES."""
    folder = tmp_path_factory.mktemp("results")
    found = {}
    for processes, settings in ((1, ONE_PROCESS), (2, TWO_PROCESSES)):
        jobs = [
            {
                "overrides": [
                    *(f"model.path={models[family]}", f"data.train_files={questions}", "data.val_files=null"),
                    *("data.train_batch_size=4", "trainer.total_training_steps=1"),
                    *(f"trainer.default_local_dir={folder}", *overrides),
                ],
                "out": str(folder / f"{name}.pt"),
                "flash_attn": flash_attn,
            }
            for name, (family, overrides, flash_attn) in settings.items()
        ]
        (folder / "jobs.json").write_text(json.dumps(jobs))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        run = subprocess.run(
            [*command, str(WORKER), str(folder / "jobs.json")],
            env={**os.environ, "VERL_PLATFORM": "cpu", "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert run.returncode == 0, run.stderr[-4000:]
        found.update({name: torch.load(folder / f"{name}.pt") for name in settings})
    return found


def log_prob_difference(one, other) -> float:
    assert one["lengths"].tolist() == other["lengths"].tolist()
    return (one["log_probs"] - other["log_probs"]).abs().max().item()


def gradient_difference(one, other) -> float:
    """The largest of all weights, relative to the gradient's own norm."""
    assert one["gradients"].keys() == other["gradients"].keys()
    return max(
        ((gradient - other["gradients"][name]).norm() / gradient.norm().clamp(min=1e-6)).item()
        for name, gradient in one["gradients"].items()
    )


def test_the_batch_can_show_a_difference(results):
    """Several sequences of different lengths, and gradients that reach the vision tower."""
    for family in FAMILIES:
        padded = results[f"padded {family}"]
        assert len(set(padded["lengths"].tolist())) > 1
        assert any("visual.blocks" in name and gradient.norm() > 0 for name, gradient in padded["gradients"].items())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["packed", "ulysses"])
def test_packed_videos_are_computed_like_padded_ones(kind, family, results):
    """In one process, and split over two by Ulysses sequence parallelism."""
    assert log_prob_difference(results[f"padded {family}"], results[f"{kind} {family}"]) < 1e-5
    assert gradient_difference(results[f"padded {family}"], results[f"{kind} {family}"]) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_two_sft_processes_that_share_a_batch_compute_what_one_does(family, results):
    one, two = results[f"padded {family}"], results[f"shared {family}"]
    assert len(two["lengths"]) * 2 == len(one["lengths"])
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-6)
    assert gradient_difference(one, two) < 1e-5


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_transformers_keeps_packed_samples_apart_without_flash_attn(implementation, results):
    """Its mask separates sequences where text positions start again, so the settings need not be refused."""
    assert log_prob_difference(results["padded qwen3_vl"], results[f"{implementation} qwen3_vl"]) < 1e-5
    assert gradient_difference(results["padded qwen3_vl"], results[f"{implementation} qwen3_vl"]) < 1e-5


def test_ulysses_without_flash_attn_is_another_model(results):
    """verl gathers a sequence inside flash-attn's function: with sdpa, a process attends to its own half, silently."""
    assert log_prob_difference(results["padded qwen3_vl"], results["ulysses sdpa"]) > 0.1


def test_packed_qwen2_5_vl_calls_flash_attn_whatever_the_setting(results):
    """It fails without flash-attn; with it, where a micro batch holds one sequence alone."""
    assert "is not defined" in results["sdpa qwen2_5_vl"]["error"]
    assert "flash attn" in results["one sequence, sdpa qwen2_5_vl"]["error"]

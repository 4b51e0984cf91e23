"""The whole evaluation with real vLLM and a tiny random model; and that vLLM sees the prompts of training."""

from __future__ import annotations

import json

import pytest

from mllm4d_verl.data_tools.schema import QARow, write_qa
from mllm4d_verl.evaluation.backends.base import PromptMismatchError, check_prompt

pytest.importorskip("verl")
pytest.importorskip("vllm")

pytestmark = pytest.mark.pins

PIXELS = {"min_pixels": 784, "max_pixels": 64 * 64}


@pytest.fixture
def questions(tmp_path, write_video):
    """Six questions of three tasks about two clips of different frame rates."""
    rows = []
    for number in range(6):
        clip = f"clip{number % 2}"
        video = tmp_path / f"{clip}.mp4"
        if not video.exists():
            write_video(video, num_frames=16, fps=(3.0, 30.0)[number % 2], seed=number)
        task, options = (
            ("camera_absolute_distance", ["1.0", "2.5", "3.0", "4.0"]),
            ("camera_relative_direction", ["left", "right", "up", "down"]),
            ("object_camera_relative_distance", ["closer", "farther", "not moving"]),
        )[number // 2]
        rows.append(
            QARow(
                id=f"q{number}",
                clip_id=clip,
                video=video.name,
                num_frames=(4, 8)[number % 2],
                task=task,
                start_frame=0,
                end_frame=3,
                question=f"How does it move between frame 0 and frame 3, for question {'again ' * number}{number}?",
                options=options,
                answer="B",
                answer_text=options[1],
                camera_center=[[0.0, 0.0, 0.0], [0.0, 0.0, 2.5]],
            )
        )
    return write_qa(tmp_path / "test.parquet", rows)


def reference_prompts(questions, model) -> dict[str, list[int]]:
    """Token ids by the Hugging Face processor alone, from the messages of the training dataset."""
    from omegaconf import OmegaConf
    from qwen_vl_utils import process_vision_info
    from verl.utils.tokenizer import hf_processor, hf_tokenizer

    from mllm4d_verl.datasets import MLLM4DDataset

    processor = hf_processor(str(model))
    dataset = MLLM4DDataset(
        data_files=str(questions),
        tokenizer=hf_tokenizer(str(model)),
        processor=processor,
        config=OmegaConf.create({"prompt_template": "st_cot", **PIXELS}),
    )
    prompts = {}
    for item in (dataset[index] for index in range(len(dataset))):
        messages = item["raw_prompt"]
        text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        _, videos = process_vision_info(
            messages, image_patch_size=processor.image_processor.patch_size, return_video_metadata=True
        )
        frames, metadata = zip(*videos, strict=True)
        inputs = processor(
            text=[text], videos=list(frames), video_metadata=list(metadata), do_sample_frames=False, return_tensors="pt"
        )
        prompts[item["extra_info"]["id"]] = inputs["input_ids"][0].tolist()
    return prompts


def built_prompts(questions, model) -> dict[str, list[int]]:
    """Token ids by the code that evaluation runs; the worker compares vLLM's with these, one by one."""
    from mllm4d_verl.evaluation.job import GenerationJob
    from mllm4d_verl.evaluation.prompting import PromptBuilder, load_dataset

    dataset = load_dataset(GenerationJob(str(model), str(questions), "", "st_cot", dataset=dict(PIXELS)))
    builder = PromptBuilder(str(model), dataset)
    items = [dataset[index] for index in range(len(dataset))]
    return {item["extra_info"]["id"]: builder.build(item["raw_prompt"]).token_ids for item in items}


@pytest.fixture(params=["qwen3_vl", "qwen2_5_vl"])
def model(request, tmp_path):
    from mllm4d_verl.recipes.tiny_cpu.model import build_tiny_model

    return build_tiny_model(tmp_path / request.param, request.param, hidden=64, layers=2, head_std=0.3)


def test_prompts_are_those_of_the_hugging_face_processor(questions, model):
    assert built_prompts(questions, model) == reference_prompts(questions, model)


def test_another_prompt_in_vllm_is_an_error():
    check_prompt("q0", [1, 2, 3], [1, 2, 3])
    with pytest.raises(PromptMismatchError, match=r"q0.*another prompt \(4 tokens\).*\(3 tokens\)"):
        check_prompt("q0", [1, 2, 3], [1, 2, 2, 3])


@pytest.mark.e2e
def test_evaluate(questions, model, tmp_path, monkeypatch):
    from mllm4d_verl.evaluation import evaluate

    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    out, seen = tmp_path / "run", []

    def run(**changes):
        options = {"max_tokens": 12, "dtype": "float32", "dataset": PIXELS, "out": out, **changes}
        return evaluate(model, questions, progress=lambda *counts: seen.append(counts), **options)

    result = run()
    assert [record.id for record in result.records] == [f"q{number}" for number in range(6)]
    assert result.summary.overall.questions == 6
    assert all(record.response_tokens for record in result.records)
    # The worker has compared all tokens; the counts tie its prompts to the processor's.
    lengths = {question: len(ids) for question, ids in reference_prompts(questions, model).items()}
    assert {record.id: record.prompt_tokens for record in result.records} == lengths
    assert seen[0] == (0, None)
    assert seen[-1] == (6, 6)
    assert json.loads((out / "summary.json").read_text())["overall"]["questions"] == 6
    assert sorted(path.name for path in out.iterdir()) == [
        "engine.log",
        "job.json",
        "responses.jsonl",
        "run.json",
        "summary.json",
    ]

    # Complete: another preset is scored without starting vLLM.
    log_size = (out / "engine.log").stat().st_size
    again = run(preset="official")
    assert again.reused
    assert again.summary.preset == "official"
    assert (out / "engine.log").stat().st_size == log_size

    # Killed after four responses: only the other two are generated, and the result is the same.
    lines = (out / "responses.jsonl").read_text().splitlines(keepends=True)
    unfinished = out / f"{result.run['fingerprint']}.unfinished.jsonl"
    unfinished.write_text("".join(lines[:4]) + lines[4][:30])
    (out / "responses.jsonl").unlink()
    resumed = run()
    assert not resumed.reused
    assert [(r.id, r.response) for r in resumed.records] == [(r.id, r.response) for r in result.records]

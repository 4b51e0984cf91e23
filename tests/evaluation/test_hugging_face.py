"""The backend of transformers: a tiny model answers."""

import pytest

from mllm4d_verl.data_tools.schema import QARow, write_qa
from mllm4d_verl.evaluation.backends.hugging_face import answer_requests
from mllm4d_verl.evaluation.job import GenerationJob
from mllm4d_verl.evaluation.questions import load_questions, requests_of
from mllm4d_verl.recipes.tiny_cpu.model import build_tiny_model


@pytest.fixture
def job(tmp_path, write_video):
    model = build_tiny_model(tmp_path / "model", hidden=32, layers=1, vision_layers=1)
    for clip in range(2):
        write_video(tmp_path / f"clip{clip}.mp4", num_frames=4, fps=4.0, seed=clip)
    task, options = "camera_relative_direction", ["left", "right"]
    rows = [
        QARow(f"q{n}", f"c{n % 2}", f"clip{n % 2}.mp4", 4, task, 0, 3, "Where? " + "why " * (n % 5), options, "B")
        for n in range(48)
    ]
    data = write_qa(tmp_path / "rows.parquet", rows)
    return GenerationJob(
        str(model),
        str(data),
        str(tmp_path / "unfinished"),
        "direct",
        backend="transformers",
        max_tokens=1,
        dataset={"min_pixels": 784, "max_pixels": 64 * 64},
        engine={"batch_size": 1, "device": "cpu"},
    )


def test_prompts_are_tokenized_while_others_are_padded(job):
    # Tokens come so quickly that the thread that builds prompts and this one are at it together.
    requests = requests_of(job, load_questions(job))
    answers = list(answer_requests(job, requests, requests))
    assert [answer.request.key for answer in answers] == sorted(
        (request.key for request in requests), key=lambda key: (int(key[0][1:]) % 2, int(key[0][1:]))
    )
    assert all(answer.response_tokens == 1 for answer in answers)


def test_only_what_is_missing_is_answered(job):
    requests = requests_of(job, load_questions(job))
    answers = list(answer_requests(job, requests, requests[5:7]))
    assert {answer.request.key for answer in answers} == {request.key for request in requests[5:7]}

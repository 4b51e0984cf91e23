"""What is sent to a server, over real HTTP, and what happens when it fails."""

from __future__ import annotations

import base64
import importlib.util
import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import QARow, write_qa
from mllm4d_verl.evaluation.backends import BackendError
from mllm4d_verl.evaluation.backends.chat_endpoint import answer_requests, check_options, load_frames
from mllm4d_verl.evaluation.job import GenerationJob
from mllm4d_verl.evaluation.questions import describe_media, load_questions, requests_of


def _load_server():
    spec = importlib.util.spec_from_file_location("chat_server", Path(__file__).with_name("chat_server.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["chat_server"] = module
    spec.loader.exec_module(module)
    return module


chat_server = _load_server()


@pytest.fixture
def server():
    with chat_server.serving() as server:
        yield server


@pytest.fixture
def job(tmp_path, write_video, server):
    rows = []
    for number in range(4):
        video = tmp_path / f"clip{number % 2}.mp4"
        if not video.exists():
            write_video(video, num_frames=16, fps=8.0, seed=number)
        options = ["left", "right"] if number else []
        task = "camera_relative_direction" if number else "other"
        answer = "B" if number else "2.5"
        row = QARow(f"q{number}", f"c{number % 2}", video.name, 4, task, 0, 3, f"Question {number}?", options, answer)
        rows.append(replace(row, value=None if number else 2.5))
    data = write_qa(tmp_path / "rows.parquet", rows)
    engine = {"base_url": server.url, "max_retries": 2, "concurrency": 2}
    pixels = {"min_pixels": 784, "max_pixels": 64 * 64}
    return GenerationJob("m", str(data), str(tmp_path / "u"), "direct", backend="openai", dataset=pixels, engine=engine)


def ask(job):
    requests = requests_of(job, load_questions(job))
    return {answer.request.key: answer for answer in answer_requests(job, requests, requests)}


def content_of(payload):
    return payload["messages"][-1]["content"]


def payload_about(server, text):
    return next(payload for payload in server.requests if text in content_of(payload)[-1]["text"])


def test_frames_go_as_images_with_their_times(job, server):
    answers = ask(job)
    assert sorted(answers) == [(f"q{number}", 0) for number in range(4)]
    assert answers["q1", 0].response_tokens == 7
    assert answers["q1", 0].finish_reason == "stop"
    content = content_of(payload_about(server, "Question 1?"))
    assert [part["type"] for part in content] == ["text", "image_url"] * 4 + ["text"]
    assert [part["text"] for part in content[0:8:2]] == [
        f"Frame {number} of 0 to 3, {second} seconds:" for number, second in enumerate(("0.0", "0.6", "1.2", "1.9"))
    ]
    assert content[-1]["text"].endswith("Answer with the option's letter directly.")


def test_a_question_for_a_number_asks_for_no_letter(job, server):
    ask(job)
    text = content_of(payload_about(server, "Question 0?"))[-1]["text"]
    assert "letter" not in text
    assert "number" in text


def test_a_vllm_server_gets_the_very_pixels_and_times_of_training(job, server):
    job = replace(job, engine={**job.engine, "media": "video"})
    ask(job)
    payload = payload_about(server, "Question 1?")
    video = next(part for part in content_of(payload) if part["type"] == "video_url")["video_url"]["url"]
    pictures = video.removeprefix("data:video/jpeg;base64,").split(",")
    sent = np.stack([np.asarray(Image.open(io.BytesIO(base64.b64decode(picture)))) for picture in pictures])
    frames, metadata = load_frames(job, load_questions(job)[1])
    assert np.array_equal(sent, frames)
    timing = payload["media_io_kwargs"]["video"]
    assert timing["frames_indices"] == list(map(int, metadata["frames_indices"])) == [0, 5, 10, 15]
    assert timing["fps"] == pytest.approx(8.0)
    assert timing["do_sample_frames"] is False


@pytest.mark.parametrize(("control", "pictures"), [("blind", 0), ("shuffled", 4), ("single-frame", 1)])
def test_controls(job, server, control, pictures):
    ask(replace(job, control=control, engine={**job.engine, "image_format": "png"}))
    content = content_of(payload_about(server, "Question 1?"))
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    assert len(set(urls)) == pictures
    assert len(urls) == (0 if control == "blind" else 4)
    if urls:
        assert "1.9 seconds" in content[6]["text"]  # the time of the place, whatever stands there


def test_samples_have_seeds_of_their_own(job, server):
    job = replace(job, samples=3, temperature=0.7)
    answers = ask(job)
    assert len(answers) == 12
    assert len({payload["seed"] for payload in server.requests}) == 12
    assert {key: answer.text for key, answer in ask(job).items()} == {
        key: answer.text for key, answer in answers.items()
    }


def test_faults_that_pass_are_retried(job, server):
    server.faults = [503]
    assert len(ask(replace(job, engine={**job.engine, "concurrency": 1}))) == 4


def test_a_request_that_fails_leaves_the_others_and_is_named(job, server):
    server.faults = [400]
    requests = requests_of(job, load_questions(job))
    answers = []
    with pytest.raises(BackendError, match=r"1 requests got no answer.*HTTP 400.*run the same command again"):
        answers.extend(collected(answers, answer_requests(job, requests, requests)))
    assert len(answers) == 3


def collected(into, answers):
    for answer in answers:
        into.append(answer)
    return []


def test_a_dead_server_is_a_message(job):
    job = replace(job, engine={"base_url": "http://127.0.0.1:9/v1", "max_retries": 0, "concurrency": 1})
    with pytest.raises(BackendError, match=r"127.0.0.1:9/v1 does not answer.*run the same command"):
        ask(job)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "--base-url: .*the address of a server"),
        ({"base_url": "localhost"}, "must start with http"),
        ({"base_url": "http://a", "media": "gif"}, "media must be one of frames, video"),
        ({"base_url": "http://a", "concurrency": 0}, "concurrency must be at least 1"),
        ({"base_url": "http://a", "tensor_parallel_size": 2}, "no option tensor_parallel_size"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        check_options(options)


def test_media_are_described(job):
    from mllm4d_verl.video import QWEN3_VL

    media = describe_media(job, requests_of(job, load_questions(job)), QWEN3_VL)
    assert media["num_frames"] == {"4": 4}
    assert media["sampled_fps"] == {"min": 2.0, "max": 2.0}
    assert sum(media["frame_size"].values()) == 4

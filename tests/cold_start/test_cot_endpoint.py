"""Paths from a server of our own that speaks chat completions and fails on demand."""

import base64
import json
import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest
from cot_server import Server, completion, good_path, told

from mllm4d_verl.cold_start import EndpointConfig, EndpointWriter
from mllm4d_verl.cold_start.endpoint_writer import PathStore
from mllm4d_verl.cold_start.guideline import SYSTEM, read_path, task_text
from mllm4d_verl.data_tools.endpoint import BadReplyError
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import read_qa

pytest.importorskip("httpx")


def write(qa, out, reply, paths=2, rows=None, seed=0, **settings):
    """What was written, the server, and the seconds slept."""
    slept = []
    with Server(reply).running() as server:
        config = EndpointConfig(server.url, "some-vl", **{"timeout_s": 5.0, "workers": 1, **settings})
        writer = EndpointWriter(config, str(qa.parent), out / "paths.jsonl", seed, sleep=slept.append)
        found = writer.write(read_qa(qa) if rows is None else rows, paths)
    return found, server, slept


def good(number, body):
    return good_path(body)


class TestWriting:
    def test_every_path_of_every_row(self, qa_file, tmp_path):
        qa = qa_file(4)
        found, server, _ = write(qa, tmp_path, good, paths=3)
        assert {row_id: [number for number, _ in texts] for row_id, texts in found.texts.items()} == {
            f"row-{number:03d}": [0, 1, 2] for number in range(4)
        }
        assert (found.asked, found.from_store, found.problems, found.given_up) == (12, 0, [], "")
        assert len(server.bodies) == 12
        assert {body["seed"] for body in server.bodies} == {0, 1, 2}
        assert {body["temperature"] for body in server.bodies} == {1.0}
        assert all(body["messages"][0]["content"] == SYSTEM for body in server.bodies)

    def test_it_is_shown_what_the_model_will_see(self, qa_file, tmp_path):
        qa = qa_file(1)
        _, server, _ = write(qa, tmp_path, good, paths=1, max_pixels=32 * 24)
        parts = server.bodies[0]["messages"][1]["content"]
        pictures = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        decoded = [
            cv2.imdecode(np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR_RGB)
            for url in pictures
        ]
        reader = cv2.VideoCapture(str(qa.parent / "videos" / "clip_0.mp4"))
        frames = [cv2.cvtColor(reader.read()[1], cv2.COLOR_BGR2RGB) for _ in range(7)]
        assert [picture.shape for picture in decoded] == [(24, 32, 3)] * 4
        for picture, index in zip(decoded, (0, 2, 4, 6), strict=True):
            small = cv2.resize(frames[index], (32, 24), interpolation=cv2.INTER_AREA)
            errors = [
                np.abs(cv2.resize(f, (32, 24), interpolation=cv2.INTER_AREA).astype(int) - picture).mean()
                for f in frames
            ]
            assert int(np.argmin(errors)) == index
            assert np.abs(small.astype(int) - picture).mean() < 12
        labels = [part["text"] for part in parts if part["type"] == "text"]
        assert labels[1:5] == [f"Frame {number}:" for number in range(4)]

    def test_it_is_told_question_answer_and_values(self, qa_file, tmp_path):
        qa = qa_file(2)
        rows = read_qa(qa)
        _, server, _ = write(qa, tmp_path, good, paths=1)
        first, second = told(server.bodies[0]), told(server.bodies[1])
        assert first == task_text(rows[0])
        for text in ("How far?", "A. 1.0", "B. 2.0", "Right option: A (1.0)", "Measured value: 1 meters",
                     "Object center, frame 0: null", "frame 0, the final frame is frame 3"):  # fmt: skip
            assert text in first
        x, y, z = rows[0].camera_center[1]
        assert f"Camera center, frame 3: [{x:.4f}, {y:.4f}, {z:.4f}]" in first
        assert "The object is the red ball." in second

    def test_workers_ask_at_the_same_time(self, qa_file, tmp_path):
        together = threading.Barrier(3, timeout=5)

        def reply(number, body):
            together.wait()
            return good_path(body)

        found, _, _ = write(qa_file(3), tmp_path, reply, paths=2, workers=3)
        assert found.asked == 6

    def test_requests_are_spaced(self, qa_file, tmp_path):
        _, _, slept = write(qa_file(3), tmp_path, good, paths=2, requests_per_minute=6)
        assert len(slept) == 5
        assert sum(slept) > 5 * 9


class TestResuming:
    def test_what_is_there_is_not_asked_again(self, qa_file, tmp_path):
        qa = qa_file(3)
        first, _, _ = write(qa, tmp_path, good)
        again, server, _ = write(qa, tmp_path, good)
        assert (again.asked, again.from_store, server.bodies) == (0, 6, [])
        assert again.texts == first.texts
        more, server, _ = write(qa, tmp_path, good, paths=3)
        assert (more.asked, more.from_store, len(server.bodies)) == (3, 6, 3)

    def test_a_killed_run_loses_only_the_line_it_was_writing(self, qa_file, tmp_path):
        qa = qa_file(3)
        write(qa, tmp_path, good)
        store = tmp_path / "paths.jsonl"
        whole = store.read_bytes()
        store.write_bytes(whole[:-40])
        found, server, _ = write(qa, tmp_path, good)
        assert (found.asked, found.from_store, len(server.bodies)) == (1, 5, 1)
        assert store.read_bytes().startswith(whole[:-40])  # only ever added to
        assert write(qa, tmp_path, good)[0].from_store == 6

    def test_other_questions_and_settings_are_others(self, qa_file, tmp_path):
        qa = qa_file(2)
        rows = read_qa(qa)
        write(qa, tmp_path, good, paths=1)
        for changes in ({"temperature": 0.5}, {"max_tokens": 99}, {"seed": 7}):
            assert write(qa, tmp_path, good, paths=1, **changes)[0].from_store == 0
        other = [replace(rows[0], question="How near?"), rows[1]]
        assert write(qa, tmp_path, good, paths=1, rows=other)[0].from_store == 1
        patient = write(qa, tmp_path, good, paths=1, timeout_s=9.0, max_retries=7, workers=2)[0]
        assert patient.from_store == 2

    def test_the_cache_serves_runs_that_write_elsewhere(self, qa_file, tmp_path):
        qa, cache = qa_file(2), str(tmp_path / "cache")
        first, one, _ = write(qa, tmp_path / "a", good, cache_dir=cache)
        again, other, _ = write(qa, tmp_path / "b", good, cache_dir=cache)
        assert (len(one.bodies), len(other.bodies)) == (4, 0)
        assert again.texts == first.texts

    def test_a_store_may_hold_anything(self, tmp_path):
        file = tmp_path / "paths.jsonl"
        file.write_bytes(b'\xff\n[]\n"x"\n{"key": 1}\n{"key": "k", "response": "t"}\n{"key": "h')
        store = PathStore(file)
        assert (store.get("k"), store.get("h")) == ("t", None)
        store.add("n", "row", 0, "new ü")
        assert PathStore(file).get("n") == "new ü"
        assert json.loads(file.read_text(errors="replace").splitlines()[-1])["id"] == "row"


class TestFaults:
    def test_a_busy_server_is_asked_again(self, qa_file, tmp_path):
        def reply(number, body):
            return (
                [(429, {"retry-after": "3"}, ""), (500, {}, "oops"), (200, {}, "{}")][number]
                if number < 3
                else good_path(body)
            )

        found, server, slept = write(qa_file(1), tmp_path, reply, paths=1)
        assert found.asked == 1
        assert len(server.bodies) == 4
        assert slept[0] == 3.0
        assert 1.0 <= slept[1] <= 2.0
        assert 2.0 <= slept[2] <= 4.0

    def test_a_reply_that_does_not_parse_is_told_so(self, qa_file, tmp_path):
        def reply(number, body):
            return "It is A." if number == 0 else good_path(body)

        found, server, _ = write(qa_file(1), tmp_path, reply, paths=1)
        assert found.asked == 1
        before, after = server.bodies
        assert after["messages"][:2] == before["messages"]
        assert after["messages"][2] == {"role": "assistant", "content": "It is A."}
        assert "<thinking> is missing" in after["messages"][3]["content"]

    def test_what_never_fits_is_left_out_and_asked_anew_next_time(self, qa_file, tmp_path):
        qa = qa_file(2)

        def reply(number, body):
            return good_path(body) if "How far?" in told(body) else "no"

        found, server, _ = write(qa, tmp_path, reply, paths=1, max_retries=1)
        assert list(found.texts) == ["row-000"]
        assert found.problems[0][:2] == ("row-001", 0)
        assert "does not fit" in found.problems[0][2]
        assert found.given_up == ""
        assert len(server.bodies) == 3
        assert write(qa, tmp_path, good, paths=1)[0].asked == 1

    def test_a_dead_endpoint_is_given_up(self, qa_file, tmp_path):
        qa = qa_file(8)

        def reply(number, body):
            return good_path(body) if number < 3 else (500, {}, "down for good")

        found, server, _ = write(qa, tmp_path, reply, paths=2, max_retries=1, max_unanswered=2)
        assert found.asked == 3
        assert len(server.bodies) == 3 + 2 * 2
        assert "2 paths in a row got no answer (HTTP 500: down for good)" in found.given_up
        assert len(found.problems) == 13
        assert write(qa, tmp_path, good, paths=2)[0].asked == 13

    def test_nobody_listens(self, qa_file, tmp_path):
        config = EndpointConfig("http://127.0.0.1:9/v1", "m", max_retries=0, max_unanswered=1, workers=1)
        rows = read_qa(qa_file(3))
        found = EndpointWriter(config, str(tmp_path / "qa"), tmp_path / "p.jsonl", sleep=lambda _: None).write(rows, 1)
        assert "ConnectError" in found.given_up
        assert len(found.problems) == 3

    def test_a_video_that_is_missing_costs_its_rows_only(self, qa_file, tmp_path):
        qa = qa_file(3)
        (qa.parent / "videos" / "clip_1.mp4").unlink()
        found, _, _ = write(qa, tmp_path, good, paths=2)
        assert sorted(found.texts) == ["row-000", "row-002"]
        assert [problem[:2] for problem in found.problems] == [("row-001", 0), ("row-001", 1)]
        assert "clip_1.mp4" in found.problems[0][2]


class TestReadPath:
    GOOD = good_path({"seed": 0, "messages": [0, {"content": [{"text": (
        "Right option: B\nCamera center, frame 0: [1, 2, 3]\nObject center, frame 0: null\n"
        "Camera center, frame 3: null\nObject center, frame 3: [0.5, -1, 2]"
    )}]}]})  # fmt: skip

    @pytest.mark.parametrize("frame", ["{}", "```\n{}\n```", "<think>hm</think>\n{}", "\n {} \n"])
    def test_thoughts_and_fences_are_taken_off(self, frame):
        assert read_path(frame.replace("{}", self.GOOD)) == self.GOOD

    @pytest.mark.parametrize(
        ("old", "new", "problem"),
        [
            ("</thinking>", "", "</thinking> is missing"),
            ("- Object Center: null\n", "", "initial object"),
            ("<answer>B</answer>", "", "<answer> is missing"),
            ("B</answer>", "the second</answer>", "not a letter"),
            ("</answer>", "</answer> Hope that helps", "outside the blocks"),
            ("[1.0000, 2.0000, 3.0000]", "[1.0, 2.0]", "initial camera"),
            ("Things grow.", "So 1.5 - 0.5 = 1.", "calculates"),
            ("Things grow.", "The sqrt of it.", "calculates"),
            ("Things grow.", "Its square, 1.2^2, counts.", "calculates"),
        ],
    )
    def test_what_cannot_be_used_is_said(self, old, new, problem):
        with pytest.raises(BadReplyError, match=problem):
            read_path(self.GOOD.replace(old, new, 1))

    def test_numbers_in_prose_are_no_arithmetic(self):
        text = self.GOOD.replace("Things grow.", "From frame 3 to frame 14 it moves about 2.5 meters - far, 3-fold.")
        assert read_path(text) == text


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"base_url": ""}, "--base-url"),
        ({"base_url": "localhost:8000"}, "--base_url"),
        ({"model": ""}, "--model"),
        ({"workers": 0}, "workers"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": -1.0}, "temperature"),
        ({"requests_per_minute": float("nan")}, "requests_per_minute"),
    ],
)
def test_what_cannot_work_is_refused(settings, field):
    with pytest.raises(InputError) as caught:
        EndpointConfig(**{"base_url": "http://localhost/v1", "model": "m", **settings})
    assert caught.value.field == field


def test_the_server_helper_answers_as_a_server_does():
    assert json.loads(completion("x"))["choices"][0]["message"]["content"] == "x"

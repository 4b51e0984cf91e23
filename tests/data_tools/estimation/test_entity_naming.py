"""Names from an endpoint: a real HTTP server that speaks chat completions, and every fault it can have."""

import base64
import json
import pickle
import sys
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

pytest.importorskip("httpx", reason="httpx is not installed")

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.estimation.description import ObjectAppearance
from mllm4d_verl.data_tools.estimation.naming import (
    EntityNamer,
    NamedObject,
    crops,
    marked_frames,
    parse_names,
)

GOOD = [
    {"id": 1, "category": "car", "description": "the red van"},
    {"id": 2, "category": "dog", "description": "the spotted dog"},
]
WORDS = ["the red van", "the spotted dog"]
FALLBACK = ["the red object", "the blue object"]


class Endpoint:
    """Answers requests by a script, one entry each, and keeps what was asked.

    An entry is a text (the message), a list (JSON of it), an int (a status), or a function of the request handler.
    """

    def __init__(self):
        self.script, self.requests = [], []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.requests.append({"path": self.path, "headers": dict(self.headers), "body": body})
                step = endpoint.script.pop(0)
                if callable(step):
                    step(self)
                elif isinstance(step, int):
                    self.reply(step, b'{"error": "scripted"}')
                else:
                    text = step if isinstance(step, str) else json.dumps(step)
                    message = {"role": "assistant", "content": text}
                    self.reply(200, json.dumps({"choices": [{"index": 0, "message": message}]}).encode())

            def reply(self, status, data, **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


def scene(size=(60, 80)):
    """Three frames; object 1 is in the first two, object 2 in the last two."""
    frames = np.full((3, *size, 3), 120, np.uint8)
    masks = np.zeros((3, *size), np.uint8)
    masks[:2, 10:30, 10:30] = 1
    masks[1:, 35:50, 50:70] = 2
    frames[masks == 1] = (240, 20, 20)
    frames[masks == 2] = (20, 30, 240)
    return frames, masks


def looks(*numbers):
    colours = {1: (240, 20, 20), 2: (20, 30, 240), 3: (240, 20, 20)}
    return {number: ObjectAppearance(np.array([colours[number]], float), 1.0, (0.5, 0.5)) for number in numbers}


def namer(endpoint, **options):
    return EntityNamer(endpoint.url, "tester", **{"backoff_s": 0.01, "timeout_s": 2.0, **options})


def ask(endpoint, *script, **options):
    endpoint.script = list(script)
    return namer(endpoint, **options).name(*scene(), looks(1, 2))


def words(names):
    return [item.description for item in names.objects]


class TestRequests:
    def test_one_request_with_marked_frames(self, endpoint):
        names = ask(endpoint, GOOD, api_key="secret")
        assert words(names) == WORDS
        assert [(item.id, item.category) for item in names.objects] == [(1, "car"), (2, "dog")]
        assert (names.origin, names.requests, names.problem) == ("endpoint", 1, None)
        assert names.note() == {"names": "endpoint", "names_model": "tester"}
        request = endpoint.requests[0]
        assert request["path"] == "/v1/chat/completions"
        assert request["headers"]["Authorization"] == "Bearer secret"
        assert request["body"]["model"] == "tester"
        content = request["body"]["messages"][0]["content"]
        # frame 1 shows both
        assert next(part["text"] for part in content if part["type"] == "text") == "Frame 1:"
        assert sum(part["type"] == "image_url" for part in content) == 1
        url = next(part["image_url"]["url"] for part in content if part["type"] == "image_url")
        head, data = url.split(",", 1)
        assert head == "data:image/jpeg;base64"
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (336, 448, 3)
        assert "1, 2" in content[-1]["text"]

    def test_without_a_key_none_is_sent(self, endpoint):
        ask(endpoint, GOOD)
        assert "Authorization" not in endpoint.requests[0]["headers"]

    def test_crops(self, endpoint):
        assert words(ask(endpoint, GOOD, pictures="crops")) == WORDS
        content = endpoint.requests[0]["body"]["messages"][0]["content"]
        assert [part.get("text", "")[:9] for part in content[:4]] == ["Object 1:", "", "Object 2:", ""]

    def test_a_full_path_as_base_url(self, endpoint):
        endpoint.script = [GOOD]
        one = EntityNamer(endpoint.url + "/chat/completions/", "tester")
        assert one.name(*scene(), looks(1, 2)).origin == "endpoint"
        assert endpoint.requests[0]["path"] == "/v1/chat/completions"

    def test_an_object_without_pixels_is_not_asked_about(self, endpoint):
        endpoint.script = [GOOD]
        names = namer(endpoint).name(*scene(), looks(1, 2, 3))
        assert words(names) == [*WORDS, "the red object"]
        assert "1, 2," in endpoint.requests[0]["body"]["messages"][0]["content"][-1]["text"]

    def test_words_of_both_kinds_are_never_equal(self, endpoint):
        endpoint.script = [[{"id": 1, "category": "toy", "description": "the red object"}, GOOD[1]]]
        found = words(namer(endpoint).name(*scene(), looks(1, 2, 3)))
        assert len(set(found)) == 3

    def test_nothing_to_ask(self, endpoint):
        names = namer(endpoint).name(*scene(), {})
        assert (names.objects, names.requests) == ((), 0)
        frames, masks = scene()
        names = namer(endpoint).name(frames, masks * 0, looks(1))
        assert (names.origin, names.problem) == ("fallback", "no object has pixels")

    def test_pickled_with_an_open_connection(self, endpoint):
        endpoint.script = [GOOD, GOOD]
        one = namer(endpoint)
        one.name(*scene(), looks(1, 2))
        assert words(pickle.loads(pickle.dumps(one)).name(*scene(), looks(1, 2))) == WORDS
        one.close()


class TestRetries:
    def test_server_errors(self, endpoint):
        names = ask(endpoint, 500, 503, GOOD)
        assert (words(names), names.requests) == (WORDS, 3)

    def test_too_many_requests_waits_as_asked(self, endpoint):
        start = time.monotonic()
        names = ask(endpoint, lambda handler: handler.reply(429, b"slow down", Retry_After="0.4"), GOOD)
        assert (names.origin, names.requests) == ("endpoint", 2)
        assert time.monotonic() - start > 0.4

    def test_a_date_to_retry_after(self, endpoint):
        date = formatdate(time.time() - 5, usegmt=True)
        names = ask(endpoint, lambda handler: handler.reply(503, b"", Retry_After=date), GOOD)
        assert names.origin == "endpoint"

    def test_waits_grow_with_jitter(self):
        one = EntityNamer("http://127.0.0.1:1", "m", backoff_s=1.0)
        for attempt in range(4):
            waits = {one._wait_s(attempt, None) for _ in range(50)}
            assert len(waits) > 10
            assert 0.5 * 2**attempt <= min(waits) <= max(waits) <= 2**attempt
        assert one._wait_s(0, 7.0) == 7.0
        assert one._wait_s(0, 1e9) == 60.0

    def test_a_slow_reply_times_out(self, endpoint):
        names = ask(endpoint, lambda handler: time.sleep(0.6), GOOD, timeout_s=0.2)
        assert (names.origin, names.requests) == ("endpoint", 2)

    def test_a_reply_that_drips(self, endpoint):
        def drip(handler):
            handler.send_response(200)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            for _ in range(40):
                try:
                    handler.wfile.write(b" ")
                    handler.wfile.flush()
                except OSError:
                    return
                time.sleep(0.06)

        start = time.monotonic()
        names = ask(endpoint, drip, timeout_s=0.2, max_retries=0)
        assert names.origin == "fallback"
        assert "longer than 0.2 s" in names.problem
        assert time.monotonic() - start < 1.5

    def test_a_broken_connection(self, endpoint):
        names = ask(endpoint, lambda handler: handler.connection.close(), GOOD)
        assert (names.origin, names.requests) == ("endpoint", 2)

    @pytest.mark.parametrize("body", [b"no JSON", b"{}", b'{"choices": []}', b'{"choices": [{"message": {}}]}'])
    def test_what_is_no_completion(self, endpoint, body):
        names = ask(endpoint, lambda handler: handler.reply(200, body), GOOD)
        assert (names.origin, names.requests) == ("endpoint", 2)


class TestFallback:
    def test_after_the_last_retry(self, endpoint):
        names = ask(endpoint, 500, 502, 500, max_retries=2)
        assert words(names) == FALLBACK
        assert (names.origin, names.requests) == ("fallback", 3)
        assert "HTTP 500" in names.problem
        assert "3 attempts" in names.problem
        assert names.note()["names_problem"] == names.problem

    @pytest.mark.parametrize("status", [400, 401, 404])
    def test_at_once_where_a_retry_would_not_help(self, endpoint, status):
        names = ask(endpoint, status)
        assert (names.origin, names.requests) == ("fallback", 1)
        assert f"HTTP {status}" in names.problem

    def test_nobody_listens(self):
        names = EntityNamer("http://127.0.0.1:1/v1", "m", max_retries=1, backoff_s=0).name(*scene(), looks(1, 2))
        assert (words(names), names.origin) == (FALLBACK, "fallback")
        assert "ConnectError" in names.problem

    def test_a_dead_endpoint_is_not_retried_for_ever(self, endpoint):
        endpoint.script = [500] * 7 + [GOOD, 500, GOOD]
        one = namer(endpoint, max_retries=1)
        counts = [one.name(*scene(), looks(1, 2)).requests for _ in range(6)]
        # three clips with a retry, one that fails at its only attempt, one that succeeds, and retries again
        assert counts == [2, 2, 2, 1, 1, 2]


class TestSchema:
    def test_what_is_wrong_is_told(self, endpoint):
        names = ask(endpoint, [{"id": 7, "category": "car", "description": "the car"}], GOOD)
        assert (words(names), names.requests) == (WORDS, 2)
        first, reply, told = endpoint.requests[1]["body"]["messages"]
        assert first == endpoint.requests[0]["body"]["messages"][0]
        assert json.loads(reply["content"])[0]["id"] == 7
        assert "there is no object 7; the objects are 1, 2" in told["content"]

    def test_three_bad_replies_end_in_the_fallback(self, endpoint):
        names = ask(endpoint, "I cannot see anything.", [], GOOD[:1])
        assert (words(names), names.origin, names.requests) == (FALLBACK, "fallback", 3)
        assert "objects 2 are missing" in names.problem

    def test_fences_thoughts_and_articles(self):
        reply = "<think>[1, 2]</think>\n```json\n" + json.dumps(GOOD) + "\n```"
        assert [item.description for item in parse_names(reply, [1, 2])] == WORDS
        entry = {"id": 1, "category": " Car ", "description": "A  red\ncar. "}
        assert parse_names(json.dumps([entry]), [1]) == [NamedObject(1, "car", "the red car")]

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"id": "1"}, "whole number"),
            ({"id": True}, "whole number"),
            ({"id": 2}, "occurs twice"),
            ({"id": 3}, "no object 3"),
            ({"category": ""}, "category of object 1"),
            ({"category": None}, "category of object 1"),
            ({"category": "x" * 41}, "longer than 40"),
            ({"description": " . "}, "description of object 1"),
            ({"description": "x" * 121}, "longer than 120"),
            ({"description": "the \x07 bell"}, "control characters"),
            ({"description": "The Spotted dog"}, "two objects have the description"),
            ({"colour": "red"}, "no others"),
        ],
    )
    def test_strictly(self, change, complaint):
        with pytest.raises(ValueError, match=complaint):
            parse_names(json.dumps([GOOD[0] | change, GOOD[1]]), [1, 2])

    @pytest.mark.parametrize("reply", ["", "null", "{}", "[1]", "[" * 100_000, '[{"id": NaN}]', "[] trailing"])
    def test_hostile_texts(self, reply):
        with pytest.raises(ValueError, match=r"JSON|entry|whole|missing"):
            parse_names(reply, [1])


class TestCache:
    def test_a_second_run_asks_nothing(self, endpoint, tmp_path):
        first = ask(endpoint, GOOD, cache_dir=tmp_path)
        again = ask(endpoint, cache_dir=tmp_path)
        assert (again.origin, again.requests, again.objects) == ("cache", 0, first.objects)
        assert len(endpoint.requests) == 1
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert [path.suffix for path in files] == [".json"]

    def test_another_model_or_other_pixels_are_asked_again(self, endpoint, tmp_path):
        ask(endpoint, GOOD, cache_dir=tmp_path)
        endpoint.script = [GOOD, GOOD, GOOD]
        other = EntityNamer(endpoint.url, "another", cache_dir=tmp_path)
        assert other.name(*scene(), looks(1, 2)).origin == "endpoint"
        frames, masks = scene()
        assert namer(endpoint, cache_dir=tmp_path).name(frames // 2, masks, looks(1, 2)).origin == "endpoint"
        assert ask(endpoint, GOOD, cache_dir=tmp_path, pictures="crops").origin == "endpoint"

    def test_a_damaged_file_is_asked_again(self, endpoint, tmp_path):
        ask(endpoint, GOOD, cache_dir=tmp_path)
        file = next(path for path in tmp_path.rglob("*.json"))
        for damage in ("", "[", '[{"id": 9}]'):
            file.write_text(damage)
            assert ask(endpoint, GOOD, cache_dir=tmp_path).origin == "endpoint"
        assert ask(endpoint, cache_dir=tmp_path).origin == "cache"

    def test_fallbacks_are_not_cached(self, endpoint, tmp_path):
        ask(endpoint, 500, cache_dir=tmp_path, max_retries=0)
        assert not list(tmp_path.rglob("*.json"))
        assert ask(endpoint, GOOD, cache_dir=tmp_path).origin == "endpoint"

    def test_a_folder_that_cannot_be_written(self, endpoint, tmp_path):
        (tmp_path / "file").write_text("")
        names = ask(endpoint, GOOD, cache_dir=tmp_path / "file")
        assert (words(names), names.origin) == (WORDS, "endpoint")
        assert "could not be cached" in names.problem


class TestPictures:
    def test_as_few_frames_as_show_everything(self):
        frames, masks = scene()
        assert len(marked_frames(frames, masks, [1, 2])) == 1
        masks[1] = 0
        assert [picture.title for picture in marked_frames(frames, masks, [1, 2])] == ["Frame 0:", "Frame 2:"]

    def test_masks_of_half_the_size(self):
        frames, masks = scene((120, 160))
        picture = crops(frames, masks[:, ::2, ::2], [1])[0]
        image = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert image[image.shape[0] // 2, image.shape[1] // 2, 2] > 200  # red in the middle

    def test_boxes_at_the_border_and_many_labels(self):
        frames = np.zeros((1, 64, 64, 3), np.uint8)
        masks = np.zeros((1, 64, 64), np.uint8)
        for number in range(1, 30):
            masks[0, number * 2, number * 2] = number
        masks[0, 63, 63] = 30
        assert len(marked_frames(frames, masks, list(range(1, 31)))) == 1

    def test_large_frames_are_made_smaller(self):
        frames = np.zeros((1, 720, 1280, 3), np.uint8)
        masks = np.zeros((1, 720, 1280), np.uint8)
        masks[0, 100:200, 100:200] = 1
        picture = marked_frames(frames, masks, [1])[0]
        assert cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (576, 1024, 3)


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "field"),
        [
            ({"base_url": "localhost:8000"}, "base_url"),
            ({"model": ""}, "model"),
            ({"timeout_s": 0}, "timeout_s"),
            ({"max_retries": -1}, "timeout_s"),
            ({"pictures": "film"}, "pictures"),
            ({"api_key": "a\nb"}, "api_key"),
        ],
    )
    def test_out_of_range(self, arguments, field):
        with pytest.raises(InputError) as caught:
            EntityNamer(**{"base_url": "http://localhost", "model": "m", **arguments})
        assert caught.value.field == field

    def test_without_httpx(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "httpx", None)
        with pytest.raises(InputError, match="pip install httpx"):
            EntityNamer("http://localhost", "m")

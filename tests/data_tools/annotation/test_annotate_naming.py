"""Words of objects from an endpoint: a server of our own that speaks chat completions and fails on demand."""

import base64
import copy
import json
import re
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from mllm4d_verl.data_tools.annotation.clip import annotate_clip
from mllm4d_verl.data_tools.annotation.config import load_config
from mllm4d_verl.data_tools.annotation.naming import Breaker, EntityNamer, NamingConfig
from mllm4d_verl.data_tools.annotation.naming_pictures import BoxRegions, MaskRegions
from mllm4d_verl.data_tools.annotation.run import Source, annotate, find_source
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import read_clip
from mllm4d_verl.data_tools.stereo.camera import StereoCamera
from mllm4d_verl.data_tools.stereo.clip import SourceObject, StereoClip, StereoPair
from mllm4d_verl.data_tools.synthetic import clip_scene, world_preset
from mllm4d_verl.data_tools.synthetic.render import exact_clip, render_stereo

pytest.importorskip("httpx")

HEIGHT, WIDTH, FRAMES = 90, 160, 4
FALLBACK = [("object", "the red object"), ("object", "the blue object")]
GOOD = [
    {"id": 1, "category": "Ball", "description": "A red ball with stripes."},
    {"id": 2, "category": "box", "description": "the blue box"},
]
WORDS = [("ball", "the red ball with stripes"), ("box", "the blue box")]


def clip():
    """A red square that stays and a blue one that comes later, on grey, with their regions."""
    frames, masks = frames_and_masks()
    return frames, MaskRegions(masks)


def frames_and_masks():
    """Masks at half the size."""
    frames = np.full((FRAMES, HEIGHT, WIDTH, 3), 90, np.uint8)
    masks = np.zeros((FRAMES, HEIGHT // 2, WIDTH // 2), np.uint8)
    frames[:, 20:60, 20:60] = (200, 30, 30)
    masks[:, 10:30, 10:30] = 1
    frames[2:, 40:80, 100:150] = (30, 30, 200)
    masks[2:, 20:40, 50:75] = 2
    return list(frames), masks


class Server:
    """Answers requests in the order of `script`, the last entry for ever.

    An entry is the reply's text, or (status, headers, body), or a function of the handler.
    """

    def __init__(self, script):
        self.script, self.requests, self.headers = script, [], []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                entry = server.script[min(len(server.requests), len(server.script) - 1)]
                server.requests.append(body)
                server.headers.append(dict(self.headers))
                assert self.path == "/v1/chat/completions"
                if callable(entry):
                    entry(self)
                    return
                if isinstance(entry, str):
                    message = {"role": "assistant", "content": entry}
                    entry = (200, {}, json.dumps({"choices": [{"index": 0, "message": message}]}))
                status, headers, text = entry
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *args):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    @contextmanager
    def running(self):
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            thread.join()
            self._http.server_close()

    def pictures(self, request=0):
        """RGB images of a request, decoded from its JPEG data URLs."""
        found = []
        for part in self.requests[request]["messages"][1]["content"]:
            if part["type"] == "image_url":
                head, _, data = part["image_url"]["url"].partition(",")
                assert head == "data:image/jpeg;base64"
                raw = base64.b64decode(data, validate=True)
                assert raw[:2] == b"\xff\xd8"
                found.append(cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR_RGB))
        return found

    def task(self, request=0):
        return self.requests[request]["messages"][1]["content"][0]["text"]


def ask(*script, fallback=FALLBACK, ids=None, pictures=None, **settings):
    """Result, server and seconds slept."""
    slept = []
    with Server(list(script)).running() as server:
        config = NamingConfig(**{"base_url": server.url, "model": "some-vl", "timeout_s": 5.0, **settings})
        namer = EntityNamer(config, sleep=slept.append, jitter=lambda: 0.0)
        frames, regions = pictures or clip()
        if isinstance(regions, np.ndarray):
            regions = MaskRegions(regions)
        result = namer.name(frames, regions, fallback, ids)
    return result, server, slept


def reply(*changes, drop=()):
    """The good reply with fields of entries changed: (place, field, value)."""
    entries = [dict(entry) for entry in GOOD]
    for place, field, value in changes:
        entries[place][field] = value
    return json.dumps([entry for place, entry in enumerate(entries) if place not in drop])


class TestGoodReplies:
    def test_words_in_one_form(self):
        result, server, slept = ask(json.dumps(GOOD))
        assert (result.words, result.origin, result.problem) == (WORDS, "endpoint", "")
        assert len(server.requests) == 1
        assert not slept
        assert server.requests[0]["model"] == "some-vl"
        assert server.requests[0]["temperature"] == 0

    @pytest.mark.parametrize("frame", ["```json\n{}\n```", "```\n{}```", "<think>two [things]</think>\n{}", " \n{}\n"])
    def test_fences_and_thoughts_are_tolerated(self, frame):
        result, server, _ = ask(frame.replace("{}", json.dumps(GOOD)))
        assert result.words == WORDS
        assert len(server.requests) == 1

    def test_order_of_the_reply_does_not_matter(self):
        assert ask(json.dumps(GOOD[::-1]))[0].words == WORDS

    def test_content_in_parts(self):
        message = {"content": [{"type": "text", "text": json.dumps(GOOD)}]}
        assert ask((200, {}, json.dumps({"choices": [{"message": message}]})))[0].words == WORDS

    def test_a_known_category_is_told_and_stays(self):
        result, server, _ = ask(json.dumps(GOOD), fallback=[("sphere", "the sphere"), FALLBACK[1]])
        assert result.words == [("sphere", "the red ball with stripes"), WORDS[1]]
        assert "Object 1 is known to be: sphere." in server.task()
        assert "Object 2 is" not in server.task()

    def test_ids_of_the_masks(self):
        frames, masks = frames_and_masks()
        masks[masks == 2] = 9
        answer = reply((0, "id", 9), (1, "id", 1))
        result, server, _ = ask(answer, ids=[9, 1], pictures=(frames, masks))
        assert result.words == WORDS
        assert "objects 9, 1." in server.task()

    def test_what_no_mask_shows_keeps_its_words(self):
        more = [*FALLBACK, ("car", "the car")]
        result, server, _ = ask(json.dumps(GOOD), fallback=more)
        assert result.words == [*WORDS, ("car", "the car")]
        assert "1, 2." in server.task()
        clash = [*FALLBACK, ("box", "the Blue box")]
        result, _, _ = ask(json.dumps(GOOD), fallback=clash, max_retries=0)
        assert result.origin == "fallback"
        assert "same description" in result.problem

    def test_nothing_to_ask_about(self):
        frames, masks = frames_and_masks()
        result, server, _ = ask("never", fallback=[], pictures=(frames, masks))
        assert result.words == []
        assert not server.requests
        result, server, _ = ask("never", pictures=(frames, masks * 0))
        assert result.words == FALLBACK
        assert result.origin == "fallback"
        assert not server.requests

    def test_the_key_is_sent(self, monkeypatch):
        monkeypatch.setenv("SOME_KEY", "secret")
        _, server, _ = ask(json.dumps(GOOD), api_key_env="SOME_KEY")
        assert server.headers[0]["authorization" if "authorization" in server.headers[0] else "Authorization"] == (
            "Bearer secret"
        )
        _, server, _ = ask(json.dumps(GOOD))
        assert not {"authorization", "Authorization"} & set(server.headers[0])


class TestPictures:
    def test_marks_are_drawn_and_crops_show_the_objects(self):
        frames, masks = frames_and_masks()
        _, server, _ = ask(json.dumps(GOOD))
        marked, first, second = server.pictures()
        assert marked.shape == frames[2].shape  # both are seen from frame 2 on
        changed = np.abs(marked.astype(int) - frames[2]).max(axis=2) > 60
        mask = cv2.resize(masks[2], (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
        near = cv2.dilate((mask > 0).astype(np.uint8), np.ones((7, 7))) > 0
        assert changed[near].mean() > 0.05
        assert not changed[~near].any()
        for number in (1, 2):  # an outline all around, and a number inside
            inside = (mask == number).astype(np.uint8)
            core = cv2.erode(inside, np.ones((9, 9))) > 0
            rim = (cv2.dilate(inside, np.ones((5, 5))) > 0) & ~(cv2.erode(inside, np.ones((5, 5))) > 0)
            assert changed[rim].mean() > 0.5
            assert 0.02 < changed[core].mean() < 0.6
        for crop, colour in ((first, (200, 30, 30)), (second, (30, 30, 200))):
            middle = crop[crop.shape[0] // 2, crop.shape[1] // 2].astype(int)
            assert np.abs(middle - colour).max() < 25
            assert max(crop.shape) == 160

    def test_objects_that_never_meet_are_all_marked(self):
        frames, masks = frames_and_masks()
        masks[2:][masks[2:] == 1] = 0
        _, server, _ = ask(json.dumps(GOOD), pictures=(frames, masks))
        assert len(server.pictures()) == 4
        assert "first 2 pictures" in server.task()

    def test_large_frames_are_made_smaller(self):
        frames = [np.full((720, 2048, 3), 90, np.uint8)]
        masks = np.zeros((1, 720, 2048), np.uint8)
        masks[0, 100:700, 100:900], masks[0, 100:700, 1000:1900] = 1, 2
        _, server, _ = ask(json.dumps(GOOD), pictures=(frames, masks))
        assert [max(picture.shape) for picture in server.pictures()] == [1024, 384, 384]

    def test_many_objects_the_largest_are_asked_about(self):
        frames, masks = [np.zeros((60, 60, 3), np.uint8)], np.zeros((1, 60, 60), np.uint8)
        for number in range(1, 31):
            masks[0, 2 * number - 2, :number] = number
        words = [("object", f"the object {chr(96 + n)}") for n in range(1, 31)]
        _, server, _ = ask("[]", fallback=words, pictures=(frames, masks), max_retries=0)
        assert "objects 7, 8," in server.task()
        assert len(server.pictures()) == 25


class TestBoxes:
    def boxes(self):
        """Those of the squares, reaching over the edge in one frame, at twice the size of the pictures."""
        red = np.tile(np.array([20, 20, 60, 60], float) * 2, (FRAMES, 1))
        blue = np.tile(np.array([100, 40, 150, 80], float) * 2, (FRAMES, 1))
        blue[:2] = np.nan
        red[0] = [-500, 40, 4, 60]
        return BoxRegions({5: red, 300: blue}, (2 * WIDTH, 2 * HEIGHT))

    def test_are_outlined_and_cut_out(self):
        frames, _ = clip()
        answer = reply((0, "id", 5), (1, "id", 300))
        result, server, _ = ask(answer, ids=[5, 300], pictures=(frames, self.boxes()))
        assert result.words == WORDS
        marked, first, second = server.pictures()
        changed = np.abs(marked.astype(int) - frames[2]).max(axis=2) > 35
        rim = np.zeros((HEIGHT, WIDTH), np.uint8)
        for left, top, right, bottom in ((20, 20, 60, 60), (100, 40, 150, 80)):
            cv2.rectangle(rim, (left, top), (right - 1, bottom - 1), 1, 1)
        assert changed[rim > 0].mean() > 0.9
        assert not changed[cv2.dilate(rim, np.ones((9, 9))) == 0][: 20 * WIDTH].any()
        for crop, colour in ((first, (200, 30, 30)), (second, (30, 30, 200))):
            middle = crop[crop.shape[0] // 2, crop.shape[1] // 2].astype(int)
            assert np.abs(middle - colour).max() < 25

    def test_an_object_without_any_is_not_asked_about(self):
        never = np.full((FRAMES, 4), np.nan)
        outside = np.tile([-50.0, -50, -5, -5], (FRAMES, 1))
        regions = BoxRegions({1: never, 2: outside}, (WIDTH, HEIGHT))
        assert regions.areas([1, 2, 3]) == {}
        result, server, _ = ask("never", pictures=(clip()[0], regions))
        assert (result.words, result.origin, server.requests) == (FALLBACK, "fallback", [])
        assert not result.is_unanswered


class TestBreaker:
    DEAD = ({"names": "fallback", "names_unanswered": True, "names_problem": "HTTP 500: oops"},)

    def test_gives_up_once_after_so_many_in_a_row(self, caplog):
        breaker = Breaker(3)
        for figures in (self.DEAD, self.DEAD, ({"names": "endpoint"},), self.DEAD, ({"num_frames": 3},), self.DEAD):
            breaker.note(figures)
        assert breaker.given_up == ""
        for _ in range(3):
            breaker.note(self.DEAD)
        assert breaker.given_up == "not asked: 3 clips in a row got no answer (HTTP 500: oops)"
        assert len(caplog.records) == 1
        assert "given up" in caplog.text

    def test_a_reply_that_does_not_fit_is_a_sign_of_life(self):
        breaker = Breaker(1)
        breaker.note(({"names": "fallback", "names_problem": "the reply does not fit"},))
        breaker.note((*self.DEAD, {"names": "endpoint"}))  # one stretch of two
        assert breaker.given_up == ""

    @pytest.mark.parametrize(("script", "unanswered"), [((401, {}, ""), True), ("[]", False), ((200, {}, "{}"), True)])
    def test_what_counts_as_no_answer(self, script, unanswered):
        assert ask(script, max_retries=1)[0].is_unanswered == unanswered

    def test_a_given_up_endpoint_is_not_asked_but_its_replies_serve(self, tmp_path):
        with Server([json.dumps(GOOD)]).running() as server:
            config = NamingConfig(server.url, "m", cache_dir=str(tmp_path))
            result = EntityNamer(config, given_up="not asked: dead").name(*clip(), FALLBACK)
            assert (result.words, result.problem, server.requests) == (FALLBACK, "not asked: dead", [])
            EntityNamer(config).name(*clip(), FALLBACK)
            assert EntityNamer(config, given_up="not asked: dead").name(*clip(), FALLBACK).words == WORDS


BAD = {
    "not JSON": ("a ball and a box", "not JSON"),
    "cut off": (json.dumps(GOOD)[:-5], "not JSON"),
    "no list": (json.dumps({"objects": GOOD}), "a JSON list"),
    "no object": ('["ball", "box"]', "entry 1"),
    "missing id": (reply(drop=[1]), "no entry for 2"),
    "unknown id": (reply((1, "id", 7)), "id 7"),
    "id as text": (reply((1, "id", "2")), "id '2'"),
    "id as truth": (reply((0, "id", True)), "id True"),
    "id twice": (reply((1, "id", 1)), "comes twice"),
    "further key": (reply((1, "colour", "blue")), "entry 2"),
    "empty category": (reply((1, "category", " ")), "category of 2 is empty"),
    "empty description": (reply((0, "description", ".")), "description of 1 is empty"),
    "null": (reply((0, "description", None)), "description of 1 is no text"),
    "too long": (reply((0, "description", "the " + "very " * 20 + "red ball")), "over 80"),
    "too long with article": (reply((0, "description", "x" * 78)), "over 80"),
    "same words": (reply((0, "description", "The blue  BOX")), "same description"),
    "mentions marks": (reply((0, "description", "the outlined red ball")), "marks"),
}


class TestBadReplies:
    @pytest.mark.parametrize("bad", BAD)
    def test_asked_again_with_the_fault_told(self, bad):
        text, problem = BAD[bad]
        result, server, slept = ask(text, json.dumps(GOOD))
        assert (result.words, result.origin) == (WORDS, "endpoint")
        assert not slept
        *first, said, told = server.requests[1]["messages"]
        assert first == server.requests[0]["messages"]
        assert said == {"role": "assistant", "content": text}
        assert told["role"] == "user"
        assert problem in told["content"]

    def test_wrong_for_ever(self):
        result, server, _ = ask(reply((1, "id", 7)), max_retries=2)
        assert (result.words, result.origin) == (FALLBACK, "fallback")
        assert "id 7" in result.problem
        assert [len(request["messages"]) for request in server.requests] == [2, 4, 4]

    def test_deeply_nested(self):
        result, _, _ = ask("[" * 100_000, max_retries=0)
        assert result.origin == "fallback"
        assert "not JSON" in result.problem

    @pytest.mark.parametrize("body", ["<html>sign in</html>", "{}", '{"choices": []}', '{"choices": [null]}', "[]"])
    def test_no_chat_completion(self, body):
        result, server, _ = ask((200, {}, body), json.dumps(GOOD))
        assert result.words == WORDS
        assert len(server.requests) == 2
        assert server.requests[0] == server.requests[1]


class TestFaults:
    def test_500_then_good(self):
        result, server, slept = ask((500, {}, "oops"), (503, {}, ""), json.dumps(GOOD))
        assert result.words == WORDS
        assert len(server.requests) == 3
        assert slept == [1.0, 2.0]

    def test_jitter_shortens(self):
        slept = []
        with Server([(500, {}, "")]).running() as server:
            config = NamingConfig(server.url, "m", max_retries=2)
            EntityNamer(config, slept.append, lambda: 0.5).name(*clip(), FALLBACK)
        assert slept == [0.75, 1.5]

    def test_429_waits_as_told(self):
        result, _, slept = ask((429, {"Retry-After": "7"}, "slow down"), json.dumps(GOOD))
        assert result.origin == "endpoint"
        assert slept == [7.0]
        when = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=9), usegmt=True)
        _, _, slept = ask((429, {"Retry-After": when}, ""), json.dumps(GOOD))
        assert 6 < slept[0] <= 9
        assert ask((429, {"Retry-After": "soon"}, ""), json.dumps(GOOD))[2] == [1.0]

    def test_a_wait_that_a_clip_has_no_time_for(self):
        result, server, slept = ask((429, {"Retry-After": "3600"}, "quota"))
        assert result.words == FALLBACK
        assert "429" in result.problem
        assert "3600 s" in result.problem
        assert len(server.requests) == 1
        assert not slept

    @pytest.mark.parametrize("status", [400, 401, 403, 404])
    def test_refused_is_not_asked_again(self, status):
        result, server, slept = ask((status, {}, '{"error": "no such\nthing"}'))
        assert (result.words, result.origin) == (FALLBACK, "fallback")
        assert f"HTTP {status}" in result.problem
        assert "no such thing" in result.problem
        assert len(server.requests) == 1
        assert not slept

    def test_slow(self):
        result, server, slept = ask(lambda handler: time.sleep(0.3), timeout_s=0.1, max_retries=1)
        assert result.words == FALLBACK
        assert "0.1 s" in result.problem
        assert len(server.requests) == 1
        assert not slept

    def test_dripping(self):
        def drip(handler):
            handler.send_response(200)
            handler.end_headers()
            with suppress(OSError):
                for _ in range(100):
                    handler.wfile.write(b" ")
                    time.sleep(0.02)

        started = time.monotonic()
        result, _, _ = ask(drip, timeout_s=0.2, max_retries=0)
        assert result.origin == "fallback"
        assert "no whole reply" in result.problem
        assert time.monotonic() - started < 1.5

    def test_endless(self):
        def pour(handler):
            handler.send_response(200)
            handler.end_headers()
            with suppress(OSError):
                while True:
                    handler.wfile.write(bytes(1 << 16))

        result, _, _ = ask(pour)
        assert result.origin == "fallback"
        assert "more than" in result.problem

    def test_hung_up_then_good(self):
        result, server, _ = ask(lambda handler: handler.connection.shutdown(socket.SHUT_RDWR), json.dumps(GOOD))
        assert result.words == WORDS
        assert len(server.requests) == 2

    def test_nobody_listens(self):
        with socket.socket() as held:  # bound, not listening: nobody else gets the port
            held.bind(("127.0.0.1", 0))
            slept = []
            config = NamingConfig(f"http://127.0.0.1:{held.getsockname()[1]}/v1", "m", max_retries=2)
            result = EntityNamer(config, slept.append, lambda: 0.0).name(*clip(), FALLBACK)
        assert result.words == FALLBACK
        assert "ConnectError" in result.problem
        assert slept == [1.0, 2.0]

    def test_the_time_of_a_clip_is_shared_by_its_stretches(self):
        slept = []
        with Server([(500, {}, "oops")]).running() as server:
            config = NamingConfig(server.url, "m", timeout_s=2.0, max_retries=1)
            namer = EntityNamer(config, slept.append, lambda: 0.0)
            results = [namer.name(*clip(), FALLBACK) for _ in range(6)]
        assert config.longest_s == 4.0
        assert sum(slept) <= 4.0
        assert all(result.words == FALLBACK and result.problem for result in results)


class TestCache:
    def test_asked_once(self, tmp_path):
        cache = str(tmp_path / "names")
        with Server([json.dumps(GOOD)]).running() as server:
            config = NamingConfig(server.url, "m", cache_dir=cache)
            first = EntityNamer(config).name(*clip(), FALLBACK)
            second = EntityNamer(config).name(*clip(), FALLBACK)
            assert (first.origin, second.origin) == ("endpoint", "cache")
            assert first.words == second.words == WORDS
            assert len(server.requests) == 1
            frames, masks = frames_and_masks()
            frames[2] = frames[2] // 2
            EntityNamer(config).name(frames, MaskRegions(masks), FALLBACK)
            EntityNamer(NamingConfig(server.url, "other", cache_dir=cache)).name(*clip(), FALLBACK)
            assert len(server.requests) == 3
        gone = EntityNamer(config, lambda seconds: None).name(*clip(), FALLBACK)  # the server is
        assert gone.origin == "cache"
        assert gone.words == WORDS
        files = [path for path in (tmp_path / "names").rglob("*") if path.is_file()]
        assert len(files) == 3
        assert all(path.suffix == ".json" for path in files)

    @pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b'[{"id": 1}'])
    def test_a_broken_file_is_asked_for_anew(self, tmp_path, content):
        with Server([json.dumps(GOOD)]).running() as server:
            config = NamingConfig(server.url, "m", cache_dir=str(tmp_path))
            EntityNamer(config).name(*clip(), FALLBACK)
            (file,) = tmp_path.rglob("*.json")
            file.write_bytes(content)
            assert EntityNamer(config).name(*clip(), FALLBACK).origin == "endpoint"
            assert EntityNamer(config).name(*clip(), FALLBACK).origin == "cache"

    def test_fallbacks_are_not_kept(self, tmp_path):
        ask((401, {}, ""), cache_dir=str(tmp_path))
        assert not list(tmp_path.rglob("*"))

    def test_a_cache_that_cannot_be_written_costs_nothing(self, tmp_path):
        (tmp_path / "file").write_text("")
        assert ask(json.dumps(GOOD), cache_dir=str(tmp_path / "file" / "names"))[0].words == WORDS


class InMemory(StereoClip):
    """A rendered clip with the source's poses, depth and masks."""

    def __init__(self):
        config = world_preset("default").replace(camera_motions={"left": 1}, object_motions={"farther": 1}, detail=0.3)
        scene = clip_scene(1, 0, 8, 0.75, config)
        self.render = render_stereo(scene, config, 128, 96)
        exact = exact_clip(scene, self.render, clip_id="x", video="x", fps=8.0, baseline_m=config.baseline_m)
        self.clip_id, self.source, self.license, self.path = "clip", "test", "CC0-1.0", Path("clip")
        self.fps, self.num_frames, self.notes = 8.0, 8, {}
        self.camera = StereoCamera(128, 96, self.render.intrinsics, config.baseline_m)
        self.cam_to_world = exact.cam_to_world
        centers = np.full((8, 3), np.nan)
        self.objects = [SourceObject(track.id, "object", centers, is_moving=True) for track in exact.objects]

    def pairs(self, start=0, stop=None):
        for frame in range(*slice(start, stop).indices(self.num_frames)):
            yield StereoPair(frame, self.render.left[frame], self.render.right[frame])

    def depth(self, frame):
        return self.render.depth[frame].astype(np.float32)

    def instance_mask(self, frame):
        return self.render.mask[frame].astype(np.int32)


def write_tracking(root, sequences):
    """Sequences of KITTI tracking, textured walls with one labelled box each: the source has boxes and no masks."""
    wall = np.random.default_rng(0).integers(0, 255, (96, 144), np.uint8)
    wall = cv2.resize(wall[::3, ::3], (144, 96), interpolation=cv2.INTER_CUBIC)
    projection = np.array([[100.0, 0, 64, 0], [0, 100, 48, 0], [0, 0, 1, 0]])
    for name in ("calib", "label_02", "poses"):
        (root / name).mkdir(parents=True)
    for sequence in sequences:
        rows = []
        for camera, shift in enumerate((0, 0, 0, -50.0)):  # half a metre, f = 100 px
            projection[0, 3] = shift
            rows.append(f"P{camera}: " + " ".join(map(str, projection.ravel())))
        (root / "calib" / f"{sequence}.txt").write_text("\n".join(rows) + "\n")
        np.savetxt(root / "poses" / f"{sequence}.txt", np.tile(np.eye(4)[:3].ravel(), (8, 1)))
        labels = [f"{t} 1 Car 0 0 0 40 40 80 70 1.5 1.6 4 0 1 {6 - t / 4} 0" for t in range(8)]
        (root / "label_02" / f"{sequence}.txt").write_text("\n".join(labels) + "\n")
        for camera, first in (("image_02", 0), ("image_03", 8)):
            (root / camera / sequence).mkdir(parents=True)
            for t in range(8):
                shade = 4 * t + int(sequence)  # no two frames and no two sequences are alike
                image = cv2.add(wall[:, first : first + 128], np.full((96, 128), shade, np.uint8))
                cv2.imwrite(str(root / camera / sequence / f"{t:06d}.png"), image)


class TestInTheAnnotation:
    @pytest.fixture(scope="class")
    def source(self):
        return InMemory()

    def annotated(self, source, out, url, **changes):
        naming = {"base_url": url, "model": "m", "max_retries": 0} if url else {}
        loose = {"quality.min_matches": 5, "quality.min_valid_depth": 0.05}
        (outcome,) = annotate_clip(source, load_config(None, {"naming": naming, **loose, **changes}), out)
        if not outcome.is_kept:
            return None
        return read_clip(out / "clip4d" / "clip.npz")

    def test_words_of_the_endpoint_in_the_record(self, source, tmp_path):
        def answer(handler):
            ids = [int(n) for n in re.search(r"objects ([\d, ]+)\.", server.task(-1)).group(1).split(", ")]
            entries = [{"id": n, "category": "toy", "description": f"the toy {chr(96 + n)}"} for n in ids]
            body = json.dumps({"choices": [{"message": {"content": json.dumps(entries)}}]}).encode()
            handler.send_response(200)
            handler.end_headers()
            handler.wfile.write(body)

        with Server([answer]).running() as server:
            record = self.annotated(source, tmp_path, server.url)
            again = self.annotated(source, tmp_path, server.url)  # from the cache, which the record does not tell
        assert [track.description for track in record.objects] == [f"the toy {chr(96 + t.id)}" for t in record.objects]
        assert {track.category for track in record.objects} == {"toy"}
        assert record.quality["names"] == again.quality["names"] == "endpoint"
        assert len(list((tmp_path / "names").glob("*.json"))) == len(server.requests) == 1
        assert not (tmp_path / "masks").exists()

    def test_a_fault_costs_the_words_only(self, source, tmp_path):
        with Server([(500, {}, "oops")]).running() as server:
            record = self.annotated(source, tmp_path / "asked", server.url)
        assert record.quality["names"] == "fallback"
        assert record.quality["names_problem"] == "HTTP 500: oops"
        plain = self.annotated(source, tmp_path / "plain", "")
        assert plain.quality["names"] == "words"
        assert [track.description for track in plain.objects] == [track.description for track in record.objects]

    def test_boxes_of_a_source_without_masks(self, source, tmp_path):
        boxed = copy.copy(source)
        boxed.instance_mask = lambda frame: None
        boxed.objects = [replace(item, centers=np.tile([0.0, 0, 3], (8, 1))) for item in source.objects]
        boxes = np.full((8, 4), np.nan)
        boxes[2:5] = [20, 20, 60, 60]
        boxed.objects[0].boxes = boxes
        shown = boxed.objects[0].id
        answer = json.dumps([{"id": shown, "category": "toy", "description": "the toy a"}])
        with Server([answer]).running() as server:
            record = self.annotated(boxed, tmp_path, server.url)
        assert f"objects {shown}." in server.task()
        assert record.quality["names"] == "endpoint"
        assert [track.description for track in record.objects if track.id == shown] == ["the toy a"]

    def test_a_dead_endpoint_is_given_up_by_the_whole_run(self, tmp_path, caplog):
        write_tracking(tmp_path / "in", ["0000", "0001", "0002"])
        with Server([(500, {}, "oops")]).running() as server:
            naming = {"base_url": server.url, "model": "m", "max_retries": 0, "max_unanswered": 2}
            config = load_config(None, {"naming": naming, "quality.min_matches": 5, "quality.allow_static": True})
            report = annotate(find_source(tmp_path / "in"), tmp_path / "out", config)
        assert (report.kept, report.quarantined, report.rejected) == (3, {}, {})
        records = [read_clip(path) for path in sorted((tmp_path / "out" / "clip4d").glob("*.npz"))]
        assert len(server.requests) == 2
        problems = [record.quality["names_problem"] for record in records]
        assert problems == ["HTTP 500: oops", "HTTP 500: oops", report.names_given_up]
        assert report.names_given_up == "not asked: 2 clips in a row got no answer (HTTP 500: oops)"
        assert sum("given up" in entry.getMessage() for entry in caplog.records) == 1

    def test_clips_that_are_kept_out_are_not_asked_about(self, source, tmp_path):
        with Server(["never"]).running() as server:
            assert self.annotated(source, tmp_path, server.url, **{"quality.min_objects": 99}) is None
        assert not server.requests

    def test_a_missing_key_is_told_before_the_first_clip(self, tmp_path):
        config = load_config(None, {"naming": {"base_url": "http://x/v1", "model": "m", "api_key_env": "NO_SUCH_KEY"}})
        with pytest.raises(InputError, match="NO_SUCH_KEY"):
            annotate(Source(tmp_path, "pair", "asked for", {}, []), tmp_path / "out", config)
        assert not (tmp_path / "out").exists()


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "field"),
        [
            ({"base_url": "localhost:8000", "model": "m"}, "naming.base_url"),
            ({"base_url": "http://localhost:8000/v1"}, "naming.model"),
            ({"timeout_s": 0.0}, "naming.timeout_s"),
            ({"max_retries": -1}, "naming.max_retries"),
            ({"max_chars": 3}, "naming.max_chars"),
            ({"max_unanswered": 0}, "naming.max_unanswered"),
        ],
    )
    def test_what_cannot_work_is_refused(self, settings, field):
        with pytest.raises(InputError) as caught:
            NamingConfig(**settings)
        assert caught.value.field == field

    def test_a_key_that_is_not_set(self, monkeypatch):
        monkeypatch.delenv("SOME_KEY", raising=False)
        with pytest.raises(InputError, match="SOME_KEY is not set"):
            EntityNamer(NamingConfig("http://localhost/v1", "m", api_key_env="SOME_KEY"))

    def test_httpx_is_asked_for_by_name(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "httpx", None)
        with pytest.raises(InputError, match="pip install httpx"):
            EntityNamer(NamingConfig("http://localhost/v1", "m"))

    def test_off_takes_no_time(self):
        assert not NamingConfig().is_on
        assert NamingConfig().longest_s == 0

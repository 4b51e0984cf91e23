"""The client of chat endpoints, apart from what its users' tests show against real servers."""

import threading

import pytest

from mllm4d_verl.data_tools.endpoint import ChatClient, Endpoint, GiveUp, Pace, without_thoughts
from mllm4d_verl.data_tools.errors import InputError


class TestPace:
    def clock(self):
        now, slept = [100.0], []

        def sleep(seconds):
            slept.append(seconds)
            now[0] += seconds

        return now, slept, sleep

    def test_requests_are_evenly_spaced(self):
        now, slept, sleep = self.clock()
        pace = Pace(30, sleep, lambda: now[0])
        for _ in range(4):
            pace.wait()
        assert slept == pytest.approx([2.0, 2.0, 2.0])

    def test_time_that_passes_anyway_counts(self):
        now, slept, sleep = self.clock()
        pace = Pace(30, sleep, lambda: now[0])
        pace.wait()
        now[0] += 5
        pace.wait()
        pace.wait()
        assert slept == pytest.approx([2.0])  # and no burst after a break

    def test_no_limit(self):
        now, slept, sleep = self.clock()
        pace = Pace(0, sleep, lambda: now[0])
        for _ in range(9):
            pace.wait()
        assert not slept

    def test_threads_share_it(self):
        slept = []
        pace = Pace(60, slept.append, lambda: 0.0)
        threads = [threading.Thread(target=pace.wait) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(slept) == pytest.approx(range(1, 8))


class TestGiveUp:
    def test_only_a_row_of_them_counts(self):
        give_up = GiveUp(3)
        told = [give_up.count(bad, "HTTP 500") for bad in (True, True, False, True, True)]
        assert not any(told)
        assert give_up.given_up == ""
        assert give_up.count(True, "HTTP 500")
        assert give_up.given_up == "not asked: 3 questions in a row got no answer (HTTP 500)"

    def test_it_is_said_once_and_for_all(self):
        give_up = GiveUp(1, "paths")
        assert [give_up.count(bad) for bad in (True, True, False)] == [True, False, False]
        assert give_up.given_up


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a", "a"),
        ("<think>b</think>\n a ", "a"),
        ("```json\na\n```", "a"),
        ("<think>```</think>```\na\nb\n```", "a\nb"),
        ("a ``` b", "a ``` b"),
    ],
)
def test_thoughts_and_fences(content, text):
    assert without_thoughts(content) == text


def test_a_client_that_is_given_up_asks_nobody():
    pytest.importorskip("httpx")
    client = ChatClient(Endpoint("http://127.0.0.1:9/v1", "m"))
    client.given_up = "dead"
    reply = client.ask({"messages": []}, str)
    assert (reply.value, reply.origin, reply.problem, reply.is_unanswered) == (None, "nobody", "dead", True)


@pytest.mark.parametrize(
    ("endpoint", "field"),
    [
        (Endpoint("example.org", "m"), "x.base_url"),
        (Endpoint("http://example.org", ""), "x.model"),
        (Endpoint("", "", timeout_s=0), "x.timeout_s"),
        (Endpoint("", "", max_retries=-1), "x.max_retries"),
    ],
)
def test_settings_that_cannot_be(endpoint, field):
    with pytest.raises(InputError) as caught:
        endpoint.check("x.")
    assert caught.value.field == field

"""Work beside the main line: order, help, errors, stopping."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time

import pytest

from mllm4d_verl.training.beside import Beside, StoppedError

SOON_S = 10.0


def test_pieces_run_one_after_another_in_the_order_given():
    done, running = [], []

    def piece(number):
        def work(in_front):
            assert not running
            running.append(number)
            time.sleep(0.01)
            running.remove(number)
            done.append((number, in_front))

        return work

    with Beside() as beside:
        for number in range(3):
            beside.add(piece(number))
        deadline = time.monotonic() + SOON_S
        while len(done) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert done == [(0, False), (1, False), (2, False)]
        beside.add(piece(3))  # after it ran dry
        while len(done) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert done[3] == (3, False)


def test_finish_takes_what_is_left_while_another_piece_is_under_way():
    started, second_done = threading.Event(), threading.Event()
    fronts = []

    def first(in_front):
        started.set()
        assert second_done.wait(SOON_S), "nobody helped"
        fronts.append(("first", in_front))

    def second(in_front):
        fronts.append(("second", in_front))
        second_done.set()

    with Beside() as beside:
        beside.add(first)
        assert started.wait(SOON_S)
        beside.add(second)
        beside.finish()
        assert fronts == [("second", True), ("first", False)]


@pytest.mark.skipif(sys.platform != "linux", reason="nice is of the whole process there")
def test_what_is_beside_yields_to_the_main_line():
    def niceness(in_front):
        own = subprocess.run([sys.executable, "-c", "import os; print(os.nice(0))"], capture_output=True, check=True)
        seen.append(int(own.stdout))

    seen, before = [], os.nice(0)
    with Beside() as beside:
        beside.add(niceness)
    assert seen == [19]
    assert os.nice(0) == before


def fails(in_front):
    raise ValueError("broken")


def add_until_it_fails(beside):
    deadline = time.monotonic() + SOON_S
    while time.monotonic() < deadline:
        beside.add(lambda in_front: None)
        time.sleep(0.01)


@pytest.mark.parametrize("reach", [Beside.finish, add_until_it_fails])
def test_an_error_reaches_the_main_line_and_nothing_more_is_started(reach):
    ran = []
    with Beside() as beside:
        beside.add(fails)
        with pytest.raises(ValueError, match="broken"):
            reach(beside)
        with contextlib.suppress(ValueError):
            beside.add(ran.append)
    assert not ran


def test_an_error_of_the_main_line_stops_the_piece_under_way():
    started, seen = threading.Event(), []
    beside = Beside()

    def long(in_front):
        started.set()
        try:
            while True:
                beside.check()
                time.sleep(0.01)
        except StoppedError:
            seen.append("stopped")
            raise

    def main_line():
        with beside:
            beside.add(long)
            beside.add(seen.append)
            assert started.wait(SOON_S)
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        main_line()
    assert seen == ["stopped"]
    assert threading.active_count() == before


def test_nothing_to_do():
    with Beside() as beside:
        beside.finish()
        beside.check()

"""Work beside the main line: it takes the processor time that a training of small matrices leaves idle."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType

_NICE = 19  # the lowest priority; the main line keeps 0

#: Does one piece of work; told whether it is in front of the user, who then sees its progress.
Work = Callable[[bool], None]


class StoppedError(Exception):
    """The main line has ended with an error; what is beside it ends too."""


class Beside:
    """Does pieces of work one after another in a thread; `finish` takes its share of those that are left.

    A context manager. When its block ends with an error, Ctrl-C among them, the piece that is under way is stopped: it
    has to call `check` every now and then.
    """

    def __init__(self) -> None:
        self._left: deque[Work] = deque()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self._stop.set()
        self._join()

    def add(self, work: Work) -> None:
        """Queue `work`. Raises what an earlier piece raised; after an error nothing is started any more."""
        self._raise()
        with self._lock:
            self._left.append(work)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="beside")
                self._thread.start()

    def finish(self) -> None:
        """Return when all is done. Raises what a piece raised."""
        while self._error is None and (work := self._next()) is not None:
            try:
                work(True)
            except BaseException:
                self._stop.set()
                raise
        self._join()
        self._raise()

    def check(self) -> None:
        """Raise StoppedError where the piece under way is to end."""
        if self._stop.is_set():
            raise StoppedError

    def _next(self, ends_thread: bool = False) -> Work | None:
        with self._lock:
            if self._left and not self._stop.is_set():
                return self._left.popleft()
            if ends_thread:  # under the lock: what is added from now on starts another one
                self._thread = None
            return None

    def _run(self) -> None:
        if sys.platform == "linux":  # there, nice is of a thread and the processes that it starts
            os.nice(_NICE)
        try:
            while (work := self._next(ends_thread=True)) is not None:
                work(False)
        except BaseException as error:  # handed over to the main line
            self._error = error
            self._stop.set()

    def _join(self) -> None:
        thread = self._thread
        if thread is not None:
            thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

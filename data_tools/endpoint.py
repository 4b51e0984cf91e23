"""Questions to any OpenAI-compatible chat endpoint: asked again where that helps, kept, and given up when it is dead.

Needs httpx (extra `naming`), which is imported when a client is made.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar

from .atomic import atomic_path
from .control_tokens import as_plain_text
from .errors import InputError

Value = TypeVar("Value")
Origin = Literal["endpoint", "cache", "nobody"]

#: First wait before asking a busy or broken server again, seconds; doubles each time up to the longest.
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 30.0
#: A reply longer than this is none that was asked for, bytes.
_LONGEST_REPLY = 1 << 20
#: Part of the name of a kept reply; raised when a request changes its meaning.
_CACHE_VERSION = 1


class EndpointError(Exception):
    """No reply to read: whether another attempt may help, and when."""

    def __init__(self, problem: str, is_passing: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(problem)
        self.is_passing, self.retry_after_s = is_passing, retry_after_s


class BadReplyError(Exception):
    """A reply that is not what was asked for, in words that the model is told."""


@dataclass(frozen=True)
class Endpoint:
    """Whom to ask, and how patiently.

    Attributes:
        base_url: of an OpenAI-compatible API, such as "http://localhost:8000/v1"; empty is nobody.
        model: name of the model as the endpoint knows it.
        api_key_env: environment variable that holds the key; empty sends none, as vLLM needs none by default.
        timeout_s: one request may take so long, seconds.
        max_retries: further requests per question, for faults of the endpoint and for replies that do not fit.
    """

    base_url: str
    model: str
    api_key_env: str = ""
    timeout_s: float = 60.0
    max_retries: int = 3

    def check(self, prefix: str = "") -> None:
        """Raise InputError naming the setting, `prefix` before it, that cannot be. An empty `base_url` may be."""
        if self.base_url and not self.base_url.startswith(("http://", "https://")):
            raise InputError(
                f"must start with http:// or https://, got {self.base_url!r}",
                field=f"{prefix}base_url",
                remedy="The address ends in /v1 as a rule, such as http://localhost:8000/v1",
            )
        if self.base_url and not self.model:
            raise InputError(
                "is empty",
                field=f"{prefix}model",
                remedy=f"Choose one of those that {self.base_url.rstrip('/')}/models lists",
            )
        if not self.timeout_s > 0:
            raise InputError(f"must be above 0, got {self.timeout_s}", field=f"{prefix}timeout_s")
        if self.max_retries < 0:
            raise InputError(f"must be at least 0, got {self.max_retries}", field=f"{prefix}max_retries")


@dataclass(frozen=True)
class Reply(Generic[Value]):
    """What came of a question.

    Attributes:
        value: what was read from the reply; None where no reply fits.
        origin: "endpoint", "cache" (the endpoint's, from an earlier time), or "nobody" where `value` is None.
        problem: what went wrong in the last attempt where `value` is None; else empty.
        is_unanswered: the endpoint was to be asked, and not one reply came that could be read.
        completion: the chat completion as the endpoint sent it, for token counts and the like; empty where the value
            is not the endpoint's of just now.
    """

    value: Value | None
    origin: Origin
    problem: str = ""
    is_unanswered: bool = False
    completion: Mapping[str, Any] = field(default_factory=dict)


class GiveUp:
    """Gives an endpoint up that has left `limit` questions in a row without an answer. Safe among threads.

    Attributes:
        limit: how many.
        given_up: why nobody is asked any more; empty as long as somebody is.
    """

    def __init__(self, limit: int, what: str = "questions") -> None:
        self.limit, self._what, self._unanswered = limit, what, 0
        self.given_up = ""
        self._lock = threading.Lock()

    def count(self, is_unanswered: bool, problem: str = "") -> bool:
        """Take note of one question. True when it is the one that made the endpoint be given up."""
        with self._lock:
            if self.given_up:
                return False
            self._unanswered = self._unanswered + 1 if is_unanswered else 0
            if self._unanswered < self.limit:
                return False
            self.given_up = f"not asked: {self._unanswered} {self._what} in a row got no answer ({problem})"
            return True


class Pace:
    """At most so many requests a minute, evenly spaced, however many threads ask.

    Args:
        per_minute: requests a minute; 0 sets no limit.
        sleep, clock: take and give seconds.
    """

    def __init__(
        self,
        per_minute: float,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._every_s = 60.0 / per_minute if per_minute > 0 else 0.0
        self._sleep, self._clock = sleep, clock
        self._next_s = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when it is this request's turn."""
        if not self._every_s:
            return
        with self._lock:
            now_s = self._clock()
            turn_s = max(now_s, self._next_s)
            self._next_s = turn_s + self._every_s
        if turn_s > now_s:
            self._sleep(turn_s - now_s)


class ChatClient:
    """Asks an endpoint until a reply can be read, within limits.

    Used as a context manager it keeps its connections between questions; without, it opens one for each.

    Args:
        endpoint: whom to ask.
        prefix: of the settings' names in messages, "naming.".
        cache_dir: folder of replies by content of the request; empty keeps none.
        budget_s: all requests and waits of this client together may take so long, seconds; None sets no limit.
        budget_words: what the budget is for, in the message that it is over.
        pace: waits for a request's turn.
        given_up: why the endpoint is not asked; kept replies serve all the same. May be set later on.
        sleep: waits between attempts, takes seconds.
        jitter: share in [0, 1) that is taken off half of a wait, so that many processes do not come back at once.

    Raises:
        InputError: httpx is not installed; `api_key_env` names a variable that is not set.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        prefix: str = "",
        cache_dir: str = "",
        budget_s: float | None = None,
        budget_words: str = "this",
        pace: Pace | None = None,
        given_up: str = "",
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.endpoint = endpoint
        self._cache_dir, self._pace, self.given_up = cache_dir, pace, given_up
        self._budget_s, self._budget_words = budget_s, budget_words
        self._left_s = float("inf") if budget_s is None else budget_s
        self._sleep, self._jitter = sleep, jitter
        self._httpx = _import_httpx(prefix)
        self._headers = _headers(endpoint.api_key_env, prefix)
        self._connections: Any = None

    def __enter__(self) -> ChatClient:
        self._connections = self._new_client()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connections.close()
        self._connections = None

    def ask(
        self,
        payload: Mapping[str, Any],
        read: Callable[[str], Value],
        again: str = "Answer again.",
        write: Callable[[Value], str] | None = None,
    ) -> Reply[Value]:
        """Ask once, and again after faults that pass and replies that do not fit.

        Args:
            payload: of a chat completion, without `stream`.
            read: the value in a reply's text, or in what `write` made of it. Raises BadReplyError.
            again: what the model is asked after it was told what does not fit.
            write: text of a value for the cache; None keeps the reply itself.
        """
        file = self._cache_file(payload)
        kept = _kept(file, read)
        if kept is not None:
            return Reply(kept, "cache")
        if self.given_up:
            return Reply(None, "nobody", self.given_up, True)
        value, text, problem, is_unanswered, completion = self._converse(payload, read, again)
        if value is None:
            return Reply(None, "nobody", problem, is_unanswered)
        if file is not None:
            # a cache that cannot be written costs the next run a request, not this question its answer
            with contextlib.suppress(OSError), atomic_path(file) as temporary:
                temporary.write_text(text if write is None else write(value), encoding="utf-8")
        return Reply(value, "endpoint", completion=completion)

    def _converse(
        self, payload: Mapping[str, Any], read: Callable[[str], Value], again: str
    ) -> tuple[Value | None, str, str, bool, Mapping[str, Any]]:
        """Value, the text it was read from, the last problem, whether no reply came at all, and the whole reply."""
        messages = list(payload["messages"])
        request = {**payload, "messages": messages}
        first = len(messages)
        problem, is_unanswered = "", True
        for attempt in range(self.endpoint.max_retries + 1):
            if self._left_s <= 0:
                return (
                    None,
                    "",
                    problem or f"the {self._budget_s:g} s that {self._budget_words} are over",
                    is_unanswered,
                    {},
                )
            try:
                completion = self._post(request)
            except EndpointError as error:
                problem = str(error)
                if not error.is_passing or attempt == self.endpoint.max_retries:
                    break
                wait_s = self._wait_s(attempt) if error.retry_after_s is None else error.retry_after_s
                if wait_s >= self._left_s or (self._budget_s is None and wait_s > self.endpoint.timeout_s):
                    problem += f"; a wait of {wait_s:.0f} s is longer than what is left"
                    break
                self._left_s -= wait_s
                self._sleep(wait_s)
                continue
            content = _content(completion)
            try:
                return read(content), content, "", False, completion
            except BadReplyError as error:
                problem, is_unanswered = f"the reply does not fit: {error}", False
                # Told of the last fault only: pictures are sent once, and the request does not grow.
                messages[first:] = [
                    {"role": "assistant", "content": as_plain_text(content)},
                    {"role": "user", "content": as_plain_text(f"That does not fit: {error}. {again}")},
                ]
        return None, "", problem, is_unanswered, {}

    def _wait_s(self, attempt: int) -> float:
        return min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**attempt) * (1 - 0.5 * self._jitter())

    def _post(self, payload: dict[str, Any]) -> dict[str, Any]:
        """A chat completion. Raises EndpointError."""
        httpx = self._httpx
        if self._pace is not None:
            self._pace.wait()
        limit_s = min(self.endpoint.timeout_s, self._left_s)
        url = self.endpoint.base_url.rstrip("/") + "/chat/completions"
        started = time.monotonic()
        try:
            with (
                self._open() as client,
                client.stream("POST", url, json=payload, headers=self._headers, timeout=limit_s) as response,
            ):
                body = bytearray()
                for piece in response.iter_bytes():
                    body += piece
                    # httpx times every piece on its own; a server that drips would hold the question for ever
                    if time.monotonic() - started > limit_s:
                        raise EndpointError(f"no whole reply within {limit_s:g} s", is_passing=True)
                    if len(body) > _LONGEST_REPLY:
                        raise EndpointError(f"a reply of more than {_LONGEST_REPLY} bytes")
        except httpx.TimeoutException:
            raise EndpointError(f"no reply within {limit_s:g} s", is_passing=True) from None
        except httpx.TransportError as error:
            raise EndpointError(f"{type(error).__name__}: {error}", is_passing=True) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise EndpointError(f"{type(error).__name__}: {error}") from None
        finally:
            self._left_s -= time.monotonic() - started
        return _completion(response.status_code, response.headers, bytes(body))

    def _open(self) -> Any:
        return self._new_client() if self._connections is None else contextlib.nullcontext(self._connections)

    def _new_client(self) -> Any:
        # as many connections as threads that ask: their number is the caller's to limit
        limits = self._httpx.Limits(max_connections=None, max_keepalive_connections=None)
        # certificates take longer to load than many a request, and http needs none (redirects are not followed)
        return self._httpx.Client(limits=limits, verify=self.endpoint.base_url.startswith("https://"))

    def _cache_file(self, payload: Mapping[str, Any]) -> Path | None:
        if not self._cache_dir:
            return None
        text = json.dumps([_CACHE_VERSION, payload], sort_keys=True)
        return Path(self._cache_dir) / f"{hashlib.sha256(text.encode()).hexdigest()}.json"


def without_thoughts(content: str) -> str:
    """A reply without the thoughts before it, which some servers leave in, and the code fence around it."""
    text = content.rpartition("</think>")[2].strip()
    fence = re.fullmatch(r"```[a-zA-Z]*\s*\n(.*?)\n?\s*```", text, re.DOTALL)
    return fence.group(1) if fence else text


def _kept(file: Path | None, read: Callable[[str], Value]) -> Value | None:
    if file is None:
        return None
    # what is unreadable or does not fit is asked for anew, and written over
    with contextlib.suppress(OSError, UnicodeDecodeError, BadReplyError):
        return read(file.read_text(encoding="utf-8"))
    return None


def _import_httpx(prefix: str) -> Any:
    try:
        import httpx
    except ImportError:
        raise InputError(
            "asking an endpoint needs httpx, which is not installed",
            field=f"{prefix}base_url",
            remedy=f"Run pip install httpx, or leave {prefix}base_url empty",
        ) from None
    return httpx


def _headers(api_key_env: str, prefix: str) -> dict[str, str]:
    if not api_key_env:
        return {}
    key = os.environ.get(api_key_env, "").strip()
    if not key:
        raise InputError(
            f"the environment variable {api_key_env} is not set",
            field=f"{prefix}api_key_env",
            remedy=f"Export the key under that name, or leave {prefix}api_key_env empty for an endpoint without keys",
        )
    return {"Authorization": f"Bearer {key}"}


def _completion(status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """The chat completion in an answer. Raises EndpointError."""
    if status != 200:
        start = " ".join(body.decode("utf-8", "replace").split())[:200]
        passing = status in (408, 429) or status >= 500
        after = _retry_after_s(headers.get("retry-after", "")) if passing else None
        raise EndpointError(f"HTTP {status}: {start}", is_passing=passing, retry_after_s=after)
    try:
        completion = json.loads(body)
        _ = completion["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        start = " ".join(body.decode("utf-8", "replace").split())[:80]
        raise EndpointError(f"the reply is no chat completion: {start}", is_passing=True) from None
    return completion


def _content(completion: Mapping[str, Any]) -> str:
    """Text of the first choice."""
    content = completion["choices"][0]["message"]["content"]
    if isinstance(content, list):  # parts, as some servers give them
        content = "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _retry_after_s(text: str) -> float | None:
    """Seconds of a Retry-After header, a number or a date (RFC 9110, 10.2.3); None where it is neither."""
    text = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None

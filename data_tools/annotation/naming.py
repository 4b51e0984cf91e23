"""Names and descriptions of a clip's objects from a vision model behind any OpenAI-compatible endpoint."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal

from ..atomic import atomic_path
from ..errors import InputError
from ..schema import ObjectTrack
from .naming_pictures import Image, Regions, ShownObjects, image_part

#: Category and description, ("car", "the red car with a roof rack").
Words = tuple[str, str]
Origin = Literal["endpoint", "cache", "fallback"]

#: Category of an object of which nothing is known; any other is the source's label, which the endpoint does not change.
UNKNOWN = "object"

#: First wait before asking a busy or broken server again, seconds; doubles each time up to the longest.
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 30.0
#: A reply longer than this is no list of names, bytes.
_LONGEST_REPLY = 1 << 20
#: Part of the name of a cached reply; raised when the request changes its meaning.
_CACHE_VERSION = 1
_MARKS = re.compile(r"\b(outlined?|numbered|(object|number|mark|id)\s*#?\d+)\b", re.IGNORECASE)

_SYSTEM = "You name the objects of a video for people who have not seen your pictures. You answer with JSON only."
_TASK = """The first {frames} of one video; {marked}. After that there is one picture of each object.

Give a category and a description of each of the objects {ids}. Answer with a JSON list of one entry per object:
[{{"id": {first}, "category": "...", "description": "the ..."}}, ...]

category: what it is, one to three words in lower case, no colour.
description: a short noun phrase in English that starts with "the", and fits this object and no other in the video, by \
colour, kind and looks. Say where it is in the first picture only if nothing else tells two objects apart. Never say \
how it moves or how far away it is. Never mention the numbers or outlines, which were drawn in. At most {max_chars} \
characters. No two descriptions may be the same.{known}"""


@dataclass(frozen=True)
class NamingConfig:
    """Whom to ask for the words of objects, and for how long.

    Attributes:
        base_url: of an OpenAI-compatible API, such as "http://localhost:8000/v1"; empty asks nobody.
        model: name of the model as the endpoint knows it.
        api_key_env: environment variable that holds the key; empty sends none, as vLLM needs none by default.
        timeout_s: one request may take so long, seconds.
        max_retries: further requests per set of objects, for faults of the endpoint and for replies that do not fit.
        max_chars: a category or description may be so long.
        max_unanswered: after so many clips in a row that got no answer nobody is asked any more in this run.
        cache_dir: folder of replies by content of the request; empty is `names` in the folder that is annotated into.
    """

    base_url: str = ""
    model: str = ""
    api_key_env: str = ""
    timeout_s: float = 60.0
    max_retries: int = 3
    max_chars: int = 80
    max_unanswered: int = 3
    cache_dir: str = ""

    def __post_init__(self) -> None:
        if self.base_url and not self.base_url.startswith(("http://", "https://")):
            raise InputError(
                f"must start with http:// or https://, got {self.base_url!r}",
                field="naming.base_url",
                remedy="The address ends in /v1 as a rule, such as http://localhost:8000/v1",
            )
        if self.base_url and not self.model:
            raise InputError(
                "is empty",
                field="naming.model",
                remedy=f"Choose one of those that {self.base_url.rstrip('/')}/models lists",
            )
        if not self.timeout_s > 0:
            raise InputError(f"must be above 0, got {self.timeout_s}", field="naming.timeout_s")
        if self.max_retries < 0:
            raise InputError(f"must be at least 0, got {self.max_retries}", field="naming.max_retries")
        if self.max_unanswered < 1:
            raise InputError(f"must be at least 1, got {self.max_unanswered}", field="naming.max_unanswered")
        if self.max_chars < 10:
            raise InputError(f"must be at least 10, got {self.max_chars}", field="naming.max_chars")

    @property
    def is_on(self) -> bool:
        """Whether an endpoint is asked."""
        return bool(self.base_url)

    @property
    def longest_s(self) -> float:
        """All the time that naming takes of one clip at most, seconds; what is left then keeps its words."""
        return (1 + self.max_retries) * self.timeout_s if self.is_on else 0.0

    def deciding(self) -> dict[str, Any]:
        """The settings that words depend on: the same model elsewhere, or asked with more patience, says the same."""
        return {"is_on": self.is_on, "model": self.model, "max_chars": self.max_chars}


@dataclass(frozen=True)
class NamedEntities:
    """Words for the objects of a clip.

    Attributes:
        words: category and description of each object, in the order asked.
        origin: "endpoint", "cache" (the endpoint's, from an earlier time), or "fallback".
        problem: what went wrong in the last attempt where `origin` is "fallback"; else empty.
        is_unanswered: the endpoint was to be asked, and not one reply came that could be read.
    """

    words: list[Words]
    origin: Origin
    problem: str = ""
    is_unanswered: bool = False


class Breaker:
    """Gives an endpoint up that has not answered for `limit` clips in a row, and says so once.

    Attributes:
        given_up: why nobody is asked any more; empty as long as somebody is.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._unanswered = limit, 0
        self.given_up = ""

    def note(self, figures: Sequence[Mapping[str, Any]]) -> None:
        """The figures of a clip's stretches. A clip that nobody was asked about says nothing of the endpoint."""
        told = [item for item in figures if item.get("names") in ("endpoint", "fallback")]
        if not told or self.given_up:
            return
        if not all(item.get("names_unanswered") for item in told):
            self._unanswered = 0
            return
        self._unanswered += 1
        if self._unanswered >= self._limit:
            problem = told[-1].get("names_problem", "")
            self.given_up = f"not asked: {self._unanswered} clips in a row got no answer ({problem})"
            logging.getLogger(__name__).warning(
                "The endpoint that names objects is given up: %d clips in a row got no answer (%s). "
                "The other clips keep the words that need none.",
                self._unanswered,
                problem,
            )


class EntityNamer:
    """Asks an endpoint for the words of objects; whatever it answers, there are words in the end.

    Make one per clip: all its requests and waits together take at most `config.longest_s`.

    Args:
        config: with a `base_url`.
        sleep: waits between attempts, takes seconds.
        jitter: share in [0, 1) that is taken off half of a wait, so that many processes do not come back at once.
        given_up: why the endpoint is not asked, see `Breaker`; replies that are cached serve all the same.

    Raises:
        InputError: httpx is not installed; `api_key_env` names a variable that is not set.
    """

    def __init__(
        self,
        config: NamingConfig,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        given_up: str = "",
    ) -> None:
        self.config = config
        self._given_up = given_up
        self._sleep, self._jitter = sleep, jitter
        self._left_s = config.longest_s
        self._httpx = _import_httpx()
        self._headers = _headers(config.api_key_env)

    def name(
        self,
        frames: Sequence[Image],
        regions: Regions,
        fallback: Sequence[Words],
        ids: Sequence[int] | None = None,
    ) -> NamedEntities:
        """Words for every object.

        Args:
            frames: T images (H, W, 3) uint8 RGB.
            regions: where the objects are, masks or boxes.
            fallback: words of each object that serve where the endpoint's do not. A category other than "object" is
                taken for known: the endpoint is told, and it stays.
            ids: of the objects in `regions`; None is 1, 2, ... An object that is shown nowhere is not asked about.
        """
        ids = list(ids) if ids is not None else list(range(1, len(fallback) + 1))
        shown = ShownObjects(frames, regions, ids)
        if not shown.ids:
            return NamedEntities(list(fallback), "fallback", "no object is seen in a mask or box" if ids else "")
        kept = {ids[place]: fallback[place] for place in range(len(ids))}
        question = _Question(
            shown.ids,
            known={number: kept[number][0] for number in shown.ids if kept[number][0] != UNKNOWN},
            taken={_same(kept[number][1]) for number in ids if number not in shown.ids},
            max_chars=self.config.max_chars,
        )
        payload = {
            "model": self.config.model,
            "messages": question.messages(shown),
            "temperature": 0,
            "max_tokens": 128 + 96 * len(shown.ids),
        }
        cached = self._cached(payload, question)
        found, origin = (cached, "cache") if cached is not None else (None, "endpoint")
        problem = ""
        if found is None:
            found, problem, is_unanswered = self._ask(payload, question)
            if found is None:
                return NamedEntities(list(fallback), "fallback", problem, is_unanswered)
            self._remember(payload, found)
        words = [found.get(number, kept[number]) for number in ids]
        return NamedEntities(words, "cache" if origin == "cache" else "endpoint")

    # ------------------------------------------------------------------------------------------------- asking

    def _ask(self, payload: dict[str, Any], question: _Question) -> tuple[dict[int, Words] | None, str, bool]:
        """Words by id, or None and the last problem; and whether no reply came at all."""
        if self._given_up:
            return None, self._given_up, True
        payload = {**payload, "messages": list(payload["messages"])}
        problem, is_unanswered = "", True
        for attempt in range(self.config.max_retries + 1):
            if self._left_s <= 0:
                problem = problem or f"the {self.config.longest_s:g} s that a clip may take to name are over"
                return None, problem, is_unanswered
            try:
                content = self._post(payload)
            except _EndpointError as error:
                problem = str(error)
                if not error.is_passing:
                    break
                wait_s = self._wait_s(attempt) if error.retry_after_s is None else error.retry_after_s
                if attempt == self.config.max_retries:
                    break
                if wait_s >= self._left_s:
                    problem += f"; a wait of {wait_s:.0f} s is longer than what is left"
                    break
                self._left_s -= wait_s
                self._sleep(wait_s)
                continue
            try:
                return question.parse(content), "", False
            except _BadReplyError as error:
                problem, is_unanswered = f"the reply does not fit: {error}", False
                # Told of the last fault only: the pictures are sent once, and the request does not grow.
                payload["messages"][2:] = [
                    {"role": "assistant", "content": content},
                    {"role": "user", "content": f"That does not fit: {error}. Answer again, with the whole JSON list."},
                ]
        return None, problem, is_unanswered

    def _wait_s(self, attempt: int) -> float:
        return min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**attempt) * (1 - 0.5 * self._jitter())

    def _post(self, payload: dict[str, Any]) -> str:
        """Text of the first choice. Raises _EndpointError."""
        httpx = self._httpx
        limit_s = min(self.config.timeout_s, self._left_s)
        url = self.config.base_url.rstrip("/") + "/chat/completions"
        started = time.monotonic()
        try:
            with (
                httpx.Client(timeout=limit_s) as client,
                client.stream("POST", url, json=payload, headers=self._headers) as response,
            ):
                body = bytearray()
                for piece in response.iter_bytes():
                    body += piece
                    # httpx times every piece on its own; a server that drips would hold the clip for ever
                    if time.monotonic() - started > limit_s:
                        raise _EndpointError(f"no whole reply within {limit_s:g} s", is_passing=True)
                    if len(body) > _LONGEST_REPLY:
                        raise _EndpointError(f"a reply of more than {_LONGEST_REPLY} bytes")
        except httpx.TimeoutException:
            raise _EndpointError(f"no reply within {limit_s:g} s", is_passing=True) from None
        except httpx.TransportError as error:
            raise _EndpointError(f"{type(error).__name__}: {error}", is_passing=True) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _EndpointError(f"{type(error).__name__}: {error}") from None
        finally:
            self._left_s -= time.monotonic() - started
        return _content(response.status_code, response.headers, bytes(body))

    # ------------------------------------------------------------------------------------------------- cache

    def _cache_file(self, payload: dict[str, Any]) -> Path | None:
        if not self.config.cache_dir:
            return None
        text = json.dumps([_CACHE_VERSION, payload], sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()
        return Path(self.config.cache_dir) / f"{key}.json"

    def _cached(self, payload: dict[str, Any], question: _Question) -> dict[int, Words] | None:
        file = self._cache_file(payload)
        if file is None:
            return None
        # what is unreadable or does not fit is asked for anew, and written over
        with contextlib.suppress(OSError, UnicodeDecodeError, _BadReplyError):
            return question.parse(file.read_text(encoding="utf-8"))
        return None

    def _remember(self, payload: dict[str, Any], found: Mapping[int, Words]) -> None:
        file = self._cache_file(payload)
        if file is None:
            return
        entries = [{"id": number, "category": words[0], "description": words[1]} for number, words in found.items()]
        # a cache that cannot be written costs the next run a request, not this clip its words
        with contextlib.suppress(OSError), atomic_path(file) as temporary:
            temporary.write_text(json.dumps(entries, ensure_ascii=False, indent=1), encoding="utf-8")


def name_tracks(
    tracks: Sequence[ObjectTrack], regions: Regions, frames: Sequence[Image], namer: EntityNamer
) -> tuple[list[ObjectTrack], NamedEntities]:
    """The tracks with the words of an endpoint in place of their own, and how it went.

    Args:
        tracks: whose ids are those of `regions`.
        regions: where they are, masks or boxes.
        frames: T images (H, W, 3) uint8 RGB.
        namer: of this clip.
    """
    fallback = [(track.category, track.description) for track in tracks]
    named = namer.name(frames, regions, fallback, [track.id for track in tracks])
    renamed = [
        replace(track, category=category, description=description)
        for track, (category, description) in zip(tracks, named.words, strict=True)
    ]
    return renamed, named


class _EndpointError(Exception):
    """No reply to read: whether another attempt may help, and when."""

    def __init__(self, problem: str, is_passing: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(problem)
        self.is_passing, self.retry_after_s = is_passing, retry_after_s


class _BadReplyError(Exception):
    """A reply that is not what was asked for, in words that the model is told."""


def _import_httpx() -> Any:
    try:
        import httpx
    except ImportError:
        raise InputError(
            "asking an endpoint for names needs httpx, which is not installed",
            field="naming.base_url",
            remedy="Run pip install httpx, or leave naming.base_url empty",
        ) from None
    return httpx


def _headers(api_key_env: str) -> dict[str, str]:
    if not api_key_env:
        return {}
    key = os.environ.get(api_key_env, "").strip()
    if not key:
        raise InputError(
            f"the environment variable {api_key_env} is not set",
            field="naming.api_key_env",
            remedy="Export the key under that name, or leave naming.api_key_env empty for an endpoint without keys",
        )
    return {"Authorization": f"Bearer {key}"}


def _content(status: int, headers: Mapping[str, str], body: bytes) -> str:
    """The text in a chat completion. Raises _EndpointError."""
    if status != 200:
        start = " ".join(body.decode("utf-8", "replace").split())[:200]
        passing = status in (408, 429) or status >= 500
        after = _retry_after_s(headers.get("retry-after", "")) if passing else None
        raise _EndpointError(f"HTTP {status}: {start}", is_passing=passing, retry_after_s=after)
    try:
        content = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        start = " ".join(body.decode("utf-8", "replace").split())[:80]
        raise _EndpointError(f"the reply is no chat completion: {start}", is_passing=True) from None
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


# ------------------------------------------------------------------------------------------------ question and reply


@dataclass(frozen=True)
class _Question:
    """What is asked and what answers it.

    Attributes:
        ids: of the objects.
        known: category by id, where the source has it.
        taken: descriptions of objects that are not asked about, in the form of `_same`.
        max_chars: of a category or description.
    """

    ids: list[int]
    known: dict[int, str]
    taken: set[str]
    max_chars: int

    def messages(self, shown: ShownObjects) -> list[dict[str, Any]]:
        """System and user message with the pictures."""
        count = len(shown.frames)
        frames = "picture is a frame" if count == 1 else f"{count} pictures are frames"
        known = "".join(f"\nObject {number} is known to be: {category}." for number, category in self.known.items())
        task = _TASK.format(
            frames=frames,
            marked="its objects are outlined and numbered" if count == 1 else "the objects are outlined and numbered",
            ids=", ".join(map(str, self.ids)),
            first=self.ids[0],
            max_chars=self.max_chars,
            known=known,
        )
        parts: list[dict[str, Any]] = [{"type": "text", "text": task}]
        parts += [image_part(shown.marked(frame)) for frame in shown.frames]
        for number in self.ids:
            parts += [{"type": "text", "text": f"Object {number}:"}, image_part(shown.crop(number))]
        return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": parts}]

    def parse(self, content: str) -> dict[int, Words]:
        """Words by id, in the order asked. Raises _BadReplyError, saying what does not fit."""
        entries = _json_list(content)
        found: dict[int, Words] = {}
        for place, entry in enumerate(entries, start=1):
            if not isinstance(entry, dict) or set(entry) != {"id", "category", "description"}:
                raise _BadReplyError(f"entry {place} must be an object with id, category and description only")
            number = entry["id"]
            if isinstance(number, bool) or not isinstance(number, int) or number not in self.ids:
                raise _BadReplyError(f"entry {place} has the id {number!r}, which was not asked about")
            if number in found:
                raise _BadReplyError(f"the id {number} comes twice")
            category = self._text(entry["category"], f"the category of {number}").lower()
            description = _with_article(self._text(entry["description"], f"the description of {number}"))
            if len(description) > self.max_chars:
                raise _BadReplyError(f"the description of {number} has over {self.max_chars} characters")
            found[number] = (self.known.get(number, category), description)
        missing = [str(number) for number in self.ids if number not in found]
        if missing:
            raise _BadReplyError(f"no entry for {', '.join(missing)}")
        seen = dict.fromkeys(self.taken, 0)
        for number, (_, description) in found.items():
            text = _same(description)
            if text in seen:
                other = f"{seen[text]} and {number}" if seen[text] else f"{number} and an object not shown"
                raise _BadReplyError(f"{other} have the same description {description!r}")
            seen[text] = number
        return {number: found[number] for number in self.ids}

    def _text(self, value: Any, what: str) -> str:
        if not isinstance(value, str):
            raise _BadReplyError(f"{what} is no text")
        text = " ".join(value.split()).rstrip(".").strip()
        if not re.search(r"\w", text):
            raise _BadReplyError(f"{what} is empty")
        if len(text) > self.max_chars:
            raise _BadReplyError(f"{what} has {len(text)} characters, over {self.max_chars}")
        if _MARKS.search(text):
            raise _BadReplyError(f"{what} mentions the marks that were drawn in")
        return text


def _json_list(content: str) -> list[Any]:
    """The list in a reply; thoughts before it and a code fence around it are taken off."""
    text = content.rpartition("</think>")[2].strip()
    fence = re.fullmatch(r"```[a-zA-Z]*\s*\n(.*?)\n?\s*```", text, re.DOTALL)
    try:
        found = json.loads(fence.group(1) if fence else text)
    except ValueError as error:
        raise _BadReplyError(f"not JSON ({error})") from None
    except RecursionError:
        raise _BadReplyError("not JSON (nested too deep)") from None
    if not isinstance(found, list):
        raise _BadReplyError("a JSON list is wanted")
    return found


def _with_article(description: str) -> str:
    """ "A red car" as "the red car", the form of all descriptions."""
    return "the " + re.sub(r"^(the|an|a)\s+", "", description, flags=re.IGNORECASE)


def _same(description: str) -> str:
    return re.sub(r"[\W_]+", " ", description.lower()).strip()

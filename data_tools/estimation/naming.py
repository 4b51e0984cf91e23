"""Names and descriptions of objects from a vision model behind any endpoint that speaks OpenAI's chat completions."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ..atomic import atomic_path
from ..errors import InputError
from .description import ObjectAppearance, describe_objects, number_equal

Image = NDArray[np.uint8]
Pictures = Literal["marked", "crops"]

#: Raised when the prompt or the pictures change, so that old replies are not taken for new ones.
_CACHE_VERSION = 1
MAX_CATEGORY = 40  # characters
MAX_DESCRIPTION = 120
#: How often a reply that breaks the schema is sent back with what is wrong.
_CORRECTIONS = 2
#: After this many clips in a row that the endpoint failed, clips get one attempt each until one succeeds.
_GIVE_UP_AFTER = 3
_LONGEST_WAIT_S = 60.0
_MAX_REPLY_BYTES = 4_000_000
_LONGEST_SIDE = 1024  # pixels of a picture
_LEAST_SIDE = 448  # smaller ones are enlarged, which vision models read better
_JPEG_QUALITY = 90

_PROMPT = """You name objects of a video so that a person can find each of them.
{pictures}
For each of the objects {ids}, give
- "category": a broad class in one or two words, such as "car", "person", "ball";
- "description": at most twelve words that begin with "the" and fit no other of these objects: colour, kind, and a
  lasting trait where needed. Do not mention the numbers, the boxes or how it moves.
Reply with a JSON list and nothing else: [{{"id": 1, "category": "...", "description": "the ..."}}, ...]"""
_ABOUT_PICTURES = {
    "marked": "The pictures are frames of the video; a box with a number marks each object.",
    "crops": "There is one picture per object, each after its number.",
}


@dataclass(frozen=True)
class NamedObject:
    """Words for one object."""

    id: int
    category: str
    description: str


@dataclass(frozen=True)
class ClipNames:
    """Words for all objects of a clip, and where they come from.

    Attributes:
        objects: in the order they were given.
        origin: "endpoint", "cache", or "fallback": label, colour, size and place, see `describe_objects`.
        model: that was asked.
        requests: sent for this clip.
        problem: why words are not the endpoint's, or why a reply was not cached; None where all went well.
    """

    objects: tuple[NamedObject, ...]
    origin: str
    model: str
    requests: int = 0
    problem: str | None = None

    def note(self) -> dict[str, Any]:
        """What belongs into the quality record of the clip."""
        note: dict[str, Any] = {"names": self.origin, "names_model": self.model}
        return note | ({"names_problem": self.problem} if self.problem else {})


class EntityNamer:
    """Asks a vision model for words; replies are cached on disk, faults are retried, and no clip is ever lost.

    Picklable; every process opens its own connections.

    Args:
        base_url: of the API, "http://localhost:8000/v1" for a local vLLM.
        model: as the endpoint calls it.
        api_key: sent as bearer token; None sends none.
        cache_dir: folder of replies by the content of the request; None keeps none.
        timeout_s: for connecting, and for a whole reply.
        max_retries: of a request that meets 408, 409, 429, 5xx, a timeout or a broken connection.
        backoff_s: longest wait before the first retry; doubles with each, half of it at random.
        pictures: "marked" sends as few frames as show every object, boxes and numbers drawn in; "crops" sends each
            object by itself, for models that do not read numbers well.

    Raises:
        InputError: httpx is not installed, or an argument is out of range.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        cache_dir: str | Path | None = None,
        timeout_s: float = 60.0,
        max_retries: int = 4,
        backoff_s: float = 1.0,
        pictures: Pictures = "marked",
    ) -> None:
        _httpx()  # now rather than after hours of annotation
        if not re.match(r"https?://\S+$", base_url):
            raise InputError(f"{base_url!r} is no URL", field="base_url", remedy="Such as http://localhost:8000/v1")
        if not model:
            raise InputError("must not be empty", field="model", remedy="The name that the endpoint lists its model by")
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            raise InputError("holds characters that no header can carry", field="api_key", remedy="A stray line break?")
        if timeout_s <= 0 or backoff_s < 0 or max_retries < 0:
            raise InputError("timeout must be positive, backoff and retries 0 or more", field="timeout_s")
        if pictures not in _ABOUT_PICTURES:
            raise InputError(f"unknown pictures {pictures!r}", field="pictures", remedy="Known: marked, crops")
        self.base_url, self.model = base_url.rstrip("/").removesuffix("/chat/completions"), model
        self.cache_dir = None if cache_dir is None else Path(cache_dir)
        self.timeout_s, self.max_retries, self.backoff_s = timeout_s, max_retries, backoff_s
        self.pictures: Pictures = pictures
        self._api_key = api_key
        self._client: Any = None
        self._failures = 0  # clips in a row
        self._chance = random.Random()

    def name(
        self, frames: Sequence[Image], masks: NDArray[np.uint8], objects: Mapping[int, ObjectAppearance]
    ) -> ClipNames:
        """Words for every object of a clip; never raises for what the endpoint or the disk does.

        Args:
            frames: T times (H, W, 3) uint8 RGB.
            masks: (T, h, w) uint8 object ids, at the size of the frames or a smaller one.
            objects: id -> appearance, from which words come where the endpoint gives none.
        """
        shown = [number for number in objects if (masks == number).any()]
        if not shown:
            return self._fallback(objects, 0, "no object has pixels" if objects else None)
        images = marked_frames(frames, masks, shown) if self.pictures == "marked" else crops(frames, masks, shown)
        prompt = _PROMPT.format(pictures=_ABOUT_PICTURES[self.pictures], ids=", ".join(map(str, shown)))
        key = self._key(prompt, images)
        cached = self._read_cache(key, shown)
        if cached is not None:
            return self._names(objects, cached, "cache", 0)
        requests = _Counter()
        try:
            found = self._ask(prompt, images, shown, requests)
        except _EndpointError as error:
            self._failures += error.is_transport
            return self._fallback(objects, requests.count, str(error))
        self._failures = 0
        return self._names(objects, found, "endpoint", requests.count, self._write_cache(key, found))

    def close(self) -> None:
        """Close connections; they open again when needed."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_client": None}

    # ------------------------------------------------------------------------------------------------------- words

    def _names(
        self,
        objects: Mapping[int, ObjectAppearance],
        found: Sequence[NamedObject],
        origin: str,
        requests: int,
        problem: str | None = None,
    ) -> ClipNames:
        by_id = {item.id: item for item in found}
        rest = [number for number in objects if number not in by_id]
        words = describe_objects([objects[number] for number in rest])
        for number, (category, text) in zip(rest, words, strict=True):
            by_id[number] = NamedObject(number, category, text)
        texts = number_equal([by_id[number].description for number in objects])
        named = tuple(
            NamedObject(number, by_id[number].category, text) for number, text in zip(objects, texts, strict=True)
        )
        return ClipNames(named, origin, self.model, requests, problem)

    def _fallback(self, objects: Mapping[int, ObjectAppearance], requests: int, problem: str | None) -> ClipNames:
        return self._names(objects, [], "fallback", requests, problem)

    # ----------------------------------------------------------------------------------------------------- endpoint

    def _ask(self, prompt: str, images: list[_Picture], ids: list[int], requests: _Counter) -> list[NamedObject]:
        content: list[dict[str, Any]] = []
        for image in images:
            if image.title:
                content.append({"type": "text", "text": image.title})
            url = "data:image/jpeg;base64," + base64.b64encode(image.jpeg).decode()
            content.append({"type": "image_url", "image_url": {"url": url}})
        content.append({"type": "text", "text": prompt})
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        for correction in range(_CORRECTIONS + 1):
            reply = self._complete(messages, 128 + 96 * len(ids), requests)
            try:
                return parse_names(reply, ids)
            except ValueError as error:
                if correction == _CORRECTIONS:
                    raise _EndpointError(f"{_CORRECTIONS + 1} replies broke the schema, the last: {error}") from None
                told = f"That reply cannot be used: {error}. Reply again with the whole JSON list and nothing else."
                messages = [
                    *messages[:1],
                    {"role": "assistant", "content": reply[:4000]},
                    {"role": "user", "content": told},
                ]
        raise AssertionError("the last correction returns or raises")

    def _complete(self, messages: list[dict[str, Any]], max_tokens: int, requests: _Counter) -> str:
        """Text of one completion, with retries."""
        httpx = _httpx()
        body = {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": max_tokens}
        retries = 0 if self._failures >= _GIVE_UP_AFTER else self.max_retries
        for attempt in range(retries + 1):
            requests.count += 1
            wait_s = None
            try:
                response = self._post(body)
            except (httpx.HTTPError, OSError) as error:
                problem = f"{type(error).__name__}: {error}".rstrip(": ")
            else:
                if response.status == 200:
                    text = _reply_text(response.body)
                    if text is not None:
                        return text
                    problem = "the reply is no chat completion"
                else:
                    told = " ".join(response.body.decode(errors="replace").split())[:200]
                    problem = f"HTTP {response.status}: {told}"
                    if response.status not in (408, 409, 429) and response.status < 500:
                        raise _EndpointError(problem, is_transport=True)
                    wait_s = _retry_after_s(response.retry_after)
            if attempt < retries:
                time.sleep(self._wait_s(attempt, wait_s))
        raise _EndpointError(f"{problem} ({retries + 1} attempts)", is_transport=True)

    def _post(self, body: dict[str, Any]) -> _Response:
        """One request; a reply that takes longer than the timeout in all, or has no end, is a fault as others are."""
        httpx = _httpx()
        deadline = time.monotonic() + self.timeout_s
        with self._connection().stream("POST", "/chat/completions", json=body) as response:
            data = bytearray()
            for piece in response.iter_bytes():
                data += piece
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout(f"the reply took longer than {self.timeout_s:g} s")
                if len(data) > _MAX_REPLY_BYTES:
                    raise httpx.ReadError("the reply has no end")
            return _Response(response.status_code, bytes(data), response.headers.get("retry-after"))

    def _wait_s(self, attempt: int, asked_s: float | None) -> float:
        """Exponential with jitter, at least what the endpoint asked for, never more than a minute."""
        longest = self.backoff_s * 2**attempt
        wait_s = longest * (0.5 + 0.5 * self._chance.random())
        return min(_LONGEST_WAIT_S, max(wait_s, asked_s or 0.0))

    def _connection(self) -> Any:
        if self._client is None:
            headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}
            self._client = _httpx().Client(base_url=self.base_url, timeout=self.timeout_s, headers=headers)
        return self._client

    # -------------------------------------------------------------------------------------------------------- cache

    def _key(self, prompt: str, images: list[_Picture]) -> str:
        digest = hashlib.sha256(json.dumps([_CACHE_VERSION, self.model, prompt]).encode())
        for image in images:
            digest.update(f"\0{image.title}\0{len(image.jpeg)}\0".encode())
            digest.update(image.jpeg)
        return digest.hexdigest()

    def _read_cache(self, key: str, ids: list[int]) -> list[NamedObject] | None:
        if self.cache_dir is None:
            return None
        try:
            return parse_names(self._cache_file(key).read_text(encoding="utf-8"), ids)
        except (OSError, ValueError):  # absent, or damaged: asked again and written anew
            return None

    def _write_cache(self, key: str, names: Sequence[NamedObject]) -> str | None:
        """Store a reply; what went wrong, if anything: a full disk costs the cache, not the words."""
        if self.cache_dir is None:
            return None
        try:
            with atomic_path(self._cache_file(key)) as temporary:
                temporary.write_text(json.dumps([vars(item) for item in names], indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            return f"the reply could not be cached: {error}"
        return None

    def _cache_file(self, key: str) -> Path:
        assert self.cache_dir is not None
        return self.cache_dir / key[:2] / f"{key}.json"


def parse_names(reply: str, ids: Sequence[int]) -> list[NamedObject]:
    """The JSON list of a reply, in the order of `ids`.

    Thoughts before it and a code fence around it are passed over. Everything else must be as asked: one entry per id,
    the three keys and no others, words that are neither empty nor long, no description twice.

    Raises:
        ValueError: saying what is wrong, for the model to read.
    """
    text = reply.rsplit("</think>", 1)[-1].strip()
    fenced = re.fullmatch(r"```(?:json)?\s*(.*?)\s*```", text, re.DOTALL)
    try:
        entries = json.loads(fenced.group(1) if fenced else text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({error})") from None
    if not isinstance(entries, list):
        raise ValueError("it is not a JSON list")
    found: dict[int, NamedObject] = {}
    described: set[str] = set()
    for entry in entries:
        item = _parse_entry(entry)
        if item.id not in ids:
            raise ValueError(f"there is no object {item.id}; the objects are {', '.join(map(str, ids))}")
        if item.id in found:
            raise ValueError(f"object {item.id} occurs twice")
        if item.description.lower() in described:
            raise ValueError(f"two objects have the description {item.description!r}")
        found[item.id] = item
        described.add(item.description.lower())
    missing = [number for number in ids if number not in found]
    if missing:
        raise ValueError(f"objects {', '.join(map(str, missing))} are missing")
    return [found[number] for number in ids]


def _parse_entry(entry: Any) -> NamedObject:
    if not isinstance(entry, dict) or set(entry) != {"id", "category", "description"}:
        raise ValueError('every entry must be an object with the keys "id", "category", "description" and no others')
    number = entry["id"]
    if isinstance(number, bool) or not isinstance(number, int):
        raise ValueError(f"an id must be a whole number, got {json.dumps(number)[:40]}")
    words = {}
    for name, longest in (("category", MAX_CATEGORY), ("description", MAX_DESCRIPTION)):
        value = entry[name]
        if not isinstance(value, str) or not value.strip(" .\n\t"):
            raise ValueError(f"the {name} of object {number} is not a text, or empty")
        words[name] = " ".join(value.split()).rstrip(".")
        if len(words[name]) > longest:
            raise ValueError(f"the {name} of object {number} is longer than {longest} characters")
        if not words[name].isprintable():
            raise ValueError(f"the {name} of object {number} holds control characters")
    text = re.sub(r"^(an?|the)\s+", "", words["description"], flags=re.IGNORECASE)
    return NamedObject(number, words["category"].lower(), f"the {text}")


# -------------------------------------------------------------------------------------------------------- pictures


@dataclass(frozen=True)
class _Picture:
    """A JPEG, and a text to stand before it."""

    jpeg: bytes
    title: str = ""


def marked_frames(frames: Sequence[Image], masks: NDArray[np.uint8], ids: Sequence[int]) -> list[_Picture]:
    """As few frames as show every object well, with numbered boxes.

    Frames are taken greedily by how much they add to the largest share that each object has been shown with so far.
    """
    areas = np.array([[int((mask == number).sum()) for number in ids] for mask in masks], np.float64)
    shares = areas / np.maximum(areas.max(axis=0), 1)
    wanted = 0.5  # a frame will do that shows half of what an object's fullest frame shows
    shown = np.zeros(len(ids))
    chosen: list[int] = []
    while (shown < wanted).any():
        gain = np.minimum(np.maximum(shares, shown), wanted).sum(axis=1) + 1e-3 * shares.sum(axis=1)
        best = int(np.argmax(gain))
        chosen.append(best)
        shown = np.maximum(shown, shares[best])
    return [_Picture(_jpeg(_mark(frames[t], masks[t], ids)), f"Frame {t}:") for t in sorted(set(chosen))]


def crops(frames: Sequence[Image], masks: NDArray[np.uint8], ids: Sequence[int]) -> list[_Picture]:
    """Each object in its fullest frame, with a margin of a fifth."""
    pictures = []
    for number in ids:
        fullest = max(range(len(masks)), key=lambda t: int((masks[t] == number).sum()))
        height, width = frames[fullest].shape[:2]
        x0, y0, x1, y1 = _box(masks[fullest] == number, width, height)
        margin = 4 + int(0.2 * max(x1 - x0, y1 - y0))
        rows = slice(max(0, y0 - margin), min(height, y1 + margin))
        columns = slice(max(0, x0 - margin), min(width, x1 + margin))
        pictures.append(_Picture(_jpeg(_resized(frames[fullest][rows, columns])), f"Object {number}:"))
    return pictures


def _mark(frame: Image, mask: NDArray[np.uint8], ids: Sequence[int]) -> Image:
    picture = _resized(frame).copy()
    height, width = picture.shape[:2]
    taken: list[tuple[int, int, int, int]] = []
    for number in ids:
        own = mask == number
        if not own.any():
            continue
        x0, y0, x1, y1 = _box(own, width, height)
        hue = np.uint8([[[int(number * 67) % 180, 255, 255]]])  # type: ignore[arg-type]
        colour = tuple(int(c) for c in cv2.cvtColor(np.asarray(hue), cv2.COLOR_HSV2RGB)[0, 0])
        cv2.rectangle(picture, (x0, y0), (x1, y1), colour, 2)
        label = str(number)
        (text_width, text_height), _ = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 2)
        w, h = text_width + 8, text_height + 8
        x, y = _free_place(x0, y0, w, h, width, height, taken)
        taken.append((x, y, w, h))
        cv2.rectangle(picture, (x, y), (x + w, y + h), (0, 0, 0), -1)
        cv2.rectangle(picture, (x, y), (x + w, y + h), colour, 1)
        cv2.putText(picture, label, (x + 4, y + h - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 2, cv2.LINE_AA)
    return picture


def _free_place(
    x: int, y: int, w: int, h: int, width: int, height: int, taken: Sequence[tuple[int, int, int, int]]
) -> tuple[int, int]:
    """Top left corner of a label by the box corner (x, y), inside the picture, moved on where another label is."""
    x, y = min(max(0, x), width - w), min(max(0, y - h), height - h)
    while any(abs(x - a) < max(w, c) and abs(y - b) < max(h, d) for a, b, c, d in taken) and x + 2 * w < width:
        x += w
    return x, y


def _box(mask: NDArray[np.bool_], width: int, height: int) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a mask in a picture of `width` by `height`."""
    v, u = np.nonzero(mask)
    sx, sy = width / mask.shape[1], height / mask.shape[0]
    return int(u.min() * sx), int(v.min() * sy), int((u.max() + 1) * sx), int((v.max() + 1) * sy)


def _resized(image: Image) -> Image:
    longest = max(image.shape[:2])
    scale = min(_LONGEST_SIDE / longest, max(1.0, _LEAST_SIDE / longest))
    if scale == 1:
        return image
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def _jpeg(image: Image) -> bytes:
    ok, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert ok, "OpenCV is built with JPEG"
    return bytes(data)


# ---------------------------------------------------------------------------------------------------------- replies


class _EndpointError(Exception):
    """What the endpoint did wrong; `is_transport` where no usable reply came at all."""

    def __init__(self, problem: str, is_transport: bool = False) -> None:
        super().__init__(problem)
        self.is_transport = is_transport


@dataclass
class _Counter:
    count: int = 0


@dataclass(frozen=True)
class _Response:
    status: int
    body: bytes
    retry_after: str | None


def _reply_text(body: bytes) -> str | None:
    try:
        text = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None
    return text if isinstance(text, str) else None


def _retry_after_s(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which is a number or a date."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _httpx() -> Any:
    try:
        import httpx
    except ImportError:
        raise InputError(
            "naming objects by an endpoint needs httpx, which is not installed", remedy="pip install httpx"
        ) from None
    return httpx

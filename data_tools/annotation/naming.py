"""Names and descriptions of a clip's objects from a vision model behind any OpenAI-compatible endpoint."""

from __future__ import annotations

import json
import logging
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..endpoint import BadReplyError, ChatClient, Endpoint, GiveUp, without_thoughts
from ..errors import InputError
from ..schema import ObjectTrack
from .naming_pictures import Image, Regions, ShownObjects, image_part

#: Category and description, ("car", "the red car with a roof rack").
Words = tuple[str, str]
Origin = Literal["endpoint", "cache", "fallback"]

#: Category of an object of which nothing is known; any other is the source's label, which the endpoint does not change.
UNKNOWN = "object"

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
        self.endpoint.check("naming.")
        if self.max_unanswered < 1:
            raise InputError(f"must be at least 1, got {self.max_unanswered}", field="naming.max_unanswered")
        if self.max_chars < 10:
            raise InputError(f"must be at least 10, got {self.max_chars}", field="naming.max_chars")

    @property
    def is_on(self) -> bool:
        """Whether an endpoint is asked."""
        return bool(self.base_url)

    @property
    def endpoint(self) -> Endpoint:
        """Whom to ask."""
        return Endpoint(self.base_url, self.model, self.api_key_env, self.timeout_s, self.max_retries)

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
        self._clips = GiveUp(limit, "clips")

    @property
    def given_up(self) -> str:
        return self._clips.given_up

    def note(self, figures: Sequence[Mapping[str, Any]]) -> None:
        """The figures of a clip's stretches. A clip that nobody was asked about says nothing of the endpoint."""
        told = [item for item in figures if item.get("names") in ("endpoint", "fallback")]
        if not told:
            return
        problem = told[-1].get("names_problem", "")
        if self._clips.count(all(item.get("names_unanswered") for item in told), problem):
            logging.getLogger(__name__).warning(
                "The endpoint that names objects is given up: %d clips in a row got no answer (%s). "
                "The other clips keep the words that need none.",
                self._clips.limit,
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
        self._client = ChatClient(
            config.endpoint,
            prefix="naming.",
            cache_dir=config.cache_dir,
            budget_s=config.longest_s,
            budget_words="a clip may take to name",
            given_up=given_up,
            sleep=sleep,
            jitter=jitter,
        )

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
        reply = self._client.ask(payload, question.parse, "Answer again, with the whole JSON list.", _as_json)
        if reply.value is None:
            return NamedEntities(list(fallback), "fallback", reply.problem, reply.is_unanswered)
        words = [reply.value.get(number, kept[number]) for number in ids]
        return NamedEntities(words, "cache" if reply.origin == "cache" else "endpoint")


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
        """Words by id, in the order asked. Raises BadReplyError, saying what does not fit."""
        entries = _json_list(content)
        found: dict[int, Words] = {}
        for place, entry in enumerate(entries, start=1):
            if not isinstance(entry, dict) or set(entry) != {"id", "category", "description"}:
                raise BadReplyError(f"entry {place} must be an object with id, category and description only")
            number = entry["id"]
            if isinstance(number, bool) or not isinstance(number, int) or number not in self.ids:
                raise BadReplyError(f"entry {place} has the id {number!r}, which was not asked about")
            if number in found:
                raise BadReplyError(f"the id {number} comes twice")
            category = self._text(entry["category"], f"the category of {number}").lower()
            description = _with_article(self._text(entry["description"], f"the description of {number}"))
            if len(description) > self.max_chars:
                raise BadReplyError(f"the description of {number} has over {self.max_chars} characters")
            found[number] = (self.known.get(number, category), description)
        missing = [str(number) for number in self.ids if number not in found]
        if missing:
            raise BadReplyError(f"no entry for {', '.join(missing)}")
        seen = dict.fromkeys(self.taken, 0)
        for number, (_, description) in found.items():
            text = _same(description)
            if text in seen:
                other = f"{seen[text]} and {number}" if seen[text] else f"{number} and an object not shown"
                raise BadReplyError(f"{other} have the same description {description!r}")
            seen[text] = number
        return {number: found[number] for number in self.ids}

    def _text(self, value: Any, what: str) -> str:
        if not isinstance(value, str):
            raise BadReplyError(f"{what} is no text")
        text = " ".join(value.split()).rstrip(".").strip()
        if not re.search(r"\w", text):
            raise BadReplyError(f"{what} is empty")
        if len(text) > self.max_chars:
            raise BadReplyError(f"{what} has {len(text)} characters, over {self.max_chars}")
        if _MARKS.search(text):
            raise BadReplyError(f"{what} mentions the marks that were drawn in")
        return text


def _as_json(found: dict[int, Words]) -> str:
    entries = [{"id": number, "category": words[0], "description": words[1]} for number, words in found.items()]
    return json.dumps(entries, ensure_ascii=False, indent=1)


def _json_list(content: str) -> list[Any]:
    """The list in a reply; thoughts before it and a code fence around it are taken off."""
    try:
        found = json.loads(without_thoughts(content))
    except ValueError as error:
        raise BadReplyError(f"not JSON ({error})") from None
    except RecursionError:
        raise BadReplyError("not JSON (nested too deep)") from None
    if not isinstance(found, list):
        raise BadReplyError("a JSON list is wanted")
    return found


def _with_article(description: str) -> str:
    """ "A red car" as "the red car", the form of all descriptions."""
    return "the " + re.sub(r"^(the|an|a)\s+", "", description, flags=re.IGNORECASE)


def _same(description: str) -> str:
    return re.sub(r"[\W_]+", " ", description.lower()).strip()

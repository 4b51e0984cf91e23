"""Paths written by a vision model behind any OpenAI-compatible endpoint, each kept as soon as it is there."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mllm4d_verl.cold_start.frames import sampled_frames
from mllm4d_verl.cold_start.guideline import AGAIN, SYSTEM, VERSION, messages, read_path, task_text
from mllm4d_verl.data_tools.endpoint import ChatClient, Endpoint, GiveUp, Pace
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import QARow
from mllm4d_verl.video.element import resolve_video

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class EndpointConfig:
    """Whom to ask for paths, and how.

    Attributes:
        base_url, model, api_key_env, timeout_s, max_retries: see `data_tools.endpoint.Endpoint`.
        temperature: of sampling; at 0 the paths of a question would be alike.
        max_tokens: of a reply; texts of 250 words with their lines need about 600, thoughts before them more.
        requests_per_minute: at most, over all workers; 0 sets no limit.
        max_unanswered: after so many paths in a row that got no answer nobody is asked any more in this run.
        max_pixels: of a frame; larger ones are made smaller.
        workers: questions asked about at a time.
        cache_dir: folder of replies by content of the request, for runs that write elsewhere; empty keeps none.
    """

    base_url: str
    model: str
    api_key_env: str = ""
    timeout_s: float = 120.0
    max_retries: int = 3
    temperature: float = 1.0
    max_tokens: int = 4096
    requests_per_minute: float = 0.0
    max_unanswered: int = 5
    max_pixels: int = 128 * 28 * 28
    workers: int = 4
    cache_dir: str = ""

    def __post_init__(self) -> None:
        if not self.base_url:
            raise InputError(
                "an endpoint is needed to write with",
                field="--base-url",
                remedy="Give its address, such as http://localhost:8000/v1, or use --writer rule",
            )
        self.endpoint.check("--")
        for name, least in (("max_tokens", 1), ("max_unanswered", 1), ("max_pixels", 1), ("workers", 1)):
            if getattr(self, name) < least:
                raise InputError(f"must be at least {least}, got {getattr(self, name)}", field=name)
        for name in ("temperature", "requests_per_minute"):
            if not getattr(self, name) >= 0:
                raise InputError(f"must be at least 0, got {getattr(self, name)}", field=name)

    @property
    def endpoint(self) -> Endpoint:
        """Whom to ask."""
        return Endpoint(self.base_url, self.model, self.api_key_env, self.timeout_s, self.max_retries)

    def deciding(self) -> dict[str, Any]:
        """The settings that a text depends on: the same model elsewhere, or asked with more patience, says the same."""
        return {name: getattr(self, name) for name in ("model", "temperature", "max_tokens", "max_pixels")}


@dataclass
class Written:
    """What came of asking.

    Attributes:
        texts: question id -> [(number, text)] in the order of the numbers.
        asked, from_store: paths that were asked for in this run, and those that were there already.
        problems: (question id, number, what went wrong) of paths that are missing.
        given_up: why nobody was asked any more; empty if somebody was to the end.
    """

    texts: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    asked: int = 0
    from_store: int = 0
    problems: list[tuple[str, int, str]] = field(default_factory=list)
    given_up: str = ""


class PathStore:
    """Written paths as JSON lines, only ever added to. A line that a killed run left half is passed over.

    A path is found by the key of its question, settings and number: what was asked otherwise is not taken for it.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._texts: dict[str, str] = {}
        if not file.exists():
            return
        with open(file, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    record = json.loads(line)
                    self._texts[record["key"]] = record["response"]
                except (ValueError, KeyError, TypeError):
                    continue

    def get(self, key: str) -> str | None:
        return self._texts.get(key)

    def add(self, key: str, row_id: str, number: int, text: str) -> None:
        line = json.dumps({"key": key, "id": row_id, "path": number, "response": text}, ensure_ascii=False)
        with self._lock:
            self._texts[key] = text
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with open(self._file, "ab+") as lines:
                if lines.tell() and not _ends_line(lines):
                    lines.write(b"\n")
                lines.write(line.encode() + b"\n")


def _ends_line(file: Any) -> bool:
    file.seek(-1, 2)
    return file.read(1) == b"\n"


class EndpointWriter:
    """Asks for the paths that are not there yet.

    Args:
        config: whom and how.
        folder: that the rows' videos are relative to.
        store: file of written paths.
        seed: of the first path; the others count on from it.
        sleep: waits, takes seconds.

    Raises:
        InputError: as `ChatClient`.
    """

    def __init__(
        self,
        config: EndpointConfig,
        folder: str,
        store: Path,
        seed: int = 0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._config, self._folder, self._seed = config, folder, seed
        self._store = PathStore(store)
        self._give_up = GiveUp(config.max_unanswered, "paths")
        self._client = ChatClient(
            config.endpoint,
            prefix="--",
            cache_dir=config.cache_dir,
            pace=Pace(config.requests_per_minute, sleep),
            sleep=sleep,
        )

    def write(self, rows: Sequence[QARow], count: int, progress: Progress | None = None) -> Written:
        """`count` paths of every row, as far as they can be had. Says how far that is, and never raises for a reply."""
        found = Written()
        with self._client, ThreadPoolExecutor(self._config.workers) as pool:
            jobs = {pool.submit(self._sample, row, count): row for row in rows}
            try:
                for done, job in enumerate(as_completed(jobs), start=1):
                    self._note(found, jobs[job], job.result())
                    if progress:
                        progress(done, len(rows))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        found.problems.sort()
        found.given_up = self._give_up.given_up
        return found

    def _note(self, found: Written, row: QARow, paths: list[tuple[int, str | None, str]]) -> None:
        for number, text, how in paths:
            if text is None:
                found.problems.append((row.id, number, how))
                continue
            found.texts.setdefault(row.id, []).append((number, text))
            if how == "store":
                found.from_store += 1
            else:
                found.asked += 1

    def _sample(self, row: QARow, count: int) -> list[tuple[int, str | None, str]]:
        """(number, text or None, "store", "endpoint", "cache" or what went wrong) of each path."""
        keys = [self._key(row, number) for number in range(count)]
        found: list[tuple[int, str | None, str]] = []
        turns: list[dict[str, Any]] | None = None
        for number, key in enumerate(keys):
            text = self._store.get(key)
            if text is not None:
                found.append((number, text, "store"))
                continue
            if self._client.given_up and not self._config.cache_dir:
                found.append((number, None, self._client.given_up))
                continue
            if turns is None:
                try:
                    video = resolve_video(row.video, None, self._folder)
                    turns = messages(row, sampled_frames(video, row.num_frames, self._config.max_pixels))
                except InputError as error:
                    return [*found, *((late, None, str(error)) for late in range(number, count))]
            found.append((number, *self._ask(row, number, key, turns)))
        return found

    def _ask(self, row: QARow, number: int, key: str, turns: list[dict[str, Any]]) -> tuple[str | None, str]:
        config = self._config
        payload = {
            "model": config.model,
            "messages": turns,
            "temperature": config.temperature,
            "max_tokens": config.max_tokens,
            "seed": self._seed + number,
        }
        reply = self._client.ask(payload, read_path, AGAIN)
        if not self._client.given_up and self._give_up.count(reply.is_unanswered, reply.problem):
            self._client.given_up = self._give_up.given_up
        if reply.value is None:
            return None, reply.problem
        self._store.add(key, row.id, number, reply.value)
        return reply.value, reply.origin

    def _key(self, row: QARow, number: int) -> str:
        parts = [VERSION, SYSTEM, self._config.deciding(), self._seed + number]
        parts += [row.id, row.video, row.num_frames, task_text(row)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]

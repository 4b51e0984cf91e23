"""What a benchmark is: questions with their right answers, the splits they fall into, and what is odd about them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.released import DEFAULT_NUM_FRAMES
from mllm4d_verl.data_tools.schema import LETTERS, OTHER_TASK, QARow, known_tasks

CHOICE: Literal["choice"] = "choice"
NUMBER: Literal["number"] = "number"
#: A record that no question can be made of. It counts as wrong, as in benchmarks that divide by all their records.
UNREADABLE: Literal["unreadable"] = "unreadable"


@dataclass(frozen=True)
class Item:
    """One question of a benchmark.

    Attributes:
        id: unique in the benchmark.
        video: path, address or name of the video, as the source gives it.
        clip: what questions about the same video share; the unit that intervals resample.
        question: text without options.
        options: option texts in letter order; empty for numbers (and for imported rows that do not list theirs).
        answer: the letter, "A" is options[0]; for numbers the number as the source prints it.
        kind: "choice", "number" (scored by mean relative accuracy), or "unreadable" (always wrong, see `UNREADABLE`).
        task: group that figures are given for.
        splits: further groups, name -> value, such as {"view": "exo"}.
        value: the right number for kind "number", in the unit that the question asks for; else None.
        unit: of `value`, where the source names one.
        num_frames: frames the question counts in, where the source does; `start_frame` and `end_frame` are 0-based
            among them.
        start_s, end_s: part of the video that is asked about, seconds, where the source names one.
        truth: what STReward takes, where the source has centres; else None.
        messages: the chat as the source words it, where it is part of the source.
        source_id: id in the source's own file, where `id` had to differ; else the same.
        fault: what is wrong with the source's record, one clause; "" for nothing.
    """

    id: str
    video: str
    clip: str
    question: str
    options: tuple[str, ...]
    answer: str
    kind: Literal["choice", "number", "unreadable"]
    task: str
    splits: Mapping[str, str] = field(default_factory=dict)
    value: float | None = None
    unit: str | None = None
    num_frames: int | None = None
    start_frame: int | None = None
    end_frame: int | None = None
    start_s: float | None = None
    end_s: float | None = None
    truth: Mapping[str, Any] | None = None
    messages: tuple[Mapping[str, str], ...] | None = None
    source_id: str = ""
    fault: str = ""

    @property
    def answer_text(self) -> str:
        """Text of the right option; the answer itself where there are no options."""
        index = LETTERS.find(self.answer) if len(self.answer) == 1 else -1
        return self.options[index] if 0 <= index < len(self.options) else self.answer

    @cached_property
    def right_letters(self) -> frozenset[str]:
        """The letter of the answer, and those of options with the very same text: nobody can tell them apart."""
        text = fold(self.answer_text)
        same = (letter for letter, option in zip(LETTERS, self.options, strict=False) if fold(option) == text)
        return frozenset({self.answer, *same})


@dataclass(frozen=True)
class Oddity:
    """Something a reader of the figures should know about the questions.

    Attributes:
        kind: "equal_options", "repeated_question", "contradicting_answers", "few_options", "faulty_record" (asked and
            scored all the same) or "unreadable".
        ids: the questions concerned.
        note: one sentence.
    """

    kind: str
    ids: tuple[str, ...]
    note: str


@dataclass(frozen=True)
class Benchmark:
    """Questions of one benchmark.

    Attributes:
        name: as it is asked for, "vlm4d"; the path for a file of question rows.
        version: of our reading of it; raised when the same file would give other questions, splits or tasks.
        items: in the order of the source.
        sha256: of the question file; of the files' digests where there are several; "" where the questions came with
            the responses.
        revision: the source's revision, where the content of the questions is known to be just that; else None.
        oddities: what is odd about the questions.
        macro_groups: task -> group for the macro average, where the benchmark averages some tasks first.
    """

    name: str
    version: str
    items: tuple[Item, ...]
    sha256: str
    revision: str | None = None
    oddities: tuple[Oddity, ...] = ()
    macro_groups: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def content_sha256(self) -> str:
        """Digest of what is asked and what is right, whatever the file's layout and order: see `content_sha256`."""
        return content_sha256(self.items)

    @cached_property
    def by_id(self) -> dict[str, Item]:
        """Items by id."""
        return {item.id: item for item in self.items}

    @cached_property
    def _by_source(self) -> dict[tuple[str, str | None], list[Item]]:
        found: dict[tuple[str, str | None], list[Item]] = defaultdict(list)
        for item in self.items:
            found[item.source_id or item.id, None].append(item)
            found[item.source_id or item.id, clip_name(item.video)].append(item)
        return found

    def find(self, id: str, video: str | None = None) -> Item | None:
        """The item that a record of another project means, by our id, its own id, or its own id and video."""
        if id in self.by_id:
            return self.by_id[id]
        for key in ((id, None), (id, clip_name(video)) if video else None):
            if key is not None and len(found := self._by_source.get(key, [])) == 1:
                return found[0]
        return None

    def describe(self) -> dict[str, Any]:
        """What a result file has to say about the questions, as plain data."""
        return {
            "name": self.name,
            "version": self.version,
            "revision": self.revision,
            "sha256": self.sha256,
            "content_sha256": self.content_sha256,
            "questions": len(self.items),
            "clips": len({item.clip for item in self.items}),
            "oddities": [{"kind": odd.kind, "ids": list(odd.ids), "note": odd.note} for odd in self.oddities],
        }


def fold(text: str) -> str:
    """Text without what does not change its meaning: case, outer and doubled spaces, a final full stop."""
    return " ".join(text.split()).rstrip(". ").casefold()


def count_options(options: Sequence[str]) -> int:
    """How many different options there are to guess from."""
    return len(set(map(fold, options)))


def video_path(video: str) -> PurePosixPath:
    """Path of a video that is given as an address, a path, or a path of another system."""
    return PurePosixPath(urlsplit(video).path if "://" in video else video.replace("\\", "/"))


def clip_name(video: str) -> str:
    """Folder and name of a video, so that an address and a local path of the same file agree: "davis/aerobatics"."""
    path = video_path(video)
    return "/".join((*path.parts[-2:-1], path.stem)).lstrip("/")


def content_sha256(items: Sequence[Item]) -> str:
    """SHA-256 over the source's id, video name, question, options and right answer of every item, sorted."""
    rows = sorted(
        (item.source_id or item.id, PurePosixPath(clip_name(item.video)).name, item.question, item.options, item.answer)
        for item in items
    )
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()


def find_oddities(items: Sequence[Item]) -> tuple[Oddity, ...]:
    """Items with a fault, with equal options or fewer than two, and questions that are asked twice about a video."""
    oddities = []
    by_question: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in items:
        if item.fault:
            kind = "unreadable" if item.kind == UNREADABLE else "faulty_record"
            oddities.append(Oddity(kind, (item.id,), item.fault))
        if item.kind == UNREADABLE:
            continue
        by_question[item.clip, fold(item.question)].append(item)
        if item.kind != CHOICE or not item.options:
            continue
        equal = [text for text, count in Counter(map(fold, item.options)).items() if count > 1]
        if equal:
            right = "the right one among them" if fold(item.answer_text) in equal else "none of them right"
            oddities.append(Oddity("equal_options", (item.id,), f"two options read {equal[0]!r}, {right}"))
        if count_options(item.options) < 2:
            oddities.append(Oddity("few_options", (item.id,), "there is nothing to choose from"))
    for (clip, _), same in by_question.items():
        if len(same) < 2:
            continue
        ids = tuple(item.id for item in same)
        oddities.append(Oddity("repeated_question", ids, f"asked {len(same)} times about {clip}: {same[0].question!r}"))
        if len({fold(item.answer_text) for item in same}) > 1:
            oddities.append(Oddity("contradicting_answers", ids, "the same question with different right answers"))
    return tuple(oddities)


def item_to_row(item: Item, num_frames: int = DEFAULT_NUM_FRAMES) -> QARow:
    """The item as a question row, so that it can go through the training prompt.

    A number has no options and task "other". Where the source names no frames the whole video is meant.
    """
    frames = item.num_frames or num_frames
    meta: dict[str, Any] = {"benchmark_task": item.task, "splits": dict(item.splits)}
    if item.messages is not None:
        meta["messages"] = [dict(message) for message in item.messages]
    if item.start_s is not None:
        meta |= {"start_s": item.start_s, "end_s": item.end_s}
    truth = item.truth or {}
    return QARow(
        id=item.id,
        clip_id=item.clip,
        video=item.video,
        num_frames=frames,
        task=item.task if item.task in known_tasks() else OTHER_TASK,
        start_frame=item.start_frame or 0,
        end_frame=frames - 1 if item.end_frame is None else item.end_frame,
        question=item.question,
        options=list(item.options),
        answer=item.answer,
        answer_text=item.answer_text,
        value=item.value if item.kind == NUMBER else truth.get("value"),
        unit=item.unit,
        camera_center=_known(truth.get("camera_center")),
        object_center=_known(truth.get("object_center")),
        split="test",
        meta=meta,
    )


def _known(states: Any) -> Any:
    return None if states is None or all(state is None for state in states) else states


def unreadable_item(id: str, source_id: str, task: str, fault: str) -> Item:
    """An item that stands for a record which cannot be read, so that it is reported and counts.

    Without a task it is one of `UNREADABLE`, which no mean of tasks takes for a task.
    """
    return Item(
        id=id,
        video="",
        clip=id,
        question="",
        options=(),
        answer="",
        kind=UNREADABLE,
        task=task or UNREADABLE,
        source_id=source_id,
        fault=fault,
    )


def check_items(items: Sequence[Item], file: object) -> None:
    """Raise InputError where ids repeat or there is nothing to ask."""
    if not items:
        raise InputError("the file holds no questions", file=str(file))
    repeated = [id for id, count in Counter(item.id for item in items).items() if count > 1]
    if repeated:
        raise InputError(f"the id {repeated[0]!r} occurs twice", file=str(file), field="id")

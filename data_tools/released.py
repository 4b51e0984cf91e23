"""Read and write the file formats of the MLLM-4D release: SFT / cold-start JSON and RFT JSONL (ms-swift).

SFT item: `video` (path or list), `conversations: [{from, value}]`; a JSON list, or JSONL when the name ends so.
RFT line: `messages`, `videos`, `solution: [{answer, camera_center, object_center}]`.
Imported rows keep their own chat in `meta["messages"]` and the answer as written in `meta["raw_answer"]`. Items may
carry further keys (`id`, `task`, `num_frames`, ...), which our writers add and the release's readers ignore.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from .atomic import atomic_path
from .errors import InputError
from .schema import LETTERS, OTHER_TASK, TASKS, QARow, States, check_row

PathLike = str | os.PathLike[str]
OnError = Callable[[InputError], None]

VIDEO_PLACEHOLDER = "<video>"
DEFAULT_NUM_FRAMES = 32  # frames the release samples
ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}

_SFT_REQUEST = "Answer with the letter of the option directly."
_RFT_REQUEST = "Reason inside <thinking></thinking>, then give the letter of the option inside <answer></answer>."
_OPTION_LINE = re.compile(r"^\s*\(?([A-J])\s*[.:)]\s*(\S.*?)\s*$")
_ANSWER = re.compile(r"^\(?([A-J])\)?\s*(?:[.:)]\s*(.*))?$", re.DOTALL)
_ANSWER_TAG = re.compile(r"<answer>([^<]*)</answer>")
_FRAME_MENTION = re.compile(r"\bframes? (\d{1,6})(?: (?:and|to) (?:frame )?(\d{1,6}))?")
_LARGEST_INTEGER = 2**31 - 1
_EXTRA_KEYS = ("clip_id", "num_frames", "start_frame", "end_frame", "value", "unit", "object_description", "split")


def read_rft(path: PathLike, *, num_frames: int = DEFAULT_NUM_FRAMES, on_error: OnError | None = None) -> list[QARow]:
    """Rows of a released RFT file (JSONL, one `messages` / `videos` / `solution` object a line).

    Args:
        path: the file.
        num_frames: frames sampled per video, where the item does not say.
        on_error: called with the error of a bad row, which is then left out; None raises it.

    Raises:
        InputError: naming file, row and field.
    """
    return _read(path, _rft_row, num_frames, on_error)


def read_sft(path: PathLike, *, num_frames: int = DEFAULT_NUM_FRAMES, on_error: OnError | None = None) -> list[QARow]:
    """Rows of a released SFT or cold-start file (JSON list, or JSONL when the name ends in .jsonl).

    `response` is set where the assistant's last turn is more than an answer. Arguments and errors as in `read_rft`.
    """
    return _read(path, _sft_row, num_frames, on_error)


def write_rft(path: PathLike, rows: Iterable[QARow]) -> Path:
    """Write rows as RFT JSONL. A row with its own chat keeps it; others ask for <thinking> and <answer>."""
    lines = []
    for row in rows:
        solution = {
            "answer": row.meta.get("raw_answer", row.answer),
            "camera_center": row.camera_center,
            "object_center": row.object_center,
        }
        item = {"messages": _prompt(row, _RFT_REQUEST), "videos": [row.video], "solution": [solution], **_extras(row)}
        lines.append(json.dumps(item, ensure_ascii=False, allow_nan=False))
    return _write_text(path, "\n".join(lines) + "\n")


def write_sft(path: PathLike, rows: Iterable[QARow]) -> Path:
    """Write rows as SFT conversations: JSONL when the name ends in .jsonl, else a JSON list.

    The assistant's turn is the row's response, or its answer as written, or the bare letter.
    """
    items = []
    for row in rows:
        reply = row.response or row.meta.get("raw_answer") or row.answer
        request = _RFT_REQUEST if row.response else _SFT_REQUEST
        turns = [*_prompt(row, request), {"role": "assistant", "content": reply}]
        names = {"system": "system", "user": "human", "assistant": "gpt"}
        conversations = [{"from": names[turn["role"]], "value": turn["content"]} for turn in turns]
        item = {"video": row.video, "conversations": conversations, **_extras(row)}
        item |= {"camera_center": row.camera_center, "object_center": row.object_center}
        items.append(item)
    if Path(path).suffix == ".jsonl":
        text = "\n".join(json.dumps(item, ensure_ascii=False, allow_nan=False) for item in items) + "\n"
    else:
        text = json.dumps(items, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    return _write_text(path, text)


def normalise_answer(raw: str, options: list[str]) -> str | None:
    """The letter meant by `A`, `A.`, `(A)`, `A: left` or an option's own text; None when it is none of these.

    With options, the letter must be one of theirs and a text after it must be that option's.
    """
    text = raw.strip()
    match = _ANSWER.match(text)
    if match:
        letter, rest = match.group(1), (match.group(2) or "").strip()
        if not options:
            return letter
        position = LETTERS.index(letter)
        if position < len(options) and (not rest or _same(rest, options[position])):
            return letter
        return None
    same = [LETTERS[position] for position, option in enumerate(options) if _same(text, option)]
    return same[0] if len(same) == 1 else None


def split_options(text: str) -> tuple[str, list[str]]:
    """A user text as (question, options): lines "A. ...", "B: ..." from A on; no options if fewer than two."""
    options: list[str] = []
    before: list[str] = []
    for line in text.splitlines():
        match = _OPTION_LINE.match(line)
        if match and len(options) < len(LETTERS) and match.group(1) == LETTERS[len(options)]:
            options.append(match.group(2))
        elif not options:
            before.append(line)
    if len(options) < 2:
        return text.strip(), []
    question = "\n".join(before).strip()
    return re.sub(r"\s*\b(?:Options|Choices):?$", "", question), options


def rebase_video(video: str, old_folder: PathLike, new_folder: PathLike) -> str:
    """A path relative to `old_folder`, rewritten for `new_folder`; unchanged when absolute or when no file is there."""
    if os.path.isabs(video) or not (Path(old_folder) / video).is_file():
        return video
    return Path(os.path.relpath(Path(old_folder) / video, new_folder)).as_posix()


# ------------------------------------------------------------------------------------------------------- reading


def _read(path: PathLike, convert: Callable[..., QARow], num_frames: int, on_error: OnError | None) -> list[QARow]:
    rows: list[QARow] = []
    seen: set[str] = set()
    for index, item in _items(path, on_error):
        try:
            row = convert(item, path, index, num_frames)
            check_row(row, file=path, index=index)
            if row.id in seen:
                raise InputError(f"id {row.id!r} repeats", file=path, row=index, field="id")
        except InputError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        seen.add(row.id)
        rows.append(row)
    if not rows:
        raise InputError("the file has no usable rows", file=path)
    return rows


def _items(path: PathLike, on_error: OnError | None) -> Iterator[tuple[int, Any]]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError("the file does not exist", file=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"not a readable text file ({error})", file=path) from None
    if Path(path).suffix != ".jsonl":
        try:
            items = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"not JSON ({error})", file=path, remedy="JSON lines are read when the name ends in .jsonl"
            ) from None
        if not isinstance(items, list):
            raise InputError(f"a JSON list is expected, got {type(items).__name__}", file=path)
        yield from enumerate(items)
        return
    # not splitlines(): it also splits at U+2028 and other characters that are legal inside JSON strings
    for index, line in enumerate(text.split("\n")):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, lists a mile deep
            bad = InputError(f"not JSON ({error})", file=path, row=index)
            if on_error is None:
                raise bad from None
            on_error(bad)
            continue
        yield index, item


def _rft_row(item: Any, path: PathLike, index: int, num_frames: int) -> QARow:
    reader = _Item(item, path, index)
    messages = reader.messages("messages", "role", "content")
    while messages and messages[-1]["role"] == "assistant":
        messages.pop()  # ms-swift allows a reference reply; the truth is in `solution`
    video = reader.one_video("videos", messages)
    solution = reader.solution()
    row = reader.row(messages, video, str(solution["answer"]), num_frames, "solution.answer")
    row.camera_center = reader.states(solution.get("camera_center"), "solution.camera_center")
    row.object_center = reader.states(solution.get("object_center"), "solution.object_center")
    return row


def _sft_row(item: Any, path: PathLike, index: int, num_frames: int) -> QARow:
    reader = _Item(item, path, index)
    turns = reader.messages("conversations", "from", "value")
    if not turns or turns[-1]["role"] != "assistant":
        reader.fail("the last turn must be the assistant's", "conversations")
    reply, messages = turns[-1]["content"], turns[:-1]
    video = reader.one_video("video", turns)
    tagged = _ANSWER_TAG.findall(reply)
    row = reader.row(messages, video, tagged[-1] if tagged else reply, num_frames, "conversations")
    row.response = reply if tagged else None
    row.camera_center = reader.states(item.get("camera_center"), "camera_center")
    row.object_center = reader.states(item.get("object_center"), "object_center")
    return row


class _Item:
    """One item of a file, with errors that say where it stands."""

    def __init__(self, item: Any, path: PathLike, index: int) -> None:
        self.path, self.index = path, index
        if not isinstance(item, dict):
            raise InputError(f"an object is expected, got {type(item).__name__}", file=path, row=index)
        self.item = item

    def fail(self, problem: str, field: str, remedy: str | None = None) -> None:
        raise InputError(problem, file=self.path, row=self.index, field=field, remedy=remedy)

    def get(self, key: str) -> Any:
        if self.item.get(key) is None:
            self.fail(f"the key is missing; the item has {', '.join(map(str, self.item))}", key)
        return self.item[key]

    def messages(self, key: str, role_key: str, text_key: str) -> list[dict[str, str]]:
        turns = self.get(key)
        if not isinstance(turns, list) or not turns:
            self.fail("a non-empty list of turns is expected", key)
        messages = []
        for turn in turns:
            role = turn.get(role_key) if isinstance(turn, dict) else None
            text = turn.get(text_key) if isinstance(turn, dict) else None
            if role not in ROLES:
                self.fail(f"unknown {role_key} {role!r}", key, f"Known: {', '.join(ROLES)}")
            if not isinstance(text, str):
                self.fail(f"a turn's {text_key} must be text, got {type(text).__name__}", key)
            messages.append({"role": ROLES[str(role)], "content": str(text)})
        return messages

    def one_video(self, key: str, messages: list[dict[str, str]]) -> str:
        videos = self.get(key)
        videos = [videos] if isinstance(videos, str) else videos
        if not isinstance(videos, list) or not all(isinstance(video, str) for video in videos):
            self.fail("a path or a list of paths is expected", key)
        placeholders = sum(message["content"].count(VIDEO_PLACEHOLDER) for message in messages)
        if placeholders != len(videos):
            self.fail(f"{len(videos)} videos for {placeholders} {VIDEO_PLACEHOLDER} placeholders", key)
        if self.item.get("image") or self.item.get("images"):
            self.fail("images beside the video are not supported", "image", "Leave such items out")
        if len(videos) != 1:
            self.fail(f"a row carries exactly one video, got {len(videos)}", key)
        return videos[0]

    def solution(self) -> dict[str, Any]:
        solution = self.get("solution")
        if isinstance(solution, str):
            try:
                solution = json.loads(solution)
            except (ValueError, RecursionError):
                self.fail("not JSON", "solution")
        if isinstance(solution, list) and len(solution) == 1:
            solution = solution[0]
        if not isinstance(solution, dict):
            self.fail("one object with answer, camera_center and object_center is expected", "solution")
        if not isinstance(solution.get("answer"), str | int):
            self.fail("the answer is missing", "solution.answer")
        return solution

    def states(self, value: Any, field: str) -> States | None:
        if value is None or value == []:
            return None
        if isinstance(value, list) and all(state is None for state in value):
            return None
        remedy = "Give [start, end], each [x, y, z] in metres or null"
        if not isinstance(value, list) or len(value) != 2:
            self.fail(f"two states are expected, got {value}", field, remedy)
        states: States = []
        for state in value:
            if state is None:
                states.append(None)
                continue
            good = isinstance(state, list) and len(state) == 3
            if not good or any(isinstance(n, bool) or not isinstance(n, int | float) for n in state):
                self.fail(f"a state must be [x, y, z] or null, got {state}", field, remedy)
            try:
                states.append([float(number) for number in state])
            except OverflowError:
                self.fail(f"a number is too large in {str(state)[:80]}", field, remedy)
        return states

    def row(self, messages: list[dict[str, str]], video: str, raw: str, num_frames: int, answer_field: str) -> QARow:
        users = [message["content"] for message in messages if message["role"] == "user"]
        if not users:
            self.fail("there is no user turn", "messages")
        question, options = split_options(users[-1].replace(VIDEO_PLACEHOLDER, "").strip())
        answer = normalise_answer(raw, options)
        if answer is None and options:
            self.fail(
                f"answer {raw[:80]!r} is not among the options {', '.join(LETTERS[: len(options)])}", answer_field
            )
        item = self.item
        task = str(item.get("task")) if options and item.get("task") in TASKS else OTHER_TASK
        num_frames = self._integer("num_frames", num_frames)
        start, end = _mentioned_frames(question, num_frames)
        return QARow(
            id=str(item.get("id") or f"{Path(self.path).stem}-{self.index}"),
            clip_id=str(item.get("clip_id") or video),
            video=video,
            num_frames=num_frames,
            task=task,
            start_frame=self._integer("start_frame", start),
            end_frame=self._integer("end_frame", end),
            question=question,
            options=options,
            answer=answer or raw.strip(),
            answer_text=options[LETTERS.index(answer)] if options and answer else raw.strip(),
            value=self._optional("value", float),
            unit=self._optional("unit", str),
            object_description=self._optional("object_description", str),
            split=str(item.get("split") or "train"),
            meta={"messages": messages, "raw_answer": raw},
        )

    def _optional(self, key: str, kind: Any) -> Any:
        value = self.item.get(key)
        if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST_INTEGER:
            value = float(value)
        if value is not None and not isinstance(value, kind):
            self.fail(f"{kind.__name__} or null is expected, got {type(value).__name__}", key)
        return value

    def _integer(self, key: str, default: int) -> int:
        value = self.item.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST_INTEGER:
            self.fail(f"a whole number is expected, got {str(value)[:80]}", key)
        return value


def _mentioned_frames(question: str, num_frames: int) -> tuple[int, int]:
    """First and last frame that the question names, or the whole video when it names none that fit."""
    numbers = [int(number) for pair in _FRAME_MENTION.findall(question) for number in pair if number]
    if len(numbers) >= 2 and 0 <= numbers[0] <= numbers[-1] < num_frames:
        return numbers[0], numbers[-1]
    return 0, num_frames - 1


# ------------------------------------------------------------------------------------------------------- writing


def _prompt(row: QARow, request: str) -> list[dict[str, str]]:
    if row.meta.get("messages"):
        return [dict(message) for message in row.meta["messages"]]
    options = [f"{letter}. {option}" for letter, option in zip(LETTERS, row.options, strict=False)]
    return [{"role": "user", "content": "\n".join([VIDEO_PLACEHOLDER + row.question, *options, request])}]


def _extras(row: QARow) -> dict[str, Any]:
    extras = {key: getattr(row, key) for key in _EXTRA_KEYS}
    return {"id": row.id, "task": row.task, **{key: value for key, value in extras.items() if value is not None}}


def _write_text(path: PathLike, text: str) -> Path:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def _same(left: str, right: str) -> bool:
    return left.strip().rstrip(".").casefold() == right.strip().rstrip(".").casefold()

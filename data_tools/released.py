"""Read and write the file formats of the MLLM-4D release: SFT / cold-start JSON and RFT JSONL (ms-swift).

SFT item: `video` (path or list), `conversations: [{from, value}]`; a JSON list, or JSONL when the name ends so.
RFT line: `messages`, `videos`, `solution: [{answer, camera_center, object_center}]`.
Imported rows keep their own chat in `meta["messages"]` and the answer as written in `meta["raw_answer"]`. Items may
carry further keys (`id`, `task`, `num_frames`, ...), which our writers add and the release's readers ignore. What a
reader would still not get back from an item stands in its key `qa_row`, as JSON text: `{field: value}` of QARow.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from .atomic import atomic_path
from .errors import InputError
from .schema import LETTERS, OTHER_TASK, QA_COLUMNS, QARow, States, check_row, known_tasks

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
_QA_ROW_KEY = "qa_row"
_CHUNK_BYTES = 1 << 20
_AFTER_ENTRY = tuple(", ]\t\r\n")
_EXTRA_KEYS = ("clip_id", "num_frames", "start_frame", "end_frame", "value", "unit", "object_description", "split")

#: what a field of `qa_row` must be, where code would fail before `check_row` could say so
_FIELD_KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("id", "clip_id", "video", "task", "question", "answer", "answer_text", "split"), str),
    **dict.fromkeys(("num_frames", "start_frame", "end_frame"), int),
    "options": list,
    "meta": dict,
    "value": (int, float, type(None)),
}


def read_rft(path: PathLike, *, num_frames: int = DEFAULT_NUM_FRAMES, on_error: OnError | None = None) -> list[QARow]:
    """Rows of a released RFT file (JSONL, one `messages` / `videos` / `solution` object a line).

    Args:
        path: the file.
        num_frames: frames sampled per video, where the item does not say.
        on_error: called with the error of a bad row, which is then left out; None raises it.

    Raises:
        InputError: naming file, row and field.
    """
    return [row for _, row in iter_rft(path, num_frames=num_frames, on_error=on_error)]


def read_sft(path: PathLike, *, num_frames: int = DEFAULT_NUM_FRAMES, on_error: OnError | None = None) -> list[QARow]:
    """Rows of a released SFT or cold-start file (JSON list, or JSONL when the name ends in .jsonl).

    `response` is set where the assistant's last turn is more than an answer. Arguments and errors as in `read_rft`.
    """
    return [row for _, row in iter_sft(path, num_frames=num_frames, on_error=on_error)]


def iter_rft(
    path: PathLike,
    *,
    num_frames: int = DEFAULT_NUM_FRAMES,
    on_error: OnError | None = None,
    keep_chat: bool = True,
    check: bool = True,
) -> Iterator[tuple[int, QARow]]:
    """(item number, row) of an RFT file, one item in memory at a time. Arguments and errors as in `read_rft`.

    Args:
        keep_chat: give rows that our writer made their chat in `meta["messages"]` too; False returns them as they were.
        check: hold rows against the contract of QARow and refuse ids that repeat; False is for checks of one's own.
    """
    return _read(path, _rft_row, num_frames, on_error, keep_chat, check)


def iter_sft(
    path: PathLike,
    *,
    num_frames: int = DEFAULT_NUM_FRAMES,
    on_error: OnError | None = None,
    keep_chat: bool = True,
    check: bool = True,
) -> Iterator[tuple[int, QARow]]:
    """(item number, row) of an SFT or cold-start file, one item in memory at a time. Arguments as in `iter_rft`."""
    return _read(path, _sft_row, num_frames, on_error, keep_chat, check)


def rft_item(row: QARow) -> dict[str, Any]:
    """A row as an item of RFT JSONL. A row with its own chat keeps it; others ask for <thinking> and <answer>."""
    solution = {
        "answer": _raw_answer(row),
        "camera_center": row.camera_center,
        "object_center": row.object_center,
    }
    item = {"messages": plain_prompt(row, _RFT_REQUEST), "videos": [row.video], "solution": [solution], **_extras(row)}
    return item | _left_out(item, row, _rft_row)


def sft_item(row: QARow) -> dict[str, Any]:
    """A row as an SFT conversation; the assistant's turn is the response, or the answer as written, or the letter."""
    reply = row.response or _raw_answer(row) or row.answer
    request = _RFT_REQUEST if row.response else _SFT_REQUEST
    turns = [*plain_prompt(row, request), {"role": "assistant", "content": reply}]
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    conversations = [{"from": names[turn["role"]], "value": turn["content"]} for turn in turns]
    item = {"video": row.video, "conversations": conversations, **_extras(row)}
    item |= {"camera_center": row.camera_center, "object_center": row.object_center}
    if row.options and normalise_answer((_ANSWER_TAG.findall(reply) or [reply])[-1], row.options) != row.answer:
        item["answer"] = row.answer  # a response that does not end in the truth
    return item | _left_out(item, row, _sft_row)


def write_rft(path: PathLike, rows: Iterable[QARow]) -> Path:
    """Write rows as RFT JSONL, row by row; see `rft_item`."""
    return _write_items(path, map(rft_item, rows), lines=True)


def write_sft(path: PathLike, rows: Iterable[QARow]) -> Path:
    """Write rows as SFT conversations, row by row: JSONL when the name ends in .jsonl, else a JSON list."""
    return _write_items(path, map(sft_item, rows), lines=Path(path).suffix == ".jsonl")


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


def _read(
    path: PathLike,
    convert: Callable[..., QARow],
    num_frames: int,
    on_error: OnError | None,
    keep_chat: bool,
    check: bool,
) -> Iterator[tuple[int, QARow]]:
    seen: set[str] = set()
    found = False
    for index, item in json_items(path, on_error):
        try:
            row = _as_it_was(convert(item, path, index, num_frames), item, path, index, keep_chat)
            if check:
                check_row(row, file=path, index=index)
                if row.id in seen:
                    raise InputError(f"id {row.id!r} repeats", file=path, row=index, field="id")
                seen.add(row.id)
        except InputError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        found = True
        yield index, row
    if not found:
        raise InputError("the file has no usable rows", file=path)


def json_items(path: PathLike, on_error: OnError | None = None) -> Iterator[tuple[int, Any]]:
    """(number, value) of the lines of JSONL (by its name) or of the entries of a JSON list, streaming.

    Raises:
        InputError: missing or no text; not JSON, which in JSONL goes to `on_error` where given.
    """
    try:
        # newline="\n": other line ends are legal inside JSON strings
        with open(path, encoding="utf-8", newline="\n") as file:
            if Path(path).suffix == ".jsonl":
                yield from _line_items(file, path, on_error)
            else:
                yield from _list_items(file, path)
    except FileNotFoundError:
        raise InputError("the file does not exist", file=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"not a readable text file ({error})", file=path) from None


def _line_items(file: TextIO, path: PathLike, on_error: OnError | None) -> Iterator[tuple[int, Any]]:
    for index, line in enumerate(file):
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


def _list_items(file: TextIO, path: PathLike) -> Iterator[tuple[int, Any]]:
    """Entries of a JSON list, read piece by piece: a list of a million rows does not fit into memory as objects."""
    decode = json.JSONDecoder().raw_decode
    text, position, at_end, index = "", 0, False, 0

    def skip() -> str:
        """Move to the next character that is no white space, and return it; "" at the end."""
        nonlocal text, position, at_end
        while True:
            while position < len(text) and text[position] in " \t\r\n":
                position += 1
            if position < len(text) or at_end:
                return text[position : position + 1]
            text, position = file.read(_CHUNK_BYTES), 0
            at_end = not text

    def fail(problem: str) -> None:
        remedy = "JSON lines are read when the name ends in .jsonl"
        raise InputError(f"not JSON ({problem})", file=path, row=index or None, remedy=remedy)

    first = skip()
    if first != "[":
        whole = text[position:] + file.read()
        try:
            kind = type(json.loads(whole)).__name__
        except (ValueError, RecursionError) as error:
            fail(str(error))
        raise InputError(f"a JSON list is expected, got {kind}", file=path)
    position += 1
    if skip() == "]":
        return
    while True:
        skip()
        while True:
            try:
                item, end = decode(text, position)
                # of a number that the piece cuts ("1.5e" of 1.5e9) the front decodes too: what follows shows it
                if at_end or text[end : end + 1] in _AFTER_ENTRY:
                    break
            except RecursionError as error:
                fail(str(error))
            except ValueError as error:
                if at_end:
                    fail(str(error))
            # pieces grow with the entry, so that a long entry is not decoded a thousand times
            more = file.read(max(_CHUNK_BYTES, len(text) - position))
            text, position, at_end = text[position:] + more, 0, not more
        yield index, item
        position, index = end, index + 1
        separator = skip()
        if separator == "]":
            position += 1
            if skip():
                fail("something stands behind the list")
            return
        if separator != ",":
            fail("a comma or the end of the list is expected" if separator else "the list does not end")
        position += 1


def _as_it_was(row: QARow, item: dict[str, Any], path: PathLike, index: int, keep_chat: bool) -> QARow:
    """The row with the fields that our writer put into `qa_row`."""
    text = item.get(_QA_ROW_KEY)
    if text is None:
        return row
    try:
        values = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or not set(values) <= set(QA_COLUMNS):
        raise InputError(
            "JSON text of an object with fields of QARow is expected", file=path, row=index, field="qa_row"
        )
    chat = row.meta
    for name, value in values.items():
        kind = _FIELD_KINDS.get(name)
        if kind is not None and not isinstance(value, kind):
            raise InputError(f"{name} must not be {type(value).__name__}", file=path, row=index, field="qa_row")
        setattr(row, name, value)
    if keep_chat:
        row.meta = chat | row.meta
    return row


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
    own = item.get("answer")
    raw = own if isinstance(own, str) else tagged[-1] if tagged else reply
    row = reader.row(messages, video, raw, num_frames, "conversations")
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
        task = str(item.get("task")) if options and item.get("task") in known_tasks() else OTHER_TASK
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


def plain_prompt(row: QARow, request: str = _RFT_REQUEST) -> list[dict[str, str]]:
    """The row's own chat; else one user turn of question, options and `request`."""
    messages = row.meta.get("messages", [])
    if _is_chat(messages):
        return [dict(message) for message in messages]
    options = [f"{letter}. {option}" for letter, option in zip(LETTERS, row.options, strict=False)]
    return [{"role": "user", "content": "\n".join([VIDEO_PLACEHOLDER + row.question, *options, request])}]


def _is_chat(messages: Any) -> bool:
    """Whether these are turns with role and text, one of them the user's, about one video: meta may hold anything."""
    if not isinstance(messages, list) or not all(isinstance(turn, dict) for turn in messages):
        return False
    if not all(turn.get("role") in ROLES.values() and isinstance(turn.get("content"), str) for turn in messages):
        return False
    placeholders = sum(turn["content"].count(VIDEO_PLACEHOLDER) for turn in messages)
    return placeholders == 1 and any(turn["role"] == "user" for turn in messages)


def _raw_answer(row: QARow) -> str:
    """The answer as it was written, where the row keeps it and it still means the row's answer."""
    raw = row.meta.get("raw_answer")
    if isinstance(raw, str) and (not row.options or normalise_answer(raw, row.options) == row.answer):
        return raw
    return row.answer


def _extras(row: QARow) -> dict[str, Any]:
    extras = {key: getattr(row, key) for key in _EXTRA_KEYS}
    return {"id": row.id, "task": row.task, **{key: value for key, value in extras.items() if value is not None}}


def _left_out(item: dict[str, Any], row: QARow, convert: Callable[..., QARow]) -> dict[str, str]:
    """The key that holds what reading `item` would not give back of `row`; nothing where nothing is lost."""
    back = convert(item, "", 0, DEFAULT_NUM_FRAMES)
    lost = {name: value for name in QA_COLUMNS if (value := getattr(row, name)) != getattr(back, name)}
    if lost.get("answer_text") == "":
        del lost["answer_text"]  # it follows from the answer
    if not lost:
        return {}
    return {_QA_ROW_KEY: json.dumps(lost, ensure_ascii=False, allow_nan=False, sort_keys=True)}


def _write_items(path: PathLike, items: Iterable[dict[str, Any]], *, lines: bool) -> Path:
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        if not lines:
            file.write("[\n")
        for index, item in enumerate(items):
            if not lines and index:
                file.write(",\n")
            file.write(json.dumps(item, ensure_ascii=False, allow_nan=False))
            if lines:
                file.write("\n")
        if not lines:
            file.write("\n]\n")
    return Path(path)


def _same(left: str, right: str) -> bool:
    return left.strip().rstrip(".").casefold() == right.strip().rstrip(".").casefold()

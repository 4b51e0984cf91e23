"""verl's RL parquet: prompt, videos, data_source, ability, reward_model, extra_info, as verl's own tools write it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..atomic import atomic_path
from ..errors import InputError
from ..released import VIDEO_PLACEHOLDER, normalise_answer, plain_prompt, split_options
from ..schema import LETTERS, OTHER_TASK, QARow, check_row
from .base import Format, Options, PlacedRow
from .qa import ROWS_PER_GROUP, checked, open_parquet

_TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_EXTRA = {
    "index": pa.int64(),
    "id": pa.string(),
    "task": pa.string(),
    "clip_id": pa.string(),
    "split": pa.string(),
    "num_frames": pa.int64(),
    "start_frame": pa.int64(),
    "end_frame": pa.int64(),
    # what prompt and truth do not give back: JSON text of {field: value}
    "qa_row": pa.string(),
}
SCHEMA = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", _TURNS),
        ("videos", pa.list_(pa.struct([("type", pa.string()), ("video", pa.string()), ("nframes", pa.int64())]))),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        ("extra_info", pa.struct(list(_EXTRA.items()))),
    ]
)
_KEPT = ("question", "unit", "object_description", "camera_center", "object_center", "meta", "response")


def ground_truth(row: QARow) -> dict[str, Any]:
    """What the reward is told of a QARow: see `mllm4d_verl.reward.STReward`.

    A centre that the question does not need is [null, null], as in the released files: the released reward fails on
    null. `start_rotation`, `tau_m` and `measure` are for the component `consistency`; null for imported rows.
    """
    return {
        "answer": row.answer,
        "answer_text": row.answer_text,
        "options": row.options,
        "value": row.value,
        "unit": row.unit,
        "task": row.task,
        "camera_center": row.camera_center or [None, None],
        "object_center": row.object_center or [None, None],
        "start_rotation": row.meta.get("start_rotation"),
        "tau_m": row.meta.get("tau_m"),
        "measure": row.meta.get("measure"),
    }


def verl_record(row: QARow, index: int, prompt: list[dict[str, str]]) -> dict[str, Any]:
    """A row in verl's columns.

    `ground_truth` is JSON text, which the reward reads: Arrow would give all truths one struct type and fill what a
    row lacks.
    """
    kept = {name: getattr(row, name) for name in _KEPT}
    return {
        "data_source": f"mllm4d/{row.task}",
        "prompt": prompt,
        "videos": [{"type": "video", "video": row.video, "nframes": row.num_frames}],
        "ability": "video",
        "reward_model": {"style": "rule", "ground_truth": json.dumps(ground_truth(row))},
        "extra_info": {
            "index": index,
            "id": row.id,
            "task": row.task,
            "clip_id": row.clip_id,
            "split": row.split,
            "num_frames": row.num_frames,
            "start_frame": row.start_frame,
            "end_frame": row.end_frame,
            "qa_row": json.dumps(kept, ensure_ascii=False),
        },
    }


def _matches(path: Path) -> bool:
    if path.suffix != ".parquet":
        return False
    names = set(open_parquet(path).schema_arrow.names)
    return "prompt" in names and not {"question", "task"} <= names


def _read(path: Path, options: Options) -> Iterator[PlacedRow]:
    first, seen = 0, set()
    with open_parquet(path) as file:
        present = set(file.schema_arrow.names)
        for name in ("prompt", "reward_model"):
            if name not in present:
                raise InputError(f"the column is missing; the file has {', '.join(present)}", file=path, field=name)
        columns = [name for name in SCHEMA.names if name in present]
        for batch in file.iter_batches(batch_size=2048, columns=columns):
            for index, record in enumerate(batch.to_pylist(), first):
                try:
                    row = _row(record, path, index, options)
                    if options.check:
                        check_row(row, file=path, index=index)
                        if hash(row.id) in seen:
                            raise InputError(f"id {row.id!r} repeats", file=path, row=index, field="extra_info.id")
                        seen.add(hash(row.id))
                except InputError as error:
                    if options.on_error is None:
                        raise
                    options.on_error(error)
                    continue
                yield str(path), index, row
            first += batch.num_rows
    if first == 0:
        raise InputError("the file has no rows", file=path)


def _row(record: Mapping[str, Any], path: Path, index: int, options: Options) -> QARow:
    def fail(problem: str, field: str, remedy: str | None = None) -> None:
        raise InputError(problem, file=path, row=index, field=field, remedy=remedy)

    turns = record["prompt"]
    if not isinstance(turns, list) or not all(isinstance(t, dict) and isinstance(t.get("content"), str) for t in turns):
        fail("a list of turns with text content is expected", "prompt")
    messages = [{"role": str(turn.get("role")), "content": turn["content"]} for turn in turns]
    users = [message["content"] for message in messages if message["role"] == "user"]
    if not users:
        fail("there is no user turn", "prompt")
    video, nframes = _video(record.get("videos"), fail)
    extra = record.get("extra_info") or {}
    truth = _truth((record.get("reward_model") or {}).get("ground_truth"), fail)
    question, listed = split_options(users[-1].replace(VIDEO_PLACEHOLDER, "").strip())
    own = truth.get("options")
    choices: list[str] = own if isinstance(own, list) else listed
    raw = str(truth.get("answer"))
    answer = normalise_answer(raw, choices)
    if answer is None and choices:
        fail(f"answer {raw[:80]!r} is not among the options", "reward_model.ground_truth")
    num_frames = extra.get("num_frames") or nframes or options.num_frames
    end_frame = extra.get("end_frame")
    row = QARow(
        id=str(extra.get("id") or f"{path.stem}-{index}"),
        clip_id=str(extra.get("clip_id") or video),
        video=video,
        num_frames=num_frames,
        task=str(extra.get("task") or truth.get("task") or OTHER_TASK),
        start_frame=extra.get("start_frame") or 0,
        end_frame=num_frames - 1 if end_frame is None else end_frame,
        question=question,
        options=choices,
        answer=answer or raw.strip(),
        answer_text=choices[LETTERS.index(answer)] if choices and answer else raw.strip(),
        value=truth.get("value"),
        split=str(extra.get("split") or "train"),
        meta={"messages": messages, "raw_answer": raw},
    )
    if extra.get("qa_row") is not None:
        try:
            kept = json.loads(extra["qa_row"])
            values = {name: kept[name] for name in _KEPT}
        except (TypeError, ValueError, KeyError, RecursionError):
            fail("JSON text of an object with fields of QARow is expected", "extra_info.qa_row")
        chat = row.meta
        for name, value in values.items():
            setattr(row, name, value)
        if options.keep_chat:
            row.meta = chat | row.meta
    return row


def _video(videos: Any, fail: Any) -> tuple[str, int | None]:
    if not isinstance(videos, list) or len(videos) != 1:
        fail(f"a row carries exactly one video, got {len(videos or [])}", "videos")
    video = videos[0]
    if isinstance(video, str):
        return video, None
    if not isinstance(video, dict) or not isinstance(video.get("video"), str):
        fail("a path, or an object with the key `video`, is expected", "videos")
    return video["video"], video.get("nframes")


def _truth(truth: Any, fail: Any) -> dict[str, Any]:
    if isinstance(truth, str):
        try:
            parsed = json.loads(truth)
        except (ValueError, RecursionError):
            parsed = None
        truth = parsed if isinstance(parsed, dict) else {"answer": truth}
    if not isinstance(truth, dict) or truth.get("answer") is None:
        fail("the answer is missing", "reward_model.ground_truth")
    return truth


def _write(path: Path, rows: Iterable[QARow], options: Options) -> None:
    render = options.render or plain_prompt
    stream = enumerate(checked(rows, path))
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, SCHEMA) as writer:
        while chunk := list(islice(stream, ROWS_PER_GROUP)):
            records = [verl_record(row, index, render(row)) for index, row in chunk]
            writer.write_batch(pa.RecordBatch.from_pylist(records, SCHEMA), row_group_size=ROWS_PER_GROUP)


FORMAT = Format(
    name="verl",
    holds="verl's RL parquet: prompt, videos, data_source, ability, reward_model, extra_info.",
    losses=("Prompts are rendered once: another prompt template needs another file.",),
    suffixes=(".parquet",),
    matches=_matches,
    read=_read,
    write=_write,
)

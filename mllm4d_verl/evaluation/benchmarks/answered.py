"""Response files of any origin, put beside the questions they answer.

Read are our own files (`mllm4d eval run`: id, truth, response) and what other projects release: a list of benchmark
items, as JSON, JSON lines or parquet, each with what the model wrote under `response`. Such items carry their own
questions, so the question file is not needed; where it is at hand, or its content is known, they are checked by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mllm4d_verl.data_tools.errors import InputError

from .base import Benchmark, Item, fold
from .records import PathLike, Record, file_sha256, read_records
from .registry import Source, find_questions, from_records, get_source, is_path, load_benchmark

RESPONSE_FIELD = "response"


@dataclass(frozen=True)
class Answered:
    """Questions of a benchmark with the responses of a model.

    Attributes:
        benchmark: the questions; those of the response file where it carries its own.
        items, responses: item by item, in the order of the file; "" where the model gave none. With several samples of
            a question (`sample` 0, 1, ...) each is a response of its own: accuracy is then their mean.
        responses_sha256: of the response file.
        questions_from: "question file", or "response file" where it carried its own.
        altered: ids whose question, options or answer differ from the question file; None where there was none to
            compare with.
        missing: questions of the question file without a response; None where the whole set is not known.
    """

    benchmark: Benchmark
    items: tuple[Item, ...]
    responses: tuple[str, ...]
    responses_sha256: str
    questions_from: str
    altered: tuple[str, ...] | None
    missing: tuple[str, ...] | None


def read_answered(
    file: PathLike, benchmark: PathLike, questions: PathLike | None = None, field: str = RESPONSE_FIELD
) -> Answered:
    """The responses of `file` beside the questions of `benchmark`.

    Args:
        file: responses; see the module.
        benchmark: name of a benchmark or path of a question file; see `load_benchmark`.
        questions: question file of a named benchmark; needed where the responses do not carry their questions.
        field: key of the response in each record.

    Raises:
        InputError: a response to no question, two responses to one, records without the field.
    """
    file = Path(file)
    records = read_records(file)
    if not any(field in record.fields for record in records):
        near = [key for key in ("response", "prediction", "output", "pred", "model_output") if key in records[0].fields]
        hint = f"Give `--response-field {near[0]}`" if near else "Name the key by `--response-field`"
        raise InputError(f"no record has the field {field!r}", file=file, field=field, remedy=hint)
    responses = [_text(record, field) for record in records]
    published = _published(benchmark, questions)
    own = _own_questions(benchmark, records)
    if own is None:
        if published is None:
            published = load_benchmark(benchmark, questions)  # tells where to get the question file
        items = _find_all(records, published)
        asked, altered, origin = published, None, "question file"
    else:
        asked, items = own, own.items
        altered = None if published is None else _altered(items, records, published)
        origin = "response file"
    _check_doubled(items, records)
    missing = None
    if published is not None:
        answered = {_key(item) for item in items}
        missing = tuple(item.id for item in published.items if _key(item) not in answered)
        asked = replace(asked, sha256=published.sha256, revision=asked.revision or published.revision)
    return Answered(asked, tuple(items), tuple(responses), file_sha256(file), origin, altered, missing)


def _published(benchmark: PathLike, questions: PathLike | None) -> Benchmark | None:
    """The question file's content, where it is at hand."""
    if questions is None and not is_path(benchmark) and find_questions(get_source(str(benchmark))) is None:
        return None
    return load_benchmark(benchmark, questions)


def _own_questions(benchmark: PathLike, records: Sequence[Record]) -> Benchmark | None:
    """The questions that came with the responses; None where the records do not look like the benchmark's items."""
    if is_path(benchmark):
        return None
    source: Source = get_source(str(benchmark))
    if not source.record_keys or not all(source.record_keys <= record.fields.keys() for record in records):
        return None
    return from_records(source, records)


def _find_all(records: Sequence[Record], benchmark: Benchmark) -> list[Item]:
    items = []
    for record in records:
        id = record.fields.get("id", record.fields.get("ID"))
        if id is None:
            raise record.error("the field is missing: which question does this answer?", "id")
        video = record.fields.get("video") or record.fields.get("Video")
        item = benchmark.find(str(id), video if isinstance(video, str) else None)
        if item is None:
            raise record.error(
                f"the benchmark {benchmark.name} has no question {str(id)!r}",
                "id",
                "Give the question file that was answered (`--benchmark FILE`)",
            )
        items.append(item)
    return items


def _text(record: Record, field: str) -> str:
    """The response as text; null and a missing field are a model that said nothing."""
    value: Any = record.fields.get(field)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise record.error(
            f"text is expected, got {type(value).__name__}",
            field,
            "One record per response; several samples need one each",
        )
    return str(value)


def _check_doubled(items: Sequence[Item], records: Sequence[Record]) -> None:
    """Several samples of a question have a `sample` number; else a second response would count twice."""
    seen: set[tuple[str, str]] = set()
    for item, record in zip(items, records, strict=True):
        key = item.id, str(record.fields.get("sample") or 0)
        if key in seen:
            raise record.error(f"two responses to the question {item.id!r}", "id", "Number samples by `sample`")
        seen.add(key)


def _key(item: Item) -> tuple[str, str]:
    return item.source_id or item.id, item.clip


def _altered(items: Sequence[Item], records: Sequence[Record], published: Benchmark) -> tuple[str, ...]:
    """Items that are not the question file's: other words, other options (in any order), another right answer."""
    by_key = {_key(item): item for item in published.items}
    return tuple(
        item.id for item in items if (known := by_key.get(_key(item))) is None or _asked(item) != _asked(known)
    )


def _asked(item: Item) -> tuple[str, list[str], str, float | None]:
    return fold(item.question), sorted(map(fold, item.options)), fold(item.answer_text), item.value

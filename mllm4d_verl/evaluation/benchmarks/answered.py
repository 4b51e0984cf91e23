"""Response files of any origin, put beside the questions they answer.

Read are our own files (`mllm4d eval run`: id, truth, response) and what other projects release: a list of benchmark
items, as JSON, JSON lines or parquet, each with what the model wrote under `response`. Such items carry their own
questions, so the question file is not needed; where it is at hand, or its content is known, they are checked by it.
Others carry parts of their questions, as VLM4D's authors do: no video, the right answer under another name, and options
in an order of their own. Letters mean the options that the model saw, so these are used wherever a record has them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import LETTERS
from mllm4d_verl.reward.truth import strip_letter

from .base import CHOICE, UNREADABLE, Benchmark, Item, fold, video_path
from .records import PathLike, Record, file_sha256, read_records
from .registry import Source, find_questions, from_records, get_source, is_path, load_benchmark

RESPONSE_FIELD = "response"
#: Names that sources and response files give to the options, the right answer and the question, in order of precedence.
_OPTION_FIELDS = ("choices", "options", "candidates", "Candidates")
_ANSWER_FIELDS = ("ground_truth_answer", "ground_truth", "answer", "Answer")
_QUESTION_FIELDS = ("question", "Question")


@dataclass(frozen=True)
class Answered:
    """Questions of a benchmark with the responses of a model.

    Attributes:
        benchmark: the questions; those of the response file where it carries its own.
        items, responses: item by item, in the order of the file; "" where the model gave none. With several samples of
            a question (`sample` 0, 1, ...) each is a response of its own: accuracy is then their mean.
        samples: number of each response among those to its question, from 0.
        responses_sha256: of the response file.
        questions_from: "question file", or "response file" where it carried its own.
        altered: ids whose video, question, options (in any order) or answer differ from the question file; None where
            there was none to compare with, or the responses carry nothing of their questions.
        missing: questions of the question file without a response; None where the whole set is not known.
    """

    benchmark: Benchmark
    items: tuple[Item, ...]
    responses: tuple[str, ...]
    samples: tuple[int, ...]
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
        found = _find_all(records, published)
        items = [_as_answered(item, record) for item, record in zip(found, records, strict=True)]
        differs = [_differs(item, record) for item, record in zip(found, records, strict=True)]
        altered = tuple(item.id for item, is_other in zip(items, differs, strict=True) if is_other)
        altered = None if all(is_other is None for is_other in differs) else altered
        asked, origin = published, "question file"
    else:
        asked, items = own, own.items
        altered = None if published is None else _altered(items, published)
        origin = "response file"
    samples = _samples(items, records)
    missing = None
    if published is not None:
        answered = {item.id for item in items}
        missing = tuple(item.id for item in published.items if item.id not in answered)
        asked = replace(asked, sha256=published.sha256, revision=asked.revision or published.revision)
    digest = file_sha256(file)
    return Answered(asked, tuple(items), tuple(responses), samples, digest, origin, altered, missing)


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


def _samples(items: Sequence[Item], records: Sequence[Record]) -> tuple[int, ...]:
    """Several samples of a question have a `sample` number; else a second response would count twice."""
    seen: set[tuple[str, int]] = set()
    samples = []
    for item, record in zip(items, records, strict=True):
        sample = record.fields.get("sample") or 0
        if isinstance(sample, bool) or not isinstance(sample, int) or sample < 0:
            raise record.error(f"a number from 0 on is expected, got {sample!r}", "sample")
        if (item.id, sample) in seen:
            raise record.error(f"two responses to the question {item.id!r}", "id", "Number samples by `sample`")
        seen.add((item.id, sample))
        samples.append(sample)
    return tuple(samples)


def _as_answered(item: Item, record: Record) -> Item:
    """The item with the options that the record carries, and the letter that the right answer has among them."""
    options = _record_options(record)
    if item.kind != CHOICE or not item.options or options is None or options == item.options:
        return item
    folded = list(map(fold, options))
    for text in (item.answer_text, _record_answer(record)):
        if text is not None and fold(text) in folded:
            return replace(item, options=options, answer=LETTERS[folded.index(fold(text))])
    fault = f"the right answer {item.answer_text!r} is not among the options that were answered, {', '.join(options)}"
    return replace(item, options=options, answer="", kind=UNREADABLE, fault=fault)


def _differs(item: Item, record: Record) -> bool | None:
    """Whether the record's question is not the question file's; None where it carries nothing of it."""
    own: list[bool] = []
    if (options := _record_options(record)) is not None and item.kind == CHOICE and item.options:
        own.append(sorted(map(fold, options)) != sorted(map(fold, item.options)))
        if (answer := _record_answer(record)) is not None:
            own.append(fold(answer) != fold(item.answer_text))
    question = next((record.fields[key] for key in _QUESTION_FIELDS if key in record.fields), None)
    if isinstance(question, str):
        own.append(fold(question) != fold(item.question))
    return any(own) if own else None


def _record_options(record: Record) -> tuple[str, ...] | None:
    """Option texts in the order of their letters, as the record has them; None where it has none that can be read."""
    truth = record.fields.get("truth")
    places = [record.fields.get(key) for key in _OPTION_FIELDS]
    places.append(truth.get("options") if isinstance(truth, dict) else None)
    options: Any = next((place for place in places if place), None)
    if isinstance(options, str):
        try:
            options = json.loads(options)
        except (ValueError, RecursionError):
            return None
    if isinstance(options, dict):
        present = {letter: text for letter, text in options.items() if text is not None}
        if sorted(present) != list(LETTERS[: len(present)]):
            return None
        options = [present[letter] for letter in LETTERS[: len(present)]]
    if not isinstance(options, list) or not 2 <= len(options) <= len(LETTERS):
        return None
    return tuple(strip_letter(str(option).strip()) for option in options)


def _record_answer(record: Record) -> str | None:
    """Text of the answer that the record calls right, by its letter or itself; None where it calls none so."""
    truth = record.fields.get("truth")
    places = [record.fields.get(key) for key in _ANSWER_FIELDS]
    places.append(truth.get("answer") if isinstance(truth, dict) else None)
    answer = next((str(place).strip() for place in places if place is not None), None)
    options = _record_options(record)
    if answer is None or options is None or fold(answer) in map(fold, options):
        return answer
    index = LETTERS.find(answer.upper()) if len(answer) == 1 else -1
    return options[index] if 0 <= index < len(options) else strip_letter(answer)


def _altered(items: Sequence[Item], published: Benchmark) -> tuple[str, ...]:
    """Items that are not the question file's: another video, other words, options (in any order) or right answer."""
    by_id = published.by_id
    return tuple(item.id for item in items if (known := by_id.get(item.id)) is None or _asked(item) != _asked(known))


def _asked(item: Item) -> tuple[str, str, list[str], str, float | None]:
    text = fold(item.question), sorted(map(fold, item.options)), fold(item.answer_text), item.value
    return video_path(item.video).stem, *text

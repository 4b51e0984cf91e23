"""Chosen questions into rows of text, column by column for all clips at once, as Arrow arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from string import Formatter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..schema import LETTERS, QA_SCHEMA, SPLITS, QARow
from ..st_cot import write_st_cot
from ..st_cot.cues import cue_texts, find_codes
from .candidates import Candidates
from .chance import mix
from .config import BANDS, QuestionConfig
from .facts import ClipFacts
from .geometry import Ints
from .tasks import Task, task_of
from .templates import noun_phrase

#: What the choice over all clips decides about a row, beside its candidate.
CHOICE_DTYPE = np.dtype(
    [("split", np.int8), ("letter", np.int8), ("cold", np.bool_), ("decimals", np.int8), ("numbers", np.float64, 4)]
)
_OTHERS = np.array([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])  # orders of three distractors


@dataclass(frozen=True)
class Chosen:
    """Questions that are asked: candidates (N,) of candidates.DTYPE and choices (N,) of CHOICE_DTYPE."""

    found: Candidates
    choice: np.ndarray[Any, np.dtype[np.void]]

    def take(self, places: Any) -> Chosen:
        """Those at `places`, indices or a slice."""
        return Chosen(self.found[places], self.choice[places])


def phrase(chosen: Chosen, facts: ClipFacts, config: QuestionConfig, video_of: Callable[[str], str]) -> pa.Table:
    """Rows of QA_SCHEMA, in the order of the questions.

    Args:
        chosen: questions.
        facts: of their clips, and maybe of others.
        config: of the questions.
        video_of: path to write for a clip's video.
    """
    rows = _Rows(chosen, facts, config)
    options, truths = _options(rows)
    split = pa.array(SPLITS).take(pa.array(chosen.choice["split"]))
    arrays: dict[str, pa.Array] = {
        "id": _ids(rows),
        "clip_id": rows.clip_ids,
        "video": pa.array([video_of(video) for video in facts.videos.tolist()]).take(pa.array(rows.clip)),
        "num_frames": pa.array(np.full(len(rows), config.num_frames, np.int64)),
        "task": rows.by_task([task.name for task in rows.tasks]),
        "start_frame": pa.array(rows.start),
        "end_frame": pa.array(rows.end),
        "question": _questions(rows),
        "options": options,
        "answer": pa.array(list(LETTERS)).take(pa.array(chosen.choice["letter"])),
        "answer_text": truths,
        "value": pa.array(chosen.found["measure"].round(6), mask=~rows.is_numeric),
        "unit": rows.by_task([task.unit for task in rows.tasks]),
        "camera_center": _centers(rows, "camera"),
        "object_center": _centers(rows, "object"),
        "object_description": pa.array(facts.descriptions.tolist(), pa.string()).take(
            pa.array(rows.one, mask=rows.one < 0)
        ),
        "split": split,
        "meta": _metas(rows),
        "response": pa.nulls(len(rows), pa.string()),
    }
    table = pa.table([arrays[name] for name in QA_SCHEMA.names], schema=QA_SCHEMA)
    return _with_responses(table, chosen.choice["cold"], config)


def option_counts(tasks: list[Task]) -> Ints:
    """(tasks,) options of a question of each task."""
    return np.array([4 if task.is_numeric else len(task.word_options(0, "a", "b", 0)) for task in tasks])


class _Rows:
    """K questions with what several columns need to know of them.

    Attributes:
        clip: (K,) place of the clip in the facts.
        one, two: (K,) places of the objects in the facts, -1 for none.
        start, end: (K,) sampled frames.
        task: (K,) place in `tasks`.
        pick, order: (K,) chance: of the phrasing, of the distractors' order.
        template: (K,) place in `templates`, those of all tasks.
    """

    def __init__(self, chosen: Chosen, facts: ClipFacts, config: QuestionConfig) -> None:
        found = chosen.found
        self.found, self.choice, self.facts, self.config = found, chosen.choice, facts, config
        self.tasks = [task_of(name) for name in config.tasks]
        self.task, self.start, self.end = (found[name].astype(np.int64) for name in ("task", "start", "end"))
        self.clip = facts.places_of(found["clip"])
        first = (np.cumsum(facts.num_objects) - facts.num_objects)[self.clip]
        self.one, self.two = (np.where(found[name] < 0, -1, found[name] + first) for name in ("first", "second"))
        chance = mix(found["key"], 4)
        self.pick, self.order = chance >> np.uint64(8), (chance % np.uint64(6)).astype(np.int64)
        counts = np.array([len(task.templates) for task in self.tasks])
        self.template = (np.cumsum(counts) - counts)[self.task] + (self.pick % counts[self.task].astype(np.uint64))
        self.template = self.template.astype(np.int64)
        self.templates = [template for task in self.tasks for template in task.templates]
        self.is_numeric = np.array([task.is_numeric for task in self.tasks])[self.task]

    def __len__(self) -> int:
        return len(self.found)

    def by_task(self, texts: Sequence[str | None]) -> pa.Array:
        """(K,) of one text per task."""
        return pa.array(texts, pa.string()).take(pa.array(self.task))

    def by_object(self, texts: Sequence[str], places: Ints) -> pa.Array:
        """(K,) of one text per object, "" where `places` says that there is none."""
        return pa.array([*texts, ""], pa.string()).take(pa.array(np.where(places < 0, len(texts), places)))

    def number(self, numbers: Ints) -> pa.Array:
        """(K,) small numbers >= 0 as texts."""
        table = pa.array([str(number) for number in range(int(numbers.max(initial=0)) + 1)], pa.string())
        return table.take(pa.array(numbers))

    @cached_property
    def clip_ids(self) -> pa.Array:
        return pa.array(self.facts.clip_ids.tolist(), pa.string()).take(pa.array(self.clip))

    @cached_property
    def frames(self) -> tuple[pa.Array, pa.Array]:
        """Start and end as texts."""
        return self.number(self.start), self.number(self.end)

    @cached_property
    def nouns(self) -> list[str]:
        """One per object."""
        return [noun_phrase(text) if text.strip() else "" for text in self.facts.descriptions.tolist()]

    def groups(self, codes: Ints) -> Iterator[tuple[int, Ints]]:
        """Each of the (K,) codes with the rows that have it."""
        if not len(codes):
            return
        order = np.argsort(codes, kind="stable")
        values, first = np.unique(codes[order], return_index=True)
        yield from zip(values.tolist(), np.split(order, first[1:]), strict=True)


def _join(*parts: Any) -> pa.Array:
    return pc.binary_join_element_wise(*parts, "")


def _gather(parts: list[tuple[Ints, pa.Array]]) -> pa.Array:
    """Texts of groups of rows, back in the order of the rows."""
    if not parts:
        return pa.array([], pa.string())
    rows = np.concatenate([rows for rows, _ in parts])
    place = np.empty(len(rows), np.int64)
    place[rows] = np.arange(len(rows))
    return pa.concat_arrays([texts for _, texts in parts]).take(pa.array(place))


def _ids(rows: _Rows) -> pa.Array:
    objects = [f"-object{number}" for number in rows.facts.object_ids.tolist()]
    about = rows.by_object(objects, rows.one), rows.by_object(objects, rows.two)
    start, end = rows.frames
    return _join(rows.clip_ids, "-", rows.by_task([task.name for task in rows.tasks]), *about, "-", start, "-", end)


# ---------------------------------------------------------------------------------------------------------- questions


def _questions(rows: _Rows) -> pa.Array:
    start, end = rows.frames
    nouns = [noun[:1].upper() + noun[1:] for noun in rows.nouns], rows.nouns
    columns = {"start": (start, start), "end": (end, end)}
    for role, places in (("object", rows.one), ("other", rows.two)):
        at_start, within = (rows.by_object(words, places) for words in nouns)
        columns[role] = at_start, within
    last = str(rows.config.num_frames - 1)
    parts = []
    for number, own in rows.groups(rows.template):
        pieces: list[Any] = [pa.nulls(len(own), pa.string()).fill_null("")]  # joined with columns, a text is repeated
        literal = ""
        for text, name, _, _ in Formatter().parse(rows.templates[number]):
            literal += text + (last if name == "last" else "")
            if name is not None and name != "last":
                is_first = len(pieces) == 1 and not literal
                pieces += [_capital(literal, pieces), columns[name][0 if is_first else 1].take(pa.array(own))]
                literal = ""
        parts.append((own, _join(*pieces, _capital(literal, pieces))))
    return _gather(parts)


def _capital(literal: str, before: list[Any]) -> str:
    return literal[:1].upper() + literal[1:] if len(before) == 1 else literal


# ------------------------------------------------------------------------------------------------------------ options


def _options(rows: _Rows) -> tuple[pa.Array, pa.Array]:
    """Lists of options, and the true ones."""
    numeric, worded = np.flatnonzero(rows.is_numeric), np.flatnonzero(~rows.is_numeric)
    texts, first_of_word = _word_options(rows, worded)
    source = pa.concat_arrays([_numeric_options(rows, numeric), pa.array(texts, pa.string())])
    first = np.empty(len(rows), np.int64)  # place in the source of the truth, which the others follow
    first[numeric] = 4 * np.arange(len(numeric))
    first[worded] = 4 * len(numeric) + first_of_word
    counts = option_counts(rows.tasks)[rows.task]
    places = _arrangements()[counts, rows.order, rows.choice["letter"]]
    listed = np.arange(places.shape[1]) < counts[:, None]
    flat = source.take(pa.array((first[:, None] + places)[listed]))
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), flat), source.take(pa.array(first))


def _numeric_options(rows: _Rows, numeric: Ints) -> pa.Array:
    """Four printed numbers per question, the truth first, with the unit where the question does not say it."""
    flat = np.repeat(numeric, 4)
    numbers, decimals = rows.choice["numbers"][numeric].ravel(), rows.choice["decimals"][flat]
    parts = []
    for digits, own in rows.groups(decimals):
        printed = (f"%.{digits}f\n" * len(own)) % tuple(numbers[own].tolist())
        parts.append((own, pa.array(printed.split("\n")[:-1], pa.string())))
    suffixes = ["" if f" {task.unit}" in text else f" {task.unit}" for task in rows.tasks for text in task.templates]
    return _join(_gather(parts), pa.array(suffixes, pa.string()).take(pa.array(rows.template[flat])))


def _word_options(rows: _Rows, worded: Ints) -> tuple[list[str], Ints]:
    """Texts of the options of all kinds of question that occur, the truth first; and where those of each row begin."""
    if not len(worded):
        return [], np.zeros(0, np.int64)
    names = {noun: place for place, noun in enumerate(dict.fromkeys([*rows.nouns, ""]))}
    nouns = list(names)
    noun_of = np.array([names[noun] for noun in [*rows.nouns, ""]])  # -1, no object, is ""
    found = rows.found[worded]
    chance = ((rows.pick[worded] >> np.uint64(32)) & np.uint64(1)).astype(np.int64)
    keys = (rows.task[worded], found["label"], noun_of[rows.one[worded]], noun_of[rows.two[worded]], chance)
    sizes = (len(rows.tasks), int(found["label"].max()) + 1, len(nouns), len(nouns), 2)
    kinds, kind_of = np.unique(np.ravel_multi_index(keys, sizes), return_inverse=True)
    texts: list[str] = []
    first = []
    for task, label, one, two, pick in zip(*(key.tolist() for key in np.unravel_index(kinds, sizes)), strict=True):
        first.append(len(texts))
        texts.extend(rows.tasks[task].word_options(label, nouns[one], nouns[two], pick))
    return texts, np.array(first)[kind_of]


def _arrangements() -> Ints:
    """(count, order, letter, count) places of options in a list with the truth first, such that it stands at a letter.

    Three distractors take one of six orders, two one of two; more keep theirs.
    """
    most = len(LETTERS)
    table = np.zeros((most + 1, 6, most, most), np.int64)
    for count in range(1, most + 1):
        for order in range(6):
            others = list(range(1, count))
            if count == 4:
                others = (_OTHERS[order] + 1).tolist()
            elif count == 3 and order % 2:
                others = others[::-1]
            for letter in range(count):
                table[count, order, letter, :count] = [*others[:letter], 0, *others[letter:]]
    return table


# --------------------------------------------------------------------------------------------------- centres and meta


def _centers(rows: _Rows, name: str) -> pa.Array:
    """Centres at start and end, to the micrometre, as lists of two; null where the task does not need one, or both."""
    needed = np.array([task.camera if name == "camera" else task.object for task in rows.tasks])[rows.task]
    sights = rows.facts.sights
    centers = np.zeros((len(rows), 2, 3))
    for side, frames in enumerate((rows.start, rows.end)):
        own = np.flatnonzero(needed[:, side])
        table, places = (sights.centers, rows.clip) if name == "camera" else (sights.object_centers, rows.one)
        centers[own, side] = table[places[own], frames[own]].round(6) + 0.0
    lengths = np.where(needed.ravel(), 3, 0)
    inner_ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    flat = pa.array(centers.reshape(-1, 3)[needed.ravel()].ravel())
    inner = pa.ListArray.from_arrays(pa.array(inner_ends), flat, mask=pa.array(~needed.ravel()))
    outer_ends = np.arange(0, 2 * len(rows) + 1, 2, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(outer_ends), inner, mask=pa.array(~needed.any(axis=1)))


def _metas(rows: _Rows) -> pa.Array:
    """JSON objects with sorted keys."""
    facts, limits = rows.facts, rows.config.thresholds
    codes = find_codes(
        facts.sights, rows.clip, rows.start, rows.end, rows.one,
        min_motion_m=limits.min_motion_m, tau_m=limits.tau_m, tau_relative=limits.tau_relative,
    )  # fmt: skip
    start, end = (rows.number(facts.clip_frames[rows.clip, frames]) for frames in (rows.start, rows.end))
    measures = [repr(round(measure, 6)) for measure in rows.found["measure"].tolist()]
    taus = ["" if tau != tau else f', "tau_m": {round(tau, 6)}' for tau in rows.found["tau_m"].tolist()]
    ids = facts.object_ids.tolist()
    return _join(
        '{"clip_frames": [', start, ", ", end, '], "cues": ', cue_texts(codes),
        pa.array([f', "difficulty": "{band}", "measure": ' for band in BANDS]).take(pa.array(rows.found["band"])),
        pa.array(measures, pa.string()), ",",
        rows.by_object([f' "object_id": {number},' for number in ids], rows.one),
        rows.by_object([f' "other_object_id": {number},' for number in ids], rows.two),
        ' "start_rotation": ', _rotations(rows), pa.array(taus, pa.string()), "}",
    )  # fmt: skip


def _rotations(rows: _Rows) -> pa.Array:
    """Camera to world at the start frames."""
    table = rows.facts.sights.rotations
    used, place = np.unique(rows.clip * table.shape[1] + rows.start, return_inverse=True)
    matrices = (table.reshape(-1, 3, 3)[used].round(6) + 0.0).tolist()
    # Of lists of finite numbers, Python's text is the JSON text.
    return pa.array([str(matrix) for matrix in matrices], pa.string()).take(pa.array(place))


# ---------------------------------------------------------------------------------------------------------- responses


def _with_responses(table: pa.Table, cold: Any, config: QuestionConfig) -> pa.Table:
    if not cold.any():
        return table
    from ..qa_table import rows_of

    responses: list[str | None] = [None] * table.num_rows
    places = np.flatnonzero(cold)
    rows: list[QARow] = rows_of(table.take(pa.array(places)))
    for place, row in zip(places.tolist(), rows, strict=True):
        responses[place] = write_st_cot(row, style=config.cot_style, decimals=config.cot_decimals)
    return table.set_column(QA_SCHEMA.get_field_index("response"), "response", pa.array(responses, pa.string()))

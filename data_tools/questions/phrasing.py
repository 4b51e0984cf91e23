"""Chosen questions into rows of text, clip by clip, as Arrow columns."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ..schema import LETTERS, QA_SCHEMA, SPLITS, QARow
from ..st_cot import ClipCues, write_st_cot
from .candidates import Candidates
from .chance import mix
from .config import BANDS, QuestionConfig
from .geometry import Floats, Ints
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


class _Columns:
    """Rows under construction: plain lists of texts, arrays for the rest."""

    def __init__(self) -> None:
        self.texts: dict[str, list[Any]] = {
            name: []
            for name in ("id", "clip_id", "video", "question", "options", "answer_text", "object_description", "meta")
        }
        self.centers: dict[str, list[Floats]] = {"camera_center": [], "object_center": []}
        self.responses: list[str | None] = []


def phrase(
    chosen: Chosen, clip_of: Callable[[int], Any], config: QuestionConfig, video_of: Callable[[str], str]
) -> pa.Table:
    """Rows of QA_SCHEMA for questions in the order of their clips.

    Args:
        chosen: questions, those of a clip next to each other.
        clip_of: geometry (ClipGeometry) of a clip by its number.
        config: of the questions.
        video_of: path to write for a clip's video.
    """
    columns = _Columns()
    tasks = [task_of(name) for name in config.tasks]
    clips = chosen.found["clip"]
    edges = np.flatnonzero(np.diff(clips)) + 1
    for first, end in zip([0, *edges.tolist()], [*edges.tolist(), len(clips)], strict=True):
        if end > first:
            _phrase_clip(chosen.take(slice(first, end)), clip_of(int(clips[first])), tasks, config, video_of, columns)
    return _table(chosen, columns, config)


def _phrase_clip(
    chosen: Chosen,
    geometry: Any,
    tasks: list[Task],
    config: QuestionConfig,
    video_of: Callable[[str], str],
    columns: _Columns,
) -> None:
    clip, found, choice, limits = geometry.clip, chosen.found, chosen.choice, config.thresholds
    cues_of = ClipCues(
        clip,
        geometry.clip_frames.tolist(),
        min_motion_m=limits.min_motion_m,
        tau_m=limits.tau_m,
        tau_relative=limits.tau_relative,
    )
    texts = columns.texts
    video, last = video_of(clip.video), config.num_frames - 1
    nouns = [noun_phrase(track.description) if track.description.strip() else "" for track in clip.objects]
    frames = geometry.clip_frames.tolist()
    rotations: dict[int, str] = {}
    cues: dict[tuple[int, int, int], str] = {}
    chance = mix(found["key"], 4)
    picks = (chance >> np.uint64(8)).tolist()
    orders = (chance % np.uint64(6)).tolist()
    fields = ("task", "start", "end", "first", "second", "label", "band", "measure", "tau_m")
    rows = zip(
        *(found[name].tolist() for name in fields),
        choice["letter"].tolist(), choice["decimals"].tolist(), choice["numbers"].tolist(), picks, orders,
        strict=True,
    )  # fmt: skip
    for number, start, end, one, two, label, band, measure, tau, letter, decimals, numbers, pick, order in rows:
        task = tasks[number]
        noun, other = (nouns[one] if one >= 0 else ""), (nouns[two] if two >= 0 else "")
        template = task.templates[pick % len(task.templates)]
        question = template.format(start=start, end=end, last=last, object=noun, other=other)
        if task.is_numeric:
            unit = "" if f" {task.unit}" in template else f" {task.unit}"
            options = [f"{value:.{decimals}f}{unit}" for value in numbers]
        else:
            options = list(task.word_options(label, noun, other, (pick >> 32) & 1))
        about = "" if one < 0 else f"-object{clip.objects[one].id}"
        about += "" if two < 0 else f"-object{clip.objects[two].id}"
        known = cues.get((start, end, one))
        if known is None:
            found_cues = cues_of.pair(start, end, one if one >= 0 else None)
            known = cues[start, end, one] = json.dumps(found_cues, sort_keys=True)
        rotation = rotations.get(start)
        if rotation is None:
            rotation = rotations[start] = json.dumps((geometry.rotations[start].round(6) + 0.0).tolist())
        identity = "" if one < 0 else f' "object_id": {clip.objects[one].id},'
        identity += "" if two < 0 else f' "other_object_id": {clip.objects[two].id},'
        threshold = "" if tau != tau else f', "tau_m": {round(tau, 6)}'
        texts["meta"].append(
            f'{{"clip_frames": [{frames[start]}, {frames[end]}], "cues": {known}, "difficulty": "{BANDS[band]}", '
            f'"measure": {round(measure, 6)},{identity} "start_rotation": {rotation}{threshold}}}'
        )
        truth, others = options[0], options[1:]
        texts["answer_text"].append(truth)
        if len(others) == 3:
            a, b, c = _OTHERS[order]
            others = [others[a], others[b], others[c]]
        elif len(others) == 2 and order % 2:
            others = others[::-1]
        texts["options"].extend([*others[:letter], truth, *others[letter:]])
        texts["id"].append(f"{clip.clip_id}-{task.name}{about}-{start}-{end}")
        texts["question"].append(question[0].upper() + question[1:])
        texts["object_description"].append(clip.objects[one].description if one >= 0 else None)
    texts["clip_id"].extend([clip.clip_id] * len(found))
    texts["video"].extend([video] * len(found))
    for name in ("camera", "object"):
        columns.centers[f"{name}_center"].append(_centers(name, geometry, found, tasks))


def _centers(name: str, geometry: Any, found: Candidates, tasks: list[Task]) -> Floats:
    """(K, 2, 3) centres at start and end, NaN where the task does not need them, to the micrometre."""
    needed = np.array([task.camera if name == "camera" else task.object for task in tasks])[found["task"]]
    centers = np.full((len(found), 2, 3), np.nan)
    for side, frame in enumerate(("start", "end")):
        rows = np.flatnonzero(needed[:, side])
        frames = found[frame][rows]
        own = geometry.centers[frames] if name == "camera" else geometry.object_centers[found["first"][rows], frames]
        centers[rows, side] = own.round(6) + 0.0
    return centers


def _table(chosen: Chosen, columns: _Columns, config: QuestionConfig) -> pa.Table:
    found, choice, texts = chosen.found, chosen.choice, columns.texts
    tasks = [task_of(name) for name in config.tasks]
    numeric = np.array([task.is_numeric for task in tasks])[found["task"]]
    counts = option_counts(tasks)[found["task"]]
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    task_names = pa.array([task.name for task in tasks])
    units = pa.array([task.unit for task in tasks], pa.string())
    arrays: dict[str, pa.Array] = {name: pa.array(texts[name], pa.string()) for name in texts if name != "options"}
    arrays["options"] = pa.ListArray.from_arrays(pa.array(ends), pa.array(texts["options"], pa.string()))
    arrays["task"] = task_names.take(pa.array(found["task"]))
    arrays["unit"] = units.take(pa.array(found["task"]))
    arrays["num_frames"] = pa.array(np.full(len(found), config.num_frames, np.int64))
    arrays["start_frame"] = pa.array(found["start"].astype(np.int64))
    arrays["end_frame"] = pa.array(found["end"].astype(np.int64))
    arrays["answer"] = pa.array(list(LETTERS)).take(pa.array(choice["letter"]))
    arrays["split"] = pa.array(SPLITS).take(pa.array(choice["split"]))
    arrays["value"] = pa.array(found["measure"].round(6), mask=~numeric)
    for name, parts in columns.centers.items():
        arrays[name] = _states(np.concatenate(parts) if parts else np.zeros((0, 2, 3)))
    arrays["response"] = pa.nulls(len(found), pa.string())
    table = pa.table([arrays[name] for name in QA_SCHEMA.names], schema=QA_SCHEMA)
    return _with_responses(table, choice["cold"], config)


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


def _states(centers: Floats) -> pa.Array:
    """(N, 2, 3) as lists of two centres: null where a centre is NaN, and where both are."""
    missing = np.isnan(centers[:, :, 0])
    flat = centers.reshape(-1, 3)[~missing.ravel()].ravel()
    lengths = np.where(missing.ravel(), 0, 3)
    inner_ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    inner = pa.ListArray.from_arrays(pa.array(inner_ends), pa.array(flat), mask=pa.array(missing.ravel()))
    outer_ends = np.arange(0, 2 * len(centers) + 1, 2, dtype=np.int32)
    states = pa.ListArray.from_arrays(pa.array(outer_ends), inner, mask=pa.array(missing.all(axis=1)))
    return states


def option_counts(tasks: list[Task]) -> Ints:
    """(tasks,) options of a question of each task."""
    return np.array([4 if task.is_numeric else len(task.word_options(0, "a", "b", 0)) for task in tasks])

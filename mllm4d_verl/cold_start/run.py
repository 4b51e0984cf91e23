"""From question rows to a cold-start file: paths, scores, thresholds, and what is kept."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from mllm4d_verl.cold_start.endpoint_writer import EndpointConfig, EndpointWriter, Written
from mllm4d_verl.cold_start.scoring import CotPath, Sample, score_paths
from mllm4d_verl.cold_start.selection import (
    SelectionConfig,
    TaskFigures,
    first_of_tasks,
    kept_row,
    select_paths,
    task_figures,
)
from mllm4d_verl.data_tools.atomic import atomic_path
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.sampling import sample_frame_indices
from mllm4d_verl.data_tools.schema import QARow, find_clip_index, read_clip, read_clip_index, read_qa, write_qa
from mllm4d_verl.data_tools.st_cot import STYLES, ClipCues, are_cues, write_paths
from mllm4d_verl.reward import DEFAULT_PRESET, STReward

OUT_NAME = "cold_start.parquet"
STORE_NAME = "paths.jsonl"
REPORT_NAME = "cold_start.json"
WRITERS = ("rule", "endpoint")
_CHUNK = 500  # rows that a process is given at a time
_MOST_EXAMPLES = 20  # problems that the report spells out

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CotConfig:
    """How cold-start texts are made.

    Attributes:
        writer: "rule" from metadata, or "endpoint".
        paths: ways of reasoning per question. The paper has three.
        style, decimals: of rule-based texts, see `write_st_cot`.
        preset: of the reward that scores, the one that training will use.
        samples_per_task: questions of each task that are written about; 0 takes all. The paper has 2000.
        seed: of wording, sampling, and the choice of questions.
        selection: what is kept.
        endpoint: whom to ask; only for that writer.
        workers: processes of the rule-based writer.
    """

    writer: str = "rule"
    paths: int = 3
    style: str = "full"
    decimals: int = 4
    preset: str = DEFAULT_PRESET
    samples_per_task: int = 0
    seed: int = 0
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    endpoint: EndpointConfig | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        for name, value, known in (("writer", self.writer, WRITERS), ("style", self.style, STYLES)):
            if value not in known:
                raise InputError(f"unknown {name} {value!r}", field=name, remedy=f"Known: {', '.join(known)}")
        if self.paths < 1:
            raise InputError(f"must be at least 1, got {self.paths}", field="paths")
        if self.samples_per_task < 0:
            raise InputError(f"must be at least 0, got {self.samples_per_task}", field="samples_per_task")
        if self.writer == "endpoint" and self.endpoint is None:
            raise InputError("an endpoint is needed to write with", field="--base-url")
        try:
            STReward(self.preset)
        except ValueError as error:
            raise InputError(str(error), field="preset") from error


@dataclass
class CotReport:
    """What was written and kept.

    Attributes:
        tasks: figures of each task.
        rows: texts in the file.
        left_out: rows of other splits than train, which are not for training.
        asked, from_store: paths of the endpoint written in this run, and found written already.
        problems: what went wrong -> how many paths are missing for it; `examples` says which.
        given_up: why the endpoint was given up; empty if it was not.
    """

    tasks: dict[str, TaskFigures]
    rows: int
    left_out: int = 0
    asked: int = 0
    from_store: int = 0
    problems: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    given_up: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def make_cold_start(
    qa: str | os.PathLike[str],
    out: str | os.PathLike[str],
    config: CotConfig,
    clips: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> CotReport:
    """Write `out`/cold_start.parquet (question rows with a response) and `out`/cold_start.json (the figures).

    Paths of an endpoint are kept in `out`/paths.jsonl as they come; a rerun asks for the missing ones only.

    Args:
        qa: question rows; those of the split "train" are used.
        clips: data root to take visual cues from where rows carry none; rule-based texts need them.
        progress: called with questions done and in all.

    Raises:
        InputError: no train rows; rows without cues; or not one path that can be kept.
    """
    out = Path(out)
    folder = os.path.dirname(os.path.abspath(qa))
    every = read_qa(qa)
    train = [row for row in every if row.split == "train"]
    if not train:
        raise InputError("no row of the split train", file=qa, field="split", remedy="Cold start trains on train rows")
    rows = first_of_tasks(train, config.samples_per_task, config.seed)
    written = Written()
    if config.writer == "rule":
        if clips is not None:
            rows = _with_cues(rows, clips)
        samples = _by_rule(rows, config, qa, progress)
    else:
        assert config.endpoint is not None  # the config saw to it
        writer = EndpointWriter(config.endpoint, folder, out / STORE_NAME, config.seed)
        written = writer.write(rows, config.paths, progress)
        reward = STReward(config.preset)
        samples = [score_paths(row, written.texts.get(row.id, ()), reward) for row in rows]
    kept = select_paths(samples, config.selection)
    if not kept:
        raise InputError(_nothing(samples, written), file=qa, remedy=_remedy(written))
    name = config.writer if config.endpoint is None else f"endpoint {config.endpoint.model}"
    write_qa(out / OUT_NAME, [_moved(kept_row(sample, path, name), folder, out) for sample, path in kept])
    counts = Counter(problem for _, _, problem in written.problems)
    report = CotReport(
        tasks=task_figures(samples, kept, config.selection.tolerance),
        rows=len(kept),
        left_out=len(every) - len(train),
        asked=written.asked,
        from_store=written.from_store,
        problems=dict(counts.most_common(_MOST_EXAMPLES)),
        examples=[f"{row_id}, path {number}: {text}" for row_id, number, text in written.problems[:_MOST_EXAMPLES]],
        given_up=written.given_up,
    )
    record = {"config": asdict(config), "questions": os.fspath(qa), "report": report.to_dict()}
    with atomic_path(out / REPORT_NAME) as temporary:
        temporary.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return report


# ------------------------------------------------------------------------------------------------------------- by rule


def _by_rule(rows: Sequence[QARow], config: CotConfig, qa: Any, progress: Progress | None) -> list[Sample]:
    chunks = list(_chunks(rows))
    samples: list[Sample] = []
    try:
        for chunk, found in zip(chunks, _mapped(chunks, config), strict=True):
            samples += [Sample(row, paths) for row, paths in zip(chunk, found, strict=True)]
            if progress:
                progress(len(samples), len(rows))
    except InputError as error:
        raise InputError(error.problem, file=qa, row=error.row, field=error.field, remedy=error.remedy) from None
    return samples


def _chunks(rows: Sequence[QARow]) -> Iterator[list[QARow]]:
    left = iter(rows)
    while chunk := list(islice(left, _CHUNK)):
        yield chunk


def _mapped(chunks: list[list[QARow]], config: CotConfig) -> Iterator[list[tuple[CotPath, ...]]]:
    configs = [config] * len(chunks)
    if config.workers == 1 or len(chunks) == 1:
        yield from map(_write_and_score, chunks, configs)
        return
    with ProcessPoolExecutor(min(config.workers, len(chunks))) as pool:
        yield from pool.map(_write_and_score, chunks, configs)


def _write_and_score(rows: list[QARow], config: CotConfig) -> list[tuple[CotPath, ...]]:
    reward = STReward(config.preset)
    found = []
    for row in rows:
        texts = write_paths(row, config.paths, style=config.style, decimals=config.decimals, seed=config.seed)
        found.append(score_paths(row, enumerate(texts), reward).paths)
    return found


def _with_cues(rows: Sequence[QARow], clips: str | os.PathLike[str]) -> list[QARow]:
    """The rows, those without cues with what their clips show."""
    bare: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        if not are_cues(row.meta.get("cues")):
            bare[row.clip_id].append(place)
    files = {record["clip_id"]: record["file"] for record in read_clip_index(clips)} if bare else {}
    found = list(rows)
    for clip_id, places in bare.items():
        if clip_id not in files:
            raise InputError("the data root has no such clip", file=clips, row=clip_id, field="clip_id")
        clip = read_clip(find_clip_index(clips).parent / files[clip_id])
        cues: dict[int, ClipCues] = {}
        numbers = {track.id: place for place, track in enumerate(clip.objects)}
        for place in places:
            row = rows[place]
            if row.num_frames not in cues:
                cues[row.num_frames] = ClipCues(clip, sample_frame_indices(clip.num_frames, row.num_frames))
            index = numbers.get(row.meta.get("object_id"))
            try:
                told = cues[row.num_frames].pair(row.start_frame, row.end_frame, index)
            except ValueError as error:
                raise InputError(str(error), file=clips, row=row.id, field="object_id") from None
            found[place] = replace(row, meta={**row.meta, "cues": told})
    return found


# ----------------------------------------------------------------------------------------------------------- the file


def _moved(row: QARow, folder: str, out: Path) -> QARow:
    """The row with its video named relative to the new file."""
    if os.path.isabs(row.video):
        return row
    return replace(row, video=Path(os.path.relpath(os.path.join(folder, row.video), out)).as_posix())


def _nothing(samples: Sequence[Sample], written: Written) -> str:
    if any(sample.paths for sample in samples):
        return "no path scores above zero"
    last = written.given_up or (written.problems[-1][2] if written.problems else "")
    return f"not one path was written: {last}"


def _remedy(written: Written) -> str:
    if any("does not fit" in problem for _, _, problem in written.problems):
        return "The model answers, but not in the form it is asked for: raise --max-tokens, or take a stronger one"
    if written.problems:
        return "Run again once the endpoint answers; what is written already is kept"
    return "Are answers and centres of the rows right?"

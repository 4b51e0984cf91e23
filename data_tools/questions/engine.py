"""Clips in, question rows out: deterministic for a seed, split by clip, balanced."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import atomic_path
from ..errors import InputError
from ..sampling import sample_frame_indices
from ..schema import (
    SPLITS,
    VIDEO_ABSENT,
    VIDEO_KEY,
    Clip4D,
    QARow,
    find_clip_index,
    iter_clips,
    read_clip_index,
    write_qa,
)
from .applicability import CAMERA_TASKS, DISTANCE_TASKS, UNIT, solve
from .config import QuestionConfig
from .cues import find_cues
from .options import NUM_OPTIONS, NumericOptions, direction_options, place_truth
from .selection import Candidate, balanced_letters, select, split_clips, thin_clip
from .solvers import DISTANCE_CHANGES, LATERAL_CHANGES
from .st_cot import write_st_cot
from .templates import ask

INNER_PAIRS = 4  # frame pairs per clip beside first-to-last
REPORT_NAME = "questions.json"
COLD_START_NAME = "cold_start.parquet"
_CHANGES = {
    "object_camera_relative_distance": DISTANCE_CHANGES,
    "object_camera_relative_direction_lateral": LATERAL_CHANGES,
    "object_camera_relative_direction_longitudinal": DISTANCE_CHANGES,
}

Progress = Callable[[int, int], None]


@dataclass
class QuestionReport:
    """What was asked and what was not.

    Attributes:
        clips: clips per split.
        rows: rows per split.
        tasks: split -> task -> answer -> rows; numeric answers are counted as "number".
        letters: split -> letter -> rows.
        skipped: task -> reason -> frame pairs (times objects) that were not asked about.
        cold_start: rows with a response.
        absent_videos: clips made without images whose video is not there yet; their rows say where it has to be.
    """

    clips: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    letters: dict[str, dict[str, int]] = field(default_factory=dict)
    skipped: dict[str, dict[str, int]] = field(default_factory=dict)
    cold_start: int = 0
    absent_videos: int = 0


def build_questions(clips: Iterable[Clip4D], config: QuestionConfig) -> list[QARow]:
    """Question rows for `clips`; `row.split` says the split, `row.video` is the clip's path under the data root.

    The same clips, in any order, and the same config give the same rows.

    Raises:
        InputError: two clips share an id, a clip has fewer frames than are sampled, or nothing can be asked.
    """
    return build_with_report(clips, config)[0]


def build_with_report(clips: Iterable[Clip4D], config: QuestionConfig) -> tuple[list[QARow], QuestionReport]:
    """`build_questions` together with its report."""
    candidates: dict[str, list[Candidate]] = {}
    skipped: dict[str, Counter[str]] = {task: Counter() for task in config.tasks}
    for clip in clips:
        if clip.clip_id in candidates:
            raise InputError("two clips share this id", row=clip.clip_id, field="clip_id")
        rng = np.random.default_rng([config.seed, 1, *clip.clip_id.encode()])
        found = list(_clip_candidates(clip, config, skipped, rng))
        candidates[clip.clip_id] = thin_clip(found, config.max_per_clip_task, rng)
    splits = split_clips(candidates, config.val_fraction, config.test_fraction, config.seed)

    rows: list[QARow] = []
    for number, split in enumerate(SPLITS):
        rng = np.random.default_rng([config.seed, 2, number])
        pool = [c for clip_id in sorted(candidates) if splits[clip_id] == split for c in candidates[clip_id]]
        chosen = select(pool, config, rng)
        letters = balanced_letters(chosen, _option_count, rng)
        numbers = _number_makers(chosen, config, rng)
        split_rows = [
            _phrase(candidate, split, letters[candidate.id], numbers.get(_prior_key(candidate)), config)
            for candidate in chosen
        ]
        rows += [split_rows[position] for position in rng.permutation(len(split_rows))]
    if not any(row.split == "train" for row in rows):
        reasons = sum(skipped.values(), Counter()).most_common(3)
        raise InputError(
            f"no question can be asked about the {len(candidates)} clips; commonest reasons: {dict(reasons)}",
            remedy="Use clips with more motion and visible objects, or relax the thresholds",
        )
    return rows, _report(rows, splits, skipped)


def write_questions(
    clips_folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    config: QuestionConfig,
    progress: Progress | None = None,
) -> QuestionReport:
    """Write `out`/{train,val,test,cold_start}.parquet and a report, questions.json.

    Videos are named relative to `out`, as QARow asks. The report also fingerprints clips and config: see
    `finished_report`.

    Raises:
        InputError: no clips, a missing video, or clips about which nothing can be asked.
    """
    out = Path(out)
    root = data_root(clips_folder)
    index = read_clip_index(clips_folder)
    clips = _with_progress(iter_clips(clips_folder), len(index), progress)
    rows, report = build_with_report(clips, config)
    for row in rows:
        row.video = Path(os.path.relpath(root / row.video, out)).as_posix()
    cold_start = cold_start_rows([row for row in rows if row.split == "train"], config)
    report.cold_start = len(cold_start)
    report.absent_videos = sum(not (root / row["video"]).is_file() for row in index)
    (out / REPORT_NAME).unlink(missing_ok=True)  # a killed run must not look finished
    for split in SPLITS:
        write_qa(out / f"{split}.parquet", [row for row in rows if row.split == split])
    write_qa(out / COLD_START_NAME, cold_start)
    record = {
        "fingerprint": fingerprint(clips_folder, config),
        "config": asdict(config),
        "report": asdict(report),
    }
    with atomic_path(out / REPORT_NAME) as temporary:
        temporary.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return report


def finished_report(
    clips_folder: str | os.PathLike[str], out: str | os.PathLike[str], config: QuestionConfig
) -> QuestionReport | None:
    """The report of an earlier run over the same clips with the same config, if `out` holds its files; else None."""
    out = Path(out)
    names = [*(f"{split}.parquet" for split in SPLITS), COLD_START_NAME, REPORT_NAME]
    if not all((out / name).is_file() for name in names):
        return None
    try:
        record = json.loads((out / REPORT_NAME).read_text(encoding="utf-8"))
        if record["fingerprint"] != fingerprint(clips_folder, config):
            return None
        return QuestionReport(**record["report"])
    except (ValueError, KeyError, TypeError):
        return None


def fingerprint(clips_folder: str | os.PathLike[str], config: QuestionConfig) -> str:
    """SHA-256 over the bytes of the clips and the config."""
    digest = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode())
    index = find_clip_index(clips_folder)
    for row in read_clip_index(clips_folder):
        try:
            digest.update((index.parent / row["file"]).read_bytes())
        except FileNotFoundError:
            raise InputError(
                f"the clip file {row['file']} does not exist", file=index, row=row["clip_id"], field="file"
            ) from None
    return digest.hexdigest()


def data_root(clips_folder: str | os.PathLike[str]) -> Path:
    """The folder that `Clip4D.video` is relative to: the given one, or its parent when the index itself was given.

    Raises:
        InputError: a clip's video is in neither. A clip that was made without images need not have one.
    """
    index = find_clip_index(clips_folder)
    rows = read_clip_index(clips_folder)
    folder = Path(clips_folder)
    candidates = [folder] if index.parent != folder else [folder, folder.parent]
    shown = [row for row in rows if json.loads(row["quality"]).get(VIDEO_KEY) != VIDEO_ABSENT]
    if not shown:
        home = index.parent.resolve()
        return home.parent if home.name in ("clip4d", "truth") else home
    root = next((c for c in candidates if (c / shown[0]["video"]).is_file()), candidates[0])
    for row in shown:
        if not (root / row["video"]).is_file():
            raise InputError(
                f"the video {root / row['video']} does not exist",
                file=index,
                row=row["clip_id"],
                field="video",
                remedy="Paths are relative to the data root, the folder above the truth or clip4d folder",
            )
    return root


def cold_start_rows(rows: list[QARow], config: QuestionConfig) -> list[QARow]:
    """Copies of train rows with a response; with a limit, tasks take turns so that each is represented."""
    taken = rows
    if config.cold_start is not None:
        turns: Counter[str] = Counter()
        keyed = []
        for position, row in enumerate(rows):
            keyed.append((turns[row.task], position, row))
            turns[row.task] += 1
        taken = [row for _, _, row in sorted(keyed, key=lambda item: item[:2])[: config.cold_start]]
    return [
        replace(row, response=write_st_cot(row, style=config.cot_style, decimals=config.cot_decimals)) for row in taken
    ]


def _with_progress(clips: Iterator[Clip4D], total: int, progress: Progress | None) -> Iterator[Clip4D]:
    for done, clip in enumerate(clips, start=1):
        yield clip
        if progress:
            progress(done, total)


def _clip_candidates(
    clip: Clip4D, config: QuestionConfig, skipped: dict[str, Counter[str]], rng: np.random.Generator
) -> Iterator[Candidate]:
    try:
        frames = sample_frame_indices(clip.num_frames, config.num_frames)
    except InputError as error:
        raise InputError(error.problem, row=clip.clip_id, field=error.field, remedy=error.remedy) from None
    for start, end in _frame_pairs(config.num_frames, rng):
        cues: dict[int | None, dict[str, Any]] = {}  # by object id; tasks share them
        for task in config.tasks:
            for track in [None] if task in CAMERA_TASKS else clip.objects:
                solution = solve(task, clip, frames[start], frames[end], track, config.thresholds)
                if isinstance(solution, str):
                    skipped[task][solution] += 1
                    continue
                object_id = None if track is None else track.id
                if object_id not in cues:
                    cues[object_id] = find_cues(clip, frames[start : end + 1], track, config.thresholds)
                yield Candidate(
                    clip_id=clip.clip_id,
                    task=task,
                    object_id=object_id,
                    object_description=None if track is None else track.description,
                    start=start,
                    end=end,
                    whole=(start, end) == (0, config.num_frames - 1),
                    solution=solution,
                    cues=cues[object_id],
                    clip_frames=(frames[start], frames[end]),
                    start_rotation=clip.cam_to_world[frames[start], :3, :3].round(6).tolist(),
                    video=clip.video,
                )


def _frame_pairs(num_frames: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """First to last, and up to INNER_PAIRS random others at least a quarter of the frames apart."""
    whole = (0, num_frames - 1)
    apart = max(1, num_frames // 4)
    inner = [(i, j) for i in range(num_frames) for j in range(i + apart, num_frames) if (i, j) != whole]
    picked = rng.permutation(len(inner))[:INNER_PAIRS]
    return [whole, *(inner[position] for position in sorted(picked))]


def _option_count(task: str) -> int:
    return len(_CHANGES[task]) if task in _CHANGES else NUM_OPTIONS


def _prior_key(candidate: Candidate) -> tuple[str, bool]:
    """What a blind guess about a distance could go by: the task, and whether the whole clip is asked about."""
    return candidate.task, candidate.whole


def _number_makers(
    chosen: list[Candidate], config: QuestionConfig, rng: np.random.Generator
) -> dict[tuple[str, bool], NumericOptions]:
    values: dict[tuple[str, bool], list[float]] = defaultdict(list)
    for candidate in chosen:
        if candidate.task in DISTANCE_TASKS:
            values[_prior_key(candidate)].append(candidate.solution.measure)
    return {
        key: NumericOptions(float(np.median(members)), config.option_spread, rng) for key, members in values.items()
    }


def _phrase(
    candidate: Candidate, split: str, letter: str, numbers: NumericOptions | None, config: QuestionConfig
) -> QARow:
    solution = candidate.solution
    rng = np.random.default_rng([config.seed, 3, *candidate.id.encode()])
    question, says_unit = ask(
        candidate.task, candidate.start, candidate.end, config.num_frames, candidate.object_description, rng
    )
    if numbers is not None:
        options = numbers.draw(solution.measure)
        options = options if says_unit else [f"{number} {UNIT}" for number in options]
    elif candidate.task == "camera_relative_direction":
        options = direction_options(str(solution.label), rng)
    else:
        words = _CHANGES[candidate.task]
        options = [str(solution.label), *(word for word in words if word != solution.label)]
    meta: dict[str, Any] = {
        "measure": round(solution.measure, 6),
        "clip_frames": list(candidate.clip_frames),
        "cues": dict(candidate.cues),
    }
    if candidate.object_id is not None:
        meta["object_id"] = candidate.object_id
    # With these a reward can solve the question again on the centres that a response states.
    meta["start_rotation"] = candidate.start_rotation
    if solution.tau_m is not None:
        meta["tau_m"] = round(solution.tau_m, 6)
    return QARow(
        id=candidate.id,
        clip_id=candidate.clip_id,
        video=candidate.video,
        num_frames=config.num_frames,
        task=candidate.task,
        start_frame=candidate.start,
        end_frame=candidate.end,
        question=question,
        options=place_truth(options, letter, rng),
        answer=letter,
        answer_text=options[0],
        value=round(solution.measure, 6) if numbers is not None else None,
        unit=UNIT if numbers is not None else None,
        camera_center=solution.camera_center,
        object_center=solution.object_center,
        object_description=candidate.object_description,
        split=split,
        meta=meta,
    )


def _report(rows: list[QARow], splits: dict[str, str], skipped: dict[str, Counter[str]]) -> QuestionReport:
    report = QuestionReport(skipped={task: dict(sorted(reasons.items())) for task, reasons in skipped.items()})
    for split in SPLITS:
        members = [row for row in rows if row.split == split]
        report.clips[split] = sum(name == split for name in splits.values())
        report.rows[split] = len(members)
        report.letters[split] = dict(sorted(Counter(row.answer for row in members).items()))
        report.tasks[split] = count_answers(members)
    return report


def count_answers(rows: Iterable[QARow]) -> dict[str, dict[str, int]]:
    """task -> answer -> rows, numeric answers together as "number"."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[row.task]["number" if row.task in DISTANCE_TASKS else row.answer_text] += 1
    return {task: dict(sorted(answers.items())) for task, answers in sorted(counts.items())}

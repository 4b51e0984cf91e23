"""Clips in, question rows out: deterministic for a seed, split by clip, balanced.

Two passes. The first writes down the questions that each clip supports as columns of numbers; then the choice is made
over all clips; the second phrases what was chosen. Chance follows from seed, clip and question alone, so neither the
order of clips nor the number of workers changes a byte.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ..atomic import atomic_path
from ..errors import InputError
from ..schema import (
    LETTERS,
    SPLITS,
    VIDEO_ABSENT,
    VIDEO_KEY,
    Clip4D,
    QARow,
    find_clip_index,
    read_clip_index,
)
from .applicability import DISTANCE_TASKS
from .candidates import Candidates, Skipped, clip_candidates, clip_key, gather, geometry_of
from .chance import mix
from .config import QuestionConfig
from .facts import ClipFacts
from .phrasing import CHOICE_DTYPE, Chosen, option_counts, phrase
from .running import Plan, run_passes
from .selection import balanced_letters, fit_numbers, numbered, select, split_clips
from .tasks import task_of

REPORT_NAME = "questions.json"
COLD_START_NAME = "cold_start.parquet"
TOLD_BY_OPTIONS = "options would tell the answer"  # reason of numeric questions that were chosen and dropped
_REVISION = "2"  # change it where the same clips and config give other rows, so that an earlier run is not kept
_TAIL_BYTES = 8192  # of an npz: its directory, which holds a checksum of every array

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
    """`build_questions` together with its report. All clips are held in memory; `write_questions` streams them."""
    from ..qa_table import rows_of

    held = sorted(clips, key=lambda clip: clip.clip_id)
    ids = [clip.clip_id for clip in held]
    check_ids(ids)
    skipped: Skipped = {}
    parts, facts = [], []
    for number, clip in enumerate(held):
        geometry = geometry_of(clip, config)
        parts.append(clip_candidates(geometry, config, skipped))
        facts.append(ClipFacts.of(geometry, number))
    chosen, report = choose(gather(parts, range(len(held)), ids, config), ids, config, skipped)
    chosen = Chosen(chosen.found, _without_cold_start(chosen.choice))
    chosen = chosen.take(np.lexsort((mix(chosen.found["key"], 5), chosen.choice["split"])))
    report.cold_start = 0
    return rows_of(phrase(chosen, ClipFacts.join(facts), config, lambda video: video)), report


def _without_cold_start(choice: np.ndarray) -> np.ndarray:
    plain = choice.copy()
    plain["cold"] = False
    return plain


def check_ids(ids: Iterable[str]) -> None:
    """Raise InputError where two clips share an id."""
    again = [clip_id for clip_id, count in Counter(ids).items() if count > 1]
    if again:
        raise InputError("two clips share this id", row=again[0], field="clip_id")


def choose(
    found: Candidates, ids: list[str], config: QuestionConfig, skipped: Skipped
) -> tuple[Chosen, QuestionReport]:
    """What is asked of all that could be, with letters, numbers, splits and cold start, in the order of clips.

    Args:
        found: candidates in the order of clips.
        ids: sorted clip ids; `found["clip"]` counts in them.
        config: of the questions.
        skipped: task -> reason -> questions that were not asked.

    Raises:
        InputError: no question is left for training.
    """
    splits = split_clips(ids, config.val_fraction, config.test_fraction, config.seed)
    split_of = np.array([SPLITS.index(splits[clip_id]) for clip_id in ids], np.int8)
    tasks = [task_of(name) for name in config.tasks]
    picks = [select(found[split_of[found["clip"]] == number], config) for number in range(len(SPLITS))]
    fits = fit_numbers(np.concatenate(picks), config)
    chosen = []
    for number, picked in enumerate(picks):
        kept, numbers, decimals = numbered(picked, fits, config, number)
        for place in np.delete(picked["task"], kept).tolist():
            skipped.setdefault(config.tasks[place], Counter())[TOLD_BY_OPTIONS] += 1
        picked = picked[kept]
        choice = np.zeros(len(picked), CHOICE_DTYPE)
        choice["split"], choice["numbers"], choice["decimals"] = number, numbers, decimals
        choice["letter"] = balanced_letters(picked, option_counts(tasks), config.seed)
        chosen.append(Chosen(picked, choice))
    train = chosen[0]
    if not len(train.found):
        reasons = sum(skipped.values(), Counter()).most_common(3)
        raise InputError(
            f"no question can be asked about the {len(ids)} clips; commonest reasons: {dict(reasons)}",
            remedy="Use clips with more motion and visible objects, or relax the thresholds",
        )
    train.choice["cold"] = _cold_start(train, config)
    every = Chosen(np.concatenate([part.found for part in chosen]), np.concatenate([part.choice for part in chosen]))
    every = every.take(np.argsort(every.found["clip"], kind="stable"))
    return every, _report(every, ids, splits, config, skipped)


def _cold_start(train: Chosen, config: QuestionConfig) -> np.ndarray:
    """(N,) which train rows get a response; with a limit, tasks take turns so that each is represented."""
    from .candidates import ranks_within

    if config.cold_start is None:
        return np.ones(len(train.found), bool)
    turn = ranks_within(train.found["task"], mix(train.found["key"], 5))
    order = np.lexsort((mix(train.found["key"], 5), turn))
    cold = np.zeros(len(train.found), bool)
    cold[order[: config.cold_start]] = True
    return cold


def write_questions(
    clips_folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    config: QuestionConfig,
    progress: Progress | None = None,
    *,
    workers: int = 1,
    ray: str | None = None,
) -> QuestionReport:
    """Write `out`/{train,val,test,cold_start}.parquet and a report, questions.json.

    Videos are named relative to `out`, as QARow asks. The report also fingerprints clips and config: see
    `finished_report`. A run that was killed goes on where it stopped, from the hidden folder it left in `out`.

    Args:
        clips_folder: data root with a clip index.
        out: folder to write.
        config: of the questions.
        progress: called as progress(done, total) with clips, of both passes together.
        workers: processes, or actors with `ray`; the outcome is the same for any number.
        ray: address of a Ray cluster ("auto", "host:port"), or "local"; None to run without Ray.

    Raises:
        InputError: no clips, a missing video, or clips about which nothing can be asked.
    """
    out = Path(out)
    root = data_root(clips_folder)
    index = sorted(read_clip_index(clips_folder), key=lambda row: str(row["clip_id"]))
    ids = [str(row["clip_id"]) for row in index]
    check_ids(ids)
    mark = fingerprint(clips_folder, config)
    folder = find_clip_index(clips_folder).parent
    order = np.argsort([clip_key(clip_id, config.seed) for clip_id in ids], kind="stable")
    plan = Plan(
        files=[str(folder / row["file"]) for row in index],
        ids=ids,
        order=order,
        video_prefix=os.path.relpath(root, out),
        config=config,
        work=out / f".questions-{mark[:16]}",
        workers=workers,
        ray=ray,
    )
    (out / REPORT_NAME).unlink(missing_ok=True)  # a killed run must not look finished
    report = run_passes(plan, lambda found, skipped: choose(found, ids, config, skipped), out, progress)
    report.absent_videos = sum(not (root / row["video"]).is_file() for row in index)
    record = {"fingerprint": mark, "config": asdict(config), "report": asdict(report)}
    with atomic_path(out / REPORT_NAME) as temporary:
        temporary.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    plan.clean()
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
    """SHA-256 over the revision, the config and, of each clip, its size and the checksums of its arrays."""
    digest = hashlib.sha256(f"{_REVISION} {json.dumps(asdict(config), sort_keys=True)}".encode())
    index = find_clip_index(clips_folder)
    for row in read_clip_index(clips_folder):
        try:
            with (index.parent / row["file"]).open("rb") as clip:
                size = clip.seek(0, os.SEEK_END)
                clip.seek(max(0, size - _TAIL_BYTES))
                digest.update(f"{row['clip_id']}/{size}/".encode() + clip.read())
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


def _report(
    chosen: Chosen, ids: list[str], splits: dict[str, str], config: QuestionConfig, skipped: Skipped
) -> QuestionReport:
    reasons = {task: dict(sorted(skipped.get(task, Counter()).items())) for task in config.tasks}
    report = QuestionReport(skipped=reasons, cold_start=int(chosen.choice["cold"].sum()))
    clips = Counter(splits.values())
    for number, split in enumerate(SPLITS):
        members = chosen.take(np.flatnonzero(chosen.choice["split"] == number))
        report.clips[split] = clips[split]
        report.rows[split] = len(members.found)
        letters = np.bincount(members.choice["letter"]).tolist() if len(members.found) else []
        report.letters[split] = {LETTERS[place]: count for place, count in enumerate(letters) if count}
        report.tasks[split] = {}
        for place, name in enumerate(config.tasks):
            words = task_of(name).labels or ("number",)
            counts = np.bincount(members.found["label"][members.found["task"] == place]).tolist()
            if sum(counts):
                pairs = [(word, count) for word, count in zip(words, counts, strict=False) if count]
                report.tasks[split][name] = dict(sorted(pairs))
        report.tasks[split] = dict(sorted(report.tasks[split].items()))
    return report


def count_answers(rows: Iterable[QARow]) -> dict[str, dict[str, int]]:
    """task -> answer -> rows, numeric answers together as "number"."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        is_number = row.task in DISTANCE_TASKS or row.value is not None
        counts[row.task]["number" if is_number else row.answer_text] += 1
    return {task: dict(sorted(answers.items())) for task, answers in sorted(counts.items())}

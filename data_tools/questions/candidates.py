"""The questions that a clip supports, as columns of numbers: those of a hundred thousand clips fit into memory."""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError
from ..sampling import sample_frame_indices
from ..schema import Clip4D
from .chance import gumbel, mix
from .config import QuestionConfig
from .geometry import Bools, ClipGeometry, Floats, Ints
from .tasks import Asked, Task, bands_of, solve_all, task_of

_APART_SHARE = 0.25  # of the sampled frames: inner pairs lie at least so far apart

#: One entry per candidate. `clip` counts clips in the order of their ids; objects are places in `clip.objects`.
DTYPE = np.dtype(
    [
        ("key", np.uint64),  # chance that depends on seed, clip and question alone
        ("measure", np.float64),
        ("tau_m", np.float64),
        ("clip", np.int32),
        ("start", np.int16),
        ("end", np.int16),
        ("first", np.int16),
        ("second", np.int16),
        ("task", np.int16),  # place in config.tasks
        ("label", np.int16),
        ("kind", np.int32),  # see `kinds_of`
        ("band", np.int8),
        ("whole", np.bool_),
    ]
)
Candidates = np.ndarray[Any, np.dtype[np.void]]
Skipped = dict[str, Counter[str]]


def clip_key(clip_id: str, seed: int) -> int:
    """64 bits that follow from the clip's id and the seed."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{clip_id}".encode(), digest_size=8).digest(), "little")


def geometry_of(clip: Clip4D, config: QuestionConfig) -> ClipGeometry:
    """Geometry of a clip at the frames that the model sees.

    Raises:
        InputError: naming the clip, if it has too few frames.
    """
    try:
        frames = sample_frame_indices(clip.num_frames, config.num_frames)
    except InputError as error:
        raise InputError(error.problem, row=clip.clip_id, field=error.field, remedy=error.remedy) from None
    return ClipGeometry(clip, frames)


class Answered(NamedTuple):
    """K questions of one task about one clip that can be asked, and their answers, as in tasks.Solved; each (K,)."""

    start: Ints
    end: Ints
    first: Ints
    second: Ints
    measure: Floats
    tau_m: Floats
    label: Ints
    margin: Floats
    kind: Ints


def clip_candidates(geometry: ClipGeometry, config: QuestionConfig, skipped: Skipped) -> list[Answered]:
    """Questions that one clip supports, one entry per task of the config.

    Args:
        geometry: at the sampled frames.
        config: tasks, pairs, thresholds.
        skipped: task -> reason -> questions not asked; added to.
    """
    pairs = frame_pairs(geometry, config, clip_key(geometry.clip.clip_id, config.seed))
    objects = np.arange(len(geometry.clip.objects))
    categories = np.array([zlib.crc32(track.category.encode()) for track in geometry.clip.objects], np.int64)
    subjects = {
        "camera": np.full((1, 2), -1),
        "object": np.stack([objects, np.full(len(objects), -1)], axis=1),
        "pair": np.stack(np.triu_indices(len(objects), 1), axis=1),
    }
    asked_of: dict[str, Asked] = {}
    parts = []
    for name in config.tasks:
        task = task_of(name)
        if task.about not in asked_of:
            who = subjects[task.about]
            both, about = np.repeat(pairs, len(who), axis=0), np.tile(who, (len(pairs), 1))
            asked_of[task.about] = Asked(both[:, 0], both[:, 1], about[:, 0], about[:, 1])
        asked = asked_of[task.about]
        solved, refused = solve_all(task, geometry, asked, config.thresholds)
        if task.is_of_end_frame:
            refused.where(_asked_before(asked, refused.codes == 0), "asked already about this end frame")
        for words, count in zip(refused.words[1:], np.bincount(refused.codes)[1:].tolist(), strict=False):
            if count:
                skipped.setdefault(name, Counter())[words] += count
        keep = np.flatnonzero(refused.codes == 0)
        kinds = kinds_of(task, categories, asked)
        values: tuple[Any, ...] = (*asked, solved.measure, solved.tau_m, solved.label, solved.margin, kinds)
        parts.append(Answered(*(value[keep] for value in values)))
    return parts


def _asked_before(asked: Asked, possible: Bools) -> Bools:
    """(K,) possible questions whose end frame and objects an earlier possible one has."""
    ends = np.stack([asked.end, asked.first, asked.second], axis=1)[possible]
    again = np.ones(len(ends), bool)
    again[np.unique(ends, axis=0, return_index=True)[1]] = False
    repeats = np.zeros(len(possible), bool)
    repeats[possible] = again
    return repeats


def kinds_of(task: Task, categories: Ints, asked: Asked) -> Ints:
    """(K,) what categories tell of a question without the video: spheres may be in front of boxes more often than not.

    A number for the category asked about, or for two of them. Where the two objects are the options, it is negative if
    they are named in the other order, and 0 if they are of one category; 0 also for questions about the camera.
    """
    if task.about == "camera" or not len(categories):
        return np.zeros(len(asked.start), np.int64)
    first = categories[asked.first]
    if task.about == "object":
        return (mix(first) >> np.uint64(34)).astype(np.int64) + 1
    second = categories[asked.second]
    low, high = np.minimum(first, second), np.maximum(first, second)
    kinds = (mix(low, high) >> np.uint64(34)).astype(np.int64) + 1
    return kinds * np.sign(second - first) if task.options_are_objects else kinds


def gather(
    found_of: Sequence[list[Answered]], numbers: Sequence[int], clip_ids: Sequence[str], config: QuestionConfig
) -> Candidates:
    """Candidates of several clips, thinned to what can be chosen of them.

    Args:
        found_of: of each clip, what `clip_candidates` found.
        numbers: of each clip, its place in the order of ids.
        clip_ids: of each clip.
        config: tasks, caps, difficulties.
    """
    parts = [part for found in found_of for part in found]
    sizes = [len(part.start) for part in parts]
    found = np.zeros(sum(sizes), DTYPE)
    if not parts:
        return found
    for name in ("start", "end", "first", "second", "measure", "tau_m", "label", "kind"):
        found[name] = np.concatenate([getattr(part, name) for part in parts])
    found["band"] = bands_of(np.concatenate([part.margin for part in parts]))
    found["task"] = np.repeat(np.tile(np.arange(len(config.tasks)), len(numbers)), sizes)
    clip = np.repeat(np.repeat(np.arange(len(numbers)), len(config.tasks)), sizes)
    found["clip"] = np.asarray(numbers)[clip]
    found["whole"] = (found["start"] == 0) & (found["end"] == config.num_frames - 1)
    keys = np.array([clip_key(clip_id, config.seed) for clip_id in clip_ids], np.uint64)
    found["key"] = mix(
        keys[clip], *(found[name].astype(np.int64) for name in ("task", "start", "end", "first", "second"))
    )
    if set(config.difficulties) != {"hard", "medium", "easy"}:
        bands = [band in config.difficulties for band in ("hard", "medium", "easy")]
        found = found[np.array(bands)[found["band"]]]
    if config.whole_clip_share in (0, 1):
        found = found[found["whole"] == (config.whole_clip_share == 1)]
    return thin(found, config.max_per_clip_task)


def frame_pairs(geometry: ClipGeometry, config: QuestionConfig, key: int) -> Ints:
    """(P, 2) first to last, and inner pairs at least a quarter of the frames apart, the likelier the more they show.

    A pair shows much where the camera moves by more than its noise, and objects are seen at both ends and move.
    """
    last = config.num_frames - 1
    start, end = _inner_pairs(config.num_frames)
    if config.inner_pairs and len(start):
        shows = _information(geometry, start, end, config)
        score = np.log(shows) + gumbel(mix(np.uint64(key), start, end))
        picked = np.sort(np.argsort(-score, kind="stable")[: config.inner_pairs])
        start, end = start[picked], end[picked]
    else:
        start, end = start[:0], end[:0]
    return np.stack([np.append(0, start), np.append(last, end)], axis=1)


@cache
def _inner_pairs(num_frames: int) -> tuple[Ints, Ints]:
    start, end = np.triu_indices(num_frames, max(1, int(num_frames * _APART_SHARE)))
    inner = (start > 0) | (end < num_frames - 1)
    return start[inner], end[inner]


def _information(geometry: ClipGeometry, start: Ints, end: Ints, config: QuestionConfig) -> Floats:
    limits = config.thresholds
    centers = geometry.centers
    least = max(limits.min_motion_m, limits.noise_factor * geometry.camera_noise_m)
    shows = 0.05 + (((centers[end] - centers[start]) ** 2).sum(axis=1) >= least**2)
    if len(geometry.counts):
        seen = geometry.counts >= limits.min_points
        both = seen[:, start] & seen[:, end]
        own = geometry.object_centers
        with np.errstate(invalid="ignore"):
            moved = ((own[:, end] - own[:, start]) ** 2).sum(axis=2)
            needed = np.maximum(limits.min_motion_m, limits.noise_factor * geometry.object_noise_m)
            moves = moved >= needed[:, None] ** 2
        shows = shows + both.sum(axis=0) + (both & moves & geometry.is_moving[:, None]).sum(axis=0)
    return np.asarray(shows, np.float64)


def thin(found: Candidates, keep: int) -> Candidates:
    """At most `keep` of a clip per task, answer and kind of frame pair: bounds memory, keeps variety."""
    group = ((found["clip"].astype(np.int64) * 1024 + found["task"]) * 4096 + found["label"]) * 2 + found["whole"]
    return found[ranks_within(group, found["key"]) < keep]


def ranks_within(group: Any, order_key: Any) -> Ints:
    """(N,) place of each entry among those of its group (integers), by `order_key`."""
    count = len(group)
    rank = np.empty(count, np.int64)
    rank[np.argsort(order_key, kind="stable")] = np.arange(count)
    numbers = np.asarray(group, np.int64)
    # Both in one number, which sorts in half the time of two keys.
    order = np.argsort((numbers - numbers.min(initial=0)) * count + rank, kind="stable")
    rank[order] = places_within(first_of_each(numbers[order]))
    return rank


def first_of_each(group: Any) -> Bools:
    """(N,) True at the first entry of each group, of entries in the order of groups."""
    first = np.ones(len(group), bool)
    first[1:] = group[1:] != group[:-1]
    return first


def places_within(first: Bools) -> Ints:
    """(N,) place of each entry in its group, of entries in the order of groups; `first` marks the first of each."""
    places = np.arange(len(first))
    return places - np.maximum.accumulate(np.where(first, places, 0))


def join(parts: Iterable[Candidates]) -> Candidates:
    """All candidates in the order of clips."""
    parts = list(parts)
    found = np.concatenate(parts) if parts else np.zeros(0, DTYPE)
    return found[np.argsort(found["clip"], kind="stable")]

"""The questions that a clip supports, as columns of numbers: those of a hundred thousand clips fit into memory."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..errors import InputError
from ..sampling import sample_frame_indices
from ..schema import Clip4D
from .chance import gumbel, mix
from .config import QuestionConfig
from .geometry import ClipGeometry, Floats, Ints
from .tasks import Asked, bands_of, solve_all, task_of

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


def clip_candidates(geometry: ClipGeometry, number: int, config: QuestionConfig, skipped: Skipped) -> Candidates:
    """Questions about one clip, thinned to what can be chosen of them.

    Args:
        geometry: at the sampled frames.
        number: the clip's place in the order of ids.
        config: tasks, pairs, thresholds, caps.
        skipped: task -> reason -> questions not asked; added to.
    """
    limits = config.thresholds
    key = clip_key(geometry.clip.clip_id, config.seed)
    pairs = frame_pairs(geometry, config, key)
    objects = len(geometry.clip.objects)
    duos = np.array([(m, n) for m in range(objects) for n in range(m + 1, objects)], np.int64).reshape(-1, 2)
    subjects = {
        "camera": np.full((1, 2), -1),
        "object": np.stack([np.arange(objects), np.full(objects, -1)], axis=1),
        "pair": duos,
    }
    parts = []
    for place, name in enumerate(config.tasks):
        task = task_of(name)
        who = subjects[task.about]
        both = np.repeat(pairs, len(who), axis=0)
        about = np.tile(who, (len(pairs), 1))
        asked = Asked(both[:, 0], both[:, 1], about[:, 0], about[:, 1])
        solved, refused = solve_all(task, geometry, asked, limits)
        for code, count in zip(*np.unique(refused.codes, return_counts=True), strict=True):
            if code:
                skipped.setdefault(name, Counter())[refused.words[code]] += int(count)
        keep = np.flatnonzero(refused.codes == 0)
        found = np.zeros(len(keep), DTYPE)
        for field, values in zip(("start", "end", "first", "second"), asked, strict=True):
            found[field] = values[keep]
        found["measure"], found["tau_m"] = solved.measure[keep], solved.tau_m[keep]
        found["label"], found["band"] = solved.label[keep], bands_of(solved.margin[keep])
        found["task"], found["clip"] = place, number
        parts.append(found)
    found = np.concatenate(parts)
    found["whole"] = (found["start"] == 0) & (found["end"] == config.num_frames - 1)
    fields = (found[name].astype(np.int64) for name in ("task", "start", "end", "first", "second"))
    found["key"] = mix(np.uint64(key), *fields)
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
    start, end = np.triu_indices(config.num_frames, max(1, int(config.num_frames * _APART_SHARE)))
    inner = (start > 0) | (end < last)
    start, end = start[inner], end[inner]
    if config.inner_pairs and len(start):
        shows = _information(geometry, start, end, config)
        score = np.log(shows) + gumbel(mix(np.uint64(key), start, end))
        picked = np.sort(np.argsort(-score, kind="stable")[: config.inner_pairs])
        start, end = start[picked], end[picked]
    else:
        start, end = start[:0], end[:0]
    return np.stack([np.append(0, start), np.append(last, end)], axis=1)


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
    """At most `keep` of one clip per task, answer and kind of frame pair: bounds memory, keeps variety."""
    group = (found["task"].astype(np.int64) * 4096 + found["label"]) * 2 + found["whole"]
    return found[ranks_within(group, found["key"]) < keep]


def ranks_within(group: Any, order_key: Any) -> Ints:
    """(N,) place of each entry among those of its group, by `order_key`."""
    order = np.lexsort((order_key, group))
    sorted_group = group[order]
    new = np.ones(len(order), bool)
    new[1:] = sorted_group[1:] != sorted_group[:-1]
    first = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - first
    return ranks


def join(parts: Iterable[Candidates]) -> Candidates:
    """All candidates in the order of clips."""
    parts = list(parts)
    found = np.concatenate(parts) if parts else np.zeros(0, DTYPE)
    return found[np.argsort(found["clip"], kind="stable")]

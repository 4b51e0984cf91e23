"""A benchmark as a question file: each item's video found on this machine, its frames chosen by one rule."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from mllm4d_verl.data_tools.atomic import atomic_path
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.released import DEFAULT_NUM_FRAMES
from mllm4d_verl.data_tools.schema import QARow, write_qa
from mllm4d_verl.video import VideoInfo, probe_video

from .benchmarks import Benchmark, Item, item_to_row
from .benchmarks.base import UNREADABLE

_MISSING_NAMED = 3


@dataclass(frozen=True)
class FrameRule:
    """How many frames are sampled of a video, where the question itself does not count in frames.

    Attributes:
        num_frames: evenly spread over the video; with `fps`, the most there may be. A shorter video gives fewer.
        fps: frames per second of video; None takes `num_frames` of every video.
    """

    num_frames: int = DEFAULT_NUM_FRAMES
    fps: float | None = None

    def __post_init__(self) -> None:
        if self.num_frames < 2 or self.num_frames % 2:
            raise InputError(f"must be even and at least 2, got {self.num_frames}", field="--num-frames")
        if self.fps is not None and not self.fps > 0:
            raise InputError(f"must be above 0, got {self.fps}", field="--fps")

    def count(self, available: int, duration_s: float) -> int:
        """Frames sampled, an even number, of `available` frames that last `duration_s`; 0 where there are too few."""
        wanted = self.num_frames if self.fps is None else min(self.num_frames, round(self.fps * duration_s))
        return min(max(wanted - wanted % 2, 2), available - available % 2)


def write_benchmark_rows(
    benchmark: Benchmark, media_root: str | Path, rule: FrameRule, folder: Path
) -> tuple[Path, dict[str, str]]:
    """Write the benchmark as question rows into `folder`, in a file named by its content, unless it is there.

    Args:
        benchmark: see `load_benchmark`.
        media_root: folder that holds the videos, in any depth of the folders that the source names them by.
        rule: for the frames.
        folder: of the run.

    Returns:
        The file, and the questions whose record is at fault: id -> what is wrong with it. Those that cannot be asked
        are not in the file; a question whose part of the video is not there is asked about the whole video, as
        benchmarks do that name the part in words alone.

    Raises:
        InputError: videos are missing, or no question can be asked.
    """
    rows: list[QARow] = []
    faults = {item.id: item.fault for item in benchmark.items if item.fault}
    for item, video in find_videos(benchmark, Path(media_root).expanduser()):
        row, fault = _row(item, video, rule)
        if fault:
            faults[item.id] = fault
        if row is not None:
            rows.append(row)
    if not rows:
        raise InputError("no question can be asked", file=benchmark.name, remedy="; ".join(list(faults.values())[:3]))
    digest = hashlib.sha256(json.dumps([asdict(row) for row in rows], sort_keys=True).encode()).hexdigest()[:12]
    name = Path(benchmark.name).stem
    file = folder / f"{name}-{digest}.parquet"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as temporary:
            write_qa(temporary, rows)
    return file, faults


def find_videos(benchmark: Benchmark, media_root: Path) -> Iterator[tuple[Item, Path]]:
    """Every item that can be asked, with its video's path on this machine.

    Raises:
        InputError: some are missing; none is left out silently, since figures over the rest are another benchmark's.
    """
    items = [item for item in benchmark.items if item.kind != UNREADABLE]
    found = {item.video: find_video(item.video, media_root) for item in items}
    missing = [video for video, path in found.items() if path is None]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(found)} videos of {benchmark.name} are not here, such as "
            f"{', '.join(missing[:_MISSING_NAMED])}",
            file=media_root,
            field="--media-root",
            remedy="Fetch them; the folder has to hold them under their names, with or without their folders",
        )
    for item in items:
        path = found[item.video]
        assert path is not None
        yield item, path


def find_video(video: str, media_root: Path) -> Path | None:
    """The file that a path or an address means: below `media_root`, by the longest end of it that is there."""
    parts = PurePosixPath(unquote(urlsplit(video).path) if "://" in video else video.replace("\\", "/")).parts
    if "://" not in video and Path(video).is_absolute() and Path(video).is_file():
        return Path(video)
    parts = tuple(part for part in parts if part not in ("/", "..", "."))
    candidates = (media_root.joinpath(*parts[start:]) for start in range(len(parts)))
    return next((path.absolute() for path in candidates if path.is_file()), None)


def _row(item: Item, video: Path, rule: FrameRule) -> tuple[QARow | None, str]:
    """The question row, None where the video is too short for any; and what is wrong with it."""
    if item.num_frames is not None:
        return replace(item_to_row(item, item.num_frames), video=str(video)), ""
    info, fault = probe_video(video), ""
    count = _count_frames(item, info, rule)
    if count < 2 and (item.start_s is not None or item.end_s is not None):
        fault = (
            f"{item.start_s or 0.0:g} to {item.end_s} s of {video.name} hold fewer than 2 frames; "
            "the whole video is asked about"
        )
        item = replace(item, start_s=None, end_s=None)
        count = _count_frames(item, info, rule)
    if count < 2:
        return None, f"{video.name} holds fewer than 2 frames; the question is not asked"
    return replace(item_to_row(item, count), video=str(video)), fault


def _count_frames(item: Item, info: VideoInfo, rule: FrameRule) -> int:
    """Frames to sample of the part of the video that the item is about, fewer than 2 where there is no such part."""
    whole_s = info.duration_s
    start_s, end_s = item.start_s or 0.0, whole_s if item.end_s is None else min(item.end_s, whole_s)
    return rule.count(info.frames_between(item.start_s, item.end_s), end_s - start_s)


def describe_rule(rule: FrameRule, media_root: str | Path) -> dict[str, Any]:
    """For the record of a run."""
    return {**asdict(rule), "media_root": str(media_root)}

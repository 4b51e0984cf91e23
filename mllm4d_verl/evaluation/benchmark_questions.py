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
from mllm4d_verl.video import probe_video

from .benchmarks import Benchmark, Item, item_to_row

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


def write_benchmark_rows(benchmark: Benchmark, media_root: str | Path, rule: FrameRule, folder: Path) -> Path:
    """Write the benchmark as question rows into `folder`, in a file named by its content, unless it is there.

    Args:
        benchmark: see `load_benchmark`.
        media_root: folder that holds the videos, in any depth of the folders that the source names them by.
        rule: for the frames.
        folder: of the run.

    Raises:
        InputError: videos are missing, or too short for the question.
    """
    rows = [_row(item, video, rule) for item, video in find_videos(benchmark, Path(media_root).expanduser())]
    digest = hashlib.sha256(json.dumps([asdict(row) for row in rows], sort_keys=True).encode()).hexdigest()[:12]
    name = Path(benchmark.name).stem
    file = folder / f"{name}-{digest}.parquet"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as temporary:
            write_qa(temporary, rows)
    return file


def find_videos(benchmark: Benchmark, media_root: Path) -> Iterator[tuple[Item, Path]]:
    """Every item with its video's path on this machine.

    Raises:
        InputError: some are missing; none is left out silently, since figures over the rest are another benchmark's.
    """
    found = {item.video: find_video(item.video, media_root) for item in benchmark.items}
    missing = [video for video, path in found.items() if path is None]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(found)} videos of {benchmark.name} are not here, such as "
            f"{', '.join(missing[:_MISSING_NAMED])}",
            file=media_root,
            field="--media-root",
            remedy="Fetch them; the folder has to hold them under their names, with or without their folders",
        )
    for item in benchmark.items:
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


def _row(item: Item, video: Path, rule: FrameRule) -> QARow:
    if item.num_frames is not None:
        count = item.num_frames
    else:
        info = probe_video(video)
        whole_s = info.num_frames / info.fps
        start_s, end_s = item.start_s or 0.0, whole_s if item.end_s is None else min(item.end_s, whole_s)
        # as qwen_vl_utils takes part of a video: the frames whose times lie in it
        available = int(end_s * info.fps) - int(-(-start_s * info.fps // 1)) + (item.end_s is not None)
        available = max(0, min(available, info.num_frames))
        count = rule.count(available, end_s - start_s)
        if count < 2:
            raise InputError(
                f"the question {item.id} is about {end_s - start_s:.2f} s of video, which hold fewer than 2 frames",
                file=video,
                field="video",
            )
    return replace(item_to_row(item, count), video=str(video))


def describe_rule(rule: FrameRule, media_root: str | Path) -> dict[str, Any]:
    """For the record of a run."""
    return {**asdict(rule), "media_root": str(media_root)}

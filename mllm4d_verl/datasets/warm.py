"""Decoding the videos of a data set ahead of a run, into the store of this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.datasets.options import PromptOptions
from mllm4d_verl.datasets.question_rows import SourceRow
from mllm4d_verl.datasets.reader import at, read_rows
from mllm4d_verl.video.frames import FrameCache, load_video
from mllm4d_verl.video.store import FrameStore


@dataclass
class WarmReport:
    """What `warm_videos` did.

    Attributes:
        videos: different videos and samplings of the rows.
        decoded: how many of them were decoded; the store had the others.
        faults: rows whose video cannot be read.
    """

    videos: int = 0
    decoded: int = 0
    faults: list[InputError] = field(default_factory=list)


def warm_videos(
    files: list[str],
    options: PromptOptions,
    image_patch_size: int,
    store: FrameStore,
    workers: int = 1,
    progress: Callable[[int, int | None], None] | None = None,
) -> WarmReport:
    """Decode and resize every video that the rows ask for, and put it into the store.

    Args:
        files: question files.
        options: those of the run, of which `media_root`, `num_frames`, `min_pixels` and `max_pixels` count. With others
            than the run's, the run finds nothing.
        image_patch_size: side of a patch of the model's processor, in pixels: 16 for Qwen3-VL, 14 for Qwen2.5-VL.
        store: it gets the frames.
        workers: threads. FFmpeg decodes outside Python's lock.
        progress: called as progress(done, total).

    Raises:
        InputError: a question file that cannot be read. Videos that cannot are in the report.
    """
    wanted: dict[str, tuple[SourceRow, dict]] = {}
    for source in read_rows(files, options):
        try:
            element = options.video_element(source.row, source.folder)
        except InputError as error:
            raise at(source, error) from error
        wanted.setdefault(json.dumps(element, sort_keys=True), (source, element))
    report = WarmReport(len(wanted))
    cache = FrameCache(0, store)

    def warm(item: tuple[SourceRow, dict]) -> InputError | None:
        source, element = item
        try:
            load_video(element, image_patch_size, cache)
        except InputError as error:
            return at(source, error)
        return None

    with ThreadPoolExecutor(max_workers=workers) as pool:
        for done, fault in enumerate(pool.map(warm, wanted.values()), 1):
            if fault is not None:
                report.faults.append(fault)
            if progress is not None:
                progress(done, len(wanted))
    report.decoded = cache.decoded
    return report

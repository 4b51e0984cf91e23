"""Everything that can be wrong with training data, found before Ray or a GPU is started."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow.parquet as pq

from mllm4d_verl.data_tools.control_tokens import REFUSE
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.video.location import exists
from mllm4d_verl.datasets.options import DEFAULT_TEMPLATE, PromptOptions
from mllm4d_verl.datasets.question_rows import QuestionRows, SourceRow
from mllm4d_verl.datasets.reader import FileKind, as_file_list, at, file_kind, read_rows
from mllm4d_verl.video.element import resolve_video
from mllm4d_verl.video.probe import check_video

# Videos of a data set that are decoded in the check; all are looked for. A clip takes a few milliseconds.
MAX_DECODED_VIDEOS = 2000


@dataclass(frozen=True)
class DataSummary:
    """What was checked.

    Attributes:
        num_rows: rows that will be used.
        num_videos: distinct videos of theirs.
        num_decoded: videos whose first and last frame were decoded.
        tasks: rows per task; empty for verl's own files, which are not looked into.
    """

    num_rows: int
    num_videos: int = 0
    num_decoded: int = 0
    tasks: dict[str, int] = field(default_factory=dict)


def validate_rows(
    files: str | os.PathLike[str] | Sequence[str],
    template: str = DEFAULT_TEMPLATE,
    media_root: str | None = None,
    tasks: Iterable[str] | None = None,
    check_media: bool = True,
    *,
    for_sft: bool = False,
    num_frames: int | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    max_decoded_videos: int = MAX_DECODED_VIDEOS,
    special_tokens: str = REFUSE,
) -> DataSummary:
    """Check data files as the dataset classes will use them, and say what is in them.

    Args:
        files: QARow parquet, released JSON, or verl's own files (of which only existence and rows are checked).
        template, media_root, tasks, num_frames, min_pixels, max_pixels, special_tokens: see `PromptOptions`.
        check_media: look for every video, and decode some frames of at most `max_decoded_videos`, evenly spread.
        for_sft: every row must also have a text to train on.

    Raises:
        InputError: the first fault, naming file, row, field and remedy: unknown template or task; missing, unreadable,
            or empty file; missing or mistyped column; a value that breaks the contract of QARow, such as an answer
            that is no option or a NaN centre; no response; a missing, unreadable or short video.
    """
    options = PromptOptions(
        prompt_template=template,
        media_root=None if media_root is None else os.fspath(media_root),
        num_frames=num_frames,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
        tasks=None if tasks is None else (tasks,) if isinstance(tasks, str) else tuple(tasks),
        special_tokens=special_tokens,
    )
    paths = as_file_list(files)
    kinds = [file_kind(path) for path in paths]
    if set(kinds) == {FileKind.VERL}:
        return DataSummary(num_rows=sum(_count_verl_rows(path) for path in paths))
    rows = read_rows(paths, options)
    render = options.conversation if for_sft else options.messages
    for source in rows:
        try:
            render(source.row)
            options.video_element(source.row, source.folder)
        except InputError as error:
            raise at(source, error) from error
    videos = _first_rows_of_videos(rows, options)
    num_decoded = _check_videos(videos, options, max_decoded_videos) if check_media else 0
    return DataSummary(len(rows), len(videos), num_decoded, dict(Counter(source.row.task for source in rows)))


def _count_verl_rows(path: str) -> int:
    if not path.endswith(".parquet"):
        return sum(1 for line in open(path, encoding="utf-8") if line.strip())
    rows = pq.read_metadata(path).num_rows
    if rows == 0:
        raise InputError("the file has no rows", file=path)
    return rows


def _first_rows_of_videos(rows: QuestionRows, options: PromptOptions) -> dict[str, SourceRow]:
    """Of every video the row that samples most frames from it, in order of appearance."""
    videos: dict[str, SourceRow] = {}
    for source in rows:
        path = resolve_video(source.row.video, options.media_root, source.folder)
        known = videos.get(path)
        if known is None or source.row.num_frames > known.row.num_frames:
            videos[path] = source
    return videos


def _check_videos(videos: dict[str, SourceRow], options: PromptOptions, max_decoded: int) -> int:
    for path, source in videos.items():
        if not exists(path):
            raise InputError(
                f"the video {path} does not exist",
                file=source.file,
                row=source.index,
                field="video",
                remedy="Restore it, or point data.media_root to the folder that the rows' paths start from",
            )
    listed = list(videos.values())
    step = max(1, -(-len(listed) // max_decoded))
    chosen = listed[::step]

    def check(source: SourceRow) -> InputError | None:
        try:
            check_video(options.video_element(source.row, source.folder), source.row.num_frames)
        except InputError as error:
            return at(source, error)
        return None

    with ThreadPoolExecutor(max_workers=4) as pool:
        for error in pool.map(check, chosen):
            if error is not None:
                raise error
    return len(chosen)

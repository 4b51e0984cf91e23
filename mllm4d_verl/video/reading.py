"""A video element's frames, decoded and resized."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.video import FrameSource, Image, ImageFrames, open_frames
from mllm4d_verl.data_tools.video.location import local_path
from mllm4d_verl.video.budget import CLOCK_FPS, qwen_vl_utils_size

if TYPE_CHECKING:
    import torch

#: Seconds that reading one video may take. 32 frames of a clip take under one; minutes mean a dead network drive.
DEFAULT_TIME_LIMIT_S = 300.0


def is_file_list(video: Any) -> bool:
    """Whether a video is given as a list of image files."""
    return isinstance(video, list | tuple) and bool(video) and all(isinstance(file, str) for file in video)


@contextmanager
def naming_the_video() -> Iterator[None]:
    """An error of the decoder names the row's column `video` and tells what to do with the file."""
    try:
        yield
    except InputError as error:
        if error.field is not None:
            raise
        raise InputError(
            f"the video does not decode ({error.problem})",
            file=error.file,
            field="video",
            remedy="Encode it anew (H.264 or MPEG-4 in mp4) or drop its rows",
        ) from error


def open_element(element: Mapping[str, Any], time_limit_s: float | None = DEFAULT_TIME_LIMIT_S) -> FrameSource:
    """The frames of a video element, as players show them.

    Raises:
        InputError: there is no such video, or no frame rate is known.
    """
    video, fps = element["video"], element.get("raw_fps")
    source: FrameSource
    with naming_the_video():
        if is_file_list(video):
            source = ImageFrames([Path(local_path(file)) for file in video], fps)
        else:
            source = open_frames(video, as_shown=True, time_limit_s=time_limit_s)
            if isinstance(source, ImageFrames):
                source.fps = fps
    if not source.fps or not source.fps > 0:
        raise InputError(
            "the frame rate is not known",
            file=source.path,
            field="meta.fps",
            remedy="Give the row's meta a key `fps` (frames per second), or the video element a key `raw_fps`",
        )
    return source


def read_video(
    element: Mapping[str, Any], image_patch_size: int, time_limit_s: float | None = DEFAULT_TIME_LIMIT_S
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Decode and resize the frames of a video element.

    Args:
        element: `video`: a file, a folder of images, a list of image files, or a remote address; `nframes`, or `fps`
            with `min_frames` and `max_frames`; `video_start` and `video_end` in seconds; `raw_fps`, the frame rate of
            images; and the pixel limits of `budget.qwen_vl_utils_size`.
        image_patch_size: of the processor, in pixels.
        time_limit_s: see `load_video`.

    Returns:
        (nframes, 3, H, W) uint8 and the metadata, where `frames_indices[k] / fps` is the time of frame k in seconds. A
        video of variable frame rate has `fps` 1000 and counts in milliseconds, because transformers and vLLM know no
        other way to tell the time of a frame.

    Raises:
        InputError: see `load_video`.
    """
    import torch
    from torchvision.transforms.functional import InterpolationMode, resize

    source, indices, metadata = _sampling(element, time_limit_s)
    with naming_the_video():
        width, height = source.width, source.height
    try:
        size = qwen_vl_utils_size(element, len(indices), height, width, 2 * image_patch_size)
    except ValueError as error:
        raise InputError(str(error), file=source.path, field="video") from None
    frames = torch.empty((len(indices), 3, *size), dtype=torch.uint8)
    with naming_the_video():
        for number, image in enumerate(source.frames_at(indices)):
            # One at a time: a 4K clip of 32 frames would take 0.8 GB before it is made small.
            picture = torch.from_numpy(image).permute(2, 0, 1)
            frames[number] = resize(picture, list(size), interpolation=InterpolationMode.BICUBIC, antialias=True)
    return frames, metadata


def read_frames(
    element: Mapping[str, Any], time_limit_s: float | None = DEFAULT_TIME_LIMIT_S
) -> tuple[list[Image], dict[str, Any]]:
    """The sampled frames of a video element at their own size, (H, W, 3) uint8, and the metadata of `read_video`."""
    source, indices, metadata = _sampling(element, time_limit_s)
    with naming_the_video():
        return list(source.frames_at(indices)), metadata


def _sampling(element: Mapping[str, Any], time_limit_s: float | None) -> tuple[FrameSource, list[int], dict[str, Any]]:
    """The opened video, the indices of the frames that are asked for, and the metadata."""
    source = open_element(element, time_limit_s)
    stretch = _stretch(element, source)
    indices = _sampled(element, source, *stretch)
    return source, indices, _metadata(source, indices, stretch)


def _sampled(element: Mapping[str, Any], source: FrameSource, first: int, last: int) -> list[int]:
    """Which of the frames first..last a video element asks for, by the rule of qwen_vl_utils."""
    import torch
    from qwen_vl_utils import vision_process as qwen

    count = last - first + 1
    element = {name: value for name, value in element.items() if value is not None}
    if "nframes" in element and element["nframes"] > count:
        raise InputError(
            f"{element['nframes']} frames are to be sampled from a video of {count}",
            file=source.path,
            field="num_frames",
            remedy="Make questions with fewer frames, or drop the clip",
        )
    try:
        number = qwen.smart_nframes(dict(element), total_frames=count, video_fps=source.fps)
    except (ValueError, AssertionError) as error:
        raise InputError(str(error), file=source.path, field="nframes") from None
    return torch.linspace(first, last, number).round().long().tolist()


def _stretch(element: Mapping[str, Any], source: FrameSource) -> tuple[int, int]:
    """First and last frame between `video_start` and `video_end`."""
    from qwen_vl_utils import vision_process as qwen

    start, end = element.get("video_start"), element.get("video_end")
    if start is None and end is None:
        return 0, source.num_frames - 1
    for name, time in (("video_start", start), ("video_end", end)):
        if time is not None and (not isinstance(time, int | float) or not np.isfinite(time)):
            raise InputError(f"not a time: {time!r}", file=source.path, field=name)
    if source.irregular_times_s is not None:
        times = source.irregular_times_s
        first = 0 if start is None else int(np.searchsorted(times, min(start, times[-1]), side="left"))
        last = len(times) - 1 if end is None else int(np.searchsorted(times, max(end, 0.0), side="right")) - 1
        if first < last:
            return first, last
        raise InputError(f"no two frames lie between {start} s and {end} s", file=source.path, field="meta.start_s")
    try:
        first, last, _ = qwen.calculate_video_frame_range(dict(element), source.num_frames, source.fps)
    except ValueError as error:
        raise InputError(str(error), file=source.path, field="meta.start_s") from None
    return first, last


def _metadata(source: FrameSource, indices: list[int], stretch: tuple[int, int]) -> dict[str, Any]:
    """What processors are told of the sampled frames; see `read_video`."""
    first, last = stretch
    fps, told, total = source.fps, indices, last - first + 1
    times = source.irregular_times_s
    if times is not None:
        fps, told = CLOCK_FPS, [round(float(times[index]) * CLOCK_FPS) for index in indices]
        total = round(float(times[last] - times[first] + 1 / source.fps) * CLOCK_FPS)
    return {"fps": fps, "frames_indices": told, "total_num_frames": total, "video_backend": "pyav"}

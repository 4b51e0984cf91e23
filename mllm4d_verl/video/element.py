"""The video entry of a verl row: which file, how many frames, how large."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.video.location import is_video_name, join

if TYPE_CHECKING:
    from mllm4d_verl.data_tools.schema import QARow


def resolve_video(video: str, media_root: str | os.PathLike | None, parquet_dir: str | os.PathLike) -> str:
    """Absolute path of a row's video: as it stands if absolute, else below `media_root`, else below `parquet_dir`.

    A remote address (s3://, https://) stays as it is; one as `media_root` is put in front.
    """
    return join(parquet_dir if media_root is None else os.path.expanduser(media_root), video)


def video_element(
    row: QARow | Mapping[str, Any],
    media_root: str | os.PathLike | None,
    parquet_dir: str | os.PathLike,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    num_frames: int | None = None,
) -> dict[str, Any]:
    """What verl and qwen_vl_utils need to know of the row's video.

    Args:
        row: a QARow or a mapping with `video` and `num_frames`.
        media_root: folder that replaces the parquet file's folder; None keeps it.
        parquet_dir: folder of the file the row came from.
        min_pixels, max_pixels: per frame. Without min_pixels qwen_vl_utils enlarges every frame to at least 128
            visual tokens (128 * 32 * 32 pixels for Qwen3-VL).
        num_frames: None takes the row's own. Another number is refused: questions name frames by their index.

    Returns:
        `{"type": "video", "video": absolute path, "nframes": N, "min_pixels": ..., "max_pixels": ...}`; the pixel
        limits only where given, `video_start`, `video_end` in seconds where the row's `meta` has start_s, end_s, and
        `raw_fps` for a folder of images, from the `fps` of `meta`.

    Raises:
        InputError: odd or differing `num_frames`, `min_pixels` above `max_pixels`, or a time or rate in `meta` that is
            no number.
    """
    columns = row if isinstance(row, Mapping) else vars(row)
    own = columns["num_frames"]
    if num_frames is not None and num_frames != own:
        raise InputError(
            f"data.num_frames is {num_frames}, but the question was asked about {own} frames and names them by index",
            row=columns.get("id"),
            field="num_frames",
            remedy=f"Leave data.num_frames null, or make questions anew with --num-frames {num_frames}",
        )
    if own < 2 or own % 2:
        raise InputError(f"must be even and at least 2, got {own}", row=columns.get("id"), field="num_frames")
    check_pixel_limits(min_pixels, max_pixels)
    element = {"type": "video", "video": resolve_video(columns["video"], media_root, parquet_dir), "nframes": own}
    if min_pixels is not None:
        element["min_pixels"] = min_pixels
    if max_pixels is not None:
        element["max_pixels"] = max_pixels
    meta = columns.get("meta")
    if not isinstance(meta, Mapping):
        return element
    if meta.get("fps") is not None and not is_video_name(element["video"]):
        element["raw_fps"] = _number(meta, "fps", columns.get("id"))
    if meta.get("start_s") is not None:  # a benchmark's question about a part
        element["video_start"] = _number(meta, "start_s", columns.get("id"))
        if meta.get("end_s") is not None:
            element["video_end"] = _number(meta, "end_s", columns.get("id"))
    return element


def _number(meta: Mapping[str, Any], key: str, row: Any) -> float:
    try:
        number = float(meta[key])
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"not a number: {meta[key]!r}", row=row, field=f"meta.{key}")
    return number


def check_pixel_limits(min_pixels: int | None, max_pixels: int | None) -> None:
    """Raise InputError where the limits are not positive or exclude each other."""
    for name, value in (("min_pixels", min_pixels), ("max_pixels", max_pixels)):
        if value is not None and value <= 0:
            raise InputError(f"must be positive, got {value}", field=f"data.{name}")
    if min_pixels is not None and max_pixels is not None and min_pixels > max_pixels:
        raise InputError(
            f"data.min_pixels {min_pixels} is above data.max_pixels {max_pixels}",
            field="data.min_pixels",
            remedy="Both are pixels per frame; lower one or raise the other",
        )

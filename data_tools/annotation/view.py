"""A clip to look at: a contact sheet and a video of masks, depth and a metric top-down plot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..atomic import atomic_path
from ..errors import InputError
from ..schema import PathLike, read_clip
from ..synthetic.mp4 import write_mp4
from .view_drawing import ALARM, INK, PAPER, Image, canvas, even, fitting, paste, put_text
from .view_input import find_clip
from .view_pictures import ClipPictures
from .view_scales import BAR_PX

#: Frames of the video; of longer clips every second, third, ... frame is drawn.
MAX_VIDEO_FRAMES = 600
#: Width over height from which depth is drawn under the picture instead of beside it.
_WIDE = 1.6
_GAP = 6


@dataclass(frozen=True)
class ViewReport:
    """What was drawn.

    Attributes:
        clip_id: of the clip.
        png, mp4: files.
        notes: what could not be shown and why.
    """

    clip_id: str
    png: Path
    mp4: Path
    notes: list[str]


class ClipView(ClipPictures):
    """The pictures of a clip, laid out."""

    def sheet(self) -> Image:
        """The contact sheet: first, two middle and last frame beside one large top-down plot."""
        last = self.clip.num_frames - 1
        frames = sorted({round(part) for part in np.linspace(0, last, 4)})
        rows = [self._row(frame) for frame in frames]
        row_height, row_width = rows[0].shape[:2]
        height = max(620, len(rows) * (row_height + _GAP) - _GAP)
        plot = self.plot_of(int(np.clip(0.8 * height, 620, 1000)), height)
        header = self._header(row_width + _GAP + plot.width, f"{self.clip.num_frames} frames, {self.clip.fps:g} fps")
        image = canvas(row_width + _GAP + plot.width, len(header) + height)
        paste(image, header, 0, 0)
        for number, row in enumerate(rows):
            paste(image, row, 0, len(header) + number * (row_height + _GAP))
        paste(image, self.top_down(plot, last, show_first=True), row_width + _GAP, len(header))
        return even(image)

    def film(self) -> tuple[Iterator[Image], float]:
        """Frames (H, W, 3) of the video, drawn when they are asked for, and their number per second."""
        step = -(-self.clip.num_frames // MAX_VIDEO_FRAMES)
        return self._film(range(0, self.clip.num_frames, step)), self.clip.fps / step

    def _film(self, frames: range) -> Iterator[Image]:
        stacked = self.size[0] >= _WIDE * self.size[1]
        column = self._row(frames[0], stacked)
        height = max(460, column.shape[0])
        plot = self.plot_of(height, height)
        grid = plot.grid()
        header = self._header(column.shape[1] + _GAP + plot.width, "")
        empty = canvas(header.shape[1], len(header) + height)
        paste(empty, header, 0, 0)
        for frame in frames:
            image = empty.copy()
            paste(image, self._row(frame, stacked), 0, len(header))
            paste(image, self.top_down(plot, frame, grid), column.shape[1] + _GAP, len(header))
            yield even(image)

    def _row(self, frame: int, stacked: bool = False) -> Image:
        left, depth = self.left(frame), self.depth(frame)
        if stacked:
            left = cv2.copyMakeBorder(left, 0, _GAP, 0, BAR_PX, cv2.BORDER_CONSTANT, value=PAPER)
            return np.concatenate([left, depth])
        return np.concatenate([left, canvas(_GAP, self.size[1]), depth], axis=1)

    def _header(self, width: int, more: str) -> Image:
        """Name and figures of the clip, and the notes under it."""
        clip = self.clip
        path_m = float(np.linalg.norm(np.diff(clip.camera_centers, axis=0), axis=1).sum())
        words = [
            clip.clip_id,
            clip.source,
            f"{clip.width}x{clip.height}",
            more,
            f"baseline {clip.baseline:.4g} m",
            f"camera path {path_m:.2f} m",
            f"{sum(track.is_moving for track in clip.objects)} of {len(clip.objects)} objects moving",
        ]
        lines = [("   ".join(word for word in words if word), INK), *((note, ALARM) for note in self.notes)]
        image = canvas(width, 26 + 18 * (len(lines) - 1))
        for number, (text, color) in enumerate(lines):
            put_text(image, fitting(text, width - 16), 8, 17 + 18 * number, color)
        return image


def view_clip(clip: str, data: PathLike | None, out: PathLike) -> ViewReport:
    """Write `<out>/<clip_id>.png` and `.mp4`.

    Args:
        clip: an id in the data root `data`, or the path of a Clip4D npz.
        data: see `find_clip`.

    Raises:
        InputError: the clip is not found or malformed, or `out` is no folder.
    """
    file = find_clip(clip, data)
    record = read_clip(file.path)
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError("is a file, a folder is needed", file=folder, field="--out") from None
    view = ClipView(record, file.root)
    png, mp4 = folder / f"{record.clip_id}.png", folder / f"{record.clip_id}.mp4"
    with atomic_path(png) as temporary:
        _, data_bytes = cv2.imencode(".png", view.sheet()[..., ::-1])
        temporary.write_bytes(data_bytes.tobytes())
    film, fps = view.film()
    with atomic_path(mp4) as temporary:
        write_mp4(temporary, film, fps)
    return ViewReport(record.clip_id, png, mp4, view.notes)

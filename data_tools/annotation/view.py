"""A clip to look at: a contact sheet and a video of masks, depth and a metric top-down plot."""

from __future__ import annotations

import difflib
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..atomic import atomic_path
from ..errors import InputError
from ..geometry import project_points, world_to_camera_points
from ..questions.solvers import object_center
from ..readers.media import VideoFrames
from ..schema import Clip4D, PathLike, check_clip, read_clip
from ..synthetic.mp4 import write_mp4
from .store import AnnotationFolder

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]
Color = tuple[int, int, int]

#: A picture is scaled to fit into this many pixels, width and height.
CELL_BOX = (640, 400)
#: Frames of the video; of longer clips every second, third, ... frame is drawn.
MAX_VIDEO_FRAMES = 600
#: Width over height from which depth is drawn under the picture instead of beside it.
_WIDE = 1.6
_GAP = 6
_BAR = 72  # width of the scale of depths
_MARGINS = (46, 30, 14, 34)  # of the plot: left, top, right, bottom
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_TEXT = 0.45  # OpenCV's scale: capitals of about 10 px
_NEAR_M = 0.05  # what is nearer to the camera plane is not projected
_SHIFT = 4  # bits of sub-pixel positions in OpenCV's drawing

_PAPER: Color = (255, 255, 255)
_INK: Color = (30, 30, 30)
_GRID: Color = (224, 224, 224)
_AXIS: Color = (170, 170, 170)
_CAMERA: Color = (40, 40, 40)
_ALARM: Color = (170, 20, 20)
_UNKNOWN: Color = (45, 45, 45)
_EMPTY: Color = (70, 70, 74)


class Box(NamedTuple):
    """A rectangle of pixels: left, top, width, height."""

    x: int
    y: int
    width: int
    height: int


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


class ClipFile(NamedTuple):
    """The npz of a clip and the data root that its video is relative to."""

    path: Path
    root: Path


# ------------------------------------------------------------------------------------------------------------- input


def find_clip(clip: str, data: PathLike | None = None) -> ClipFile:
    """The npz of a clip id in the data root `data` (default: the current folder), or of the path of an npz.

    Clips are looked for in `data`, `data/clip4d` and `data/truth`. The root of a path that lies in a folder `clip4d` or
    `truth` is the folder above.

    Raises:
        InputError: there is no such clip; names that are near are suggested, and a clip that was kept out by
            `mllm4d data annotate` is told with its reasons.
    """
    if clip.endswith(".npz") or Path(clip).name != clip:
        path = Path(clip)
        if not path.is_file():
            raise InputError("the clip file does not exist", file=path, field="CLIP", remedy="Name a .npz of a clip")
        return ClipFile(path, Path(data) if data is not None else _root_of(path.parent))
    folder = Path("." if data is None else data)
    if not folder.is_dir():
        raise InputError("the data root is no folder", file=folder, field="--data")
    places = [place for place in (folder, folder / "clip4d", folder / "truth") if place.is_dir()]
    for place in places:
        path = place / f"{clip}.npz"
        if path.is_file():
            return ClipFile(path, _root_of(place))
    for status in AnnotationFolder(folder).all_status():
        reasons = [reason.text for outcome in status.outcomes if outcome.clip_id == clip for reason in outcome.reasons]
        if status.failure and status.clip_id == clip:
            reasons = [f"{status.failure['kind']}: {status.failure['text']}"]
        if reasons:
            raise InputError(f"clip {clip!r} was kept out: {'; '.join(reasons)}", file=folder, field="CLIP")
    known = sorted({path.stem for place in places for path in place.glob("[!.]*.npz")})
    if not known:
        raise InputError(
            "no clips in the folder, nor in its clip4d or truth folder",
            file=folder,
            field="--data",
            remedy="Name --data",
        )
    near = difflib.get_close_matches(clip, known, 3) or known[:3]
    raise InputError(
        f"no clip {clip!r} among {len(known)}",
        file=folder,
        field="CLIP",
        remedy=f"Near: {', '.join(near)}",
    )


def _root_of(folder: Path) -> Path:
    # resolve: of the relative path "truth" the parent is wanted, and of "." too
    absolute = folder.resolve()
    return absolute.parent if absolute.name in ("clip4d", "truth") else folder


class _Dense(NamedTuple):
    masks: NDArray[Any] | None
    depth: NDArray[Any] | None


def _read_dense(clip: Clip4D, root: Path, notes: list[str]) -> _Dense:
    """Masks and depth (T, H, W) of `annotate` or of a synthetic world, None where there are none."""
    files = [root / "masks" / f"{clip.clip_id}.npz", root / "truth" / "dense" / f"{clip.clip_id}.npz"]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return _Dense(None, None)
    try:
        with np.load(file, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files if name in ("masks", "mask", "depth")}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        notes.append(f"{file.name} of masks and depth does not read ({error})")
        return _Dense(None, None)
    shape = (clip.num_frames, clip.height, clip.width)
    for name in list(found):
        if found[name].shape != shape:
            notes.append(f"{name} of {file.name} has shape {found.pop(name).shape}, expected {shape}")
    return _Dense(found.get("masks", found.get("mask")), found.get("depth"))


def _read_video(clip: Clip4D, root: Path, size: tuple[int, int], notes: list[str]) -> list[Image | None]:
    """Frames scaled to `size`, None for those that do not decode."""
    frames: list[Image | None] = []
    try:
        video = VideoFrames(root / clip.video)
        # 4:2:0 needs even sides: the video of an odd picture lacks its last row or column.
        missing = (clip.width - video.width, clip.height - video.height)
        if video.num_frames != clip.num_frames:
            notes.append(f"the video has {video.num_frames} frames, the clip {clip.num_frames}: not shown")
        elif not all(pixels in (0, 1) for pixels in missing):
            notes.append(f"the video has {video.width}x{video.height} pixels, the clip {clip.width}x{clip.height}")
        else:
            for frame in video.frames():
                whole = cv2.copyMakeBorder(frame, 0, missing[1], 0, missing[0], cv2.BORDER_REPLICATE)
                frames.append(_scaled(whole, size))
    except InputError as error:
        notes.append(f"no video {clip.video}: {error.problem}")
    return frames + [None] * (clip.num_frames - len(frames))


def _scaled(image: Image, size: tuple[int, int]) -> Image:
    shrinks = size[0] < image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def _nearest(stack: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """(T, H, W) at another size without mixing neighbours."""
    height, width = stack.shape[1:]
    rows = (np.arange(size[1]) + 0.5) * height / size[1]
    columns = (np.arange(size[0]) + 0.5) * width / size[0]
    return stack[:, rows.astype(int)[:, None], columns.astype(int)[None]]


def cell_size(width: int, height: int) -> tuple[int, int]:
    """Width and height, even, at which a picture is drawn: as large as fits into CELL_BOX, its shape kept."""
    scale = min(CELL_BOX[0] / width, CELL_BOX[1] / height)
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


# ------------------------------------------------------------------------------------------------------ small drawing


def id_color(object_id: int) -> Color:
    """RGB of an object, the same in every picture: hues a golden angle apart, so that near ids differ."""
    hue = 180 * ((0.58 + object_id * 0.61803398875) % 1)
    value = (225, 185, 245)[object_id % 3]
    red, green, blue = cv2.cvtColor(np.array([[[hue, 215, value]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0]
    return int(red), int(green), int(blue)


def place_labels(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[int, int]],
    area: Box,
    taken: Sequence[Box] = (),
) -> list[Box | None]:
    """Where labels go: near their anchors, inside `area`, none over another or over a box of `taken`.

    Args:
        anchors: (x, y) pixels, one per label; a label's best place is centred a little above.
        sizes: (width, height) pixels.

    Returns:
        One box per label, None where no room is left. Earlier labels choose first.
    """
    boxes: list[Box | None] = []
    blocked = list(taken)
    for (x, y), (width, height) in zip(anchors, sizes, strict=True):
        last_x, last_y = area.x + area.width - width, area.y + area.height - height
        if last_x < area.x or last_y < area.y:
            boxes.append(None)
            continue
        best = (
            int(np.clip(round(x - width / 2), area.x, last_x)),
            int(np.clip(round(y - height - 7), area.y, last_y)),
        )
        step = max(2, height // 4)
        left = np.unique(np.r_[area.x : last_x + 1 : step, best[0], last_x])
        top = np.unique(np.r_[area.y : last_y + 1 : step, best[1], last_y])
        # Sidesteps are dearer than steps up or down: a label reads best straight over or under its object.
        cost = 1.5 * (left[None] - best[0]).astype(np.float64) ** 2 + (top[:, None] - best[1]) ** 2
        for box in blocked:
            columns = (left < box.x + box.width) & (left + width > box.x)
            rows = (top < box.y + box.height) & (top + height > box.y)
            cost[rows[:, None] & columns[None]] = np.inf
        row, column = np.unravel_index(int(np.argmin(cost)), cost.shape)
        if not np.isfinite(cost[row, column]):
            boxes.append(None)
            continue
        box = Box(int(left[column]), int(top[row]), width, height)
        boxes.append(box)
        blocked.append(box)
    return boxes


def _label_size(text: str) -> tuple[int, int]:
    (width, height), below = cv2.getTextSize(text, _FONT, _TEXT, 1)
    return width + 8, max(height, 11) + below + 6


def _put_text(image: Image, text: str, x: float, y: float, color: Color, scale: float = _TEXT) -> None:
    """Text whose base line starts at (x, y)."""
    cv2.putText(image, text, (round(x), round(y)), _FONT, scale, color, 1, cv2.LINE_AA)


def _put_label(image: Image, text: str, box: Box, color: Color) -> None:
    """Text on a filled box."""
    cv2.rectangle(image, (box.x, box.y), (box.x + box.width - 1, box.y + box.height - 1), color, -1)
    bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140
    below = cv2.getTextSize(text, _FONT, _TEXT, 1)[1]
    _put_text(image, text, box.x + 4, box.y + box.height - below - 3, (0, 0, 0) if bright else _PAPER)


def _fitting(text: str, width: int, scale: float = _TEXT) -> str:
    """`text`, cut with dots where it is wider than `width` pixels."""
    if cv2.getTextSize(text, _FONT, scale, 1)[0][0] <= width:
        return text
    while text and cv2.getTextSize(text + "...", _FONT, scale, 1)[0][0] > width:
        text = text[:-1]
    return text + "..."


@dataclass
class _Label:
    text: str
    short: str
    anchor: tuple[float, float]
    color: Color


def _put_labels(image: Image, labels: list[_Label], area: Box, taken: Sequence[Box], shown: Sequence[Box]) -> None:
    """All labels without overlap, none over `taken`.

    Where it can, a label also stays off `shown`, what there is to see; where it has no room its short form is tried.
    """
    placed: list[tuple[_Label, str, Box]] = []
    for label in labels:
        text = _fitting(label.text, area.width - 8)
        blocked = [*taken, *(box for _, _, box in placed)]
        for words, boxes in ((text, [*blocked, *shown]), (text, blocked), (label.short, blocked)):
            box = place_labels([label.anchor], [_label_size(words)], area, boxes)[0]
            if box is not None:
                placed.append((label, words, box))
                break
    for label, _, box in placed:
        _put_leader(image, label, box)
    for label, text, box in placed:
        _put_label(image, text, box, label.color)


def _put_leader(image: Image, label: _Label, box: Box) -> None:
    """A line from a label that had to move to what it names."""
    x, y = label.anchor
    near = (
        float(np.clip(x, box.x, box.x + box.width - 1)),
        float(np.clip(y, box.y, box.y + box.height - 1)),
    )
    if math.hypot(near[0] - x, near[1] - y) > 12:
        _polyline(image, np.array([near, (x, y)]), label.color, 1)


def _fixed(points: NDArray[Any]) -> NDArray[np.int32]:
    """Positions in OpenCV's sub-pixel units; far outside ones are held, so that they do not overflow."""
    return np.round(np.clip(points, -1e5, 1e5) * (1 << _SHIFT)).astype(np.int32)


def _polyline(image: Image, points: NDArray[Any], color: Color, thickness: int) -> None:
    if len(points) > 1:
        cv2.polylines(image, [_fixed(points)], False, color, thickness, cv2.LINE_AA, _SHIFT)


def _circle(image: Image, point: NDArray[Any], radius: float, color: Color, thickness: int) -> None:
    x, y = _fixed(point).tolist()
    cv2.circle(image, (x, y), round(radius * (1 << _SHIFT)), color, thickness, cv2.LINE_AA, _SHIFT)


def _square(image: Image, point: NDArray[Any], half: int, color: Color, thickness: int) -> None:
    if np.abs(point).max() > 1e5:
        return
    x, y = (round(float(value)) for value in point)
    cv2.rectangle(image, (x - half, y - half), (x + half, y + half), color, thickness)


def _canvas(width: int, height: int, color: Color = _PAPER) -> Image:
    return np.full((height, width, 3), color, np.uint8)


def _paste(canvas: Image, image: Image, x: int, y: int) -> None:
    canvas[y : y + image.shape[0], x : x + image.shape[1]] = image


# ---------------------------------------------------------------------------------------------------------- depth


@dataclass(frozen=True)
class DepthScale:
    """Colours of depths: logarithmic from `near_m` (red) to `far_m` (blue), metres."""

    near_m: float
    far_m: float

    @classmethod
    def of(cls, depths_m: NDArray[Any]) -> DepthScale | None:
        """From the 2nd to the 98th percentile of the known depths; None where there are none."""
        known = np.asarray(depths_m, np.float64)
        known = known[np.isfinite(known) & (known > 0)]
        if not len(known):
            return None
        near, far = np.percentile(known, [2, 98])
        return cls(float(near) * 0.98, max(float(far) * 1.02, float(near) * 1.1))

    def place(self, depth_m: Any) -> NDArray[np.float64]:
        """0 at the near end, 1 at the far one."""
        with np.errstate(divide="ignore", invalid="ignore"):
            part = np.log(np.asarray(depth_m, np.float64) / self.near_m) / math.log(self.far_m / self.near_m)
        return np.clip(part, 0, 1)

    def colors(self, depth_m: NDArray[Any]) -> Image:
        """(..., 3) RGB of depths; dark grey where unknown."""
        depth_m = np.asarray(depth_m, np.float32)
        known = np.isfinite(depth_m) & (depth_m > 0)
        level = np.round(255 * (1 - self.place(np.where(known, depth_m, 1)))).astype(np.uint8)
        table = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1]
        return np.where(known[..., None], table[level], np.array(_UNKNOWN, np.uint8)).astype(np.uint8)

    def ticks(self) -> list[float]:
        """Round depths within the scale, metres."""
        powers = range(math.floor(math.log10(self.near_m)), math.ceil(math.log10(self.far_m)) + 1)
        ticks = [mantissa * 10.0**power for power in powers for mantissa in (1, 2, 5)]
        ticks = [tick for tick in ticks if self.near_m <= tick <= self.far_m]
        if len(ticks) < 4:
            step = nice_step((self.far_m - self.near_m) / 5)
            first = math.ceil(self.near_m / step)
            ticks = [step * number for number in range(first, math.floor(self.far_m / step) + 1)]
        return ticks

    def bar(self, height: int) -> Image:
        """A strip of all colours with its metres, `height` pixels high; near is at the bottom."""
        image = _canvas(_BAR, height)
        top, bottom = 18, height - 10
        depths = self.near_m * (self.far_m / self.near_m) ** np.linspace(1, 0, bottom - top)
        image[top:bottom, 6:20] = self.colors(depths)[:, None]
        _put_text(image, "depth", 4, 12, _INK, 0.38)
        last = math.inf
        for tick in self.ticks():
            y = bottom - float(self.place(tick)) * (bottom - top)
            if last - y >= 14:
                _polyline(image, np.array([(20, y), (24, y)]), _INK, 1)
                _put_text(image, f"{tick:.4g} m", 27, y + 4, _INK, 0.38)
                last = y
        return image


def nice_step(at_least: float) -> float:
    """The smallest 1, 2 or 5 times a power of ten that is not below `at_least` (positive)."""
    power = 10.0 ** math.floor(math.log10(at_least))
    return next(float(f"{m * power:.3g}") for m in (1, 2, 5, 10) if m * power >= at_least * (1 - 1e-9))


# --------------------------------------------------------------------------------------------------------- top-down


class TopDown:
    """World X (to the right) and Z (up the picture) in pixels, one scale for both.

    Args:
        xz: (N, 2) world metres that have to be inside.
        width, height: pixels of the plot with its margins.
    """

    def __init__(self, xz: Floats, width: int, height: int) -> None:
        self.width, self.height = width, height
        left, top, right, bottom = _MARGINS
        self.area = Box(left, top, width - left - right, height - top - bottom)
        low, high = xz.min(axis=0), xz.max(axis=0)
        # A camera that stands still would be drawn as large as its noise.
        span = np.maximum(high - low, 1.0) * 1.12
        self.pixels_per_m = float(min(self.area.width / span[0], self.area.height / span[1]))
        self._center_m = (low + high) / 2
        self._center_px = np.array([self.area.x + self.area.width / 2, self.area.y + self.area.height / 2])

    def to_pixels(self, xz: NDArray[Any]) -> Floats:
        """Pixels (..., 2) of world metres (..., 2) as (x, z)."""
        offset = (np.asarray(xz, np.float64) - self._center_m) * self.pixels_per_m
        return self._center_px + offset * np.array([1.0, -1.0])

    def grid(self) -> Image:
        """The empty plot: lines every 1, 2 or 5 times a power of ten metres, numbered at the edges."""
        image = _canvas(self.width, self.height)
        area = self.area
        step = nice_step(52 / self.pixels_per_m)
        half = np.array([area.width, area.height]) / 2 / self.pixels_per_m
        low, high = self._center_m - half, self._center_m + half
        for axis in (0, 1):
            for number in range(math.ceil(low[axis] / step), math.floor(high[axis] / step) + 1):
                value = number * step
                x, y = self.to_pixels(np.array([value, value]))
                color = _AXIS if number == 0 else _GRID
                text = f"{value:.6g}"
                width = cv2.getTextSize(text, _FONT, 0.38, 1)[0][0]
                if axis == 0:
                    _polyline(image, np.array([(x, area.y), (x, area.y + area.height)]), color, 1)
                    _put_text(image, text, x - width / 2, area.y + area.height + 14, _INK, 0.38)
                else:
                    _polyline(image, np.array([(area.x, y), (area.x + area.width, y)]), color, 1)
                    _put_text(image, text, area.x - width - 5, y + 4, _INK, 0.38)
        cv2.rectangle(image, (area.x, area.y), (area.x + area.width, area.y + area.height), _AXIS, 1)
        _put_text(image, "Z forward, m", 6, 14, _INK, 0.4)
        words = f"X right, m    grid {step:g} m"
        width = cv2.getTextSize(words, _FONT, 0.4, 1)[0][0]
        _put_text(image, words, area.x + area.width - width, self.height - 5, _INK, 0.4)
        self._legend(image)
        return image

    def _legend(self, image: Image) -> None:
        y = self.height - 9
        x = float(self.area.x + 8)
        _circle(image, np.array([x, y]), 5, _INK, 2)
        _put_text(image, "start", x + 10, y + 4, _INK, 0.4)
        _square(image, np.array([x + 62, y]), 5, _INK, -1)
        _put_text(image, "end", x + 72, y + 4, _INK, 0.4)


# ------------------------------------------------------------------------------------------------------------- views


class ClipView:
    """A clip with its pictures, ready to be drawn. All images are (H, W, 3) uint8 RGB.

    Args:
        clip: the record.
        root: data root that `clip.video`, masks and depth are looked for in.

    Attributes:
        size: width and height of one picture, pixels.
        notes: what could not be read; written on the pictures.
    """

    def __init__(self, clip: Clip4D, root: Path) -> None:
        check_clip(clip)
        self.clip = clip
        self.notes: list[str] = []
        self.size = cell_size(clip.width, clip.height)
        self._scale = np.array([self.size[0] / clip.width, self.size[1] / clip.height])
        self._images = _read_video(clip, root, self.size, self.notes)
        dense = _read_dense(clip, root, self.notes)
        self._masks = None if dense.masks is None else _nearest(dense.masks, self.size)
        self._depth = None if dense.depth is None else _nearest(dense.depth, self.size)
        self._centers = [
            {frame: object_center(track, frame) for frame in range(clip.num_frames) if track.seen(frame)}
            for track in clip.objects
        ]
        if self._depth is not None:
            shown = self._depth[:: max(1, clip.num_frames // 16), ::4, ::4]
        else:
            depths = [self._camera_points(m, t)[:, 2] for m, seen in enumerate(self._centers) for t in seen]
            shown = np.concatenate([np.zeros(0), *depths])
        self.depth_scale = DepthScale.of(shown)

    # ------------------------------------------------------------------------------------------------ pictures

    def left(self, frame: int) -> Image:
        """The left picture with masks, or the objects' points where there are no masks, and labels."""
        image = self._picture(frame)
        labels, shown = [], []
        for number, track in enumerate(self.clip.objects):
            color = id_color(track.id)
            if self._masks is not None:
                box = _draw_mask(image, self._masks[frame] == track.id, color)
            else:
                box = self._draw_points(image, number, frame, color)
            if box is None:
                continue
            anchor = (box.x + box.width / 2, float(box.y))
            labels.append(_Label(f"{track.id} {track.description}", str(track.id), anchor, color))
            if box.width * box.height < 0.1 * self.size[0] * self.size[1]:  # a large object stays visible anyway
                shown.append(box)
        taken = [self._draw_caption(image, frame)]
        _put_labels(image, labels, Box(0, 0, *self.size), taken, shown)
        return image

    def depth(self, frame: int) -> Image:
        """Depth in colours, or the objects' points in the colours of their depth, with a scale in metres."""
        if self._depth is not None and self.depth_scale is not None:
            image = self.depth_scale.colors(self._depth[frame])
            note = ""
        else:
            image = (self._picture(frame, with_note=False) * 0.35).astype(np.uint8)
            note = "no depth map: points of objects" if self.depth_scale else "no depth map, no objects"
            for number in range(len(self.clip.objects)):
                self._draw_points(image, number, frame, None)
        if note:
            _put_label(image, note, Box(0, 0, *_label_size(note)), _PAPER)
        bar = self.depth_scale.bar(self.size[1]) if self.depth_scale else _canvas(_BAR, self.size[1])
        return np.concatenate([image, bar], axis=1)

    def _picture(self, frame: int, with_note: bool = True) -> Image:
        image = self._images[frame]
        if image is not None:
            return image.copy()
        blank = _canvas(*self.size, _EMPTY)
        if with_note:
            _put_text(blank, _fitting("no picture", self.size[0] - 16), 8, self.size[1] - 10, _PAPER)
        return blank

    def _draw_caption(self, image: Image, frame: int) -> Box:
        text = f"frame {frame}   {frame / self.clip.fps:.2f} s"
        box = Box(0, 0, *_label_size(text))
        _put_label(image, text, box, (20, 20, 20))
        return box

    def _camera_points(self, number: int, frame: int) -> Floats:
        points = self.clip.objects[number].points[frame].astype(np.float64)
        return world_to_camera_points(self.clip.cam_to_world[frame], points)

    def _draw_points(self, image: Image, number: int, frame: int, color: Color | None) -> Box | None:
        """Projected points, coloured by depth where `color` is None; the box that they fill."""
        points = self._camera_points(number, frame)
        points = points[points[:, 2] > _NEAR_M]
        pixels = (project_points(self.clip.intrinsics, points) + 0.5) * self._scale - 0.5
        inside = ((pixels > -1) & (pixels < np.array(self.size))).all(axis=1)
        pixels, points = pixels[inside], points[inside]
        if not len(pixels):
            return None
        if color is None and self.depth_scale is not None:
            colors = self.depth_scale.colors(points[:, 2]).tolist()
        else:
            colors = [color or _PAPER] * len(pixels)
        for pixel, (red, green, blue) in zip(pixels, colors, strict=True):
            _circle(image, pixel, 1.8, (red, green, blue), -1)
        return _bounds(pixels)

    # ------------------------------------------------------------------------------------------------ top-down

    def plot_of(self, width: int, height: int) -> TopDown:
        """The plot that holds the camera, its field of view and the centres of all objects."""
        centers = [center[[0, 2]] for seen in self._centers for center in seen.values()]
        xz = np.stack([*self.clip.camera_centers[:, [0, 2]], *centers])
        self._sight_m = max(0.5, 0.22 * float(np.ptp(xz, axis=0).max()))
        ends = [self._field_of_view(frame)[1:] for frame in (0, self.clip.num_frames - 1)]
        return TopDown(np.concatenate([xz, *ends]), width, height)

    def top_down(self, plot: TopDown, frame: int, grid: Image | None = None, show_first: bool = False) -> Image:
        """Everything up to clip frame `frame`.

        Args:
            plot: of `plot_of`.
            grid: `plot.grid()`, drawn here where it is None.
            show_first: also draw the field of view of frame 0.
        """
        grid = plot.grid() if grid is None else grid
        image = grid.copy()
        for seen in {0, frame} if show_first else {frame}:
            self._draw_field_of_view(image, plot, seen)
        labels: list[_Label] = []
        shown: list[Box] = []
        for number, track in enumerate(self.clip.objects):
            path = self._draw_track(image, plot, number, frame)
            if path is not None:
                label = f"{track.id} {track.description}"
                labels.append(_Label(label, str(track.id), (path[-1][0], path[-1][1]), id_color(track.id)))
                shown += _along(path)
        path, arrows = self._draw_camera(image, plot, frame)
        labels.append(_Label("camera", "cam", (path[-1][0], path[-1][1]), _CAMERA))
        shown += _along(path)
        for arrow in arrows:
            shown += _along(arrow)
        ends = [_around(label.anchor, 6) for label in labels]
        _put_labels(image, labels, plot.area, ends, shown)
        area = plot.area
        inside = (slice(area.y, area.y + area.height), slice(area.x, area.x + area.width))
        framed = grid.copy()
        framed[inside] = image[inside]
        return framed

    def _field_of_view(self, frame: int) -> Floats:
        """(3, 2) world x, z: the camera centre and the ends of the rays through the left and right edge."""
        intrinsics, pose = self.clip.intrinsics, self.clip.cam_to_world[frame]
        edges = (np.array([-0.5, self.clip.width - 0.5]) - intrinsics[0, 2]) / intrinsics[0, 0]
        rays = np.stack([edges, np.zeros(2), np.ones(2)], axis=1) @ pose[:3, :3].T
        center = pose[[0, 2], 3]
        return np.stack([center, *(center + self._sight_m * rays[:, [0, 2]])])

    def _draw_field_of_view(self, image: Image, plot: TopDown, frame: int) -> None:
        corners = plot.to_pixels(self._field_of_view(frame))
        filled = image.copy()
        cv2.fillPoly(filled, [_fixed(corners)], (150, 185, 225), cv2.LINE_AA, _SHIFT)
        cv2.addWeighted(filled, 0.35, image, 0.65, 0, dst=image)
        _polyline(image, corners[[1, 0, 2]], (120, 150, 190), 1)

    def _draw_camera(self, image: Image, plot: TopDown, frame: int) -> tuple[Floats, list[Floats]]:
        """Path up to `frame` and headings on the way; both in pixels."""
        path = plot.to_pixels(self.clip.camera_centers[: frame + 1, [0, 2]])
        _polyline(image, path, _CAMERA, 2)
        arrows: list[Floats] = []
        for number in sorted({round(part) for part in np.linspace(0, frame, min(frame + 1, 9))}):
            heading = self.clip.cam_to_world[number, [0, 2], 2] * np.array([1.0, -1.0])
            arrows.append(np.stack([path[number], path[number] + 26 * heading]))
            _arrow(image, arrows[-1][0], arrows[-1][1], _CAMERA)
        _mark(image, path[0], path[-1], _CAMERA)
        return path, arrows

    def _draw_track(self, image: Image, plot: TopDown, number: int, frame: int) -> Floats | None:
        """Path of an object's centre up to `frame`, thin where it was not seen; in pixels, None before it is seen."""
        track, color = self.clip.objects[number], id_color(self.clip.objects[number].id)
        frames = [seen for seen in self._centers[number] if seen <= frame]
        if not frames:
            return None
        path = plot.to_pixels(np.stack([self._centers[number][seen][[0, 2]] for seen in frames]))
        points = plot.to_pixels(track.points[frames[-1]][:, [0, 2]])
        pale = tuple(round(0.45 * part + 0.55 * 255) for part in color)
        for point in points:
            _circle(image, point, 1.2, (pale[0], pale[1], pale[2]), -1)
        for index in range(1, len(frames)):
            thickness = 2 if frames[index] - frames[index - 1] == 1 else 1
            _polyline(image, path[index - 1 : index + 1], color, thickness)
        _mark(image, path[0], path[-1], color)
        return path

    # ------------------------------------------------------------------------------------------------- layouts

    def sheet(self) -> Image:
        """The contact sheet: first, two middle and last frame beside one large top-down plot."""
        last = self.clip.num_frames - 1
        frames = sorted({round(part) for part in np.linspace(0, last, 4)})
        rows = [self._row(frame) for frame in frames]
        row_height, row_width = rows[0].shape[:2]
        height = max(620, len(rows) * (row_height + _GAP) - _GAP)
        plot = self.plot_of(int(np.clip(0.8 * height, 620, 1000)), height)
        header = self._header(row_width + _GAP + plot.width, f"{self.clip.num_frames} frames, {self.clip.fps:g} fps")
        image = _canvas(row_width + _GAP + plot.width, len(header) + height)
        _paste(image, header, 0, 0)
        for number, row in enumerate(rows):
            _paste(image, row, 0, len(header) + number * (row_height + _GAP))
        _paste(image, self.top_down(plot, last, show_first=True), row_width + _GAP, len(header))
        return _even(image)

    def film(self) -> tuple[Image, float]:
        """Frames (T, H, W, 3) of the video, and their number per second."""
        step = -(-self.clip.num_frames // MAX_VIDEO_FRAMES)
        frames = range(0, self.clip.num_frames, step)
        stacked = self.size[0] >= _WIDE * self.size[1]
        column = self._row(0, stacked)
        height = max(460, column.shape[0])
        plot = self.plot_of(height, height)
        grid = plot.grid()
        width = column.shape[1] + _GAP + plot.width
        header = self._header(width, "")
        top = len(header)
        film = np.empty((len(frames), *_even(_canvas(width, top + height)).shape), np.uint8)
        film[:] = 255
        film[:, :top, :width] = header
        for number, frame in enumerate(frames):
            _paste(film[number], self._row(frame, stacked), 0, top)
            _paste(film[number], self.top_down(plot, frame, grid), column.shape[1] + _GAP, top)
        return film, self.clip.fps / step

    def _row(self, frame: int, stacked: bool = False) -> Image:
        left, depth = self.left(frame), self.depth(frame)
        if stacked:
            left = cv2.copyMakeBorder(left, 0, _GAP, 0, _BAR, cv2.BORDER_CONSTANT, value=_PAPER)
            return np.concatenate([left, depth])
        return np.concatenate([left, _canvas(_GAP, self.size[1]), depth], axis=1)

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
        lines = [("   ".join(word for word in words if word), _INK), *((note, _ALARM) for note in self.notes)]
        image = _canvas(width, 26 + 18 * (len(lines) - 1))
        for number, (text, color) in enumerate(lines):
            _put_text(image, _fitting(text, width - 16), 8, 17 + 18 * number, color)
        return image


def _draw_mask(image: Image, mask: NDArray[np.bool_], color: Color) -> Box | None:
    """Tint and outline; the box of the mask, None where it is empty."""
    if not mask.any():
        return None
    image[mask] = np.round(0.5 * image[mask] + 0.5 * np.array(color)).astype(np.uint8)
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, outlines, -1, color, 2)
    rows, columns = np.nonzero(mask)
    return _bounds(np.stack([columns, rows], axis=1))


def _bounds(pixels: NDArray[Any]) -> Box:
    low, high = np.floor(pixels.min(axis=0)).astype(int), np.ceil(pixels.max(axis=0)).astype(int)
    return Box(int(low[0]), int(low[1]), int(high[0] - low[0]) + 1, int(high[1] - low[1]) + 1)


def _along(path: Floats, every_px: float = 8.0) -> list[Box]:
    """Small boxes along a line, so that labels stay off it."""
    lengths = np.r_[0, np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))]
    places = np.linspace(0, lengths[-1], 1 + min(500, int(lengths[-1] / every_px)))
    points = np.stack([np.interp(places, lengths, path[:, axis]) for axis in (0, 1)], axis=1)
    return [_around((point[0], point[1]), 7) for point in points]


def _around(point: tuple[float, float], half: int) -> Box:
    return Box(round(point[0]) - half, round(point[1]) - half, 2 * half + 1, 2 * half + 1)


def _mark(image: Image, start: NDArray[Any], end: NDArray[Any], color: Color) -> None:
    """A ring where a path starts, a full square where it ends."""
    _square(image, end, 4, color, -1)
    _circle(image, start, 6, _PAPER, 4)
    _circle(image, start, 6, color, 2)


def _arrow(image: Image, start: NDArray[Any], end: NDArray[Any], color: Color) -> None:
    along = end - start
    length = float(np.linalg.norm(along))
    if length < 3:  # a camera that looks up or down
        return
    across = np.array([-along[1], along[0]]) / length * 4
    neck = end - along / length * 7
    _polyline(image, np.stack([start, end]), color, 1)
    cv2.fillPoly(image, [_fixed(np.stack([end, neck + across, neck - across]))], color, cv2.LINE_AA, _SHIFT)


def _even(image: Image) -> Image:
    """With a white row or column more where a side is odd: video has no odd sides."""
    height, width = image.shape[:2]
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), constant_values=255)


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

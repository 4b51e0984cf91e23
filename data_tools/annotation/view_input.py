"""What a picture of a clip is made of: the clip's file, its video, masks and depth, read frame by frame."""

from __future__ import annotations

import difflib
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..schema import Clip4D, PathLike
from ..video import VideoFrames
from .store import AnnotationFolder

Image = NDArray[np.uint8]

#: A picture is scaled to fit into this many pixels, width and height.
CELL_BOX = (640, 400)


class ClipFile(NamedTuple):
    """The npz of a clip and the data root that its video is relative to."""

    path: Path
    root: Path


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


class ClipPixels:
    """Video, masks and depth of a clip at the size that they are drawn at; one frame of each is held at a time.

    Asking for frames in rising order reads each file once.

    Args:
        clip: the record.
        root: data root that the video, masks and depth are looked for in.
        size: width and height of a picture, pixels.

    Attributes:
        notes: what could not be read, also what turns out to be so later.
        has_masks, has_depth: whether there are files of them.
    """

    def __init__(self, clip: Clip4D, root: Path, size: tuple[int, int]) -> None:
        self.notes: list[str] = []
        self._size, self._num_frames = size, clip.num_frames
        self._images = self._cursor(self._open_video(clip, root), f"the video {clip.video}")
        dense = self._open_dense(clip, root)
        masks, depth = dense.get("masks", dense.get("mask")), dense.get("depth")
        self.has_masks, self.has_depth = masks is not None, depth is not None
        self._masks, self._depth = self._cursor(masks, "masks"), self._cursor(depth, "depth")

    def image(self, frame: int) -> Image | None:
        """(h, w, 3) uint8 RGB, None where it does not decode."""
        return self._images.at(frame)

    def mask(self, frame: int) -> NDArray[Any] | None:
        """(h, w) object ids, None where there are none."""
        return self._masks.at(frame)

    def depth(self, frame: int) -> NDArray[Any] | None:
        """(h, w) metres, None where there is none."""
        return self._depth.at(frame)

    def _cursor(self, frames: Callable[[], Iterator[NDArray[Any]]] | None, what: str) -> _Cursor:
        return _Cursor(frames, lambda problem: self._note(f"{what}: {problem}"))

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _open_video(self, clip: Clip4D, root: Path) -> Callable[[], Iterator[Image]] | None:
        try:
            video = VideoFrames(root / clip.video)
            found = video.num_frames
        except InputError as error:
            self._note(f"no video {clip.video}: {error.problem}")
            return None
        # 4:2:0 needs even sides: the video of an odd picture lacks its last row or column.
        missing = (clip.width - video.width, clip.height - video.height)
        if found != clip.num_frames:
            self._note(f"the video has {found} frames, the clip {clip.num_frames}: not shown")
            return None
        if not all(pixels in (0, 1) for pixels in missing):
            self._note(f"the video has {video.width}x{video.height} pixels, the clip {clip.width}x{clip.height}")
            return None

        def frames() -> Iterator[Image]:
            for frame in video.frames():
                whole = cv2.copyMakeBorder(frame, 0, missing[1], 0, missing[0], cv2.BORDER_REPLICATE)
                yield _scaled(np.asarray(whole, np.uint8), self._size)

        return frames

    def _open_dense(self, clip: Clip4D, root: Path) -> dict[str, Callable[[], Iterator[NDArray[Any]]]]:
        """Masks and depth of `annotate` or of a synthetic world, by name."""
        files = [root / "masks" / f"{clip.clip_id}.npz", root / "truth" / "dense" / f"{clip.clip_id}.npz"]
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            return {}
        expected = (clip.num_frames, clip.height, clip.width)
        found: dict[str, Callable[[], Iterator[NDArray[Any]]]] = {}
        try:
            for name, shape in stack_shapes(file).items():
                if name not in ("masks", "mask", "depth"):
                    continue
                if shape == expected:
                    found[name] = self._stack(file, name)
                else:
                    self._note(f"{name} of {file.name} has shape {shape}, expected {expected}")
        except _UNREADABLE as error:
            self._note(f"{file.name} of masks and depth does not read ({error})")
            return {}
        return found

    def _stack(self, file: Path, name: str) -> Callable[[], Iterator[NDArray[Any]]]:
        return lambda: (_nearest(frame, self._size) for frame in stack_frames(file, name))


class _Cursor:
    """The frame of a sequence that was asked for last; going back starts again.

    Args:
        frames: opens the sequence; None where there is none.
        on_problem: told of what ends it early.
    """

    def __init__(self, frames: Callable[[], Iterator[NDArray[Any]]] | None, on_problem: Callable[[str], None]) -> None:
        self._open, self._on_problem = frames, on_problem
        self._frames: Iterator[NDArray[Any]] = iter(())
        self._number = -1
        self._value: NDArray[Any] | None = None

    def at(self, frame: int) -> NDArray[Any] | None:
        """The frame of that number, None where there is none or it does not read."""
        if self._open is None:
            return None
        if self._number < 0 or frame < self._number:
            self._frames, self._number = self._open(), -1
        while self._number < frame:
            self._number += 1
            try:
                self._value = next(self._frames, None)
            except InputError as error:
                self._value = None
                self._on_problem(error.problem)
            except _UNREADABLE as error:
                self._value = None
                self._on_problem(f"frame {self._number} does not read ({error})")
        return self._value


_UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


def stack_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays in an npz, by name. Raises OSError, ValueError, EOFError or BadZipFile."""
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        shapes = {}
        for name in names:
            with archive.open(name) as member:
                shapes[name.removesuffix(".npy")] = _read_header(member)[0]
        return shapes


def stack_frames(file: Path, name: str) -> Iterator[NDArray[Any]]:
    """`array[0]`, `array[1]`, ... of one array of an npz, one in memory at a time.

    Raises:
        ValueError: the array is stored by columns, which cannot be read frame by frame.
        OSError, EOFError, BadZipFile, zlib.error: the file is broken.
    """
    with zipfile.ZipFile(file) as archive, archive.open(f"{name}.npy") as member:
        shape, by_columns, dtype = _read_header(member)
        if by_columns and len(shape) > 1:
            raise ValueError("stored by columns")
        size = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        for _ in range(shape[0]):
            data = member.read(size)
            if len(data) < size:
                raise EOFError("it ends early")
            yield np.frombuffer(data, dtype).reshape(shape[1:])


def _read_header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(member)
    return np.lib.format.read_array_header_2_0(member)


def _scaled(image: Image, size: tuple[int, int]) -> Image:
    shrinks = size[0] < image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def _nearest(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """(H, W) at another size without mixing neighbours."""
    height, width = image.shape
    rows = (np.arange(size[1]) + 0.5) * height / size[1]
    columns = (np.arange(size[0]) + 0.5) * width / size[0]
    return image[rows.astype(int)[:, None], columns.astype(int)[None]]


def cell_size(width: int, height: int) -> tuple[int, int]:
    """Width and height, even, at which a picture is drawn: as large as fits into CELL_BOX, its shape kept."""
    scale = min(CELL_BOX[0] / width, CELL_BOX[1] / height)
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)

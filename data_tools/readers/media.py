"""Frames of video files and image folders, one in memory at a time, and the stereo clip that two of them make."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import av.error
import av.video.stream
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from ..errors import InputError
from ..stereo.camera import StereoCamera
from ..stereo.clip import Image, SourceObject, StereoClip, StereoPair, check_same_frames

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts"})
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})

#: Raw left and right image -> rectified left and right image.
RectifyImages = Callable[[Image, Image], tuple[Image, Image]]

_IMREAD_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
_START = -(1 << 62)  # a time before any, for seeking
_REENCODE = "Copy it again from its source, or cut it before that frame"


class FrameSource(ABC):
    """RGB frames of one eye, in order. Picklable; holds no open file between calls.

    Attributes:
        path: the file or folder, for messages.
        num_frames: how many frames `frames()` yields.
        width, height: pixels.
        fps: frames per second, None where the source does not say.
    """

    path: Path
    num_frames: int
    fps: float | None

    @property
    @abstractmethod
    def width(self) -> int: ...

    @property
    @abstractmethod
    def height(self) -> int: ...

    @abstractmethod
    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Image]:
        """(H, W, 3) uint8 RGB frames start..stop-1 in order, clamped to what there is as a slice would be.

        Raises:
            InputError: naming the file and the frame that does not decode or has another size than the first one.
        """

    def cut(self, start: int, stop: int) -> FrameSource:
        """Frames start..stop-1 as a source of their own."""
        return self if (start, stop) == (0, self.num_frames) else _Cut(self, start, stop)


class _Cut(FrameSource):
    """A stretch of another source."""

    def __init__(self, whole: FrameSource, start: int, stop: int) -> None:
        if not 0 <= start < stop <= whole.num_frames:
            raise InputError(
                f"frames {start} to {stop - 1} asked for, there are {whole.num_frames}", file=whole.path, field="frames"
            )
        self.path, self.fps, self.num_frames = whole.path, whole.fps, stop - start
        self._whole, self._start = whole, start

    @property
    def width(self) -> int:
        return self._whole.width

    @property
    def height(self) -> int:
        return self._whole.height

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Image]:
        start, stop, _ = slice(start, stop).indices(self.num_frames)
        return self._whole.frames(self._start + start, self._start + stop)


class VideoFrames(FrameSource):
    """Frames of a video file, decoded by PyAV in one thread.

    The number of frames comes from the index of the container, or from its packets where the index is not complete;
    the header's own figure is not believed.

    Raises:
        InputError: the file is missing, not a video, or cut off; the frame at which it ends is named.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        with self._open() as (container, stream):
            self._width, self._height = stream.codec_context.width, stream.codec_context.height
            rate = stream.average_rate or stream.guessed_rate
            self.fps = float(rate) if rate else None
            self.num_frames = self._count(container, stream)
        if self.num_frames == 0 or self._width == 0:
            raise InputError("the video has no frames", file=self.path, remedy="Is the recording complete?")

    @property
    def width(self) -> int:
        return self._width

    @property
    def height(self) -> int:
        return self._height

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Image]:
        start, stop, _ = slice(start, stop).indices(self.num_frames)
        if start >= stop:
            return
        first, seek_pts = (start, self._seek_pts(start)) if start > 0 else (0, None)
        with self._open() as (container, stream):
            stream.codec_context.thread_count = 1
            if seek_pts is None or not self._seek(container, stream, seek_pts):
                first = 0
            number = first
            # One for all frames: each would set up its own otherwise, which takes longer than a small frame does.
            reformatter = VideoReformatter()
            for frame in self._decoded(container, stream, first):
                if first and frame.pts < seek_pts:
                    continue
                if number >= start:
                    yield self._rgb(frame, number, reformatter)
                number += 1
                if number >= stop:
                    return
        raise InputError(
            f"frame {number} does not decode, {self.num_frames} were expected",
            file=self.path,
            row=number,
            remedy=_REENCODE,
        )

    def _decoded(self, container: Any, stream: av.video.stream.VideoStream, first: int) -> Iterator[Any]:
        count = 0
        try:
            for frame in container.decode(stream):
                yield frame
                count += 1
        except av.error.FFmpegError as error:
            raise InputError(
                f"frame {first + count} or one right after it does not decode ({error.strerror})",
                file=self.path,
                remedy=_REENCODE,
            ) from None

    def _rgb(self, frame: Any, number: int, reformatter: Any) -> Image:
        if frame.is_corrupt:
            raise InputError(f"frame {number} is damaged", file=self.path, row=number, remedy=_REENCODE)
        image: Image = reformatter.reformat(frame, format="rgb24").to_ndarray()
        if image.shape != (self._height, self._width, 3):
            raise InputError(
                f"frame {number} has {image.shape[1]}x{image.shape[0]} pixels, the video {self._width}x{self._height}",
                file=self.path,
                row=number,
            )
        return image

    @staticmethod
    def _seek(container: Any, stream: av.video.stream.VideoStream, pts: int) -> bool:
        """Go to the key frame before `pts`; False, at the file's start, where what follows does not hold that frame.

        That happens with open groups of pictures: frames that are shown before a key frame and stored after it.
        """
        container.seek(pts, stream=stream, backward=True)
        first = next((packet.pts for packet in container.demux(stream) if packet.size), None)
        found = first is not None and first <= pts
        container.seek(pts if found else _START, stream=stream, backward=True)
        return found

    def _seek_pts(self, start: int) -> int | None:
        """Presentation time of frame `start`, None where the container does not tell the times."""
        with self._open() as (container, stream):
            times = [packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard]
        known = sorted(time for time in times if time is not None)
        return known[start] if len(known) == self.num_frames and len(set(known)) == len(known) else None

    def _count(self, container: Any, stream: av.video.stream.VideoStream) -> int:
        size = os.path.getsize(self.path)
        entries = list(getattr(stream, "index_entries", ()))
        if stream.frames > 0 and len(entries) == stream.frames:
            for number, entry in enumerate(entries):
                if entry.pos + entry.size > size:
                    raise self._cut_off(number, len(entries))
            return sum(not entry.is_discard for entry in entries)
        count = discarded = end = 0
        try:
            for packet in container.demux(stream):
                if packet.size == 0:
                    continue
                if packet.is_corrupt:
                    raise self._cut_off(count, stream.frames)
                discarded += packet.is_discard
                count += not packet.is_discard
                end = max(end, (packet.pts or 0) + (packet.duration or 0))
        except av.error.FFmpegError as error:
            raise InputError(
                f"the file is damaged after frame {count} ({error.strerror})", file=self.path, remedy=_REENCODE
            ) from None
        if count + discarded < stream.frames:
            raise self._cut_off(count, stream.frames)
        # Matroska has no frame count, but a duration. That of the file is the video's where nothing else is in it.
        if len(container.streams) == 1 and container.duration and stream.time_base and count > 1:
            missing_s = container.duration / av.time_base - float(end * stream.time_base)
            if missing_s * (self.fps or 0) > 2:
                raise self._cut_off(count, count + round(missing_s * (self.fps or 0)))
        return count

    def _cut_off(self, frame: int, total: int) -> InputError:
        of = f" of {total}" if total else ""
        return InputError(f"the file is cut off at frame {frame}{of}", file=self.path, row=frame, remedy=_REENCODE)

    def _open(self) -> _OpenVideo:
        return _OpenVideo(self.path)


class _OpenVideo:
    """A container and its first video stream, for a `with` block."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError("there is no such video", file=path)
        try:
            self._container = av.open(str(path))
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(
                f"not a video, or one that is cut off ({error.strerror})", file=path, remedy="Copy it again"
            ) from None
        if not self._container.streams.video:
            self._container.close()
            raise InputError("the file holds no video stream", file=path)

    def __enter__(self) -> tuple[Any, av.video.stream.VideoStream]:
        return self._container, self._container.streams.video[0]

    def __exit__(self, *_: object) -> None:
        self._container.close()


class ImageFrames(FrameSource):
    """Frames that are one image file each. Grey images repeat their channel, alpha is dropped.

    The size is that of the first image, which is decoded when the size is first asked for.
    """

    def __init__(self, paths: Sequence[Path], fps: float | None = None) -> None:
        if not paths:
            raise InputError("no images", field="paths")
        self.paths = [Path(path) for path in paths]
        self.path = self.paths[0].parent
        self.num_frames = len(self.paths)
        self.fps = fps
        self._size: tuple[int, int] | None = None

    @property
    def width(self) -> int:
        return self._first_size()[1]

    @property
    def height(self) -> int:
        return self._first_size()[0]

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Image]:
        start, stop, _ = slice(start, stop).indices(self.num_frames)
        for number in range(start, stop):
            image = read_image(self.paths[number], number)
            if image.shape[:2] != self._first_size():
                height, width = self._first_size()
                raise InputError(
                    f"frame {number} has {image.shape[1]}x{image.shape[0]} pixels, the first one {width}x{height}",
                    file=self.paths[number],
                    row=number,
                )
            yield image

    def _first_size(self) -> tuple[int, int]:
        if self._size is None:
            height, width = read_image(self.paths[0], 0).shape[:2]
            self._size = (height, width)
        return self._size


def read_image(path: Path, frame: int | None = None) -> Image:
    """(H, W, 3) uint8 RGB pixels of an image file, in the order they are stored (no rotation by EXIF).

    Raises:
        InputError: the file is missing, cut off, not an image, or has more than 8 bits a channel: a stretch to 8 bits
            would be a guess.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"the image cannot be read ({error.strerror})", file=path, row=frame) from None
    # libjpeg only warns about a file that is cut off, and fills the rest with grey.
    cut_off = data.startswith(b"\xff\xd8") and b"\xff\xd9" not in data[-4096:]
    image = None if cut_off or not data else cv2.imdecode(np.frombuffer(data, np.uint8), _IMREAD_FLAGS)
    if image is None:
        raise InputError("not an image, or one that is cut off", file=path, row=frame, remedy="Copy it again")
    if image.dtype != np.uint8:
        raise InputError(
            f"the image has {8 * image.dtype.itemsize} bits a channel",
            file=path,
            row=frame,
            remedy="Convert the whole sequence to 8 bits with one fixed scale, so that brightness stays comparable",
        )
    return np.ascontiguousarray(image[:, :, ::-1], np.uint8)


def natural_key(path: Path) -> list[tuple[int, int | str]]:
    """A sorting key by which frame_10 comes after frame_9."""
    parts = re.split(r"(\d+)", path.name)
    return [(1, int(part)) if part.isdigit() else (0, part) for part in parts]


def list_images(folder: Path, pattern: str | None = None) -> list[Path]:
    """Image files of a folder in natural order; `pattern` is a shell pattern such as "left*.png"."""
    found = folder.glob(pattern) if pattern else folder.iterdir()
    images = (path for path in found if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."))
    return sorted(images, key=natural_key)


def is_video(path: Path) -> bool:
    """Whether the name is that of a video file."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".") and path.is_file()


def open_frames(path: Path, fps: float | None = None, pattern: str | None = None) -> FrameSource:
    """Frames of a video file or of a folder of images.

    Args:
        path: a video file, or a folder.
        fps: frames per second where the source does not know it (folders), or to overrule a video's own.
        pattern: shell pattern for the images of a folder.

    Raises:
        InputError: nothing there that holds frames.
    """
    if path.is_dir():
        images = list_images(path, pattern)
        if not images:
            wanted = f" that match {pattern!r}" if pattern else ""
            raise InputError(f"the folder holds no images{wanted}", file=path)
        return ImageFrames(images, fps)
    source = VideoFrames(path)
    if fps is not None:
        source.fps = fps
    return source


class PairedClip(StereoClip):
    """A stereo clip from one source of frames per eye.

    Args:
        clip_id, source, path, license, video, timestamps_s, cam_to_world, objects, notes: as in `StereoClip`.
        left, right: frames of either eye, equally many of equal size.
        camera: of the rectified pair.
        fps: frames per second; that of the left eye's source by default.
        rectify: takes a raw pair to the rectified one; None where the frames are rectified.

    Raises:
        InputError: frame counts differ, no frame rate is known, or a rectified source has another size than the camera.
    """

    def __init__(
        self,
        *,
        clip_id: str,
        source: str,
        path: Path,
        left: FrameSource,
        right: FrameSource,
        camera: StereoCamera,
        license: str = "",
        fps: float | None = None,
        rectify: RectifyImages | None = None,
        video: Path | None = None,
        timestamps_s: NDArray[np.float64] | None = None,
        cam_to_world: NDArray[np.float64] | None = None,
        objects: list[SourceObject] | None = None,
        notes: dict[str, Any] | None = None,
    ) -> None:
        rate = fps if fps is not None else left.fps
        if rate is None:
            raise InputError("the frame rate is not known", file=path, field="fps", remedy="Give it with -o fps=10")
        if not 0 < rate <= 1000:
            raise InputError(f"{rate} frames per second", file=path, field="fps", remedy="Give it with -o fps=10")
        self.clip_id, self.source, self.license, self.path = clip_id, source, license, path
        self.fps, self.camera, self.video = float(rate), camera, video
        self.num_frames = check_same_frames(left.num_frames, right.num_frames, path)
        self.timestamps_s, self.cam_to_world, self.objects = timestamps_s, cam_to_world, objects
        self.notes = notes or {}
        self._left, self._right, self._rectify = left, right, rectify
        if rectify is None:
            check_image_size(left.width, left.height, camera, left.path)

    def pairs(self, start: int = 0, stop: int | None = None) -> Iterator[StereoPair]:
        start, stop, _ = slice(start, stop).indices(self.num_frames)
        for frame, (left, right) in enumerate(self._eyes(start, stop), start):
            if left.shape != right.shape:
                raise InputError(
                    f"the left image has {left.shape[1]}x{left.shape[0]} pixels, "
                    f"the right one {right.shape[1]}x{right.shape[0]}",
                    file=self._right.path,
                    row=frame,
                )
            if self._rectify is not None:
                left, right = self._rectify(left, right)
            yield StereoPair(frame, left, right)

    def _eyes(self, start: int, stop: int) -> Iterator[tuple[Image, Image]]:
        """Left and right frames start..stop-1 as they are stored."""
        return zip(self._left.frames(start, stop), self._right.frames(start, stop), strict=True)


def check_image_size(width: int, height: int, camera: StereoCamera, path: Path) -> None:
    """Raise InputError where frames of a rectified source are not of the size the calibration is for."""
    if (width, height) != (camera.width, camera.height):
        raise InputError(
            f"the frames have {width}x{height} pixels, the calibration is for {camera.width}x{camera.height}",
            file=path,
            field="calibration",
            remedy="Scale the calibration with the images, or use the one that belongs to them",
        )

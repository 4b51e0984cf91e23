"""Frames of a video file, decoded by PyAV (FFmpeg)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import av
import av.error
import av.stream
import numpy as np
from av.video.reformatter import VideoReformatter

from ..errors import InputError
from .location import checked_local_file, is_remote, local_path, open_remote
from .picture import Presentation, presentation_of, rgb
from .source import FrameSource, Image
from .timeline import Timeline, lacks_times, stated_rate, timeline_of_index, timeline_of_packets, timeline_of_times

_REENCODE = "Copy it again from its source, or cut it before that frame"
#: What browsers, OpenCV and training frameworks decode without further libraries. AV1 and 10 bits are not among it.
_COMMON_CODECS = frozenset({"h264", "hevc", "mpeg4"})
_COMMON_PIXELS = frozenset({"yuv420p", "yuvj420p"})
#: Frames between two that are wanted, from which on a seek to the next key frame costs less than decoding on.
_WORTH_A_SEEK = 8


class VideoFrames(FrameSource):
    """Frames of a video file, decoded by PyAV in one thread.

    The number of frames comes from the index of the container, or from its packets where the index is not complete, or
    from the decoder where packets do not tell; the header's own figure is not believed. Frames come in the order in
    which they are shown. Frames that an edit list cuts away do not count, nor do those before the first key frame.
    Cover pictures are passed over.

    Args:
        path: the file, or an address that fsspec opens.
        as_shown: turn and mirror frames as the file's display matrix says, and make pixels square, as players do. False
            gives the pixels as they are stored, which is what a camera's calibration is for.
        time_limit_s: seconds that opening, or reading one set of frames, may take.

    Raises:
        InputError: the file is missing, not a video, or cut off; the frame at which it ends is named.
    """

    def __init__(self, path: Path | str, *, as_shown: bool = False, time_limit_s: float | None = None) -> None:
        self.path = path if is_remote(path) else Path(local_path(path))
        self.as_shown, self.time_limit_s = as_shown, time_limit_s
        with self._open() as video:
            context = video.stream.codec_context
            self._stored = (context.width, context.height)
            timeline = self._checked_index(video) or self._read_timeline(video)
        self.num_frames, self.fps = timeline.num_frames, timeline.fps
        self.irregular_times_s = timeline.irregular_times_s
        if timeline.pts is not None:
            self._timeline = timeline
        if self.num_frames == 0 or not all(self._stored):
            raise InputError("the video has no frames", file=self.path, remedy="Is the recording complete?")

    @property
    def width(self) -> int:
        return self.presentation.size(*self._stored)[0]

    @property
    def height(self) -> int:
        return self.presentation.size(*self._stored)[1]

    @cached_property
    def presentation(self) -> Presentation:
        """How the frames are turned and stretched; nothing unless `as_shown`."""
        return self.stated_presentation if self.as_shown else Presentation()

    @cached_property
    def stated_presentation(self) -> Presentation:
        """How the file wants its frames to be shown. Decodes the first frame."""
        with self._open() as video:
            return next((presentation_of(frame, video.stream) for frame in video.decoded()), Presentation())

    @property
    def reads_alike_everywhere(self) -> bool:
        """Whether any decoder gives these frames in this number, upright: a common codec, no edit list, no turn."""
        with self._open() as video:
            context = video.stream.codec_context
            common = context.name in _COMMON_CODECS and context.pix_fmt in _COMMON_PIXELS
            packets = self._packets(video)
            whole = video.stream.frames in (0, len(packets)) and not any(packet.is_discard for packet in packets)
        return common and whole and self.stated_presentation.is_plain

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Image]:
        return self.frames_at(range(*slice(start, stop).indices(self.num_frames)))

    def frames_at(self, indices: Sequence[int]) -> Iterator[Image]:
        wanted = self._checked(indices)
        return self._read(wanted) if wanted else iter(())

    def _read(self, wanted: list[int]) -> Iterator[Image]:
        position = 0
        presentation = self.presentation
        # One for all frames: each would set up its own otherwise, which takes longer than a small frame does.
        reformatter = VideoReformatter()
        with self._open() as video:
            for number, frame in self._numbered(video, wanted):
                image = self._rgb(frame, number, reformatter, presentation)
                while position < len(wanted) and wanted[position] == number:
                    yield image
                    position += 1

    def _numbered(self, video: _OpenVideo, wanted: list[int]) -> Iterator[tuple[int, Any]]:
        """The wanted frames and their numbers, each once."""
        for key, stretch in self._stretches(wanted):
            left = list(dict.fromkeys(stretch))
            # Containers without an index (MPEG program streams) may land behind the key frame: then from the start.
            for start in (key, 0) if key else (0,):
                for number, frame in self._counted(video, start):
                    if number > left[0]:
                        break
                    if number == left[0]:
                        yield left.pop(0), frame
                        if not left:
                            break
                if not left:
                    break
            if left:
                raise InputError(
                    f"frame {left[0]} does not decode, {self.num_frames} were expected",
                    file=self.path,
                    row=left[0],
                    remedy=_REENCODE,
                )

    def _stretches(self, wanted: list[int]) -> list[tuple[int, list[int]]]:
        """Frames to read, in stretches that start at the key frame of the given number (0: the start of the file)."""
        gaps = np.diff([-1, *wanted])
        if gaps.max() <= _WORTH_A_SEEK or self._timeline.keys is None:
            return [(0, wanted)]
        keys = self._timeline.keys
        before = np.searchsorted(keys, wanted, side="right") - 1
        stretches: list[tuple[int, list[int]]] = []
        last = 0
        for number, place in zip(wanted, before.tolist(), strict=True):
            key = int(keys[place]) if place >= 0 else 0
            if not stretches or key > last + _WORTH_A_SEEK:
                stretches.append((key if key > _WORTH_A_SEEK else 0, []))
            stretches[-1][1].append(number)
            last = number
        return stretches

    def _counted(self, video: _OpenVideo, key: int) -> Iterator[tuple[int, Any]]:
        """Frames from key frame `key` on with their numbers. Frames that the timeline does not know are left out."""
        timeline = self._timeline if key or "_timeline" in self.__dict__ else None
        if timeline is None or timeline.pts is None:
            video.rewind()
            yield from enumerate(self._sound(video, 0))
            return
        pts = timeline.pts
        if not (key and video.seek(int(pts[key]))):
            video.rewind()
        for frame in self._sound(video, key):
            number = int(np.searchsorted(pts, frame.pts))
            if number < len(pts) and pts[number] == frame.pts:
                yield number, frame

    def _sound(self, video: _OpenVideo, first: int) -> Iterator[Any]:
        count = 0
        try:
            for frame in video.decoded():
                yield frame
                count += 1
        except av.error.FFmpegError as error:
            raise InputError(
                f"frame {first + count} or one right after it does not decode ({error.strerror})",
                file=self.path,
                remedy=_REENCODE,
            ) from None

    def _rgb(self, frame: Any, number: int, reformatter: VideoReformatter, presentation: Presentation) -> Image:
        if frame.is_corrupt:
            raise InputError(f"frame {number} is damaged", file=self.path, row=number, remedy=_REENCODE)
        if (frame.width, frame.height) != self._stored:
            width, height = self._stored
            raise InputError(
                f"frame {number} has {frame.width}x{frame.height} pixels, the video {width}x{height}",
                file=self.path,
                row=number,
            )
        return rgb(frame, reformatter, presentation)

    # ------------------------------------------------------------------------------------------------- timeline

    @cached_property
    def _timeline(self) -> Timeline:
        """The timeline with presentation times, where the file tells them."""
        with self._open() as video:
            timeline = self._read_timeline(video)
        if timeline.num_frames != self.num_frames:
            raise InputError(
                f"the index lists {self.num_frames} frames, the packets hold {timeline.num_frames}", file=self.path
            )
        return timeline

    def _checked_index(self, video: _OpenVideo) -> Timeline | None:
        stream, entries = video.stream, video.stream.index_entries
        if video.size is not None and (video.lists_all_frames or 0 < stream.frames == len(entries)):
            for number, entry in enumerate(entries):
                if entry.pos + entry.size > video.size:
                    raise self._cut_off(number, len(entries))
        return timeline_of_index(stream)

    def _read_timeline(self, video: _OpenVideo) -> Timeline:
        packets = self._packets(video)
        timeline = timeline_of_packets(packets, video.stream)
        if timeline is not None:
            return timeline
        video.rewind()
        shown = [(frame.pts, frame.key_frame) for frame in self._sound(video, 0)]
        timeline = None
        if not lacks_times(video.stream) and all(pts is not None for pts, _ in shown):
            keys = [pts for pts, is_key in shown if is_key]
            timeline = timeline_of_times([pts for pts, _ in shown], keys, video.stream)
        return timeline or Timeline(len(shown), stated_rate(video.stream))

    def _packets(self, video: _OpenVideo) -> list[_PacketHead]:
        """All packets that hold something. Raises InputError where the file ends before its header says."""
        stream, end = video.stream, 0
        packets: list[_PacketHead] = []
        try:
            for packet in video.packets():
                if packet.is_corrupt:
                    raise self._cut_off(len(packets), stream.frames)
                end = max(end, (packet.pts or 0) + (packet.duration or 0))
                packets.append(_PacketHead(packet))
        except av.error.FFmpegError as error:
            raise InputError(
                f"the file is damaged after frame {len(packets)} ({error.strerror})", file=self.path, remedy=_REENCODE
            ) from None
        if len(packets) < stream.frames and not video.lists_all_frames:
            raise self._cut_off(len(packets), stream.frames)
        # Matroska has no frame count, but a duration. That of the file is the video's where nothing else is in it.
        rate, duration = stated_rate(stream) or 0, video.container.duration
        if len(video.container.streams) == 1 and duration and stream.time_base and len(packets) > 1:
            missing = (duration / av.time_base - float(end * stream.time_base)) * rate
            if missing > 2:
                raise self._cut_off(len(packets), len(packets) + round(missing))
        return packets

    def _cut_off(self, frame: int, total: int) -> InputError:
        of = f" of {total}" if total else ""
        return InputError(f"the file is cut off at frame {frame}{of}", file=self.path, row=frame, remedy=_REENCODE)

    @contextmanager
    def _open(self) -> Iterator[_OpenVideo]:
        video = _OpenVideo(self.path, self.time_limit_s)
        try:
            yield video
        finally:
            video.close()


class _PacketHead:
    """What of a packet is kept: not its data."""

    __slots__ = ("is_discard", "is_keyframe", "pts")

    def __init__(self, packet: Any) -> None:
        self.pts, self.is_keyframe, self.is_discard = packet.pts, packet.is_keyframe, packet.is_discard


class _OpenVideo:
    """An open container and its video stream.

    Attributes:
        size: bytes of the file, None where a remote store does not tell.
    """

    def __init__(self, path: Path | str, time_limit_s: float | None) -> None:
        self._path, self._time_limit_s = path, time_limit_s
        self._end = None if time_limit_s is None else time.monotonic() + time_limit_s
        self._remote: Any = None
        self.size: int | None
        if is_remote(path):
            self._remote = open_remote(str(path))
            self._source, self.size = self._remote, getattr(self._remote, "size", None)
        else:
            self._source, self.size = str(checked_local_file(path)), Path(path).stat().st_size
        self._open()

    def _open(self) -> None:
        try:
            self.container: Any = av.open(self._source, timeout=self._time_limit_s)
        except av.error.ExitError:
            raise self._too_slow() from None
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(
                f"not a video, or one that is cut off ({error.strerror})", file=self._path, remedy="Copy it again"
            ) from None
        cover = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
        streams = [stream for stream in self.container.streams.video if not stream.disposition & cover]
        if not streams:
            self.close()
            raise InputError("the file holds no video stream", file=self._path)
        self.stream: Any = streams[0]
        self.stream.codec_context.thread_count = 1
        self._is_fresh = True

    @property
    def lists_all_frames(self) -> bool:
        """Whether the index is read before the frames and is whole (mp4, mov).

        It lists fewer frames than the header counts where an edit list begins or ends at a key frame: FFmpeg leaves out
        the others.
        """
        return "mp4" in self.container.format.name and len(self.stream.index_entries) > 0

    def close(self) -> None:
        self.container.close()
        if self._remote is not None:
            self._remote.close()

    def rewind(self) -> None:
        """Go to the start. The file is opened again, because some containers (AVI) refuse to seek there."""
        if not self._is_fresh:
            self.container.close()
            if self._remote is not None:
                self._remote.seek(0)
            self._open()

    def packets(self) -> Iterator[Any]:
        """Packets from here to the end that hold something."""
        self._is_fresh = False
        return (packet for packet in self._demuxed() if packet.size)

    def decoded(self) -> Iterator[Any]:
        """Frames from here to the end."""
        self._is_fresh = False
        for packet in self._demuxed():
            yield from packet.decode()

    def seek(self, pts: int) -> bool:
        """Go to the last key frame at or before `pts`; False where what follows there starts after `pts`."""
        self._is_fresh = False
        try:
            self.container.seek(pts, stream=self.stream, backward=True)
            first = next((packet.pts for packet in self.packets()), None)
            self.container.seek(pts, stream=self.stream, backward=True)
        except (av.error.FFmpegError, OSError):
            return False
        return first is not None and first <= pts

    def _demuxed(self) -> Iterator[Any]:
        """Packets from here to the end. The last, empty one makes the decoder give out what it holds back."""
        try:
            for packet in self.container.demux(self.stream):
                if self._end is not None and time.monotonic() > self._end:
                    raise self._too_slow()
                yield packet
        except av.error.ExitError:  # PyAV ends a read that takes longer than its own limit
            raise self._too_slow() from None

    def _too_slow(self) -> InputError:
        return InputError(
            f"reading the video took more than {self._time_limit_s:g} s",
            file=self._path,
            field="video",
            remedy="Encode it anew, or raise data.video_time_limit_s where the storage is slow",
        )

"""What a reader makes of a source: a rectified stereo clip that decodes nothing until it is asked to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .camera import StereoCamera

Image = NDArray[np.uint8]


class StereoPair(NamedTuple):
    """One moment of a rectified clip.

    Attributes:
        frame: of the clip, 0-based.
        left, right: (H, W, 3) uint8 RGB; grey sources repeat their channel.
    """

    frame: int
    left: Image
    right: Image


@dataclass(eq=False)
class SourceObject:
    """An object that the source itself knows, from labels or tracks.

    Attributes:
        id: positive, unique in the clip; its value in `StereoClip.instance_mask` where the source has masks.
        category: the source's label, lower case: "car".
        centers: (T, 3) float64 in world metres (left camera of clip frame 0), NaN where the object is absent.
        points: per clip frame (N_i, 3) float32 world metres on or in the object, or None where only centres are known.
        boxes: (T, 4) float64 left, top, right, bottom in pixels of the rectified left image, NaN where absent, or None.
        is_moving: as the source says, None where it does not.
    """

    id: int
    category: str
    centers: NDArray[np.float64]
    points: list[NDArray[np.float32]] | None = None
    boxes: NDArray[np.float64] | None = None
    is_moving: bool | None = None


class StereoClip(ABC):
    """A rectified stereo clip of some source. Cheap to make, picklable; opens files when asked for frames.

    Subclasses set the attributes and override what their source has. Every convention (axes, units, order of bytes,
    names of eyes) is converted here, nowhere else: OpenCV axes, metres, world = rectified left camera of clip frame 0.

    Attributes:
        clip_id: a file name without slashes, unique in its folder.
        source: name of the data set or "user".
        license: of the clip, "" where unknown.
        path: the file or folder the clip came from, for messages.
        fps: frames per second.
        num_frames: T.
        camera: of the rectified pair.
        video: a left rectified mp4 that holds exactly these frames, None where one has to be written.
        has_frames: whether there are images at all (KITTI tracking labels alone have none).
        timestamps_s: (T,) float64 seconds from the first frame, None where the rate is all that is known.
        cam_to_world: (T, 4, 4) float64 from the source, None where it is to be estimated.
        objects: objects that the source knows, None where they are to be found.
        notes: anything worth keeping in the clip's quality record.
    """

    clip_id: str
    source: str
    license: str
    path: Path
    fps: float
    num_frames: int
    camera: StereoCamera
    video: Path | None = None
    has_frames: bool = True
    timestamps_s: NDArray[np.float64] | None = None
    cam_to_world: NDArray[np.float64] | None = None
    objects: list[SourceObject] | None = None
    notes: dict[str, Any]

    @abstractmethod
    def pairs(self, start: int = 0, stop: int | None = None) -> Iterator[StereoPair]:
        """Rectified pairs of clip frames start..stop-1 in order, one in memory at a time.

        Raises:
            InputError: naming the file and the frame that is missing or does not decode, or that the two eyes have
                different frame counts or sizes.
        """

    def disparity(self, frame: int) -> NDArray[np.float32] | None:
        """(H, W) pixels of the rectified left image, NaN where unknown; None where the source has none."""
        return None

    def depth(self, frame: int) -> NDArray[np.float32] | None:
        """(H, W) metres along the left optical axis, NaN where unknown; None where the source has none."""
        return None

    def instance_mask(self, frame: int) -> NDArray[np.int32] | None:
        """(H, W) object ids, 0 for the background; None where the source has none."""
        return None


@dataclass(frozen=True)
class ClipRef:
    """A clip that a reader has found and not opened.

    Attributes:
        clip_id: as the clip will have it.
        path: its file or folder.
        reader: name of the reader that found it.
        key: what else the reader needs to open it, JSON-able: camera, variation, range of frames.
        options: options of the reader, as the user gave them.
    """

    clip_id: str
    path: Path
    reader: str
    key: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


class Reader(ABC):
    """Finds and opens the clips of one layout.

    Attributes:
        name: as in `--reader`.
        summary: one line for lists and help.
        options: option -> one line of help; others are refused with a suggestion.
        tried_on: what real files it has been run on, "" where it knows files written by the tests only.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    options: ClassVar[dict[str, str]] = {}
    tried_on: ClassVar[str] = ""

    @abstractmethod
    def recognises(self, path: Path) -> str | None:
        """Why `path` looks like this layout, in a few words ("calib.txt and image_0, image_1"); None if it does not.

        Looks at names and at most a few small files; decodes nothing.
        """

    @abstractmethod
    def find(self, path: Path, **options: Any) -> list[ClipRef]:
        """The clips under `path` in order, unopened. Raises InputError where there are none."""

    @abstractmethod
    def open(self, ref: ClipRef) -> StereoClip:
        """Read calibration, poses and labels. Raises InputError naming file, row and field."""


def check_same_frames(left: int, right: int, path: Path) -> int:
    """The number of frames that both eyes have, refused where they differ.

    Raises:
        InputError: naming both counts.
    """
    if left != right:
        raise InputError(
            f"the left eye has {left} frames, the right one {right}",
            file=path,
            remedy="Cut both to the same frames; a dropped frame in one eye shifts every disparity after it",
        )
    return left

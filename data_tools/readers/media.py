"""The stereo clip that two sources of frames make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..stereo.camera import StereoCamera
from ..stereo.clip import Image, SourceObject, StereoClip, StereoPair, check_same_frames
from ..video import FrameSource

#: Frames per second outside these are a mistake of unit: one frame in five seconds, and the fastest cameras in use.
SLOWEST_FPS, FASTEST_FPS = 0.2, 1000.0

#: Raw left and right image -> rectified left and right image.
RectifyImages = Callable[[Image, Image], tuple[Image, Image]]


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
        if not SLOWEST_FPS <= rate <= FASTEST_FPS:
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


def check_image_size(width: int, height: int, camera: StereoCamera, path: Path | str) -> None:
    """Raise InputError where frames of a rectified source are not of the size the calibration is for."""
    if (width, height) != (camera.width, camera.height):
        raise InputError(
            f"the frames have {width}x{height} pixels, the calibration is for {camera.width}x{camera.height}",
            file=path,
            field="calibration",
            remedy="Scale the calibration with the images, or use the one that belongs to them",
        )

"""Objects of a stretch found by name with networks, moving or not; which of them move is told by their motion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..estimation.disparity import Disparity
from ..estimation.learned_objects import LearnedSegmenter, SegmentedVideo, clean_names
from ..estimation.objects import ObjectConfig
from ..estimation.odometry import Trajectory
from ..stereo.clip import Image, SourceObject, StereoClip, StereoPair
from .objects import FoundByMotion, Objects, SourceObjects

#: A named object moves where what was found to move covers this share of its pixels, in this share of its frames.
_MOVING_PIXELS, _MOVING_FRAMES = 0.3, 0.2


@dataclass(frozen=True)
class LearnedConfig:
    """Networks that find objects by name, in place of those that only their motion tells.

    Attributes:
        tracker: SAM 2 or SAM 3 video model, a folder or a name on the Hugging Face Hub; empty uses no network.
        detector: Grounding DINO, the same; empty with SAM 3, which needs none.
        names: what to look for, such as ["car", "person"].
        device: "cpu", "cuda", "cuda:1", ...; each worker loads the models there.
        keyframe_every: frames between looks for new objects.
        min_score: of a detection, 0 to 1.
        max_overlap: intersection over union from which two detections are one object.
    """

    tracker: str = ""
    detector: str = ""
    names: tuple[str, ...] = ()
    device: str = "cpu"
    keyframe_every: int = 15
    min_score: float = 0.3
    max_overlap: float = 0.5

    def __post_init__(self) -> None:
        if self.tracker:
            try:
                clean_names(self.names)
            except InputError as error:
                raise InputError(error.problem, field="learned.names", remedy=error.remedy) from None
        elif self.detector or self.names:
            raise InputError("is empty", field="learned.tracker", remedy="Name a SAM 2 or SAM 3 video model")

    @property
    def is_on(self) -> bool:
        """Whether networks are used."""
        return bool(self.tracker)

    def deciding(self) -> dict[str, Any]:
        """The settings that results depend on; nothing where no network is used."""
        return {name: value for name, value in asdict(self).items() if name != "device"} if self.is_on else {}


@lru_cache(maxsize=1)
def load_segmenter(config: LearnedConfig) -> LearnedSegmenter:
    """The models of `config`, loaded once per process.

    Raises:
        InputError: a package or the weights are missing, or a setting is out of range.
    """
    return _load(config)


def _load(config: LearnedConfig) -> LearnedSegmenter:
    try:
        return LearnedSegmenter(
            config.detector,
            config.tracker,
            config.device,
            keyframe_every=config.keyframe_every,
            min_score=config.min_score,
            max_overlap=config.max_overlap,
        )
    except InputError as error:
        raise InputError(error.problem, file=error.file, field=f"learned.{error.field}", remedy=error.remedy) from None


def check_learned(config: LearnedConfig) -> None:
    """Load the models once on the CPU and let them go, so that what is missing is told before the first clip.

    Raises:
        InputError: of `load_segmenter`.
    """
    _load(replace(config, device="cpu"))


class FoundByName(SourceObjects):
    """Objects that networks find by name on the left images.

    Points and colours are those of the masks' pixels. What moves is found as without networks, by motion that the
    camera does not explain, and a named object moves where the two cover each other; what moves and has none of the
    names is left out.

    Args:
        view: the stretch.
        frames: (T, H, W, 3) uint8 RGB, its left images.
        segmenter: see `load_segmenter`.
        names: to look for.
        config: of what moves.
        keep_masks: keep the masks in what is found.
    """

    def __init__(
        self,
        view: StereoClip,
        frames: Sequence[Image] | NDArray[np.uint8],
        segmenter: LearnedSegmenter,
        names: Sequence[str],
        config: ObjectConfig,
        keep_masks: bool,
    ) -> None:
        video = segmenter.segment(frames, names)
        unknown = np.full((view.num_frames, 3), np.nan)
        objects = [SourceObject(number, name, unknown) for number, name in video.names.items()]
        super().__init__(_WithMasks(view, video), objects, keep_masks)
        self._video = video
        self._moving = FoundByMotion(view, config, keep_masks=True)

    def add(self, frame: int, left: Image, disparity: Disparity) -> None:
        super().add(frame, left, disparity)
        self._moving.add(frame, left, disparity)

    def finish(self, trajectory: Trajectory) -> Objects:
        moving = self._moving.finish(trajectory)
        assert moving.masks is not None, "they were to be kept"
        named = super().finish(trajectory)
        tracks = [replace(track, is_moving=self._moves(track.id, moving.masks)) for track in named.tracks]
        return replace(named, tracks=tracks, origin="estimate")

    def _moves(self, number: int, moving: NDArray[np.uint8]) -> bool:
        """Whether an object is covered by what moves (T, h, w), at a whole fraction of the image size."""
        height, width = moving.shape[1:]
        rows = ((np.arange(height) + 0.5) * self._video.masks.shape[1] / height).astype(int)
        columns = ((np.arange(width) + 0.5) * self._video.masks.shape[2] / width).astype(int)
        inside = self._video.masks[:, rows[:, None], columns[None]] == number
        seen = inside.sum(axis=(1, 2))
        covered = (inside & (moving > 0)).sum(axis=(1, 2))
        moves = covered >= np.maximum(1, _MOVING_PIXELS * seen)
        return bool(moves.sum() >= max(1, _MOVING_FRAMES * (seen > 0).sum()))


class _WithMasks(StereoClip):
    """A clip with masks of its own."""

    def __init__(self, view: StereoClip, video: SegmentedVideo) -> None:
        self.__dict__.update(view.__dict__)
        self._view, self._masks = view, video.masks

    def pairs(self, start: int = 0, stop: int | None = None) -> Iterator[StereoPair]:
        return self._view.pairs(start, stop)

    def instance_mask(self, frame: int) -> NDArray[np.int32]:
        return self._masks[frame].astype(np.int32)

"""What phrasing needs to know of clips, without their points: written down in the first pass, read in the second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..st_cot.sights import Sights, sights_of
from .geometry import ClipGeometry, Ints

_Texts = NDArray[np.str_]
_SIGHTS = "sights_"


@dataclass(frozen=True)
class ClipFacts:
    """C clips with O objects in all, those of a clip next to each other.

    Attributes:
        numbers: (C,) of the clips, as candidates name them.
        clip_ids, videos: (C,) of the clips.
        clip_frames: (C, F) the sampled frames, indices into the clip.
        num_objects: (C,) of each clip.
        object_ids, descriptions: (O,) of the objects.
        sights: of the same clips and objects in the sampled frames.
    """

    numbers: Ints
    clip_ids: _Texts
    videos: _Texts
    clip_frames: Ints
    num_objects: Ints
    object_ids: Ints
    descriptions: _Texts
    sights: Sights

    @classmethod
    def of(cls, geometry: ClipGeometry, number: int) -> ClipFacts:
        """Of one clip, whose number is given."""
        clip, frames = geometry.clip, geometry.clip_frames
        return cls(
            numbers=np.array([number]),
            clip_ids=np.array([clip.clip_id]),
            videos=np.array([clip.video]),
            clip_frames=frames[None],
            num_objects=np.array([len(clip.objects)]),
            object_ids=np.array([track.id for track in clip.objects], np.int64),
            descriptions=np.array([track.description for track in clip.objects], np.str_),
            sights=sights_of(clip, frames.tolist(), geometry.nearest_m, geometry.object_centers),
        )

    @classmethod
    def join(cls, parts: Sequence[ClipFacts]) -> ClipFacts:
        """Of several clips, at least one."""
        own = [item.name for item in fields(cls) if item.name != "sights"]
        values: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in own}
        return cls(**values, sights=Sights.join([part.sights for part in parts]))

    def arrays(self) -> dict[str, np.ndarray]:
        """For a file: `from_arrays` gives the same facts back."""
        own = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "sights"}
        return own | {_SIGHTS + item.name: getattr(self.sights, item.name) for item in fields(Sights)}

    @classmethod
    def from_arrays(cls, arrays: Any) -> ClipFacts:
        """Of a mapping, such as an open npz file, that holds those of `arrays`."""
        own = {item.name: arrays[item.name] for item in fields(cls) if item.name != "sights"}
        return cls(**own, sights=Sights(*(arrays[_SIGHTS + item.name] for item in fields(Sights))))

    def places_of(self, numbers: Ints) -> Ints:
        """(N,) places of clips by their numbers."""
        order = np.argsort(self.numbers)
        places: Ints = order[np.searchsorted(self.numbers, numbers, sorter=order)]
        return places

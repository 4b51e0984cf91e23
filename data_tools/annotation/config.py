"""Settings of the annotation: one tree of dataclasses, from YAML and from `key=value`, with suggestions for slips."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..errors import InputError
from ..estimation.disparity import DisparityConfig
from ..estimation.objects import ObjectConfig
from ..estimation.odometry import OdometryConfig
from ..stereo.alignment import AlignmentLimits
from ..typed_values import fit_value
from .learned import LearnedConfig
from .naming import NamingConfig
from .quality import QualityLimits

#: Raised when the same clip and settings start to give other numbers, so that no folder is finished with them.
ANNOTATION_VERSION = 1

Origin = Literal["auto", "source", "estimate"]

_Config = TypeVar("_Config")


@dataclass(frozen=True)
class FrameConfig:
    """Which frames of a clip are annotated.

    Attributes:
        stride: every so many frames of the source; 1 takes all.
        max_frames: longer shots are cut into pieces of at most so many frames, which bounds the memory: a piece is held
            at once, 8 bytes per pixel and frame.
        min_frames: shorter shots are kept out.
        split_cuts: give every shot of a clip a record of its own; off where a source is known to hold no cuts.
    """

    stride: int = 1
    max_frames: int = 256
    min_frames: int = 8
    split_cuts: bool = True

    def __post_init__(self) -> None:
        for name, least in (("stride", 1), ("min_frames", 2), ("max_frames", 2)):
            if getattr(self, name) < least:
                raise InputError(f"must be at least {least}, got {getattr(self, name)}", field=f"frames.{name}")
        if self.max_frames < self.min_frames:
            raise InputError(
                f"is {self.max_frames}, below frames.min_frames {self.min_frames}", field="frames.max_frames"
            )


@dataclass(frozen=True)
class OriginConfig:
    """Where the parts of a record come from: `source`, `estimate`, or `auto`, the source where it has them.

    Attributes:
        poses: of the camera.
        depth: of every pixel.
        objects: with identities; estimated ones are those that move.
    """

    poses: Origin = "auto"
    depth: Origin = "auto"
    objects: Origin = "auto"


@dataclass(frozen=True)
class RunConfig:
    """How clips are handed to processes. Changes no result, so it may differ between runs into one folder.

    Attributes:
        seconds_to_open: time a clip has until its frames are reached; a reader that hangs is stopped after it.
        seconds_per_frame: time it then has for each frame of the source.
        clips_per_worker: a process is replaced after so many clips, so that what a decoder leaks does not add up.
    """

    seconds_to_open: float = 60.0
    seconds_per_frame: float = 3.0
    clips_per_worker: int = 200

    def __post_init__(self) -> None:
        for item in fields(self):
            if not getattr(self, item.name) > 0:
                raise InputError(f"must be above 0, got {getattr(self, item.name)}", field=f"run.{item.name}")


@dataclass(frozen=True)
class AnnotateConfig:
    """Everything that decides what becomes of a stereo clip.

    Attributes:
        write_masks: also write masks and depth, `masks/<clip>.npz`, for pictures and checks; far larger than the rest.
        origin, frames, alignment, disparity, odometry, objects, learned, naming, quality, run: see there.
    """

    write_masks: bool = False
    origin: OriginConfig = field(default_factory=OriginConfig)
    frames: FrameConfig = field(default_factory=FrameConfig)
    alignment: AlignmentLimits = field(default_factory=AlignmentLimits)
    disparity: DisparityConfig = field(default_factory=DisparityConfig)
    odometry: OdometryConfig = field(default_factory=OdometryConfig)
    objects: ObjectConfig = field(default_factory=ObjectConfig)
    learned: LearnedConfig = field(default_factory=LearnedConfig)
    naming: NamingConfig = field(default_factory=NamingConfig)
    quality: QualityLimits = field(default_factory=QualityLimits)
    run: RunConfig = field(default_factory=RunConfig)

    def to_dict(self) -> dict[str, Any]:
        """Nested dict of plain values, as YAML and JSON have it."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    def deciding(self) -> dict[str, Any]:
        """The settings that results depend on."""
        plain = {name: value for name, value in self.to_dict().items() if name != "run"}
        del plain["learned"]  # so that folders from before there were networks can be finished
        learned = {"learned": self.learned.deciding()} if self.learned.is_on else {}
        return {**plain, **learned, "naming": self.naming.deciding()}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the version and of all settings that results depend on."""
        text = json.dumps([ANNOTATION_VERSION, self.deciding()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def load_config(file: str | os.PathLike[str] | None = None, changes: Mapping[str, Any] | None = None) -> AnnotateConfig:
    """Defaults, changed by a YAML file, changed by dotted keys.

    Args:
        file: YAML with any part of the tree, as `dump_config` writes it.
        changes: such as {"quality.min_valid_depth": 0.2}.

    Raises:
        InputError: naming the key that is unknown (with the nearest known one) or whose value does not fit.
    """
    config = AnnotateConfig()
    if file is not None:
        config = _changed(config, _read_yaml(Path(file)), "", file)
    return _changed(config, _nested(changes or {}), "", None)


def _nested(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as groups: settings that need one another, an address and a model, are changed together."""
    nested: dict[str, Any] = {}
    for key, value in changes.items():
        *groups, leaf = key.split(".")
        place = nested
        for group in groups:
            if not isinstance(place.get(group), dict):
                place[group] = {}
            place = place[group]
        if isinstance(value, Mapping) and isinstance(place.get(leaf), dict):
            place[leaf].update(value)
        else:
            place[leaf] = dict(value) if isinstance(value, Mapping) else value
    return nested


def dump_config(config: AnnotateConfig) -> str:
    """The whole tree as YAML, in the order of definition."""
    import yaml  # type: ignore[import-untyped]

    return yaml.safe_dump(config.to_dict(), sort_keys=False)


def _read_yaml(file: Path) -> Mapping[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", file=file) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"not YAML ({error})", file=file) from None
    return {} if found is None else found


def _changed(config: _Config, changes: Any, prefix: str, file: str | os.PathLike[str] | None) -> _Config:
    if not isinstance(changes, Mapping):
        known = ", ".join(item.name for item in fields(config))  # type: ignore[arg-type]
        raise InputError(
            f"is a group of settings, not a value: got {changes!r}",
            file=file,
            field=prefix.rstrip(".") or None,
            remedy=f"Known in it: {known}",
        )
    hints = typing.get_type_hints(type(config))
    new: dict[str, Any] = {}
    for key, value in changes.items():
        name = f"{prefix}{key}"
        if key not in hints:
            raise InputError("unknown setting", file=file, field=name, remedy=_suggestion(name, prefix, hints))
        old = getattr(config, key)
        if is_dataclass(old):
            new[key] = _changed(old, value, f"{name}.", file)
        else:
            new[key] = fit_value(value, hints[key], name, file)
    try:
        return replace(config, **new)  # type: ignore[type-var]
    except InputError as error:
        raise InputError(error.problem, file=file, row=error.row, field=error.field, remedy=error.remedy) from None


def _suggestion(name: str, prefix: str, hints: Mapping[str, Any]) -> str:
    siblings = [f"{prefix}{key}" for key in hints]
    everything = _all_keys(AnnotateConfig(), "")
    leaf = name.rpartition(".")[2]
    by_leaf = {key.rpartition(".")[2]: key for key in reversed(everything)}
    # the right name in the wrong group, or without one, before a name that looks like it
    near = [by_leaf[leaf]] if leaf in by_leaf else difflib.get_close_matches(name, [*siblings, *everything], 1)
    near = near or [by_leaf[key] for key in difflib.get_close_matches(leaf, by_leaf, 1)]
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(siblings)}"


def _all_keys(config: Any, prefix: str) -> list[str]:
    keys: list[str] = []
    for item in fields(config):
        value = getattr(config, item.name)
        keys += _all_keys(value, f"{prefix}{item.name}.") if is_dataclass(value) else [f"{prefix}{item.name}"]
    return keys

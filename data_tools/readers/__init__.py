"""Stereo sources: one file per layout, each turning what is on disk into a `StereoClip`.

`find_reader` gives a reader by name, `recognise` the one that fits a folder, `describe_readers` lists them.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError
from ..stereo.clip import ClipRef, Reader, StereoClip

# name: module:class, imported when asked for. The order is that of `recognise`: the more particular layout first.
# `pair` comes last: most data sets also hold something named left and right.
READERS: dict[str, str] = {
    "zed": ".zed:ZedReader",
    "foundation_stereo": ".foundation_stereo:FoundationStereoReader",
    "stereo4d": ".stereo4d:Stereo4dReader",
    "virtual_kitti": ".virtual_kitti:VirtualKittiReader",
    "dynamic_replica": ".dynamic_replica:DynamicReplicaReader",
    "tartanair": ".tartanair:TartanAirReader",
    "spring": ".spring:SpringReader",
    "sintel": ".sintel:SintelReader",
    "kitti_tracking": ".kitti_tracking:KittiTrackingReader",
    "kitti_odometry": ".kitti_odometry:KittiOdometryReader",
    "vr180": ".vr180:Vr180Reader",
    "packed": ".packed:PackedReader",
    "pair": ".pair:PairReader",
}


class ReaderInfo(NamedTuple):
    """What a list of readers says of each.

    Attributes:
        name: as in `--reader`.
        summary: one line.
        options: option -> one line of help.
        tried_on: the real files it has been run on, "" where it knows files written by the tests only.
    """

    name: str
    summary: str
    options: dict[str, str]
    tried_on: str


class Recognised(NamedTuple):
    """The reader that fits a folder, and what it was told by."""

    reader: Reader
    reason: str


def find_reader(name: str) -> Reader:
    """The reader of that name. Raises InputError with a suggestion and the list where there is none."""
    if name not in READERS:
        import difflib

        near = difflib.get_close_matches(name, READERS, 1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise InputError(
            f"unknown reader {name!r}", field="--reader", remedy=f"{hint}Known: auto, {', '.join(READERS)}"
        )
    module, _, attribute = READERS[name].partition(":")
    reader: Reader = getattr(importlib.import_module(module, __name__), attribute)()
    return reader


def describe_readers() -> list[ReaderInfo]:
    """All readers, in the order in which `recognise` asks them."""
    readers = (find_reader(name) for name in READERS)
    return [ReaderInfo(reader.name, reader.summary, dict(reader.options), reader.tried_on) for reader in readers]


def recognise(path: Path) -> Recognised:
    """The first reader that says it knows `path`, and why. Raises InputError where none does."""
    if not path.exists():
        raise InputError("the path does not exist", file=path)
    for name in READERS:
        reader = find_reader(name)
        reason = reader.recognises(path)
        if reason:
            return Recognised(reader, reason)
    raise InputError(
        "no reader recognises this folder", file=path, remedy=f"Name one with --reader: {', '.join(READERS)}"
    )


def open_clip(ref: ClipRef) -> StereoClip:
    """Open what a reader has found. Raises InputError naming file, row and field."""
    return find_reader(ref.reader).open(ref)

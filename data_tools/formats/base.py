"""What a format is: a name, how it is recognised, how it is read and written row by row, and what it cannot hold."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from ..released import DEFAULT_NUM_FRAMES
from ..schema import QARow

PathLike = str | os.PathLike[str]
Messages = list[dict[str, str]]
#: (file, row number in it, row)
PlacedRow = tuple[str, int, QARow]
Losses = tuple[str, ...]


@dataclass(frozen=True)
class Options:
    """What readers and writers may be told.

    Attributes:
        num_frames: frames sampled per video, where a file does not say.
        on_error: called with the error of a row that cannot be read, which is then left out; None raises it.
        check: hold rows that are read against the contract of QARow; False is for checks of one's own.
        keep_chat: give rows their chat in `meta["messages"]` even where they were written without.
        render: row -> chat turns, for formats that hold a rendered prompt; None takes the row's own chat or a plain
            request.
        sources: clip_id -> (source, licence), for formats that name them.
        title: of the set, for formats that have one.
    """

    num_frames: int = DEFAULT_NUM_FRAMES
    on_error: Callable[[InputError], None] | None = None
    check: bool = True
    keep_chat: bool = False
    render: Callable[[QARow], Messages] | None = None
    sources: dict[str, tuple[str, str]] = field(default_factory=dict)
    title: str | None = None


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: as `--to` and `--from` take it.
        holds: one sentence.
        losses: what does not come back from it, one sentence each; empty where a round trip is lossless.
        suffixes: of its files; empty for a folder.
        matches: whether the path is of this format, by its content.
        read: (path, options) -> rows with their place.
        write: (path, rows, options); atomic.
    """

    name: str
    holds: str
    losses: Losses
    suffixes: tuple[str, ...]
    matches: Callable[[Path], bool]
    read: Callable[[Path, Options], Iterator[PlacedRow]]
    write: Callable[[Path, Iterable[QARow], Options], None]

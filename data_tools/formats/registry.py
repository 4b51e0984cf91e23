"""All formats by name, which of them a path is, and rows from one to another."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .. import released
from ..errors import InputError
from ..schema import QARow
from . import conversations, hf_folder, qa, swift_rft, verl_rows
from .base import Format, Options, PathLike

FORMATS: dict[str, Format] = {
    item.name: item for item in (qa.FORMAT, verl_rows.FORMAT, swift_rft.FORMAT, conversations.FORMAT, hf_folder.FORMAT)
}
AUTO = "auto"


def find_format(name: str, field: str = "--to") -> Format:
    """The format of that name.

    Raises:
        InputError: unknown, with the nearest name.
    """
    if name in FORMATS:
        return FORMATS[name]
    near = difflib.get_close_matches(name.lower(), FORMATS, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise InputError(f"unknown format {name!r}", field=field, remedy=f"{hint}Choose from {', '.join(FORMATS)}")


def detect(path: PathLike) -> Format:
    """The format of a file or folder, from its columns or first record.

    Raises:
        InputError: missing, unreadable, empty, or of no known format.
    """
    path = Path(path)
    if not path.exists():
        raise InputError("the file does not exist", file=path)
    for item in FORMATS.values():
        if path.is_dir() == (not item.suffixes) and item.matches(path):
            return item
    raise InputError(
        "neither of the known formats",
        file=path,
        remedy="Known are " + "; ".join(f"{item.name} ({item.holds.split(':')[0]})" for item in FORMATS.values()),
    )


def convert(
    source: PathLike,
    target: PathLike,
    to: str,
    origin: str = AUTO,
    options: Options | None = None,
    media_root: PathLike | None = None,
) -> Counter[str]:
    """Write the rows of `source` at `target` in another format, row by row; returns rows per split.

    Video paths that lead to a file are rewritten to start from the new place.

    Args:
        to, origin: names of formats; `auto` looks.
        media_root: folder that the paths of `source` start from; None takes its own.

    Raises:
        InputError: unknown format, a wrong suffix, or a bad row while `options.on_error` is None.
    """
    source, target, options = Path(source), Path(target), options or Options()
    reader = detect(source) if origin == AUTO else find_format(origin, "--from")
    writer = find_format(to)
    if writer.suffixes and target.suffix not in writer.suffixes:
        remedy = f"Let the name end in {' or '.join(writer.suffixes)}"
        raise InputError(f"{writer.name} files have another ending", file=target, field="OUT", remedy=remedy)
    if target.resolve() == source.resolve():
        raise InputError("IN and OUT are the same", file=target, field="OUT", remedy="Choose another name")
    counts: Counter[str] = Counter()
    old = Path(media_root) if media_root is not None else source if source.is_dir() else source.parent
    new = target.parent if writer.suffixes else target
    moved: dict[str, str] = {}

    def rows() -> Iterator[QARow]:
        for _, _, row in reader.read(source, options):
            # many rows share a clip, and looking for a file costs more than the rest
            if row.video not in moved:
                moved[row.video] = released.rebase_video(row.video, old, new)
            row.video = moved[row.video]
            counts[row.split] += 1
            yield row

    writer.write(target, rows(), options)
    return counts

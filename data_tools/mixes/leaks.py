"""Videos that a training set has in common with a benchmark: by clip, by name, by file, by what they show."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from ..errors import InputError
from ..formats.qa import iter_batches
from .copying import qa_files
from .near_duplicates import Progress, hash_videos, similar_pairs

#: Names that say what a file is for, or count: of these, the folder's name is the clip's.
_GENERIC = re.compile(r"(left|right|video|rgb|image|color|colour|clip|frames?|cam(era)?)?[-_ ]?\d*")
_ENDING = re.compile(r"\.[a-zA-Z][a-zA-Z0-9]{1,4}$")


@dataclass(frozen=True)
class VideoUse:
    """A video that a set asks about.

    Attributes:
        clip: id of the clip, or "" where the set has none.
        video: path or address as the set has it.
        path: the file, where it is here.
    """

    clip: str
    video: str
    path: Path | None = None


@dataclass(frozen=True)
class Leak:
    """A video of the training set that a benchmark has too.

    Attributes:
        how: "clip" (same id), "name" (same name of the video; a suspicion), "file" (same bytes), or "looks" (hashes of
            frames that differ in few bits, see near_duplicates.py).
        train, bench: as the sets have them.
        detail: the id, the name, the SHA-256, or the mean of differing bits.
    """

    how: str
    train: str
    bench: str
    detail: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def read_videos(path: str | Path) -> list[VideoUse]:
    """Videos of a question file, or of train, val and test of a folder, each once.

    Raises:
        InputError: broken files.
    """
    uses: dict[tuple[str, str], VideoUse] = {}
    for file in qa_files(Path(path)):
        for batch in iter_batches(file):
            for clip, video in zip(batch.column("clip_id").to_pylist(), batch.column("video").to_pylist(), strict=True):
                if (clip, video) not in uses:
                    there = file.parent / video
                    uses[clip, video] = VideoUse(clip, video, there if there.is_file() else None)
    return list(uses.values())


def place_videos(uses: Iterable[VideoUse], folder: str | Path) -> list[VideoUse]:
    """The same, with files of `folder` for videos that were not here: by the end of their path, as much as fits.

    Raises:
        InputError: the folder does not exist.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("the folder does not exist", file=folder)
    by_name = defaultdict(list)
    for file in folder.rglob("*"):
        if file.is_file():
            by_name[file.name].append(file)

    def find(video: str) -> Path | None:
        parts = _parts(video)
        found = by_name.get(parts[-1], []) if parts else []

        def shared(file: Path) -> int:
            ends = zip(reversed(file.parts), reversed(parts), strict=False)
            return next((count for count, (own, other) in enumerate(ends) if own != other), len(parts))

        best = sorted(found, key=lambda file: (-shared(file), file))
        is_clear = len(best) == 1 or (len(best) > 1 and shared(best[0]) > shared(best[1]))
        return best[0] if is_clear else None

    return [use if use.path else VideoUse(use.clip, use.video, find(use.video)) for use in uses]


def find_leaks(
    train: Sequence[VideoUse], bench: Sequence[VideoUse], *, workers: int = 1, progress: Progress | None = None
) -> list[Leak]:
    """Every way in which a video of `train` is one of `bench`, the surest first for each pair.

    Files are compared where they are here; sets without any are compared by clip and name alone.

    Raises:
        InputError: a video that is here cannot be read.
    """
    leaks = [*_by_key("clip", train, bench, lambda use: use.clip), *_by_file(train, bench)]
    same = {(leak.train, leak.bench) for leak in leaks}
    looks = [leak for leak in _by_looks(train, bench, workers, progress) if (leak.train, leak.bench) not in same]
    same |= {(leak.train, leak.bench) for leak in looks}
    names = _by_key("name", train, bench, lambda use: video_name(use.video))
    return [*leaks, *looks, *(leak for leak in names if (leak.train, leak.bench) not in same)]


def video_name(video: str) -> str:
    """What a video is called: its file's name without the ending; its folder's where that is "left" or a number.

    The name with its folder would miss copies that were moved: DAVIS's bmx-trees.mp4 is known by that wherever it lies.
    """
    parts = [part for part in _parts(video) if part not in ("/", "..", ".")]
    if not parts:
        return ""
    names = [_ENDING.sub("", parts[-1]), *parts[-2:-1]]
    return next((name.casefold() for name in names if not _GENERIC.fullmatch(name.casefold())), "")


def _parts(video: str) -> tuple[str, ...]:
    return PurePosixPath(urlsplit(video).path if "://" in video else video.replace("\\", "/")).parts


def _by_key(how: str, train: Sequence[VideoUse], bench: Sequence[VideoUse], key: Any) -> list[Leak]:
    known = defaultdict(list)
    for use in bench:
        if key(use):
            known[key(use)].append(use)
    return [Leak(how, use.video, other.video, key(use)) for use in train for other in known.get(key(use), ())]


def _by_file(train: Sequence[VideoUse], bench: Sequence[VideoUse]) -> list[Leak]:
    sizes = defaultdict(list)
    for use in bench:
        if use.path:
            sizes[use.path.stat().st_size].append(use)
    digests: dict[Path, str] = {}

    def digest(path: Path) -> str:
        if path not in digests:
            known = hashlib.sha256()
            with path.open("rb") as file:
                while piece := file.read(1 << 20):
                    known.update(piece)
            digests[path] = known.hexdigest()
        return digests[path]

    leaks = []
    for use in train:
        for other in sizes.get(use.path.stat().st_size, ()) if use.path else ():
            if other.path and digest(use.path) == digest(other.path):  # type: ignore[arg-type]
                leaks.append(Leak("file", use.video, other.video, digest(other.path)))
    return leaks


def _by_looks(
    train: Sequence[VideoUse], bench: Sequence[VideoUse], workers: int, progress: Progress | None
) -> list[Leak]:
    here = [[use for use in uses if use.path] for uses in (train, bench)]
    if not all(here):
        return []
    paths = [use.path for uses in here for use in uses if use.path]
    hashes = hash_videos(paths, workers, progress)
    pairs = similar_pairs(hashes[: len(here[0])], hashes[len(here[0]) :])
    return [Leak("looks", here[0][m].video, here[1][n].video, f"{bits} bits") for m, n, bits in pairs]

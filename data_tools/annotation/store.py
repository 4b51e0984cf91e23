"""The folder an annotation writes: what it was made with, what became of each clip, who is writing into it."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..atomic import atomic_path
from ..errors import InputError
from .config import ANNOTATION_VERSION, AnnotateConfig
from .quality import Reason

NOTE_NAME = "annotate.json"
REJECTED_NAME = "rejected.jsonl"
QUARANTINE_NAME = "quarantine.jsonl"

#: Kinds of failure, as `quarantine.jsonl` has them.
BAD_INPUT, TIMEOUT, CRASH, MEMORY, DISK, ERROR = "bad input", "timeout", "crash", "out of memory", "disk", "error"


@dataclass(frozen=True)
class Outcome:
    """What became of one stretch of a clip.

    Attributes:
        clip_id: of the record, `<clip>` or `<clip>_s<number>` where the clip was split.
        frames: first frame of the source, the one after the last, and the step between two.
        figures: quality figures that were measured.
        reasons: why it was kept out; empty where `clip4d/<clip_id>.npz` was written.
    """

    clip_id: str
    frames: tuple[int, int, int]
    figures: dict[str, Any]
    reasons: tuple[Reason, ...] = ()

    @property
    def is_kept(self) -> bool:
        """Whether a Clip4D was written."""
        return not self.reasons


@dataclass(frozen=True)
class Status:
    """What became of one clip of the source: its outcomes, or the failure that quarantined it.

    Attributes:
        clip_id, reader: as the reader found it.
        path: relative to the annotated folder.
        num_frames: of the source; 0 where it was not opened.
        outcomes: one per stretch.
        failure: {"kind": ..., "text": ...}, None where the clip was annotated.
    """

    clip_id: str
    reader: str
    path: str
    num_frames: int = 0
    outcomes: tuple[Outcome, ...] = ()
    failure: dict[str, str] | None = None

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Status:
        """The inverse of `asdict`, from JSON."""
        outcomes = tuple(
            Outcome(
                clip_id=item["clip_id"],
                frames=tuple(item["frames"]),
                figures=item["figures"],
                reasons=tuple(Reason(**reason) for reason in item["reasons"]),
            )
            for item in record["outcomes"]
        )
        return cls(**{**record, "outcomes": outcomes})


@dataclass(frozen=True)
class AnnotationFolder:
    """Paths and records under `root`.

    Every file appears whole or not at all. `status/<clip>.json` is written last and marks a clip as finished; the lists
    of rejected and quarantined clips are made from those files, so a killed run loses none.
    """

    root: Path

    @property
    def clips(self) -> Path:
        """Folder of the Clip4D records and their index."""
        return self.root / "clip4d"

    @property
    def videos(self) -> Path:
        """Folder of the left videos that had to be written."""
        return self.root / "videos"

    @property
    def masks(self) -> Path:
        """Folder of masks and depth, where asked for."""
        return self.root / "masks"

    @property
    def names(self) -> Path:
        """Folder of an endpoint's replies, where asked for."""
        return self.root / "names"

    def status_path(self, clip_id: str) -> Path:
        """`status/<clip>.json`."""
        return self.root / "status" / f"{clip_id}.json"

    def read_status(self, clip_id: str) -> Status | None:
        """What became of a clip; None where it is not finished or its file does not read."""
        try:
            return Status.from_dict(json.loads(self.status_path(clip_id).read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def write_status(self, status: Status) -> None:
        """Mark a clip as finished. Raises OSError where the disk is full."""
        with atomic_path(self.status_path(status.clip_id)) as temporary:
            temporary.write_text(_json(asdict(status)) + "\n", encoding="utf-8")

    def all_status(self) -> Iterator[Status]:
        """Of every finished clip, by name."""
        for path in sorted((self.root / "status").glob("[!.]*.json")):
            status = self.read_status(path.stem)
            if status is not None:
                yield status

    def write_lists(self) -> None:
        """`rejected.jsonl` and `quarantine.jsonl` from the status files."""
        rejected, quarantine = [], []
        for status in self.all_status():
            place = {"clip": status.clip_id, "path": status.path}
            if status.failure:
                quarantine.append(_json({**place, **status.failure}))
            rejected += [_json({**place, **asdict(outcome)}) for outcome in status.outcomes if not outcome.is_kept]
        for name, lines in ((REJECTED_NAME, rejected), (QUARANTINE_NAME, quarantine)):
            with atomic_path(self.root / name) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def read_note(self) -> dict[str, Any] | None:
        """What the folder was made with, None where it was not annotated.

        Raises:
            InputError: `annotate.json` does not read.
        """
        file = self.root / NOTE_NAME
        if not file.is_file():
            return None
        try:
            note: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"not JSON ({error})", file=file, remedy="Delete the folder and start again") from None
        return note

    def claim(self, source: Path, reader: str, options: dict[str, Any], config: AnnotateConfig) -> None:
        """Note what makes this folder, or refuse one that was made otherwise.

        Raises:
            InputError: naming the settings that differ.
        """
        note = {
            "version": ANNOTATION_VERSION,
            "source": os.path.relpath(source, self.root),
            "reader": reader,
            "options": options,
            "config": config.deciding(),
        }
        note = json.loads(_json(note))
        file = self.root / NOTE_NAME
        found = self.read_note()
        if found is None:
            with atomic_path(file) as temporary:
                temporary.write_text(json.dumps(note, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            return
        different = sorted(_differences(note, found))
        if different:
            raise InputError(
                f"the folder was annotated with another {', '.join(different)}",
                file=file,
                remedy="Choose another folder, or delete this one",
            )

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder for one run, and clear what a killed one has left behind.

        Raises:
            InputError: another run is writing into it.
        """
        import fcntl

        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError("another run is writing into this folder", file=self.root) from None
            except OSError:  # file systems without locks: nothing to hold, and nothing to say
                pass
            self.clear_leftovers()
            yield

    def remove_clip(self, clip_id: str) -> None:
        """Delete what a failed clip has left: records, videos and masks of its stretches."""
        for folder in (self.clips, self.videos, self.masks):
            for path in folder.glob(f"{glob.escape(clip_id)}*"):
                if re.fullmatch(r"(_s\d+)?\.\w+", path.name[len(clip_id) :]):
                    path.unlink(missing_ok=True)

    def clear_leftovers(self, process: int | None = None) -> None:
        """Delete temporary files of processes that were killed while writing: of all, or of one by its id."""
        pattern = ".*.tmp*" if process is None else f".*.{process}.tmp*"
        for folder in (self.root, self.clips, self.videos, self.masks, self.names, self.root / "status"):
            for path in folder.glob(pattern):
                path.unlink(missing_ok=True)


def _differences(note: Any, found: Any, prefix: str = "") -> Iterable[str]:
    if not (isinstance(note, dict) and isinstance(found, dict)):
        return [prefix] if note != found else []
    return [
        name
        for key in note.keys() | found.keys()
        for name in _differences(note.get(key), found.get(key), f"{prefix}.{key}" if prefix else key)
    ]


def _json(record: Any) -> str:
    return json.dumps(record, sort_keys=True, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return value.tolist()
    raise TypeError(f"{type(value).__name__} does not go into JSON")

"""Question rows split anew, so that what belongs together (a clip, a source, near-duplicates) lies in one split."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..atomic import atomic_path
from ..errors import InputError
from ..formats.qa import iter_batches
from ..questions.selection import split_clips
from ..schema import QA_SCHEMA, SPLITS
from .copying import moved_videos, qa_files

BY = ("clip", "source")
_SPLIT = QA_SCHEMA.get_field_index("split")


@dataclass(frozen=True)
class Resplit:
    """What was written: per split the rows, clips, and groups of clips that stay together."""

    rows: dict[str, int]
    clips: dict[str, int]
    groups: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dict(self.__dict__)


def split_rows(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    by: str = "clip",
    groups: Mapping[str, str] | None = None,
    val_fraction: float = 0.02,
    test_fraction: float = 0.05,
    seed: int = 0,
) -> Resplit:
    """Write `out`/{train,val,test}.parquet from question files, rows in their order, whatever their split was.

    Args:
        sources: files, or folders of train, val and test.
        out: folder.
        by: "clip"; or "source", as `meta` of the rows says: then whole sources are held out.
        groups: clip id -> name of a group that must not be parted, such as near-duplicates (near_duplicates.py); a clip
            that is not in it is a group of its own. With `by` "source", sources that share a group stay together too.
        val_fraction, test_fraction: of the groups.
        seed: which groups.

    Raises:
        InputError: broken files, rows without a source where sources are asked for, or no group is left for training.
    """
    out = Path(out)
    if by not in BY:
        raise InputError(f"must be one of {', '.join(BY)}, got {by!r}", field="--by")
    files = [file for source in sources for file in qa_files(Path(source))]
    for file in files:
        if file.parent.resolve() == out.resolve():
            raise InputError("a source lies in OUT", file=file, remedy="Choose another folder")
    group_of = _joined(_labels(files, by), groups or {})
    split_of_group = split_clips(set(group_of.values()), val_fraction, test_fraction, seed)
    split_of = {clip: split_of_group[group] for clip, group in group_of.items()}
    rows = dict.fromkeys(SPLITS, 0)
    known: dict[Path, dict[str, str]] = {}
    with ExitStack() as stack:
        writers = {
            split: stack.enter_context(
                pq.ParquetWriter(stack.enter_context(atomic_path(out / f"{split}.parquet")), QA_SCHEMA)
            )
            for split in SPLITS
        }
        for file in files:
            for batch in iter_batches(file):
                batch = moved_videos(batch, file.parent, out, known.setdefault(file.parent, {}))
                splits = pa.array([split_of[clip] for clip in batch.column("clip_id").to_pylist()], pa.string())
                batch = batch.set_column(_SPLIT, QA_SCHEMA.field(_SPLIT), splits)
                for split, writer in writers.items():
                    part = batch.filter(pc.equal(splits, split))
                    rows[split] += part.num_rows
                    if part.num_rows:
                        writer.write_batch(part)
    members = [(split, clip, group_of[clip]) for clip, split in split_of.items()]
    return Resplit(
        rows,
        {name: sum(split == name for split, _, _ in members) for name in SPLITS},
        {name: len({group for split, _, group in members if split == name}) for name in SPLITS},
    )


def read_groups(file: str | Path) -> dict[str, str]:
    """Clip id -> group, from the JSON file that `mllm4d data duplicates` writes.

    Raises:
        InputError: missing, not JSON, or not a mapping of texts.
    """
    try:
        groups = json.loads(Path(file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("the file does not exist", file=file) from None
    except ValueError as error:
        raise InputError(f"not JSON ({error})", file=file) from None
    if not isinstance(groups, dict) or not all(isinstance(group, str) for group in groups.values()):
        raise InputError("must map clip ids to names of groups", file=file)
    return groups


def _labels(files: list[Path], by: str) -> dict[str, str]:
    """Clip id -> what it must stay with: itself, or its source."""
    labels: dict[str, str] = {}
    for file in files:
        first = 0
        for batch in iter_batches(file):
            clips = batch.column("clip_id").to_pylist()
            metas = batch.column("meta").to_pylist() if by == "source" else [""] * len(clips)
            for place, (clip, meta) in enumerate(zip(clips, metas, strict=True)):
                if clip not in labels:
                    labels[clip] = clip if by == "clip" else _source(meta, file, first + place)
            first += len(clips)
    return labels


def _source(meta: str | None, file: Path, row: int) -> str:
    try:
        source = json.loads(meta or "{}").get("source")
    except (ValueError, AttributeError):
        source = None
    if not source:
        remedy = "Draw them with `mllm4d data mix` from sources with names, or split by clip"
        raise InputError("the row does not say its source", file=file, row=row, field="meta", remedy=remedy)
    return str(source)


def _joined(labels: dict[str, str], groups: Mapping[str, str]) -> dict[str, str]:
    """Clip -> name of its set, where clips with the same label or in the same group are in one set."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    clips = sorted(labels)  # a set is named after its first clip, so that no order of files matters
    nodes: dict[tuple[str, str], int] = {}
    own = [nodes.setdefault(("label", labels[clip]), len(nodes)) for clip in clips]
    links = [
        (node, nodes.setdefault(("group", groups[clip]), len(nodes)))
        for clip, node in zip(clips, own, strict=True)
        if clip in groups
    ]
    ends = np.array(links, np.int64).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), (len(nodes), len(nodes)))
    sets = connected_components(graph, directed=False)[1][own].tolist()
    names: dict[int, str] = {}
    return {clip: names.setdefault(number, clip) for clip, number in zip(clips, sets, strict=True)}

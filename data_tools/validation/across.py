"""What is wrong between rows: ids, questions and clips that occur again; and options that read the same."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..schema import LETTERS, SPLITS

_Hashes = NDArray[np.int64]
_Bools = NDArray[np.bool_]


class Repeats:
    """Texts met so far, as sorted 64-bit hashes: 8 bytes a row."""

    def __init__(self) -> None:
        self._seen: _Hashes = np.zeros(0, np.int64)

    def add(self, texts: pa.Array) -> _Bools:
        """(N,) True where a text was met before, in an earlier call or above; remembers all."""
        hashes = text_hashes(texts)
        new, first = np.unique(hashes, return_index=True)
        again = np.ones(len(hashes), bool)
        again[first] = False
        place = np.searchsorted(self._seen, hashes)
        known = place < len(self._seen)
        known[known] = self._seen[place[known]] == hashes[known]
        self._seen = np.sort(np.concatenate([self._seen, new]), kind="stable")  # two sorted runs: one merge
        return again | known


class ClipSplits:
    """The split in which each clip was met first."""

    def __init__(self) -> None:
        self._split: dict[int, int] = {}
        self.shared: set[int] = set()

    def add(self, clips: pa.Array, splits: pa.Array) -> dict[int, str]:
        """Positions of rows whose clip was met before in another split, and that split."""
        codes = pc.fill_null(pc.index_in(pc.fill_null(splits, "train"), value_set=pa.array(SPLITS)), -1).to_numpy()
        found: dict[int, str] = {}
        for position, (clip, code) in enumerate(zip(text_hashes(clips).tolist(), codes.tolist(), strict=True)):
            if code < 0:
                continue
            known = self._split.setdefault(clip, code)
            if known != code:
                found[position] = SPLITS[known]
                self.shared.add(clip)
        return found


def text_hashes(texts: pa.Array) -> _Hashes:
    """(N,) 64-bit hashes, the same for equal texts within this process."""
    return np.fromiter(map(hash, texts.to_pylist()), np.int64, len(texts))


def question_keys(table: pa.Table) -> pa.Array:
    """Clip, question and response as one text: rows that agree in it teach the same twice."""
    columns = [pc.fill_null(table[name].combine_chunks(), "") for name in ("clip_id", "question", "response")]
    return pc.binary_join_element_wise(*columns, "\0")


def repeated_options(table: pa.Table) -> dict[int, str]:
    """Positions of rows of which two options read the same, but for case and outer spaces, and what to say."""
    options = table["options"].combine_chunks()
    counts = pc.fill_null(pc.list_value_length(options), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    texts = pc.utf8_lower(pc.utf8_trim_whitespace(options.flatten()))
    codes = pc.fill_null(texts.dictionary_encode().indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    owner = np.repeat(np.arange(len(counts)), counts)
    keys = owner * (len(codes) + 1) + codes
    order = np.argsort(keys, kind="stable")
    same = order[1:][np.diff(keys[order]) == 0]
    first = np.concatenate([[0], np.cumsum(counts)])[:-1]
    return {int(owner[i]): LETTERS[min(int(i - first[owner[i]]), len(LETTERS) - 1)] for i in sorted(same, reverse=True)}

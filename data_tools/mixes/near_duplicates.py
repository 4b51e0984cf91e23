"""Videos that show nearly the same, found by perceptual hashes of a few frames each.

Hashes are the 64-bit DCT hash of ImageHash (phash; Zauner, Implementation and Benchmarking of Perceptual Image Hash
Functions, 2010). A copy that was encoded anew, resized, brightened or cropped by 3% differs in a few bits,
another scene in about 32. A mirrored copy is not found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

FRAMES = 5  # hashed of each video, spread evenly
MAX_BITS = 8  # of 64 that two frames of the same view may differ in: docs/mixes.md has what copies differ in
MIN_FRAMES = 3  # of FRAMES that must show the same view
_MIN_CONTRAST = 2.0  # grey levels; the hash of an even frame is chance
_NONE = np.uint64(0)
_BLOCK = 1 << 21  # pairs of frames or videos compared at once, to bound memory
_CHUNK_BITS = 16  # a hash is cut into four: of MAX_BITS that differ, at most two are in one of them
_ONES = np.array([bin(value).count("1") for value in range(1 << _CHUNK_BITS)], np.uint8)
_MASKS = np.flatnonzero(_ONES <= MAX_BITS * _CHUNK_BITS // 64)  # (137,) what such a chunk may differ in

Hashes = NDArray[np.uint64]
Progress = Callable[[int, int], None]


def video_hashes(path: str | Path) -> Hashes:
    """(FRAMES,) hashes of frames spread evenly over a video; 0 where a frame has no contrast.

    Raises:
        InputError: the video cannot be read.
    """
    import cv2
    import imagehash
    from PIL import Image

    capture = cv2.VideoCapture(str(path))
    try:
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if count < 1:
            raise InputError("the video cannot be read", file=path)
        hashes = np.zeros(FRAMES, np.uint64)
        for place, frame in enumerate(((np.arange(FRAMES) + 0.5) * count / FRAMES).astype(int).tolist()):
            capture.set(cv2.CAP_PROP_POS_FRAMES, frame)
            is_read, image = capture.read()
            if not is_read:
                raise InputError(f"frame {frame} of {count} cannot be read", file=path)
            grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
            if grey.std() >= _MIN_CONTRAST:
                bits = imagehash.phash(Image.fromarray(grey)).hash
                hashes[place] = np.packbits(bits.ravel()).view(">u8")[0]
    finally:
        capture.release()
    return hashes


def hash_videos(paths: Sequence[str | Path], workers: int = 1, progress: Progress | None = None) -> Hashes:
    """(N, FRAMES) hashes of videos, in `workers` threads: decoding lets go of the interpreter."""
    from concurrent.futures import ThreadPoolExecutor

    hashes = np.zeros((len(paths), FRAMES), np.uint64)
    with ThreadPoolExecutor(workers) as pool:
        for place, found in enumerate(pool.map(video_hashes, paths)):
            hashes[place] = found
            if progress:
                progress(place + 1, len(paths))
    return hashes


def similar_pairs(first: Hashes, second: Hashes) -> list[tuple[int, int, int]]:
    """Pairs (m, n, bits) of videos of `first` (M, FRAMES) and `second` (N, FRAMES) that show nearly the same.

    A frame shows the same view as the nearest frame of the other video if they differ in at most MAX_BITS. MIN_FRAMES
    frames of either video have to, so that two cuts of one recording that overlap by most of their length are found,
    and a still view that is a part of a longer video, too. `bits` is the mean of what these frames differ in.
    """
    pairs = []
    close = _close_videos(first, second)
    for start in range(0, len(close), _BLOCK // FRAMES**2):
        m, n = np.divmod(close[start : start + _BLOCK // FRAMES**2], len(second))
        between = _distance(first[m][:, :, None], second[n][:, None, :])  # (K, FRAMES, FRAMES)
        nearest = np.stack([between.min(axis=2), between.min(axis=1)])  # of the frames of one and of the other
        alike = nearest <= MAX_BITS
        count = alike.sum(axis=2)
        for k in np.flatnonzero(count.max(axis=0) >= MIN_FRAMES):
            side = int(count[:, k].argmax())
            pairs.append((int(m[k]), int(n[k]), int(nearest[side, k][alike[side, k]].mean().round())))
    return pairs


def _close_videos(first: Hashes, second: Hashes) -> NDArray[np.int64]:
    """(K,) m * N + n, ascending, of videos of which two frames differ in at most MAX_BITS.

    By multi-index hashing (Norouzi et al., arXiv 1307.2982): only frames are compared of which a chunk differs in two
    bits or less, one pair in 120 of hashes that have nothing to do with each other.
    """
    own_videos, own = _frames(first)
    other_videos, others = _frames(second)
    found = [np.zeros(0, np.int64)]
    for shift in range(0, 64, _CHUNK_BITS):
        key = _chunk(others, shift)
        order = np.argsort(key, kind="stable")
        starts = np.searchsorted(key[order], np.arange((1 << _CHUNK_BITS) + 1))
        for mask in _MASKS:
            like = _chunk(own, shift) ^ mask
            ends = np.cumsum(starts[like + 1] - starts[like])  # of the pairs of each frame, one frame after the other
            total = int(ends[-1]) if len(ends) else 0
            for begin in range(0, total, _BLOCK):
                pair = np.arange(begin, min(begin + _BLOCK, total))
                left = np.searchsorted(ends, pair, side="right")
                right = order[starts[like[left] + 1] - (ends[left] - pair)]
                close = np.flatnonzero(_distance(own[left], others[right]) <= MAX_BITS)
                found.append(np.unique(own_videos[left[close]] * len(second) + other_videos[right[close]]))
    return np.unique(np.concatenate(found))


def _frames(hashes: Hashes) -> tuple[NDArray[np.int64], Hashes]:
    """(F,) video and hash of each frame that has contrast."""
    videos, frames = np.nonzero(hashes != _NONE)
    return videos, hashes[videos, frames]


def _chunk(hashes: Hashes, shift: int) -> NDArray[np.int64]:
    return ((hashes >> np.uint64(shift)) & np.uint64((1 << _CHUNK_BITS) - 1)).astype(np.int64)


def group_videos(names: Sequence[str], hashes: Hashes) -> dict[str, str]:
    """Name -> group, the first name of it, for videos that have near-duplicates; the others are left out."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = np.array(similar_pairs(hashes, hashes), np.int64).reshape(-1, 3)
    shape = (len(names), len(names))
    links = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape)
    group = connected_components(links, directed=False)[1]
    _, first, sizes = np.unique(group, return_index=True, return_counts=True)
    return {name: names[first[own]] for name, own in zip(names, group.tolist(), strict=True) if sizes[own] > 1}


def group_sizes(groups: Mapping[str, str]) -> list[int]:
    """Sizes of the groups, the largest first."""
    return sorted(np.unique(list(groups.values()), return_counts=True)[1].tolist(), reverse=True)


def _distance(first: Hashes, second: Hashes) -> NDArray[np.uint8]:
    """Bits in which hashes differ; 64 where one of them is of a frame without contrast."""
    differ = np.bitwise_xor(first, second)
    if hasattr(np, "bitwise_count"):  # numpy 2
        bits = np.asarray(np.bitwise_count(differ), np.uint8)
    else:
        bits = np.zeros(differ.shape, np.uint8)
        for shift in range(0, 64, _CHUNK_BITS):
            bits += _ONES[_chunk(differ, shift)]
    bits[np.broadcast_to((first == _NONE) | (second == _NONE), bits.shape)] = 64
    return bits

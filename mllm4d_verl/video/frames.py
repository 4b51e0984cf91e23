"""Decoded and resized frames, kept for the next rollout of the same prompt.

verl decodes a prompt's video once per rollout: twelve times for a group of twelve. The frames stay the same, so each
process keeps the most recent ones, as bytes, and all processes of a machine share a store on disk (`store.FrameStore`).
"""

from __future__ import annotations

import copy
import functools
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.video.location import identity
from mllm4d_verl.video.reading import DEFAULT_TIME_LIMIT_S, is_file_list, read_video
from mllm4d_verl.video.store import DEFAULT_GB, PLACE, FrameStore, key_of, open_store

if TYPE_CHECKING:
    import torch

Video = tuple["torch.Tensor", dict[str, Any]]

DEFAULT_CACHE_BYTES = 256 * 2**20  # about 50 clips of 32 frames at 224x224 in each process


class StoredVideo:
    """(nframes, 3, H, W) uint8 frames and their metadata."""

    def __init__(self, frames: torch.Tensor, metadata: dict[str, Any]) -> None:
        self._frames = frames
        self._metadata = metadata
        self._floats: Callable[[], torch.Tensor | None] = lambda: None
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        return self._frames.nbytes

    def get(self) -> Video:
        """Frames as float32, one tensor for all who hold it at a time, and metadata of the caller's own."""
        with self._lock:
            frames = self._floats()
            if frames is None:
                frames = self._frames.float()
                self._floats = weakref.ref(frames)
        return frames, copy.deepcopy(self._metadata)


class FrameCache:
    """Least recently used videos, at most `max_bytes` of frames; safe among threads.

    Threads that ask for the same absent key wait for the first of them to load it.

    Attributes:
        store: the store on disk that is asked before a video is decoded, and gets its frames afterwards; None: there is
            no store.
        hits, misses: how often a video was and was not in memory.
        decoded: how many were decoded, because the store did not have them either.
    """

    def __init__(self, max_bytes: int = DEFAULT_CACHE_BYTES, store: FrameStore | None = None) -> None:
        self.max_bytes = max_bytes
        self.store = store
        self.hits = 0
        self.misses = 0
        self.decoded = 0
        self._bytes = 0
        self._entries: OrderedDict[Any, StoredVideo] = OrderedDict()
        self._loading: dict[Any, threading.Lock] = {}
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        return self._bytes

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Any, load: Callable[[], StoredVideo]) -> StoredVideo:
        """The entry of `key`, by `load()` where it is absent."""
        with self._lock:
            entry = self._find(key)
            if entry is not None:
                return entry
            loading = self._loading.setdefault(key, threading.Lock())
        with loading:
            with self._lock:
                entry = self._find(key)
            if entry is not None:
                return entry
            try:
                entry = load()
                with self._lock:
                    self.misses += 1
                    self._put(key, entry)
            finally:
                with self._lock:
                    self._loading.pop(key, None)
        return entry

    def count_decoded(self) -> None:
        """Note that a video was decoded."""
        with self._lock:
            self.decoded += 1

    def _find(self, key: Any) -> StoredVideo | None:
        entry = self._entries.get(key)
        if entry is not None:
            self.hits += 1
            self._entries.move_to_end(key)
        return entry

    def _put(self, key: Any, entry: StoredVideo) -> None:
        if entry.nbytes > self.max_bytes:
            return
        self._entries[key] = entry
        self._bytes += entry.nbytes
        while self._bytes > self.max_bytes:
            self._bytes -= self._entries.popitem(last=False)[1].nbytes


class _ProcessCache(FrameCache):
    """The cache of a process. It opens its store when it is first asked for.

    Attributes:
        store_gb: bound of the store, in 2**30 bytes.
    """

    store_gb = DEFAULT_GB


_process_cache = _ProcessCache()
_opened = functools.lru_cache(maxsize=8)(lambda store_gb, place: open_store(store_gb))


def process_cache(max_bytes: int | None = None, store_gb: float | None = None) -> FrameCache:
    """The cache of this process.

    Args:
        max_bytes: sets the bytes of frames that it may hold; None leaves them.
        store_gb: sets the bound of the store behind it, see `store.open_store`; None leaves it.
    """
    if max_bytes is not None:
        _process_cache.max_bytes = max_bytes
    if store_gb is not None:
        _process_cache.store_gb = store_gb
    _process_cache.store = _opened(_process_cache.store_gb, os.environ.get(PLACE))
    return _process_cache


def load_video(
    element: Mapping[str, Any],
    image_patch_size: int,
    cache: FrameCache | None = None,
    time_limit_s: float | None = DEFAULT_TIME_LIMIT_S,
) -> Video:
    """Frames of a video element: read by the decoder that annotation uses, resized as qwen_vl_utils resizes them.

    Args:
        element: see `video_element`; see `reading.read_video` for what else it may hold. A list of pictures goes to
            qwen_vl_utils as it is, and is not cached.
        image_patch_size: of the processor, 16 for Qwen3-VL and 14 for Qwen2.5-VL. A side is a multiple of twice it.
        cache: None means the cache of this process, with its store.
        time_limit_s: seconds that reading the video may take; None sets no limit.

    Returns:
        (nframes, 3, H, W) float32 in 0..255 and the metadata `{fps, frames_indices, total_num_frames,
        video_backend}`. Do not write to the frames: callers at the same time get the same tensor, so that what is
        computed from it can be shared too (`processed.process_once`). The metadata is the caller's own.

    Raises:
        InputError: the video is missing, does not decode, is too short, or takes too long.
    """
    source = element["video"]
    if isinstance(source, list | tuple) and not source:
        raise InputError("the list of frames is empty", field="video")
    if not is_file_list(source) and not isinstance(source, str):
        from qwen_vl_utils import fetch_video

        return fetch_video(dict(element), image_patch_size=image_patch_size, return_video_metadata=True)
    files = [source] if isinstance(source, str) else source
    key = key_of([identity(file) for file in files], image_patch_size, _settings(element))
    cache = process_cache() if cache is None else cache
    return cache.get(key, lambda: _stored_or_read(cache, key, element, image_patch_size, time_limit_s)).get()


def _stored_or_read(
    cache: FrameCache, key: str, element: Mapping[str, Any], image_patch_size: int, time_limit_s: float | None
) -> StoredVideo:
    import torch

    entry = cache.store.get(key) if cache.store is not None else None
    if entry is not None:
        return StoredVideo(torch.from_numpy(entry.frames), entry.metadata)
    frames, metadata = read_video(element, image_patch_size, time_limit_s)
    cache.count_decoded()
    if cache.store is not None:
        cache.store.put(key, frames.numpy(), metadata)
    return StoredVideo(frames, metadata)


def _settings(element: Mapping[str, Any]) -> dict[str, Any]:
    """What besides the file decides the frames."""
    return {name: value for name, value in element.items() if name not in ("type", "video")}

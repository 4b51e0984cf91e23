"""What a model's video processor made of frames, kept as long as the frames live.

verl's agent loop calls the processor three times per rollout with the same video: for the prompt's tokens, for the
reward's batch, for the actor's batch. Rollouts of one prompt share their frames (`load_video`), so they can share the
patches as well.
"""

from __future__ import annotations

import copy
import functools
import threading
import weakref
from collections.abc import Callable
from typing import Any


class _Results:
    """Results for one video tensor, by the settings they were computed with."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a computation may ask for another one of the same video
        self.by_settings: dict[Any, Any] = {}


_results: dict[int, _Results] = {}  # by id of the video tensor, removed with it
_lock = threading.Lock()


def process_once(preprocess: Callable) -> Callable:
    """Replacement of transformers' `BaseVideoProcessor.preprocess` that computes each video tensor once.

    Only calls with one torch tensor are remembered; others pass through. The frames must not be written to while they
    are in use.
    """

    @functools.wraps(preprocess)
    def remembered(self, videos, **kwargs):
        import torch

        if not (isinstance(videos, list) and len(videos) == 1 and isinstance(videos[0], torch.Tensor)):
            return preprocess(self, videos, **kwargs)
        settings = _settings(self, kwargs)
        return _own(compute_once(videos[0], settings, lambda: preprocess(self, videos, **kwargs)))

    return remembered


def compute_once(video: Any, settings: Any, compute: Callable[[], Any]) -> Any:
    """The result of `compute`, which depends on a video tensor and hashable `settings`, kept as long as the tensor.

    The result is shared: copy it before you change it.
    """
    results = _results_of(video)
    with results.lock:  # rollouts of a prompt come in at once, in threads: the others wait for the first
        if settings not in results.by_settings:
            results.by_settings[settings] = compute()
        return results.by_settings[settings]


def _results_of(video) -> _Results:
    with _lock:
        results = _results.get(id(video))
        if results is None:
            results = _results[id(video)] = _Results()
            weakref.finalize(video, _results.pop, id(video), None)
        return results


def _settings(processor: Any, kwargs: dict[str, Any]) -> tuple:
    """What besides the frames decides the result: the processor's class and attributes, and the call's arguments."""
    attributes = {name: value for name, value in vars(processor).items() if not name.startswith("_")}
    return type(processor), repr(sorted(attributes.items())), repr(sorted(kwargs.items()))


def _own(result: Any) -> Any:
    """A result the caller may add to and take from. The tensors are shared; metadata is small and gets changed."""
    own = copy.copy(result)
    own.data = {
        name: copy.deepcopy(value) if name == "video_metadata" else value for name, value in result.data.items()
    }
    return own

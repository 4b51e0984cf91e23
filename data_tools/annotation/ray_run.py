"""The same annotation through Ray Data: many machines that share a file system."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from multiprocessing.connection import wait
from typing import Any

from ..errors import InputError
from ..stereo.clip import ClipRef
from .naming import Breaker
from .store import Status
from .worker import DiskFullError, Setup, Worker

LOCAL = "local"
#: The least that Ray takes: what goes through it are references to clips.
_OBJECT_STORE_BYTES = 80 * 2**20
#: Clips of one block are annotated by one actor and reported together; each block costs Ray some bookkeeping.
_MAX_BLOCKS = 2000


class AnnotateOperator:
    """For `ray.data.Dataset.map`: takes {"ref": pickled ClipRef}, writes the clip, gives {"status": pickled}.

    Each actor keeps one child process for the clips, as the plain run does, so that a decoder that hangs or crashes
    costs one clip and no actor.
    """

    def __init__(self, setup: Setup) -> None:
        self._breaker = Breaker(setup.config.naming.max_unanswered)
        self._worker = Worker(setup, self._breaker)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        self._worker.give(pickle.loads(row["ref"]))
        try:
            while True:
                wait([self._worker.connection], self._worker.seconds_left())
                status = self._worker.collect()
                if status is not None:
                    self._breaker.note([outcome.figures for outcome in status.outcomes])
                    return {"status": pickle.dumps(asdict(status)), "disk_full": ""}
        except DiskFullError as error:  # as a value: Ray would try the row again elsewhere
            return {"status": b"", "disk_full": str(error)}

    def __del__(self) -> None:
        if hasattr(self, "_worker"):
            self._worker.close()


def run_ray(refs: Sequence[ClipRef], setup: Setup, workers: int, address: str) -> Iterator[Status]:
    """Statuses of clips as they are finished, by `workers` actors.

    Args:
        address: of a cluster ("auto", "host:port"), or "local" to start a Ray of our own, which is ended again.

    Raises:
        DiskFullError: when a clip could not be written for want of room.
        InputError: Ray is not installed, or no cluster answers at the address.
    """
    if not refs:
        return
    ray = import_ray()
    is_ours = not ray.is_initialized()
    if is_ours:
        connect_ray(ray, None if address == LOCAL else address, setup.threads * workers)
    context = ray.data.DataContext.get_current()
    shows_bars = context.enable_progress_bars
    try:
        context.enable_progress_bars = False  # the caller has one
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        items = [{"ref": pickle.dumps(ref)} for ref in refs]
        results = ray.data.from_items(items, override_num_blocks=min(len(refs), _MAX_BLOCKS)).map(
            AnnotateOperator,
            fn_constructor_args=(setup,),
            num_cpus=setup.threads,
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(refs))),
        )
        for row in results.iter_rows():
            if row["disk_full"]:
                raise DiskFullError(row["disk_full"])
            yield Status.from_dict(pickle.loads(row["status"]))
    finally:
        context.enable_progress_bars = shows_bars
        if is_ours:
            ray.shutdown()


def import_ray() -> Any:
    """Ray with its Data part; InputError where it is not installed."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(
            f"Ray Data does not import ({error})", field="--ray", remedy="Install it with `pip install 'ray[data]'`"
        ) from None
    return ray


def connect_ray(ray: Any, address: str | None, num_cpus: int) -> None:
    """Join the cluster at `address` (InputError if none answers), or for None start one of our own with `num_cpus`."""
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address is None:
            own = {"num_cpus": max(1, num_cpus), "object_store_memory": _OBJECT_STORE_BYTES, "include_dashboard": False}
            ray.init(address="local", **own, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError) as error:
        raise InputError(f"no Ray answers at {address!r} ({error})", field="--ray") from None

"""The same annotation through Ray Data: many machines that share a file system."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from multiprocessing.connection import wait
from typing import Any

from ..ray_session import ray_session
from ..stereo.clip import ClipRef
from .naming import Breaker
from .store import Status
from .worker import DiskFullError, Setup, Worker

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
    with ray_session(address, setup.threads * workers) as ray:
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

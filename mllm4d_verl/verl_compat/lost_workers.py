"""verl's trainer waits for ever for the rollouts of an agent loop whose process has died."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, Protocol

from mllm4d_verl.verl_compat.adaptation import adapts, proves

_KNOWN = {"verl": ">=0.9.0,<=0.9.1"}
# Seconds between two looks. A death is rare and a look is a call to every worker; a run that failed can wait this long.
_LOOK_EVERY_S = 10.0


class LostWorkerError(RuntimeError):
    """An agent loop's process has died while the trainer was waiting for its rollouts."""


class _Watched(Protocol):
    def death(self) -> str | None: ...


class WatchedWorker:
    """A Ray actor that is asked, without waiting for it, whether it is alive.

    Args:
        worker: handle of the actor.
    """

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self._answer: Any = None

    def death(self) -> str | None:
        """What Ray says of the actor's death; None while it lives, or has not answered yet."""
        import ray

        if self._answer is None:
            self._answer = self.worker.__ray_ready__.remote()
        if not ray.wait([self._answer], timeout=0)[0]:
            return None
        answer, self._answer = self._answer, None
        try:
            ray.get(answer)
        except ray.exceptions.RayActorError as error:
            return str(error)
        return None


class _Watch:
    """The workers of this process's trainer, and when they were last looked at."""

    def __init__(self) -> None:
        self.workers: list[_Watched] = []
        self.looked = 0.0

    def over(self, workers: Iterable[Any]) -> None:
        """Watch these actors, and no others."""
        workers = list(workers)
        if workers != [watched.worker for watched in self.workers if isinstance(watched, WatchedWorker)]:
            self.workers = [WatchedWorker(worker) for worker in workers]

    def check(self) -> None:
        """Raises LostWorkerError where one has died."""
        if time.monotonic() - self.looked < _LOOK_EVERY_S:
            return
        self.looked = time.monotonic()
        for watched in self.workers:
            if (death := watched.death()) is not None:
                raise LostWorkerError(
                    "an agent loop has died while rollouts were running, and they will never finish. Start the same "
                    f"command again: the run goes on from its last checkpoint. Ray says: {death}"
                )


_watch = _Watch()


@adapts("verl.trainer.ppo.v1.agent_loop_tq", "AgentLoopManagerTQ.generate_sequences", known=_KNOWN)
def remember_agent_loop_workers(stock: Callable) -> Callable:
    """See `end_when_an_agent_loop_dies`: the workers that rollouts are handed to are the ones to watch."""

    def generate_sequences(self, prompts):
        _watch.over(self.agent_loop_workers)
        return stock(self, prompts)

    return generate_sequences


@proves(remember_agent_loop_workers)
def _hands_out_prompts_and_forgets_the_workers(callable_: Callable) -> bool:
    before, _watch.workers = _watch.workers, []
    try:
        callable_(SimpleNamespace(agent_loop_workers=[object()]), _NoPrompts())
    except _NoPromptsError:
        return not _watch.workers
    finally:
        _watch.workers = before
    return True


class _NoPromptsError(Exception):
    """Ends `generate_sequences` where it would ask Ray."""


class _NoPrompts:
    def chunk(self, count: int) -> list[Any]:
        raise _NoPromptsError


@adapts("verl.trainer.ppo.v1.replay_buffer", "ReplayBuffer._wait_for_next_poll", known=_KNOWN)
def end_when_an_agent_loop_dies(stock: Callable) -> Callable:
    """When the process of an agent loop dies, the trainer waits for its rollouts for ever.

    Rollouts are handed to agent loops, which write them to TransferQueue when they are finished; the trainer polls
    that queue and nothing else, and logs "running: 4, finished: 0" once a minute (replay_buffer.py of its V1 trainer).
    Here it also asks Ray every ten seconds whether the agent loops live, and ends the run where one does not.
    """

    def _wait_for_next_poll(self, partition_id, last_debug_time):
        _watch.check()
        return stock(self, partition_id, last_debug_time)

    return _wait_for_next_poll


class _Dead:
    def death(self) -> str:
        return "the process was killed"


@proves(end_when_an_agent_loop_dies)
def _waits_for_the_dead(callable_: Callable) -> bool:
    keys: dict[str, set[str]] = defaultdict(set)
    buffer = SimpleNamespace(
        poll_interval=0.0, pending_keys=keys, running_keys=keys, finished_keys=keys, failure_keys=keys
    )
    before, looked = _watch.workers, _watch.looked
    _watch.workers, _watch.looked = [_Dead()], -_LOOK_EVERY_S
    try:
        callable_(buffer, "train", time.time())
    except LostWorkerError:
        return False
    finally:
        _watch.workers, _watch.looked = before, looked
    return True

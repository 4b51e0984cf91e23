"""Host memory, shared memory and disk of one node.

A question of GRPO costs `video_bytes` (32 frames of 512 x 512 are 100.7 MB in float32) once for its frames, which the
agent loop keeps while the answers are generated, and three times for every answer: the frames in Ray's object store on
their way to the rollout server, the server's copy of them (torch tensors are copied out of the store), and the pixel
values that verl puts into TransferQueue for the update. A validation row with one answer is therefore 4 x video_bytes,
403 MB.
"""

from __future__ import annotations

from dataclasses import dataclass

from .model import ParameterCounts
from .settings import StageSettings
from .tokens import TokenBudget

_COPIES_OF_A_QUESTION = 1
_COPIES_OF_AN_ANSWER = 3
_COPIES_IN_AN_UPDATE = 2  # TransferQueue's, and the trainer's that fetched it
# Host memory of processes, in bytes, before any data: a process that uses CUDA and has torch, transformers and verl
# imported (a trainer; an engine has a server as well), and one that does not use a GPU (agent loop, reward, driver).
# Rounded up.
_GPU_PROCESS_BYTES = 4 * 2**30
_PLAIN_PROCESS_BYTES = 3 * 2**29
_PLAIN_PROCESSES = 12  # driver, Ray's own, TransferQueue, eight reward workers


@dataclass(frozen=True)
class HostBudget:
    """Bytes of one node.

    Attributes:
        processes: of all processes, before any data.
        offloaded: weights and optimizer states that wait in host memory, the sleeping engines' among them.
        loading: while verl reads the model: one copy of it, or one per GPU where embedding and head are tied.
        step: videos of a training step, at their most.
        val_row: of one row in validation.
        validation: videos of one validation batch; None where it is the whole held-out set.
        shm: /dev/shm at its most: answers in flight in Ray's object store, or rows ready in the data loaders (SFT).
        checkpoint: one checkpoint on disk.
        disk: all kept checkpoints, and the merged model twice while it is written; None where all are kept.
    """

    processes: int
    offloaded: int
    loading: int
    step: int
    val_row: int
    validation: int | None
    shm: int
    checkpoint: int
    disk: int | None

    @property
    def fixed(self) -> int:
        return self.processes + self.offloaded

    @property
    def peak(self) -> int:
        """Bytes at the highest, validation of unknown size left out."""
        return self.processes + max(self.loading, self.offloaded + max(self.step, self.validation or 0))


def host_memory(
    settings: StageSettings,
    counts: ParameterCounts,
    tokens: TokenBudget,
    *,
    tied_embeddings: bool,
    val_rows: int | None,
) -> HostBudget:
    """What a stage needs on one node.

    Args:
        settings: of the stage.
        counts: weights of the model.
        tokens: of a sample, with the bytes of its video.
        tied_embeddings: verl loads the weights in every process then, else in the first one only.
        val_rows: rows of the held-out set, None if unknown.
    """
    rollout, nodes, gpus = settings.rollout, settings.nodes, settings.gpus
    total_bytes = counts.total * settings.bytes_per_weight
    offloaded = total_bytes // nodes if settings.param_offload else 0
    offloaded += counts.trainable * 8 // nodes if settings.optimizer_offload else 0
    processes = gpus * _GPU_PROCESS_BYTES + _PLAIN_PROCESSES * _PLAIN_PROCESS_BYTES
    step = shm = settings.loader_rows * tokens.video_bytes
    validation, val_row = 0, 0
    if rollout is not None:
        processes += 2 * gpus * _GPU_PROCESS_BYTES // rollout.tensor_parallel
        processes += -(-rollout.agent_workers // nodes) * _PLAIN_PROCESS_BYTES
        if rollout.sleeps_with_weights:
            offloaded += 2 * counts.total * max(1, gpus // rollout.tensor_parallel)
        if rollout.own_reference and rollout.reference_offload:
            offloaded += total_bytes // nodes
        copies = rollout.questions * _COPIES_OF_A_QUESTION + rollout.answers * _COPIES_OF_AN_ANSWER
        step = max(copies, rollout.answers * _COPIES_IN_AN_UPDATE) * tokens.video_bytes // nodes
        val_row = (_COPIES_OF_A_QUESTION + rollout.val_answers * _COPIES_OF_AN_ANSWER) * tokens.video_bytes
        rows = _val_rows(rollout.val_rows, val_rows) if rollout.validates else 0
        validation = None if rows is None else rows * val_row // nodes
        in_flight = max(rollout.answers, (rows or 0) * rollout.val_answers)
        shm = in_flight * tokens.video_bytes // nodes
    checkpoint, disk = _disk(settings, counts)
    loading = total_bytes * (gpus if tied_embeddings else 1)
    return HostBudget(processes, offloaded, loading, step, val_row, validation, shm, checkpoint, disk)


def _val_rows(batch: int | None, rows: int | None) -> int | None:
    if batch is None:
        return rows
    return batch if rows is None else min(batch, rows)


def _disk(settings: StageSettings, counts: ParameterCounts) -> tuple[int, int | None]:
    adapter = counts.trainable if settings.lora_rank else 0
    saved = adapter if settings.save_lora_only else counts.total + adapter
    checkpoint = saved * settings.bytes_per_weight + counts.trainable * 8
    merged = 2 * 2 * counts.total
    if settings.kept_checkpoints is None:
        return checkpoint, None
    return checkpoint, settings.kept_checkpoints * checkpoint + merged

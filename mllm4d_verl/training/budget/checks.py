"""Whether a stage fits a machine, and which setting to change by how much where it does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .engine import EngineAnswer
from .gpu import MemoryBudget, engine_memory
from .host import HostBudget
from .machine import GIB, Machine
from .settings import RolloutSettings, StageSettings
from .tokens import TokenBudget

_HEADROOM = 0.97  # share of a GPU's memory that an update may take: fragmentation needs the rest
_LOADER_KEY = "data.num_workers"


@dataclass(frozen=True)
class Finding:
    """Something that does not fit.

    Attributes:
        stops: whether the run cannot start, or ends for want of memory or disk; False: it runs slower or at a risk.
        what: what is needed and what is there.
        remedy: the setting to change, and to what.
    """

    stops: bool
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{'does not fit' if self.stops else 'warning'}: {self.what}. {self.remedy}"


def find_misfits(
    settings: StageSettings,
    tokens: TokenBudget,
    memory: MemoryBudget,
    host: HostBudget,
    machine: Machine,
    engine: EngineAnswer | None,
) -> list[Finding]:
    """Everything that does not fit, what stops the run first.

    Args:
        settings, tokens, memory, host: of the stage.
        machine: one node.
        engine: what vLLM says of its KV cache; None in SFT.
    """
    findings = [
        *_prompt(settings, tokens),
        *_gpus(settings, machine),
        *_update(settings, memory, machine),
        *_host(settings, host, machine),
        *_shared_memory(settings, host, machine),
        *_disk(settings, host, machine),
    ]
    if settings.rollout is not None and engine is not None:
        findings += [
            *_cache(settings.rollout, tokens, memory, machine, engine),
            *_engine_beside_trainer(settings, settings.rollout, memory, machine),
            *_agent_workers(settings, settings.rollout),
        ]
    return sorted(findings, key=lambda finding: not finding.stops)


def _prompt(settings: StageSettings, tokens: TokenBudget) -> Iterator[Finding]:
    if not tokens.fits:
        key = "data.max_prompt_length" if settings.rollout else "data.max_length"
        yield Finding(
            True,
            f"a prompt with {tokens.frames} frames has {tokens.prompt} tokens, {tokens.prompt_limit} are allowed",
            f"Raise {key} to {_up(tokens.prompt, 256)}, or lower data.max_pixels",
        )
    if settings.micro_batch_tokens < settings.longest:
        yield Finding(
            False,
            f"a micro batch has {settings.micro_batch_tokens} tokens, one sample up to {settings.longest}",
            f"Set {settings.keys['micro_batch']}={settings.longest}",
        )


def _gpus(settings: StageSettings, machine: Machine) -> Iterator[Finding]:
    if settings.gpus > machine.gpus:
        yield Finding(
            True,
            f"the recipe asks for {settings.gpus} GPUs on a node, the machine has {machine.gpus}",
            f"Set trainer.n_gpus_per_node={machine.gpus}",
        )


def _update(settings: StageSettings, memory: MemoryBudget, machine: Machine) -> Iterator[Finding]:
    available = machine.gpu_memory * GIB * _HEADROOM
    there = f"{available / GIB:.1f} of {machine.gpu_memory:.1f} GiB are usable"
    log_probs = memory.fixed + memory.log_prob_logits
    if settings.rollout is not None and log_probs > available:
        each = memory.log_prob_logits / settings.rollout.log_prob_tokens
        limit = max(settings.longest, int((available - memory.fixed) // each) // 256 * 256)
        names = [f"actor_rollout_ref.{name}.log_prob_max_token_len_per_gpu={limit}" for name in ("rollout", "ref")]
        what = f"log-probabilities need about {log_probs / GIB:.1f} GiB of a GPU, {there}"
        yield Finding(True, what, f"Set {' and '.join(names)}")
    update = memory.fixed + memory.activations + memory.logits
    if update <= available:
        return
    what = f"an update needs about {update / GIB:.1f} GiB of a GPU, {there}"
    per_token = (memory.activations + memory.logits) / settings.micro_batch_tokens
    tokens = int((available - memory.fixed) // per_token) // 256 * 256
    key = settings.keys["micro_batch"]
    if tokens >= settings.longest:
        yield Finding(True, what, f"Set {key}={tokens}")
    elif tokens > 0:
        lengths = "data.max_prompt_length, data.max_response_length" if settings.rollout else "data.max_length"
        model_len = f" and actor_rollout_ref.rollout.max_model_len={tokens}" if settings.rollout else ""
        yield Finding(
            True,
            what,
            f"Lower {lengths} (with data.max_pixels) to {tokens} tokens together and set {key}={tokens}{model_len}, "
            "or use more GPUs",
        )
    else:
        fixed = f"{memory.fixed / GIB:.1f} GiB of weights, gradients, optimizer and CUDA do not depend on the batch"
        yield Finding(True, f"{what}; {fixed}", "Use more GPUs, LoRA (--lora-rank 128), or a smaller model")


def _cache(
    rollout: RolloutSettings, tokens: TokenBudget, memory: MemoryBudget, machine: Machine, engine: EngineAnswer
) -> Iterator[Finding]:
    wanted = tokens.prompt_limit + tokens.response_limit
    is_longer = rollout.max_model_len is None or rollout.max_model_len > wanted
    shortened = f"Set actor_rollout_ref.rollout.max_model_len={wanted} (max_prompt_length + max_response_length)"
    if engine.fits:
        if is_longer:
            yield Finding(
                False,
                f"the engine sets cache aside for {rollout.max_model_len or 'all'} tokens, {wanted} are used",
                shortened,
            )
        return
    available = engine_memory(memory, rollout, int(machine.gpu_memory * GIB))
    room = max(0, available // memory.cache_per_token)
    what = (
        f"by {engine.by}, the rollout engine would not start: {engine.reason.split(' Try increasing')[0].rstrip('. ')}"
    )
    if is_longer and wanted <= room:
        remedy = shortened
    else:
        missing = wanted * memory.cache_per_token - available
        share = rollout.gpu_memory_utilization + missing / (machine.gpu_memory * GIB)
        if share <= 0.9:
            remedy = f"Set actor_rollout_ref.rollout.gpu_memory_utilization={_up(share * 100, 1) / 100:.2f}"
        else:
            more = f"actor_rollout_ref.rollout.tensor_model_parallel_size={2 * rollout.tensor_parallel}"
            shorter = f"shorten prompt and response to {room} tokens together" if room else "use a smaller model"
            remedy = f"Set {more}, or {shorter}"
        if is_longer:
            remedy = f"{shortened}, and s{remedy[1:]}"
    yield Finding(True, what, remedy)


def _engine_beside_trainer(
    settings: StageSettings, rollout: RolloutSettings, memory: MemoryBudget, machine: Machine
) -> Iterator[Finding]:
    total = machine.gpu_memory * GIB
    context = memory.context // 2
    needed = memory.resident + context + total * rollout.gpu_memory_utilization
    if needed <= total:
        return
    share = (total - memory.resident - context) / total
    offload = "" if settings.param_offload else f", or {settings.keys['offload']}=true"
    yield Finding(
        True,
        f"the trainer leaves {memory.resident / GIB:.1f} GiB on each GPU while vLLM wants "
        f"{rollout.gpu_memory_utilization:.2f} of its {machine.gpu_memory:.1f} GiB",
        f"Set actor_rollout_ref.rollout.gpu_memory_utilization={max(0, int(share * 100)) / 100:.2f}{offload}",
    )


def _host(settings: StageSettings, host: HostBudget, machine: Machine) -> Iterator[Finding]:
    available = machine.host_memory * GIB
    rollout = settings.rollout
    room = available - host.fixed
    if host.processes + host.loading > available:
        yield Finding(
            True,
            f"reading the model needs {(host.processes + host.loading) / GIB:.0f} GiB of host memory, "
            f"{machine.host_memory:.0f} GiB are there",
            "Use a machine with more memory or fewer GPUs per node (trainer.n_gpus_per_node)",
        )
    if room <= 0:
        yield Finding(
            True,
            f"processes and offloaded weights alone need {host.fixed / GIB:.0f} GiB of host memory, "
            f"{machine.host_memory:.0f} GiB are there",
            "Use a machine with more memory, fewer GPUs per node (trainer.n_gpus_per_node), or fewer processes that "
            f"decode videos ({_LOADER_KEY if rollout is None else 'actor_rollout_ref.rollout.agent.num_workers'})",
        )
        return
    if host.step > room:
        what = f"a step holds {host.step / GIB:.0f} GiB of videos in host memory beside {host.fixed / GIB:.0f} GiB "
        what += f"of processes and offloaded weights, {machine.host_memory:.0f} GiB are there"
        yield Finding(True, what, _fewer_rows(settings, host.step, room))
    if rollout is None or not rollout.validates:
        return
    rows = max(1, int(room // host.val_row) * settings.nodes)
    if host.validation is None:
        yield Finding(
            False,
            "data.val_batch_size is null, so that validation holds all held-out videos at once, "
            f"{host.val_row / 1e9:.2f} GB of host memory a row; {rows} rows fit",
            f"Set data.val_batch_size={min(128, rows)}",
        )
    elif host.validation > room:
        remedy = (
            f"Set data.val_batch_size={min(128, rows)}"
            if room >= host.val_row
            else "Lower data.max_pixels, or use a machine with more memory"
        )
        yield Finding(
            True,
            f"validation holds {host.validation / GIB:.0f} GiB of videos in host memory "
            f"({host.val_row / 1e9:.2f} GB a row), {max(0, room) / GIB:.0f} GiB are left",
            remedy,
        )


def _fewer_rows(settings: StageSettings, needed: int, room: float) -> str:
    share = max(0.0, room) / needed
    if settings.rollout is None:
        return f"Lower {_LOADER_KEY} to {share:.0%} of its value, or data.max_pixels"
    questions = int(settings.rollout.questions * share)
    if questions < 1:
        return "Lower data.max_pixels or actor_rollout_ref.rollout.n, or use a machine with more memory"
    return f"Set data.train_batch_size={questions} (ppo_mini_batch_size to a divisor of it), or lower data.max_pixels"


def _shared_memory(settings: StageSettings, host: HostBudget, machine: Machine) -> Iterator[Finding]:
    if host.shm <= machine.shm * GIB:
        return
    needed = f"--shm-size={_up(host.shm / GIB, 1):.0f}g"
    if settings.rollout is None:
        yield Finding(
            True,
            f"the data loaders hold {host.shm / GIB:.1f} GiB of videos in /dev/shm, which has {machine.shm:.1f} GiB",
            f"Start the container with {needed}, or lower {_LOADER_KEY}",
        )
        return
    yield Finding(
        False,
        f"the answers of a step hold {host.shm / GIB:.1f} GiB of videos in Ray's object store, /dev/shm has "
        f"{machine.shm:.1f} GiB: Ray writes the rest to disk, which is slow",
        f"Start the container with {needed}, or lower data.train_batch_size or data.max_pixels",
    )


def _disk(settings: StageSettings, host: HostBudget, machine: Machine) -> Iterator[Finding]:
    available = machine.disk * GIB
    each = f"a checkpoint has {host.checkpoint / GIB:.1f} GiB"
    if host.disk is None:
        yield Finding(False, f"{each} and all are kept", f"Set {settings.keys['keep']}=2")
    elif host.disk > available:
        what = f"{settings.kept_checkpoints} checkpoints and the merged model need {host.disk / GIB:.0f} GiB of disk "
        what += f"({each}), {machine.disk:.0f} GiB are free"
        saved = ((settings.kept_checkpoints or 1) - 1) * host.checkpoint
        fewer = (settings.kept_checkpoints or 1) > 1 and host.disk - saved <= available
        if settings.lora_rank and not settings.save_lora_only:
            remedy = f"Set {settings.keys['lora_only']}=true"
        elif fewer:
            remedy = f"Set {settings.keys['keep']}=1, or free disk"
        else:
            remedy = "Free disk, or choose another --out"
        yield Finding(True, what, remedy)


def _agent_workers(settings: StageSettings, rollout: RolloutSettings) -> Iterator[Finding]:
    wanted = rollout.agent_workers * settings.nodes
    if settings.nodes > 1 and rollout.agent_workers <= 8:
        yield Finding(
            False,
            f"{rollout.agent_workers} agent loop workers decode the videos of {settings.nodes} nodes",
            f"Set actor_rollout_ref.rollout.agent.num_workers={wanted}",
        )


def _up(value: float, step: int) -> int:
    """The next multiple of `step`."""
    return int(-(-value // step) * step)

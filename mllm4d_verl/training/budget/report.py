"""All costs of a stage of a recipe on a machine, as a table for people and as plain data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..recipe import Recipe
from .checks import Finding, find_misfits
from .engine import EngineAnswer, EngineQuestion, ask_vllm_outside, estimate
from .gpu import MemoryBudget, engine_memory, gpu_memory
from .host import HostBudget, host_memory
from .machine import GIB, Machine, recipe_machine
from .model import ParameterCounts, count_parameters, read_model_config
from .settings import StageSettings, read_settings
from .tokens import TokenBudget, count_tokens

AskEngine = Callable[[EngineQuestion], EngineAnswer | None] | None


@dataclass(frozen=True)
class RecipeBudget:
    """All of it, for one stage of a recipe.

    Attributes:
        cache: bytes that vLLM has for its KV cache on each GPU; 0 in SFT.
        engine: whether vLLM starts with that, and who says so; None in SFT.
        findings: what does not fit.
    """

    recipe: str
    stage: str
    gpus: int
    machine: Machine
    parameters: ParameterCounts
    tokens: TokenBudget
    memory: MemoryBudget
    host: HostBudget
    cache: int
    engine: EngineAnswer | None
    findings: tuple[Finding, ...]

    @property
    def fits(self) -> bool:
        """Whether nothing was found that stops the run."""
        return not any(finding.stops for finding in self.findings)

    def record(self) -> dict[str, Any]:
        """Plain data for JSON. Sizes are in bytes, those of the machine in GiB."""
        record = asdict(self)
        record["fits"] = self.fits
        record["tokens"]["fits"] = self.tokens.fits
        record["memory"]["training"] = self.memory.training
        record["host"]["peak"] = self.host.peak
        return record

    def table(self) -> Any:
        """A rich table for people."""
        from rich.table import Table

        machine = self.machine
        table = Table(title=f"{self.recipe}/{self.stage} on {self.gpus} GPUs", title_justify="left")
        table.add_column("")
        table.add_column("needed", justify="right")
        table.add_column("there", justify="right")
        counts, tokens, memory = self.parameters, self.tokens, self.memory
        table.add_row("parameters", f"{counts.total / 1e9:.2f} B", "")
        table.add_row("  of the vision tower", f"{counts.vision / 1e9:.2f} B", "")
        table.add_row("  trained", f"{counts.trainable / 1e6:.1f} M", "")
        table.add_section()
        table.add_row(f"tokens of a video ({tokens.frames} frames)", f"{tokens.video}", "")
        table.add_row("tokens of a prompt", f"{tokens.prompt}", f"{tokens.prompt_limit}")
        table.add_row("tokens of a response, at most", f"{tokens.response_limit or '-'}", "")
        table.add_row("frames of a video in memory", f"{tokens.video_bytes / 1e6:.1f} MB", "")
        table.add_section()
        names = "weights gradients optimizer unsharded activations logits log_prob_logits context"
        for name in names.split():
            table.add_row(f"GPU: {name.replace('_', ' ')}", _gib(getattr(memory, name)), "")
        table.add_row("GPU: an update", _gib(memory.training), f"{machine.gpu_memory:.1f} GiB")
        if self.engine is not None:
            table.add_row("GPU: trainer beside the engine", _gib(memory.resident), "")
            table.add_row("GPU: engine's weights", _gib(memory.rollout_weights), "")
            table.add_row("GPU: engine's workspace", _gib(memory.rollout_workspace), "")
            verdict = "fits" if self.engine.fits else "refused"
            table.add_row(f"GPU: KV cache ({self.engine.by})", verdict, _gib(self.cache))
            table.add_row("GPU: KV cache of 1000 tokens", f"{1000 * memory.cache_per_token / GIB:.2f} GiB", "")
        table.add_section()
        self._host_rows(table)
        return table

    def _host_rows(self, table: Any) -> None:
        host, machine = self.host, self.machine
        table.add_row("host: processes", _gib(host.processes), "")
        table.add_row("host: offloaded weights", _gib(host.offloaded), "")
        table.add_row("host: videos of a step", _gib(host.step), "")
        if self.engine is not None:
            validation = "all rows" if host.validation is None else _gib(host.validation)
            table.add_row(f"host: videos of a validation batch, {host.val_row / 1e9:.2f} GB a row", validation, "")
        table.add_row("host: at its highest", _gib(host.peak), f"{machine.host_memory:.1f} GiB")
        table.add_row("shared memory (/dev/shm)", _gib(host.shm), f"{machine.shm:.1f} GiB")
        table.add_row("disk: a checkpoint", _gib(host.checkpoint), "")
        disk = "all are kept" if host.disk is None else _gib(host.disk)
        table.add_row("disk: kept checkpoints and merged model", disk, f"{machine.disk:.1f} GiB")


def recipe_budget(
    recipe: Recipe,
    stage: str,
    frame_size: tuple[int, int],
    overrides: Sequence[str] = (),
    *,
    machine: Machine | None = None,
    val_rows: int | None = None,
    ask: AskEngine = ask_vllm_outside,
) -> RecipeBudget:
    """What a stage of a recipe costs, and whether it fits.

    Args:
        recipe: one with a `model_config.json`.
        stage: "sft", "cold-start" or "grpo".
        frame_size: (width, height) of the source videos in pixels.
        overrides: Hydra overrides.
        machine: one node; None takes the recipe's `machine.yaml`.
        val_rows: rows of the held-out set, where known.
        ask: who is asked about the engine's KV cache; None, or an answer of None: it is estimated.

    Raises:
        InputError: the recipe has no `model_config.json` or `machine.yaml`, or an override is refused.
    """
    config = recipe.compose(stage, overrides)
    return config_budget(
        recipe,
        stage,
        config,
        frame_size,
        machine=machine or recipe_machine(recipe),
        val_rows=val_rows,
        ask=ask,
    )


def config_budget(
    recipe: Recipe,
    stage: str,
    config: Any,
    frame_size: tuple[int, int],
    *,
    machine: Machine,
    val_rows: int | None = None,
    model: str | Path | None = None,
    ask: AskEngine = ask_vllm_outside,
) -> RecipeBudget:
    """As `recipe_budget`, for a configuration that is composed already.

    Args:
        model: checkpoint folder that the run starts from; its architecture is taken where it has a `config.json`.
    """
    architecture = read_model_config(recipe, model)
    settings = read_settings(config, stage)
    counts = count_parameters(architecture, settings.lora_rank, settings.target_modules, settings.exclude_modules)
    tokens = count_tokens(architecture, config, stage, frame_size)
    memory = gpu_memory(architecture, settings, counts)
    tied = bool(getattr(architecture, "tie_word_embeddings", False))
    host = host_memory(settings, counts, tokens, tied_embeddings=tied, val_rows=val_rows)
    cache, engine = _engine(architecture, settings, memory, machine, ask)
    return RecipeBudget(
        recipe=recipe.name,
        stage=stage,
        gpus=settings.world,
        machine=machine,
        parameters=counts,
        tokens=tokens,
        memory=memory,
        host=host,
        cache=cache,
        engine=engine,
        findings=tuple(find_misfits(settings, tokens, memory, host, machine, engine)),
    )


def _engine(
    architecture: Any, settings: StageSettings, memory: MemoryBudget, machine: Machine, ask: AskEngine
) -> tuple[int, EngineAnswer | None]:
    rollout = settings.rollout
    if rollout is None:
        return 0, None
    available = engine_memory(memory, rollout, int(machine.gpu_memory * GIB))
    question = EngineQuestion(
        model_config=architecture.to_dict(),
        # verl passes the model's own limit where the setting is null.
        max_model_len=rollout.max_model_len or architecture.text_config.max_position_embeddings,
        max_num_seqs=rollout.max_num_seqs,
        max_num_batched_tokens=rollout.max_num_batched_tokens,
        tensor_parallel=rollout.tensor_parallel,
        available=available,
    )
    answer = None if ask is None else ask(question)
    return available, answer or estimate(question, memory.cache_per_token)


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"

"""The verl command of a training stage: arguments and environment, nothing started yet."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mllm4d_verl.data_tools.errors import InputError

from .algorithms import algorithm_override
from .recipe import STAGES, Recipe

# Which file of a question folder (`mllm4d data questions`) a stage trains on.
TRAIN_FILE: dict[str, str] = {"sft": "train.parquet", "cold-start": "cold_start.parquet", "grpo": "train.parquet"}
VAL_FILE = "val.parquet"

# Where the model settings sit in the configuration of a stage's trainer.
_MODEL_KEY: dict[str, str] = {"sft": "model", "cold-start": "model", "grpo": "actor_rollout_ref.model"}


@dataclass(frozen=True)
class TrainingJob:
    """What the user asked for.

    Attributes:
        stage: "sft", "cold-start" or "grpo".
        recipe: the recipe.
        out: folder of this run: checkpoints/, logs/, metrics/, and hf/ at the end.
        model: checkpoint folder or hub name to start from; None keeps the recipe's.
        data: question folder, or one parquet file or JSONL file to train on; None keeps the recipe's.
        resume: go on from the last checkpoint in `out`.
        lora_rank: None keeps the recipe's; 0 trains all weights; otherwise LoRA of this rank with alpha twice as big
            (the ratio of the paper's 128 and 256).
        algorithm: of reinforcement learning, see `algorithms`; None keeps the recipe's.
        overrides: Hydra overrides, last, so they win.
    """

    stage: str
    recipe: Recipe
    out: Path
    model: str | None = None
    data: Path | None = None
    resume: bool = True
    lora_rank: int | None = None
    algorithm: str | None = None
    overrides: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise InputError(f"unknown stage {self.stage!r}", remedy=f"Known: {', '.join(STAGES)}")
        if self.lora_rank is not None and self.lora_rank < 0:
            raise InputError(f"LoRA rank must not be negative, got {self.lora_rank}", field="--lora-rank")
        if self.algorithm is not None and self.stage != "grpo":
            raise InputError(f"{self.stage} has no algorithm to choose", field="--algorithm", remedy="It is for grpo")

    @property
    def checkpoints(self) -> Path:
        return self.out.absolute() / "checkpoints"

    def hydra_overrides(self) -> list[str]:
        """All overrides of this job, the user's own at the end."""
        model = _MODEL_KEY[self.stage]
        settings: dict[str, str] = {}
        if self.model is not None:
            settings[f"{model}.path"] = str(Path(self.model).absolute()) if Path(self.model).exists() else self.model
        if self.data is not None:
            train, val = data_files(self.stage, self.data)
            settings["data.train_files"] = str(train)
            if val is not None:
                settings["data.val_files"] = str(val)
            held_out = held_out_file(self.stage, self.data)
            if held_out is not None:
                settings["++data.held_out_file"] = str(held_out)
        if self.lora_rank is not None:
            settings[f"{model}.lora_rank"] = str(self.lora_rank)
            settings[f"{model}.lora_alpha"] = str(2 * self.lora_rank)
        settings["trainer.default_local_dir"] = str(self.checkpoints)
        settings["trainer.resume_mode"] = "auto" if self.resume else "disable"
        settings["hydra.run.dir"] = str(self.out.absolute() / "logs" / "hydra")
        chosen = [] if self.algorithm is None else [algorithm_override(self.algorithm)]
        return [*chosen, *(f"{key}={_quoted(value)}" for key, value in settings.items()), *self.overrides]


def data_files(stage: str, data: Path) -> tuple[Path, Path | None]:
    """Training file and validation file of a stage.

    Args:
        stage: "sft", "cold-start" or "grpo".
        data: a question folder, or the training file itself (then there is no validation file, except for GRPO,
            whose trainer wants one and gets the same).

    Raises:
        InputError: the file is missing.
    """
    if data.is_dir():
        train, val = data / TRAIN_FILE[stage], data / VAL_FILE
        remedy = "Make it with `mllm4d data questions`"
    else:
        train, val = data, data
        remedy = "Give a question folder or a file"
    if not train.is_file():
        raise InputError(f"no training data for {stage}", file=train, field="--data", remedy=remedy)
    # SFT validates on the loss of target texts; the cold start's validation rows have none.
    wants_val = stage == "grpo" or (stage == "sft" and data.is_dir())
    return train.absolute(), val.absolute() if wants_val and val.is_file() else None


def held_out_file(stage: str, data: Path) -> Path | None:
    """The questions that `trainer.marks` of a supervised stage asks: val.parquet of the folder, where it is there."""
    file = data / VAL_FILE
    return file.absolute() if stage != "grpo" and data.is_dir() and file.is_file() else None


@dataclass(frozen=True)
class VerlCommand:
    """A command line and the variables it needs on top of the environment.

    Attributes:
        argv: program and arguments.
        environment: variables to add; one that the user has set already is not among them.
    """

    argv: list[str]
    environment: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Shell text that can be copied and run."""
        words = [f"{key}={shlex.quote(value)}" for key, value in self.environment.items()]
        words += [shlex.quote(word) for word in self.argv]
        return " ".join(words)


def build_command(
    job: TrainingJob, processes: int, ambient: Mapping[str, str], metrics_file: Path, has_marks: bool = False
) -> VerlCommand:
    """The command of verl's own entry point for a job.

    Args:
        job: what to train.
        processes: SFT processes on this node (`trainer.n_gpus_per_node` of the composed configuration).
        has_marks: whether `trainer.marks` ends the stage; the entry point is then `marked_sft`.
        ambient: the environment the command will run in (os.environ); its variables win over the recipe's.
        metrics_file: where verl's file logger writes one JSON line per step.
    """
    recipe, config_name = job.recipe, job.recipe.config_name(job.stage)
    if job.stage == "grpo":
        entry = [sys.executable, "-m", "verl.trainer.main_ppo"]
    else:
        entry = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        entry += ["-m", "mllm4d_verl.training.marked_sft" if has_marks else "verl.trainer.sft_trainer"]
    if not recipe.packaged:
        entry += ["--config-dir", str(recipe.folder.parent)]
    environment = {key: value for key, value in recipe.environment().items() if key not in ambient}
    environment["VERL_FILE_LOGGER_PATH"] = str(metrics_file)
    overrides = job.hydra_overrides()
    if job.stage == "grpo":
        # Processes of a Ray cluster that was running before do not inherit this command's environment.
        name = "++ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH"
        overrides.insert(0, f"{name}={_quoted(str(metrics_file))}")
    return VerlCommand([*entry, "--config-name", config_name, *overrides], environment)


def _quoted(value: str) -> str:
    """A value in Hydra's override grammar: quoted unless it is a plain word, number or path."""
    plain = value and all(letter.isalnum() or letter in "/._-+" for letter in value)
    if plain:
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"

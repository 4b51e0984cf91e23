"""From a study's settings to its jobs: chains of trainings and the evaluations of their models, equal ones once."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.evaluation.job import file_sha256, template_text
from mllm4d_verl.evaluation.provenance import model_revision
from mllm4d_verl.training.command import data_files
from mllm4d_verl.training.recipe import Recipe, find_recipe

from .jobs import Job, job_key
from .settings import START, ArmSettings, EvaluationSettings, StageSettings, StudySettings

#: Settings of verl's configs that hold a seed, with what the study's seed is multiplied by. verl adds the rank of an
#: engine or a process to those with a factor, so that seeds next to each other would share random numbers.
SEED_KEYS: dict[str, dict[str, int]] = {
    "grpo": {
        "data.seed": 1,  # order of the questions
        "actor_rollout_ref.rollout.seed": 1000,  # sampling of the responses
        "actor_rollout_ref.actor.data_loader_seed": 1000,  # order of a step's mini-batches
    },
    "sft": {"data.order_seed": 1},
    "cold-start": {"data.order_seed": 1},
}
_REWARD = "reward.custom_reward_function.reward_kwargs"
_NEW_SETTING = "++"  # Hydra: change the setting, or add it


@dataclass(frozen=True)
class PlannedRun:
    """An arm with one seed.

    Attributes:
        arm, seed: which.
        trainings: keys of its trainings in their order; empty for a start model that is given.
        evaluations: name of the evaluation -> key of its job.
    """

    arm: str
    seed: int
    trainings: tuple[str, ...]
    evaluations: dict[str, str]


@dataclass
class StudyPlan:
    """All jobs of a study.

    Attributes:
        study: the settings.
        out: folder of the study.
        jobs: by key, each after those that it needs.
        runs: the arms with their seeds, the start model first.
    """

    study: StudySettings
    out: Path
    jobs: dict[str, Job] = field(default_factory=dict)
    runs: list[PlannedRun] = field(default_factory=list)

    def users(self, key: str) -> list[str]:
        """Arms and seeds that a job is for, as "arm/seed"."""
        return [f"{run.arm}/{run.seed}" for run in self.runs if key in run.trainings or key in run.evaluations.values()]


@dataclass(frozen=True)
class _Model:
    """A model that exists or will: a path or hub name, what it is told apart by, and the training that makes it."""

    path: str
    identity: Any
    made_by: str | None = None


def plan_study(study: StudySettings, out: Path) -> StudyPlan:
    """Work out all jobs without running any.

    Raises:
        InputError: an override that Hydra refuses, missing data, a model folder that is not there.
    """
    return _Planner(study, out.absolute()).plan()


class _Planner:
    def __init__(self, study: StudySettings, out: Path) -> None:
        self.study = study
        self.result = StudyPlan(study, out)
        self._last_training: dict[tuple[str, int], str] = {}
        # Arms share files and settings; each is read once a plan.
        self._digest = functools.cache(file_sha256)
        self._revision = functools.cache(model_revision)
        self._composed = functools.cache(_composed)
        self._recipe = functools.cache(find_recipe)

    def plan(self) -> StudyPlan:
        arms = self.study.arms
        for seed in self.study.seeds:
            self._add_run(START, seed, None)
        for arm in sorted(arms.values(), key=lambda arm: arm.matched_arm is not None):  # matched ones need the others
            for seed in self.study.seeds:
                self._add_run(arm.name, seed, arm)
        order = [START, *arms]
        self.result.runs.sort(key=lambda run: order.index(run.arm))
        return self.result

    def _add_run(self, name: str, seed: int, arm: ArmSettings | None) -> None:
        model = self._given_model(self.study.model if arm is None or arm.model is None else arm.model)
        # An arm with a start model of its own takes nothing from the study's stages.
        shared = self.study.stages if arm is None or arm.model is None else ()
        stages = shared if arm is None else (*shared, *arm.stages, arm)
        trainings = []
        for stage in stages:
            with _named(self.study, name):
                job = self._training(stage, model, seed)
            self.result.jobs.setdefault(job.key, job)
            trainings.append(job.key)
            model = _Model(f"{job.folder}/{job.product}", job.key, job.key)
        if trainings:
            self._last_training[name, seed] = trainings[-1]
        evaluations = {}
        for evaluation in self.study.evaluations.values():
            job = self._evaluation(evaluation, model)
            self.result.jobs.setdefault(job.key, job)
            evaluations[evaluation.name] = job.key
        self.result.runs.append(PlannedRun(name, seed, tuple(trainings), evaluations))

    def _training(self, stage: StageSettings, start: _Model, study_seed: int) -> Job:
        study = self.study
        recipe = self._recipe(stage.recipe or study.recipe)
        seed = study_seed if stage.seed is None else stage.seed
        data = stage.data or study.data
        overrides = (
            *(f"{_NEW_SETTING}{key}={factor * seed}" for key, factor in SEED_KEYS[stage.stage].items()),
            *reward_overrides(stage),
            *study.overrides_of(stage.stage),
            *stage.overrides,
        )
        config = json.loads(self._composed(recipe, stage.stage, overrides))
        match = self._match(stage, study_seed)
        identity = {
            "stage": stage.stage,
            "config": config,
            "template": template_text(config["data"]["prompt_template"]),
            "model": start.identity,
            "data": None if data is None else self._data_identity(stage.stage, data),
            "reward_files": _component_files(stage),
            "match": match,
        }
        key = job_key(f"{stage.stage}-seed{seed}", identity)
        settings = {
            "stage": stage.stage,
            "recipe": recipe.name if recipe.packaged else str(recipe.folder),
            "model": start.path,
            "data": None if data is None else str(Path(data).absolute()),
            "overrides": list(overrides),
            "match": match,
            "stall_minutes": study.stall_minutes,
        }
        after = [start.made_by, None if match is None else match["job"]]
        return Job(
            key=key,
            kind="train",
            entry="mllm4d_verl.study.work:train",
            folder=str(self.result.out / "jobs" / key),
            product="hf",
            after=tuple(name for name in after if name is not None),
            settings=settings,
            environment=recipe.environment(),
        )

    def _match(self, stage: StageSettings, seed: int) -> dict[str, Any] | None:
        if not isinstance(stage, ArmSettings) or stage.matched_arm is None:
            return None
        return {
            "job": self._last_training[stage.matched_arm, seed],
            "measure": "processor_seconds" if stage.match_cpu_seconds_of is not None else "seconds",
            "pilot_steps": stage.pilot_steps,
        }

    def _data_identity(self, stage: str, data: str) -> list[str | None]:
        train, val = data_files(stage, Path(data))
        return [self._digest(str(train)), None if val is None else self._digest(str(val))]

    def _evaluation(self, evaluation: EvaluationSettings, model: _Model) -> Job:
        options = evaluation.options()
        identity = {
            "options": options,
            "template": template_text(evaluation.template),
            "data": self._digest(evaluation.data),
            "model": model.identity,
        }
        key = job_key(evaluation.name, identity)
        return Job(
            key=key,
            kind="evaluate",
            entry="mllm4d_verl.study.work:answer",
            folder=str(self.result.out / "evaluations" / key),
            product="responses.jsonl",
            after=() if model.made_by is None else (model.made_by,),
            settings={"model": model.path, "data": str(Path(evaluation.data).absolute()), "options": options},
            environment=self._recipe(self.study.recipe).environment(),
        )

    def _given_model(self, model: str) -> _Model:
        """The model that the YAML names."""
        if Path(model).is_dir():
            # The content, not the place: a study may move with its models.
            return _Model(str(Path(model).absolute()), self._revision(model))
        if model.startswith(("/", ".", "~")) or model.count("/") != 1:
            raise InputError("no such model folder", file=self.study.file, field="model", remedy=f"Looked for {model}")
        return _Model(model, model)  # a hub name


def reward_overrides(stage: StageSettings) -> Iterator[str]:
    """Hydra overrides for the reward of a stage."""
    if stage.reward is not None:
        yield f"{_REWARD}.preset={stage.reward}"
    if stage.components:
        yield f"{_REWARD}.components={hydra_value(list(map(_absolute, stage.components)))}"
    for name, weight in stage.weights.items():
        yield f"{_NEW_SETTING}{_REWARD}.{name}={weight!r}"


def hydra_value(value: Any) -> str:
    """Plain data in Hydra's override grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{hydra_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(hydra_value, value)) + "]"
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _absolute(component: Any) -> Any:
    """A component whose file is named by its whole path: jobs have working directories of their own."""
    if isinstance(component, Mapping):
        return {**component, "use": _absolute(component.get("use"))}
    file, separator, function = str(component).partition(":")
    return f"{Path(file).absolute()}{separator}{function}" if file.endswith(".py") else component


def _component_files(stage: StageSettings) -> list[str]:
    """Digests of the files of the reward's components: a changed reward is another arm."""
    named = [part["use"] if isinstance(part, Mapping) else part for part in stage.components]
    files = [str(name).partition(":")[0] for name in named]
    return [file_sha256(file) for file in files if file.endswith(".py")]


def _composed(recipe: Recipe, stage: str, overrides: tuple[str, ...]) -> str:
    """The composed configuration as JSON, without resolving what depends on the machine."""
    from omegaconf import OmegaConf

    config = recipe.compose(stage, overrides)
    return json.dumps(OmegaConf.to_container(config, resolve=False), sort_keys=True, default=str)


@contextlib.contextmanager
def _named(study: StudySettings, arm: str) -> Iterator[None]:
    """Put the study's file and the arm in front of an InputError."""
    try:
        yield
    except InputError as error:
        problem = error.problem if error.file is None else f"{error.file}: {error.problem}"
        raise InputError(problem, file=study.file, field=f"arms.{arm}", remedy=error.remedy) from error

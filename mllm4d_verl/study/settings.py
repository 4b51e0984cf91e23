"""What a study's YAML says: start model, data, seeds, arms, questions to ask every model, and where the jobs run."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.typed_values import fit_value
from mllm4d_verl.evaluation.controls import check_control
from mllm4d_verl.reward import DEFAULT_PRESET
from mllm4d_verl.reward_fn import make_reward
from mllm4d_verl.training.recipe import STAGES

#: Name of the model that the arms start from, among the arms of a report.
START = "start"
_ALL_STAGES = "all"
_Settings = TypeVar("_Settings")


@dataclass(frozen=True)
class StageSettings:
    """One training of an arm.

    Attributes:
        stage: "grpo", "sft" or "cold-start".
        recipe, data: in the place of the study's.
        reward: preset of GRPO: "mllm4d_st", "official" or "paper"; None keeps the recipe's.
        components: of the reward, as docs/rewards.md names them: names, files of yours, mappings.
        weights: of the reward and its components: {st_weight: 0.5, consistency_weight: 0.2}.
        overrides: Hydra overrides, after the study's own, so they win.
        seed: in the place of the study's seeds: the stage is then the same, and runs once, for all of them.
    """

    stage: str = "grpo"
    recipe: str | None = None
    data: str | None = None
    reward: str | None = None
    components: tuple[Any, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True)
class ArmSettings(StageSettings):
    """One of the things that are compared: its last training, and what goes before.

    Attributes:
        name: unique.
        model: to start from, in the place of the study's.
        stages: trainings before this one, after those of the study.
        match_cpu_seconds_of: arm whose last training is to be matched in processor time: the number of steps is chosen
            so that this one takes as long. Unlike wall time it does not depend on what else the machine does.
        match_seconds_of: the same in wall time, where the work is done by GPUs.
        pilot_steps: steps of the short run that the time of a step is measured with.
    """

    name: str = ""
    model: str | None = None
    stages: tuple[StageSettings, ...] = ()
    match_cpu_seconds_of: str | None = None
    match_seconds_of: str | None = None
    pilot_steps: int = 100

    @property
    def matched_arm(self) -> str | None:
        """The arm whose time this one takes."""
        return self.match_cpu_seconds_of or self.match_seconds_of


@dataclass(frozen=True)
class EvaluationSettings:
    """Questions that every arm's model and the start model are asked. The fields are those of `evaluate`.

    Attributes:
        name: unique.
        data: question file.
        tasks: names of tasks to keep; None keeps all.
        dataset: further keys of the data config that training changed.
    """

    name: str
    data: str
    template: str = "st_cot"
    limit: int | None = None
    samples: int = 1
    temperature: float = 0.0
    max_tokens: int | None = None
    seed: int = 0
    control: str | None = None
    tasks: tuple[str, ...] | None = None
    dataset: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "auto"
    backend: str | None = None
    engine: Mapping[str, Any] = field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        """Keyword arguments of `evaluate`, the question file apart."""
        names = ("template", "limit", "samples", "temperature", "max_tokens", "seed", "control", "dtype", "backend")
        dataset = dict(self.dataset) if self.tasks is None else {**self.dataset, "tasks": list(self.tasks)}
        return {**{name: getattr(self, name) for name in names}, "dataset": dataset, "engine": dict(self.engine)}


@dataclass(frozen=True)
class Resources:
    """What Ray keeps free for a job; counts of logical CPUs and GPUs, and of resources that a cluster names."""

    cpus: float = 1.0
    gpus: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RaySettings:
    """The executor `ray`.

    Attributes:
        address: of a running cluster; "auto" finds the one of this machine, "local" starts one.
        train, evaluate: what each job of the kind needs.
    """

    address: str = "auto"
    train: Resources = field(default_factory=Resources)
    evaluate: Resources = field(default_factory=Resources)


@dataclass(frozen=True)
class StudySettings:
    """A study.

    Attributes:
        name: for headings.
        model: checkpoint folder or hub name that all arms start from.
        arms: what is compared, by name.
        evaluations: what every model is asked, by name.
        recipe: packaged name, or a folder.
        data: question folder or file, as `mllm4d train --data`.
        seeds: each arm is trained once with each.
        overrides: Hydra overrides by stage; those under "all" go to every stage.
        stages: trainings that go before every arm.
        baseline: arm that the others are compared with; None takes the first.
        preset: of the reward by which all arms are scored in the report, whatever they were trained with.
        executor: "local": one job after the other on this machine; "ray": each job is a Ray task.
        ray: of the executor `ray`.
        stall_minutes: a training is given up when log and metrics stand still for so long.
        file: the YAML.
    """

    name: str
    model: str
    arms: Mapping[str, ArmSettings]
    evaluations: Mapping[str, EvaluationSettings]
    recipe: str = "tiny_cpu"
    data: str | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    overrides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    stages: tuple[StageSettings, ...] = ()
    baseline: str | None = None
    preset: str = DEFAULT_PRESET
    executor: Literal["local", "ray"] = "local"
    ray: RaySettings = field(default_factory=RaySettings)
    stall_minutes: float = 30.0
    file: Path | None = None

    @property
    def baseline_arm(self) -> str:
        """The arm that the others are compared with."""
        return self.baseline or next(iter(self.arms))

    def overrides_of(self, stage: str) -> tuple[str, ...]:
        """The study's own overrides of a stage."""
        return (*self.overrides.get(_ALL_STAGES, ()), *self.overrides.get(stage, ()))


def load_study(file: str | Path) -> StudySettings:
    """Read and check a study.

    Raises:
        InputError: naming the file and the field that does not fit.
    """
    file = Path(file)
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", file=file) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"not YAML ({error})", file=file) from None
    return study_settings(content, file)


def study_settings(content: Any, file: Path | None = None) -> StudySettings:
    """A study from the content of its YAML; see `load_study`."""
    reader = _Reader(file)
    if isinstance(content, Mapping):
        content = dict(content)
        content["arms"] = reader.named(ArmSettings, content.get("arms"), "arms")
        content["evaluations"] = reader.named(EvaluationSettings, content.get("evaluations"), "evaluations")
        overrides = content.get("overrides") or {}
        content["overrides"] = {_ALL_STAGES: overrides} if isinstance(overrides, list) else overrides
    study = reader.settings(StudySettings, content, "")
    _check(study)
    return study


def check_executor(name: str) -> Literal["local", "ray"]:
    """The name of an executor. Raises InputError where there is none of that name."""
    if name == "ray":
        return "ray"
    _check_name(name, ("local", "ray"), None, "--executor")
    return "local"


class _Reader:
    """Dataclasses from mappings."""

    def __init__(self, file: Path | None) -> None:
        self.file = file

    def named(self, kind: type[_Settings], content: Any, place: str) -> dict[str, _Settings]:
        """Entries by name, from a mapping of names or from a list of mappings that have one."""
        if isinstance(content, Mapping):
            entries = [(f"{place}.{name}", name, value) for name, value in content.items()]
        elif isinstance(content, list):
            names = [value.get("name") if isinstance(value, Mapping) else None for value in content]
            entries = [(f"{place}[{i}]", *pair) for i, pair in enumerate(zip(names, content, strict=True))]
        else:
            raise InputError("expected a mapping of names, or a list", file=self.file, field=place)
        found: dict[str, _Settings] = {}
        for where, name, value in entries:
            if name is None:
                raise InputError("has no name", file=self.file, field=where, remedy="Add `name: ...`")
            if str(name) in found:
                raise InputError(f"the name {name!r} occurs twice", file=self.file, field=where)
            if not (isinstance(value, Mapping) or value is None):
                raise InputError(f"expected a mapping, got {value!r}", file=self.file, field=where)
            found[str(name)] = self.settings(kind, {**(value or {}), "name": str(name)}, f"{where}.")
        if not found:
            raise InputError("is empty", file=self.file, field=place, remedy="Give at least one")
        return found

    def settings(self, kind: type[_Settings], content: Any, prefix: str) -> _Settings:
        """An instance of a dataclass; groups and lists of groups in it are read likewise."""
        known = {item.name: item for item in fields(kind) if item.name != "file"}  # type: ignore[arg-type]
        place = prefix.rstrip(".") or None
        if not isinstance(content, Mapping):
            remedy = f"Known in it: {', '.join(known)}"
            raise InputError(f"expected a mapping, got {content!r}", file=self.file, field=place, remedy=remedy)
        hints = typing.get_type_hints(kind)
        values: dict[str, Any] = {}
        for key, value in content.items():
            if key not in known:
                near = difflib.get_close_matches(str(key), known, 1)
                remedy = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}"
                raise InputError("unknown setting", file=self.file, field=f"{prefix}{key}", remedy=remedy)
            values[key] = self._value(hints[key], value, f"{prefix}{key}")
        for name, item in known.items():
            required = item.default is MISSING and item.default_factory is MISSING
            if required and name not in values:
                raise InputError("is missing", file=self.file, field=f"{prefix}{name}")
        if "file" in hints:
            values["file"] = self.file
        return kind(**values)

    def _value(self, hint: Any, value: Any, name: str) -> Any:
        inner = typing.get_args(hint)
        if is_dataclass(hint):
            return self.settings(hint, value, f"{name}.")  # type: ignore[arg-type]
        if typing.get_origin(hint) is tuple and is_dataclass(inner[0]):
            items = fit_value(value, tuple[Any, ...], name, self.file)
            return tuple(self.settings(inner[0], item, f"{name}[{i}].") for i, item in enumerate(items))  # type: ignore[arg-type]
        if isinstance(value, Mapping) and value and all(map(is_dataclass, value.values())):
            return dict(value)  # read already, by `named`
        return fit_value(value, hint, name, self.file)


def _check(study: StudySettings) -> None:
    file = study.file
    if not study.seeds or len(set(study.seeds)) < len(study.seeds) or min(study.seeds) < 0:
        raise InputError(f"expected different numbers from 0 on, got {list(study.seeds)}", file=file, field="seeds")
    for stage in study.overrides:
        _check_name(stage, (*STAGES, _ALL_STAGES), file, "overrides")
    if START in study.arms:
        raise InputError(f"an arm cannot be called {START!r}: the start model is", file=file, field=f"arms.{START}")
    if study.baseline is not None:
        _check_name(study.baseline, study.arms, file, "baseline")
    _check_reward(study.preset, (), {}, file, "preset")
    for index, stage in enumerate(study.stages):
        _check_stage(stage, file, f"stages[{index}]")
    for name, arm in study.arms.items():
        place = f"arms.{name}"
        _check_stage(arm, file, place)
        for index, stage in enumerate(arm.stages):
            _check_stage(stage, file, f"{place}.stages[{index}]")
        _check_match(study, arm, place)
    for name, evaluation in study.evaluations.items():
        try:
            check_control(evaluation.control)
        except InputError as error:
            field_name = f"evaluations.{name}.control"
            raise InputError(error.problem, file=file, field=field_name, remedy=error.remedy) from None
        if not Path(evaluation.data).is_file():
            raise InputError(f"no such file: {evaluation.data}", file=file, field=f"evaluations.{name}.data")


def _check_stage(stage: StageSettings, file: Path | None, place: str) -> None:
    _check_name(stage.stage, STAGES, file, f"{place}.stage")
    if stage.stage == "grpo":
        _check_reward(stage.reward or DEFAULT_PRESET, stage.components, stage.weights, file, place)
    elif stage.reward is not None or stage.components or stage.weights:
        remedy = "Leave out reward, components and weights"
        raise InputError(f"the stage {stage.stage} has no reward", file=file, field=place, remedy=remedy)


def _check_match(study: StudySettings, arm: ArmSettings, place: str) -> None:
    keys = [key for key in ("match_cpu_seconds_of", "match_seconds_of") if getattr(arm, key) is not None]
    if not keys:
        return
    if len(keys) == 2:
        raise InputError("give one of them", file=study.file, field=f"{place}.{keys[0]}, {keys[1]}")
    other = str(arm.matched_arm)
    _check_name(other, study.arms, study.file, f"{place}.{keys[0]}")
    if other == arm.name or study.arms[other].matched_arm is not None:
        raise InputError(
            f"the time of {other!r} is itself matched to another",
            file=study.file,
            field=f"{place}.{keys[0]}",
            remedy="Name an arm that has a number of steps of its own",
        )
    if arm.pilot_steps < 2:
        raise InputError("must be at least 2", file=study.file, field=f"{place}.pilot_steps")


def _check_reward(
    preset: str, components: tuple[Any, ...], weights: Mapping[str, float], file: Path | None, place: str
) -> None:
    try:
        make_reward(preset, components=list(components), **weights)
    except InputError as error:
        raise InputError(error.problem, file=file, field=place) from None


def _check_name(name: str, known: typing.Iterable[str], file: Path | None, place: str) -> None:
    names = list(known)
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise InputError(f"unknown: {name!r}", file=file, field=place, remedy=f"{hint}Known: {', '.join(names)}")

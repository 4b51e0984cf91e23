"""The whole way on one machine: stereo world, annotation, questions, tiny model, training, evaluation, table, curve."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mllm4d_verl.data_tools.atomic import atomic_path
from mllm4d_verl.data_tools.errors import InputError

from .beside import Beside
from .command import TrainingJob
from .console import StepProgress, console, count_progress, done_line
from .demo_check import check_rows, check_summary, demo_check
from .demo_curve import held_out_curve, plot_curve, task_curves
from .demo_model import make_model, make_pretraining_world
from .metrics import read_metrics, series
from .recipe import STAGES, Recipe
from .run import plan_training, run_training
from .stages import StageLog, covered_seconds
from .validation import check_inputs

if TYPE_CHECKING:
    from mllm4d_verl.data_tools.annotation.config import AnnotateConfig
    from mllm4d_verl.evaluation import Comparison
    from mllm4d_verl.evaluation.statistics import Interval
    from mllm4d_verl.evaluation.successive import SuccessiveRuns

SETTINGS_FILE = "demo.yaml"
# verl's name of the mean reward of a step's responses.
REWARD_KEYS = ("critic/score/mean", "critic/rewards/mean")

# Folders below the demo's of what verl writes of GRPO: answers to the held-out questions, and the training rollouts.
_HELD_OUT_DUMPS = "grpo/held_out"
_TRAINING_DUMPS = "grpo/rollouts"
# What is evaluated: name of the model, the stage that made it ("model" pretrained it), and the stage whose prompt it is
# asked with.
_EVALUATED = (
    ("base", "model", "sft"),
    ("SFT", "sft", "sft"),
    ("cold start", "cold-start", "cold-start"),
    ("GRPO", "grpo", "grpo"),
)
# The model whose controls tell what sight and order bring: name, and its stage.
_CONTROLLED = ("GRPO", "grpo")
# What GRPO brought is told from answers sampled as it samples them, question by question.
_COMPARED = (("cold start", "cold-start"), ("GRPO", "grpo"))


@dataclass(frozen=True)
class DemoResult:
    """Where the demo left its results.

    Attributes:
        summary: content of summary.json.
        results: the final table's figures, as in the summary's `results`.
        summary_file: the file.
        curve_file: PNG of held-out reward and accuracy, and of the training reward, over GRPO's steps.
    """

    summary: dict[str, Any]
    results: SuccessiveRuns
    summary_file: Path
    curve_file: Path


def demo_settings(recipe: Recipe, scale: str) -> dict[str, Any]:
    """Settings of a scale: the file's own with the scale's changes.

    Raises:
        InputError: the recipe has no demo, or no such scale.
    """
    file = recipe.folder / SETTINGS_FILE
    if not file.is_file():
        raise InputError(f"recipe {recipe.name!r} has no demo", file=file)
    settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    scales = settings.pop("scales", {})
    if scale != settings.pop("scale") and scale not in scales:
        raise InputError(f"no scale {scale!r}", file=file, field="--scale", remedy=f"Known: full, {', '.join(scales)}")
    return _merged(settings, scales.get(scale, {}))


def question_config(settings: dict[str, Any], seed: int) -> Any:
    """The QuestionConfig of a demo's `questions` settings."""
    from mllm4d_verl.data_tools.questions import QuestionConfig
    from mllm4d_verl.data_tools.questions.config import Thresholds

    options = dict(settings)
    thresholds = Thresholds(**options.pop("thresholds", {}))
    return QuestionConfig(seed=seed, thresholds=thresholds, **options)


def annotation_config(settings: dict[str, Any], **changes: Any) -> AnnotateConfig:
    """The AnnotateConfig of a demo's `annotate` settings, with further changes."""
    from mllm4d_verl.data_tools.annotation.config import load_config

    return load_config(None, {**settings, **changes})


def run_demo(recipe: Recipe, out: Path, seed: int = 0, scale: str = "full", stall_minutes: float = 15.0) -> DemoResult:
    """Run every stage that is not done yet.

    Each stage leaves a stamp with a hash of its settings in `out/stages`; a second run does what is missing or changed,
    and an interrupted training goes on from its last checkpoint.

    Args:
        recipe: its stages train the model; its `demo.yaml` has the other settings.
        out: folder for everything.
        seed: of world, questions and model.
        scale: "full" or "quick".
        stall_minutes: see `run_training`.

    Raises:
        InputError: unknown scale, or settings that do not fit.
        TrainingError: a training failed.
    """
    settings = demo_settings(recipe, scale)
    out = out.absolute()
    for name, value in recipe.environment().items():
        os.environ.setdefault(name, value)
    with Beside() as beside:
        demo = _Demo(recipe, out, seed, settings, StageLog(out / "stages"), stall_minutes, beside)
        demo.make_data()
        demo.train()
        demo.guess_from_text()
        beside.finish()
    results = demo.results()
    summary = demo.summary(scale, results)
    summary_file, curve_file = out / "summary.json", out / "reward.png"
    summary_file.write_text(json.dumps(summary, indent=2, default=str) + "\n", encoding="utf-8")
    plot_curve(held_out_curve(out / _HELD_OUT_DUMPS), summary["reward_curve"], curve_file)
    return DemoResult(summary, results, summary_file, curve_file)


@dataclass(frozen=True)
class _Evaluation:
    """What is asked of a model.

    Attributes:
        log_name: of the stage.
        name: of the model, for people.
        folder: for the responses, below `evaluation`.
        settings: of `evaluate`.
    """

    log_name: str
    name: str
    folder: str
    settings: dict[str, Any]


@dataclass
class _Demo:
    recipe: Recipe
    out: Path
    seed: int
    settings: dict[str, Any]
    log: StageLog
    stall_minutes: float
    beside: Beside

    def make_data(self) -> None:
        from mllm4d_verl.data_tools.synthetic import world_preset

        parts = ("world", "annotate", "questions", "check", "model", "pretraining")
        world, annotation, questions, check, model, pretraining = (self.settings[part] for part in parts)
        family = asdict(world_preset(world["preset"]))
        self._stage(
            "world", [world, family, self.seed], (), "world", lambda: self._make_world(world, self.out / "world")
        )
        config = annotation_config(annotation)
        self._stage(
            "annotate", config.fingerprint, ("world",), "clips", lambda: self._annotate("world", "clips", config)
        )
        self._stage("questions", [questions, self.seed], ("annotate",), "qa", lambda: self._make_questions(questions))
        after = ("world", "annotate", "questions")
        self._stage("check", check, after, "check", lambda: self._check(world, annotation, check["clips"]))
        console.print(demo_check(self.log.records["check"]["figures"]), highlight=False)
        config = question_config(questions, self.seed)
        folder, other = self.out / "pretraining", pretraining["world"]
        self._stage(
            "pretraining data",
            [other, family, questions, self.seed],
            (),
            "pretraining",
            lambda: make_pretraining_world(other, config, folder, self.seed),
        )
        steps = pretraining["steps"]
        self._stage(
            "model",
            [model, steps, self.seed],
            ("questions", "pretraining data"),
            "model",
            lambda: make_model(model, steps, self._corpus(), self.out / "model", folder, self.seed),
        )

    def train(self) -> None:
        """All stages; each model is evaluated beside the training of the next."""
        self._evaluate_beside("model")
        previous = "model"
        for stage in STAGES:
            job = TrainingJob(
                stage,
                self.recipe,
                self.out / stage,
                model=str(self._model_of(previous)),
                data=self.out / "qa",
                overrides=self._overrides_of(stage),
            )
            config = self.recipe.compose(stage, job.overrides)
            self._stage(stage, _plain(config), (previous,), f"{stage}/hf", lambda job=job: self._train(job))
            self._evaluate_beside(stage)
            previous = stage

    def guess_from_text(self) -> None:
        """What questions give away without the video."""
        limits = self.settings["text_only"]
        product = "evaluation/text_only.json"
        self._stage("text-only", limits, ("questions",), product, lambda: self._text_only(limits, self.out / product))

    def _evaluate_beside(self, stage: str) -> None:
        for evaluation in self._evaluations_of(stage):
            self.beside.add(functools.partial(self._evaluation_stage, stage, evaluation))

    def _evaluations_of(self, stage: str) -> Iterator[_Evaluation]:
        """What is asked of the model that a stage leaves."""
        plain, compared = self.settings["evaluation"], self.settings["comparison"]
        for name, made_by, asked_as in _EVALUATED:
            if made_by == stage:
                asked = {**plain, "template": self._prompt_of(asked_as), "dataset": self._frames()}
                yield _Evaluation(f"evaluation-{stage}", name, stage, asked)
        name, made_by = _CONTROLLED
        for control in self.settings["controls"] if made_by == stage else ():
            asked = {**plain, "template": self._prompt_of("grpo"), "dataset": self._frames(), "control": control}
            yield _Evaluation(_control_folder(control), f"{name} {control}", _control_folder(control), asked)
        for name, made_by in _COMPARED:
            if made_by == stage:
                dataset = {**self._frames(), "tasks": self._grpo_tasks()}
                asked = {**compared, "template": self._prompt_of("grpo"), "dataset": dataset}
                yield _Evaluation(f"{stage}-sampled", f"{name}, sampled", f"{stage}-sampled", asked)

    def results(self) -> SuccessiveRuns:
        """All stages and controls on the held-out questions, with the paired tests between them."""
        from mllm4d_verl.evaluation.named_runs import read_runs
        from mllm4d_verl.evaluation.successive import successive_runs

        folder = self.out / "evaluation"
        stages = [f"{name}={folder / stage}" for name, stage, _ in _EVALUATED]
        controls = [f"{_CONTROLLED[0]} {name}={folder / _control_folder(name)}" for name in self.settings["controls"]]
        runs = read_runs([*stages, *controls])
        return successive_runs(
            runs[: len(stages)],
            runs[len(stages) :],
            text_only_intervals(self.log.records["text-only"]["figures"]["tasks"]),
        )

    def comparison(self) -> Comparison:
        """GRPO against its cold start on sampled answers to the held-out questions of the tasks it was trained on."""
        from mllm4d_verl.evaluation import compare_records, read_responses

        before, after = (read_responses(self.out / "evaluation" / f"{stage}-sampled") for _, stage in _COMPARED)
        return compare_records(before, after)

    def summary(self, scale: str, results: SuccessiveRuns) -> dict[str, Any]:
        records = self.log.records
        stages = {
            name: {key: record[key] for key in ("seconds", "peak_memory_bytes", "reused")}
            for name, record in records.items()
        }
        curve = series(read_metrics(self.out / "grpo" / "metrics"), REWARD_KEYS)
        return {
            "scale": scale,
            "seed": self.seed,
            "seconds": round(covered_seconds(records.values()), 1),
            "peak_memory_bytes": max(record["peak_memory_bytes"] for record in records.values()),
            "stages": stages,
            "parameters": records["model"]["figures"]["parameters"],
            "annotation": records["annotate"]["figures"],
            "questions": records["questions"]["figures"],
            "check": records["check"]["figures"],
            "models": {name: records[f"evaluation-{stage}"]["figures"] for name, stage, _ in _EVALUATED},
            "results": results.to_dict(),
            "text_only": records["text-only"]["figures"],
            "reward_curve": curve,
            "held_out_curve": [point.to_dict() for point in held_out_curve(self.out / _HELD_OUT_DUMPS)],
            "task_curves": task_curves(self.out / _TRAINING_DUMPS),
            "marks": {stage: records[stage]["figures"].get("marks") for stage in STAGES},
            "pretraining": records["model"]["figures"],
            "comparison": self.comparison().to_dict(),
        }

    def _stage(
        self,
        name: str,
        settings: Any,
        after: tuple[str, ...],
        product: str,
        work: Callable[[], dict[str, Any] | None],
    ) -> None:
        record = self.log.run(name, settings, after, self.out / product, work)
        state = "done before" if record["reused"] else f"{record['seconds']:.0f} s"
        memory = f"{record['peak_memory_bytes'] / 2**30:.1f} GiB"
        console.print(done_line(f"{name:<22} {state:>11}  {memory:>9}"))

    def _make_world(self, world: dict[str, Any], out: Path, dense: bool = False) -> dict[str, Any]:
        from mllm4d_verl.data_tools.synthetic import write_world

        options = dict(world)
        preset, clips = options.pop("preset"), options.pop("clips")
        with count_progress("world: clips") as progress:
            ids = write_world(
                out,
                clips=clips,
                seed=self.seed,
                config=preset,
                dense=dense,
                workers=os.cpu_count() or 1,
                progress=progress,
                **options,
            )
        return {"clips": len(ids)}

    def _annotate(self, world: str, out: str, config: AnnotateConfig) -> dict[str, Any]:
        """Clips from the stereo videos of a world; its truth lies beside them and is not read."""
        from mllm4d_verl.data_tools.annotation.run import annotate, find_source

        with count_progress("annotation: clips") as progress:
            report = annotate(
                find_source(self.out / world), self.out / out, config, workers=os.cpu_count() or 1, progress=progress
            )
        return {
            "clips": report.clips,
            "kept": report.kept,
            "rejected": report.rejected,
            "quarantined": report.quarantined,
        }

    def _make_questions(self, questions: dict[str, Any]) -> dict[str, Any]:
        from mllm4d_verl.data_tools.questions import write_questions

        with count_progress("questions: clips") as progress:
            report = write_questions(
                self.out / "clips", self.out / "qa", question_config(questions, self.seed), progress
            )
        return {"rows": report.rows, "clips": report.clips, "cold_start": report.cold_start}

    def _check(self, world: dict[str, Any], annotation: dict[str, Any], clips: int) -> dict[str, Any]:
        """Estimates against truth: the first clips, made once more with exact depth and masks, and held-out answers."""
        from mllm4d_verl.data_tools.annotation.check import CheckConfig, check_clips
        from mllm4d_verl.data_tools.schema import read_qa

        folder = self.out / "check"
        self._make_world({**world, "clips": clips}, folder / "world", dense=True)
        self._annotate("check/world", "check/clips", annotation_config(annotation, write_masks=True))
        with count_progress("check: clips") as progress:
            config = CheckConfig(num_frames=world["num_frames"])
            report = check_clips(folder / "clips", folder / "world", config, progress)
        with count_progress("check: held-out clips") as progress:
            answers = check_rows(
                read_qa(self.out / "qa" / "test.parquet"), self.out / "clips", self.out / "world", progress
            )
        return check_summary(report, answers)

    def _corpus(self) -> Iterator[str]:
        """All the text the model will meet in training, so that its words become tokens."""
        from mllm4d_verl.data_tools.schema import read_qa
        from mllm4d_verl.prompts import render_conversation

        templates = {self._prompt_of(stage) for stage in STAGES}
        for row in read_qa(self.out / "qa" / "cold_start.parquet"):
            for template in sorted(templates):
                yield from (message["content"] for message in render_conversation(row, template))

    def _train(self, job: TrainingJob) -> dict[str, Any]:
        plan = plan_training(job)
        check_inputs(plan)
        with StepProgress(job.out.name, plan.total_steps) as progress:
            result = run_training(plan, stall_minutes=self.stall_minutes, on_step=progress.on_step)
        marks = result.marks
        if marks is not None and not marks.ended_by_marks:
            missed = ", ".join(
                f"{task} {marks.accuracy[task]:.2f} of {mark:.2f}" for task, mark in marks.missed.items()
            )
            console.print(
                f"{job.stage} ended at its last step, {result.step}, below its marks: {missed}",
                style="yellow",
                highlight=False,
            )
        return {
            "steps": result.step,
            "metrics": result.metrics.get(result.step, {}),
            "marks": None if marks is None else asdict(marks),
        }

    def _evaluation_stage(self, stage: str, evaluation: _Evaluation, in_front: bool) -> None:
        self._stage(
            evaluation.log_name,
            evaluation.settings,
            (stage, "questions"),
            f"evaluation/{evaluation.folder}",
            lambda: self._evaluate(stage, evaluation, in_front),
        )

    def _text_only(self, limits: dict[str, Any], out: Path) -> dict[str, Any]:
        """What guesses from the questions' text alone reach, on clips that they have not learnt from."""
        from mllm4d_verl.data_tools.blind import blind_accuracy, read_blind_rows

        found = blind_accuracy(read_blind_rows(self.out / "qa"), self.seed, **limits)
        figures = {"tasks": {task: {**asdict(one), "verdict": one.verdict} for task, one in found.items()}}
        with atomic_path(out) as part:
            Path(part).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        return figures

    def _evaluate(self, stage: str, evaluation: _Evaluation, in_front: bool) -> dict[str, Any]:
        from mllm4d_verl.evaluation import evaluate

        # One bar at a time: that of a training, where one is running.
        bar = count_progress(f"evaluation of {evaluation.name}") if in_front else nullcontext(None)
        with bar as show:

            def progress(done: int, total: int | None) -> None:
                self.beside.check()
                if show is not None:
                    show(done, total)

            result = evaluate(
                self._model_of(stage),
                self.out / "qa" / "test.parquet",
                out=self.out / "evaluation" / evaluation.folder,
                progress=progress,
                dtype="float32",
                **evaluation.settings,
            )
        overall, components = result.summary.overall, result.summary.components
        return {
            "template": Path(evaluation.settings["template"]).name,
            "questions": overall.questions,
            "accuracy": overall.accuracy.estimate,
            "accuracy_interval": [overall.accuracy.low, overall.accuracy.high],
            "chance": overall.chance,
            "invalid": overall.invalid,
            "reward": overall.reward.estimate,
            "reward_interval": [overall.reward.low, overall.reward.high],
            "format": overall.format.estimate,
            "spatio_temporal": components["st"],
            "camera_error_m": result.summary.camera_center.median_m,
            "object_error_m": result.summary.object_center.median_m,
            "tasks": {task.task: task.accuracy.estimate for task in result.summary.tasks},
        }

    def _overrides_of(self, stage: str) -> tuple[str, ...]:
        frames = (f"data.{name}={value}" for name, value in self._frames().items())
        dumps = (
            f"trainer.validation_data_dir={self.out / _HELD_OUT_DUMPS}",
            f"trainer.rollout_data_dir={self.out / _TRAINING_DUMPS}",
        )
        return (*frames, *(dumps if stage == "grpo" else ()), *self.settings["training"][stage])

    def _frames(self) -> dict[str, int]:
        """Keys of the data config, the same in every stage, that say what size the model sees."""
        return {"max_pixels": self.settings["max_pixels"]}

    def _grpo_tasks(self) -> list[str] | None:
        """Tasks that GRPO is trained on; None for all."""
        tasks = self.recipe.compose("grpo", self._overrides_of("grpo")).data.tasks
        return None if tasks is None else list(tasks)

    def _prompt_of(self, stage: str) -> str:
        return self.recipe.compose(stage, self._overrides_of(stage)).data.prompt_template

    def _model_of(self, stage: str) -> Path:
        return self.out / "model" if stage == "model" else self.out / stage / "hf"


def text_only_intervals(tasks: dict[str, dict[str, Any]]) -> dict[str, Interval]:
    """Task -> accuracy from the text alone, of the fields of `data_tools.blind.TaskAccuracy`."""
    from mllm4d_verl.evaluation.statistics import Interval

    return {
        task: Interval(
            figures["accuracy"],
            figures["accuracy"] - figures["interval"],
            figures["accuracy"] + figures["interval"],
            figures["rows"],
            figures["clips"],
            "normal",
        )
        for task, figures in tasks.items()
    }


def _control_folder(control: str) -> str:
    return f"{_CONTROLLED[1]}-{control}"


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merged(base[key], value) if nested else value
    return merged


def _plain(config: Any) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(config, resolve=False)

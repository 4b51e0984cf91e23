"""Pictures of a study: figures of the trainings by step, arms over each other, and accuracy by arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllm4d_verl.data_tools.atomic import atomic_path

from .answers import ALL, ArmFigures
from .training_series import FIGURES, Series, TrainingRun, mean_and_range

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: File name -> figures drawn in it, one panel each.
PICTURES: dict[str, tuple[str, ...]] = {
    "training_reward": ("own_reward", "reward"),
    "held_out": ("held_out_accuracy", "held_out_reward"),
    "rollouts": ("accuracy", "agreement"),
    "form": ("response_tokens", "format"),
    "no_gradient": ("no_gradient",),
    "loss": ("loss",),
}
_NOISY = frozenset({"own_reward", "reward", "accuracy", "agreement", "no_gradient"})  # other questions every step
_WINDOW_SHARE = 0.1  # of the steps that a running mean is taken over


def draw_curves(trainings: Sequence[TrainingRun], folder: Path) -> list[Path]:
    """Write a PNG for each of `PICTURES` that some training has the figures of."""
    written = []
    for name, figures in PICTURES.items():
        shown = [figure for figure in figures if any(figure in run.series for run in trainings)]
        if shown:
            written.append(_save(_draw(trainings, shown), folder / f"{name}.png"))
    return written


def draw_accuracy(figures: Mapping[str, Mapping[str, ArmFigures]], folder: Path) -> list[Path]:
    """Write accuracy_<evaluation>.png: tasks side by side, arms within them, chance as a line.

    Args:
        figures: evaluation -> arm -> figures.
    """
    return [
        _save(_draw_accuracy(name, arms), folder / f"accuracy_{name}.png") for name, arms in figures.items() if arms
    ]


def running_mean(values: Series, window: int) -> Series:
    """The mean of the last `window` values at each step; of fewer at the beginning."""
    numbers = [value for _, value in values]
    return [
        (step, sum(numbers[max(0, i - window + 1) : i + 1]) / min(i + 1, window)) for i, (step, _) in enumerate(values)
    ]


def _draw(trainings: Sequence[TrainingRun], shown: Sequence[str]) -> Figure:
    from matplotlib.figure import Figure

    picture = Figure(figsize=(6.5 * len(shown), 4.2), layout="constrained")
    arms = list(dict.fromkeys(run.arm for run in trainings))
    for axes, name in zip(picture.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for number, arm in enumerate(arms):
            runs = [run.series[name] for run in trainings if run.arm == arm and name in run.series]
            if runs:
                _draw_arm(axes, arm, f"C{number}", runs, name in _NOISY)
        axes.set(xlabel="step", title="\n".join(_two_lines(FIGURES[name])))
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    return picture


def _draw_arm(axes: Any, arm: str, colour: str, runs: Sequence[Series], is_noisy: bool) -> None:
    """The mean over seeds, and a band from the lowest to the highest."""
    window = max(1, round(_WINDOW_SHARE * max(map(len, runs)))) if is_noisy else 1
    points = mean_and_range([running_mean(run, window) for run in runs])
    steps, means, lows, highs = zip(*points, strict=True) if points else ((), (), (), ())
    seeds = "1 seed" if len(runs) == 1 else f"{len(runs)} seeds"
    mean_of = f", mean of {window} steps" if window > 1 else ""
    axes.plot(steps, means, color=colour, marker="." if len(steps) < 20 else "", label=f"{arm} ({seeds}{mean_of})")
    if len(runs) > 1:
        axes.fill_between(steps, lows, highs, color=colour, alpha=0.15, linewidth=0)


def _draw_accuracy(name: str, arms: Mapping[str, ArmFigures]) -> Figure:
    from matplotlib.figure import Figure

    tasks = [*dict.fromkeys(task for figures in arms.values() for task in figures.accuracy if task != ALL), ALL]
    picture = Figure(figsize=(max(6.5, 1.2 * len(tasks) + 0.25 * len(tasks) * len(arms)), 4.8), layout="constrained")
    axes = picture.subplots()
    width = 0.8 / len(arms)
    for number, (arm, figures) in enumerate(arms.items()):
        places = [(i, figures.accuracy[task]) for i, task in enumerate(tasks) if task in figures.accuracy]
        at = [i - 0.4 + width * (number + 0.5) for i, _ in places]
        heights = [interval.estimate or 0.0 for _, interval in places]
        ends = [(interval.low, interval.high) for _, interval in places]
        below = [0.0 if low is None else max(0.0, height - low) for height, (low, _) in zip(heights, ends, strict=True)]
        above = [
            0.0 if high is None else max(0.0, high - height) for height, (_, high) in zip(heights, ends, strict=True)
        ]
        label = f"{arm} ({figures.models} model{'s' if figures.models > 1 else ''})"
        axes.bar(at, heights, width, yerr=[below, above], color=f"C{number}", label=label, error_kw={"linewidth": 0.8})
    first = next(iter(arms.values()))
    for i, task in enumerate(tasks):
        chance = first.chance.get(task)
        if chance is not None:
            axes.hlines(chance, i - 0.45, i + 0.45, color="black", linestyle=":", linewidth=1)
    axes.set_xticks(range(len(tasks)), [task.replace("_", "\n") for task in tasks], fontsize="small")
    axes.set(ylabel="accuracy", ylim=(0, 1), title=f"{name}: 95% intervals; dotted: chance")
    picture.legend(loc="outside lower center", fontsize="small", ncols=min(4, len(arms)))
    return picture


def _two_lines(text: str) -> list[str]:
    head, comma, tail = text.partition(",")
    return [head + comma, tail.strip()] if comma else [text]


def _save(picture: Figure, file: Path) -> Path:
    with atomic_path(file) as part:
        picture.savefig(part, dpi=120)
    return file

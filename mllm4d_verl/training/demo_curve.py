"""What GRPO changes from step to step: reward and accuracy on a fixed held-out set, and the training reward."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mllm4d_verl.evaluation.statistics import Interval, mean_interval

_RUNNING_STEPS = 10  # steps of the running mean of the training reward


@dataclass(frozen=True)
class HeldOutPoint:
    """Sampled answers to the held-out questions after a step; intervals resample whole questions."""

    step: int
    reward: Interval
    accuracy: Interval

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def held_out_curve(folder: Path) -> list[HeldOutPoint]:
    """The validations of a GRPO run, by step, from the files of `trainer.validation_data_dir`; empty without any."""
    points = []
    for file in sorted(folder.glob("*.jsonl"), key=lambda file: int(file.stem)):
        with file.open(encoding="utf-8") as lines:
            samples = [json.loads(line) for line in lines]
        questions = [sample["input"] + json.dumps(sample["gts"], sort_keys=True) for sample in samples]
        points.append(
            HeldOutPoint(
                int(file.stem),
                mean_interval([sample["score"] for sample in samples], questions),
                mean_interval([sample["acc"] for sample in samples], questions),
            )
        )
    return points


def plot_curve(held_out: list[HeldOutPoint], training: list[tuple[int, float]], file: Path) -> None:
    """Draw the held-out reward and accuracy with their intervals, and the training reward.

    Args:
        held_out: of `held_out_curve`.
        training: (step, mean reward of the step's responses).
        file: PNG to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, colour in (("reward", "tab:blue"), ("accuracy", "tab:orange")):
        intervals = [getattr(point, name) for point in held_out]
        steps = [point.step for point in held_out]
        left.plot(steps, [interval.estimate for interval in intervals], color=colour, marker="o", label=name)
        lows = [interval.estimate if interval.low is None else interval.low for interval in intervals]
        highs = [interval.estimate if interval.high is None else interval.high for interval in intervals]
        left.fill_between(steps, lows, highs, color=colour, alpha=0.2)
    left.set(xlabel="GRPO step", ylabel="mean of sampled answers", title="Held-out questions, 95% intervals")
    left.legend()
    steps, rewards = [step for step, _ in training], [reward for _, reward in training]
    window = min(_RUNNING_STEPS, max(1, len(rewards)))
    running = [sum(rewards[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(rewards))]
    right.plot(steps, rewards, alpha=0.35, label="step")
    right.plot(steps, running, label=f"mean of {window} steps")
    right.set(xlabel="GRPO step", ylabel="mean reward", title="Training prompts, other ones in every step")
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(file, dpi=120)
    plt.close(figure)


def task_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Task -> (step, mean training reward), from the files of `trainer.rollout_data_dir`."""
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for file in sorted(folder.glob("*.jsonl"), key=lambda file: int(file.stem)):
        rewards: dict[str, list[float]] = defaultdict(list)
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                sample = json.loads(line)
                rewards[(sample["gts"] or {}).get("task", "all")].append(sample["score"])
        for task, values in sorted(rewards.items()):
            curves[task].append((int(file.stem), sum(values) / len(values)))
    return dict(curves)

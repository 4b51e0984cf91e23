"""What a training run shows on the terminal: one quiet bar with the step, the time left and the newest numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as _TimeRemainingColumn
from rich.text import Text

from mllm4d_verl.terminal import PlainConsole, visible

# Standard error: standard output is left to commands and JSON.
console = PlainConsole(stderr=True)

# verl's names of the numbers worth a glance, with a short label each.
_SHOWN = (
    ("train/loss", "loss"),
    ("critic/score/mean", "reward"),
    ("response_length/mean", "tokens"),
    ("perf/time_per_step", "s/step"),
)


def done_line(text: str) -> Text:
    """A line with a green tick in front."""
    return Text.assemble(("✓", "green"), f" {visible(text)}")


@contextmanager
def count_progress(label: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar called as progress(done, total), total None while it is not known; it disappears at the end."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), _TimeRemainingColumn(), console=console, transient=True) as bar:
        line = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(line, completed=done, total=total)


class StepProgress:
    """A context manager with a progress bar whose `on_step` takes verl's metrics.

    Args:
        label: name of the stage.
        total_steps: last step; None shows a bar without an end.
    """

    def __init__(self, label: str, total_steps: int | None) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            _TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn("{task.fields[numbers]}", style="dim"),
            console=console,
            transient=True,
            speed_estimate_period=300.0,
        )
        self._task = self._progress.add_task(label, total=total_steps, numbers="starting verl")

    def __enter__(self) -> StepProgress:
        self._progress.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def on_step(self, step: int, metrics: dict[str, Any]) -> None:
        """Move the bar to `step` and show what `metrics` has of the shown numbers."""
        numbers = " ".join(f"{label} {metrics[key]:.3g}" for key, label in _SHOWN if key in metrics)
        self._progress.update(self._task, completed=step, numbers=numbers)
